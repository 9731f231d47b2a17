"""What the tests of rewards relative to a group share."""

import dataclasses
import functools

import jax
import numpy as np

from lrm_jax.objectives.shaping import relative
from tests.objectives import reference

# Every part with all of its keys, as the loops take them.
KEYS = {
  'group_lambda': {'fraction': 0.4, 'alpha': 0.6, 'floor': 1e-4},
  'sigmoid_length': {'alpha': 0.4},
  'kimi': {'coefficient': 0.4},
  'alp': {'beta': 1e-3},
  'shorter_better': {'alpha': 2.0, 'beta': 0.05},
  'o1_pruner': {'alpha': 5.0, 'low': -2.0, 'high': 4.0},
  'decoupled_length': {'temperature': 0.1},
  'conciseness': {
    'score': 'compressibility',
    'alpha': 0.5,
    'anneal_from': 2.0,
    'anneal_steps': 10,
  },
  'step_pruner': {'alpha': 0.5, 'eps': 1e-6},
  'relative_length': {},
}
EAGER = {
  name: functools.partial(getattr(relative, name), **keys)
  for name, keys in KEYS.items()
}
EVERY = {name: jax.jit(function) for name, function in EAGER.items()}
# Parts that look at lengths, and parts that look at measures.
BY_LENGTH = [n for n in KEYS if n not in ('conciseness', 'step_pruner')]


def random(seed=0, problems=15, samples=8):
  """Also groups all right and all wrong; rates tie, so do some lengths."""
  rng = np.random.default_rng(seed)
  shape = (problems, samples)
  correct = rng.random(shape) < rng.random((problems, 1))
  correct[0], correct[1] = True, False
  cap = rng.integers(20, 40, problems)
  length = np.minimum(rng.integers(1, 45, shape), cap[:, None])
  return reference.rollouts(
    correct=correct,
    length=length,
    truncated=(length == cap[:, None]) & (rng.random(shape) < 0.5),
    cap=cap,
    step=rng.integers(1, 15, problems),
    measures={
      'compressibility': rng.uniform(-0.2, 1.3, shape),
      'paragraphs': rng.integers(1, 9, shape),
    },
  )


def one_group(correct, length, cap=None, **fields):
  cap = None if cap is None else [cap]
  return reference.rollouts(
    correct=[correct], length=[length], cap=cap, **fields
  )


def choose(rollouts, order):
  """The samples of every group in another order, or some of them."""
  per_sample = ('correct', 'length', 'truncated', 'response_ids')
  fields = {n: getattr(rollouts, n)[:, order] for n in per_sample}
  measures = {n: m[:, order] for n, m in rollouts.measures.items()}
  return dataclasses.replace(rollouts, measures=measures, **fields)
