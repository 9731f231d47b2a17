"""Responses without a verdict: not trained on, and no part of their group.

The verifier's process was killed or hung on such a response, so `correct` is 0
and means nothing. `keep` leaves it out of the update, and every advantage
reads its group through that mask. But shaping, selection and the memory of a
recipe read the whole group, and would take it for a wrong response: groups of
right ones would be kept as mixed, pass rates would fall. So a recipe is shown
another response of the group in its place.

A policy could learn answers that the verifier dies of, to be left out instead
of being wrong. The metric `unverified` would show it; `train.keep_unverified`
makes such responses wrong ones, as evaluations always count them.
"""

import dataclasses

import jax
import numpy as np

from lrm_jax.structs import Rollouts

# The fields of `Rollouts` that have no axis of samples.
_OF_PROBLEMS = (
  *('prompt_ids', 'prompt_length', 'cap', 'target', 'step', 'problem_index'),
)


def usable(verified: np.ndarray) -> np.ndarray:
  """`[B, G]` bool: verified, with at least one other such in its group.

  A single response with a verdict has nothing to be compared with; only where
  groups have one sample is it a group.

  Args:
    verified: `[B, G]` bool.
  """
  least = min(2, verified.shape[1])
  return verified & (verified.sum(1, keepdims=True) >= least)


def stand_in(rollouts: Rollouts) -> Rollouts:
  """The rollouts with a verified response in place of each that is not.

  The i-th unverified response of a group is replaced by the i-th verified
  one, counted round: statistics of a group are then those of its verified
  responses, some of them twice. A group without any stays as it is, wrong.

  Args:
    rollouts: NumPy arrays; not changed.

  Returns:
    The same object where everything is verified.
  """
  if rollouts.verified.all():
    return rollouts
  problems, samples = rollouts.verified.shape
  source = np.tile(np.arange(samples), (problems, 1))
  for group, verified in zip(source, rollouts.verified, strict=True):
    donors = np.flatnonzero(verified)
    if len(donors):
      group[~verified] = np.resize(donors, samples - len(donors))
  rows = np.arange(problems)[:, None]
  fields = {
    name: jax.tree.map(lambda x: x[rows, source], values)
    for name, values in vars(rollouts).items()
    if name not in _OF_PROBLEMS
  }
  return dataclasses.replace(rollouts, **fields)
