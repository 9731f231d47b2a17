"""What the tests of rewards within a cap share."""

import functools

import jax
import numpy as np

from lrm_jax.objectives.shaping import capped
from tests.objectives import reference

# One column per case; problem 0 has a cap of 5 tokens, problem 1 of 3.
#   right | wrong | right, truncated | wrong, truncated | right, long
CASES = reference.rollouts(
  correct=[[1, 0, 1, 0, 1], [1, 0, 1, 0, 1]],
  length=[[5, 2, 5, 5, 6], [3, 3, 3, 3, 5]],
  truncated=[[0, 0, 1, 1, 0], [0, 0, 1, 1, 0]],
  cap=[5, 3],
)
COSINE = {
  'right_short': 2.0,
  'right_long': 1.0,
  'wrong_short': -10.0,
  'wrong_long': 0.0,
  'exceeded': -10.0,
  'margin': 3,
}
# Every part with all of its keys, as the loops take them.
KEYS = {
  'truncation': {'stop_properly': 0.1},
  'difficulty_truncation': {
    'easy_cap': 12,
    'threshold': 0.5,
    'stop_properly': 0.1,
  },
  'valid_format': {},
  'overlong': {'buffer': 7, 'factor': 0.5},
  'cosine': COSINE,
  'format_length': {'turning_point': 0.4},
  'l1_exact': {'alpha': 3e-3},
  'l1_max': {'alpha': 0.05, 'offset': 0.5},
  'triangular': {'peak': 0.5},
  'tldr': {'short': 0.9, 'medium': 0.5, 'long': 0.1},
}
EAGER = {
  name: functools.partial(getattr(capped, name), **keys)
  for name, keys in KEYS.items()
}
EVERY = {name: jax.jit(function) for name, function in EAGER.items()}


def random(seed=0, problems=20, samples=8):
  """Also groups all right and all wrong, and lengths beyond the cap."""
  rng = np.random.default_rng(seed)
  shape = (problems, samples)
  correct = rng.random(shape) < rng.random((problems, 1))
  correct[0], correct[1] = True, False
  cap = rng.integers(10, 30, problems)
  # A third at the cap, a few beyond it.
  length = np.minimum(rng.integers(1, 34, shape), cap[:, None])
  length += 2 * (rng.random(shape) < 0.05)
  target = rng.integers(0, 3, problems)
  return reference.rollouts(
    correct=correct,
    length=length,
    truncated=(length == cap[:, None]) & (rng.random(shape) < 0.5),
    think_closed=rng.integers(0, 2, shape),
    answered=rng.integers(0, 2, shape),
    cap=cap,
    target=target,
  )


def one_group(correct, length, cap, **fields):
  return reference.rollouts(
    correct=[correct], length=[length], cap=[cap], **fields
  )
