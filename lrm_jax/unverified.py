"""Responses without a verdict: not trained on, and no part of their group.

The verifier's process was killed or hung on such a response, so `correct` is 0
and means nothing. `keep` leaves it out of the update, and every advantage
reads its group through that mask. But shaping, selection and the memory of a
recipe read the whole group, and would take it for a wrong response: groups of
right ones would be kept as mixed, pass rates would fall. So a recipe is shown
another response of the group in its place, and for a group in which none has a
verdict another group of the batch, as if that problem had been drawn twice.
Where the whole batch has none, the recipe remembers nothing of it.

What is not there at all (`Rollouts.there`) is treated likewise: `gathering.py`
calls it unverified before it comes here.

A policy could learn answers that the verifier dies of, to be left out instead
of being wrong. The metric `unverified` would show it; `train.keep_unverified`
makes such responses wrong ones, as evaluations always count them.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from lrm_jax import rollout
from lrm_jax.structs import OF_PROBLEMS, Problem, Rollouts


def usable(verified: np.ndarray) -> np.ndarray:
  """`[B, G]` bool: verified, with at least one other such in its group.

  A single response with a verdict has nothing to be compared with; only where
  groups have one sample is it a group.

  Args:
    verified: `[B, G]` bool.
  """
  least = min(2, verified.shape[1])
  return verified & (verified.sum(1, keepdims=True) >= least)


def shown(
  problems: Sequence[Problem], rollouts: Rollouts
) -> tuple[Sequence[Problem], Rollouts]:
  """The batch as a recipe may see it: every response in it has a verdict.

  The i-th group without any verdict is replaced by the i-th group with one,
  counted round; in the groups that are left, see `stand_in`. Where no group
  has a verdict, the batch stays as it is: what a recipe makes of it must not
  be kept.

  Args:
    problems: B of them.
    rollouts: NumPy arrays; not changed.

  Returns:
    The problem of each group that is shown, and the groups: the same objects
    where everything is verified.
  """
  source = _sources(rollouts.verified.any(1))
  if (source != np.arange(len(source))).any():
    problems = [problems[i] for i in source]
    rollouts = dataclasses.replace(
      jax.tree.map(lambda x: x[source], rollouts),
      problem_index=rollout.first_rows(problems),
    )
  return problems, stand_in(rollouts)


def _sources(is_there: np.ndarray) -> np.ndarray:
  """Places `[N]`: its own where something is there, else another's in turn."""
  source, donors = np.arange(len(is_there)), np.flatnonzero(is_there)
  if len(donors):
    source[~is_there] = np.resize(donors, len(source) - len(donors))
  return source


def stand_in(rollouts: Rollouts) -> Rollouts:
  """The rollouts with a verified response in place of each that is not.

  The i-th unverified response of a group is replaced by the i-th verified
  one, counted round: statistics of a group are then those of its verified
  responses, some of them twice. A group without any stays as it is.

  Args:
    rollouts: NumPy arrays; not changed.

  Returns:
    The same object where everything is verified.
  """
  if rollouts.verified.all():
    return rollouts
  source = np.stack([_sources(verified) for verified in rollouts.verified])
  rows = np.arange(len(source))[:, None]
  fields = {
    name: jax.tree.map(lambda x: x[rows, source], values)
    for name, values in vars(rollouts).items()
    if name not in OF_PROBLEMS
  }
  return dataclasses.replace(rollouts, **fields)
