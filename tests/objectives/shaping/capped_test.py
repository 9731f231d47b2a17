"""Shaping rewards, case by case and against the loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.objectives.shaping import capped
from tests.objectives import reference
from tests.objectives.reference import shaping_capped

# One column per case; problem 0 has a cap of 5 tokens, problem 1 of 3.
#   right | wrong | right, truncated | wrong, truncated | right, long
CASES = reference.rollouts(
  correct=[[1, 0, 1, 0, 1], [1, 0, 1, 0, 1]],
  length=[[5, 2, 5, 5, 6], [3, 3, 3, 3, 5]],
  truncated=[[0, 0, 1, 1, 0], [0, 0, 1, 1, 0]],
  cap=[5, 3],
)


def test_outcome_is_the_verdict():
  reward = capped.outcome(CASES)
  np.testing.assert_array_equal(reward, [[1, 0, 1, 0, 1], [1, 0, 1, 0, 1]])


def test_truncation_as_in_the_paper():
  reward = capped.truncation(CASES)
  np.testing.assert_array_equal(reward, [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]])


def test_truncation_as_released():
  reward = capped.truncation(CASES, stop_properly=0.1)
  tenth = np.float32(0.1)
  np.testing.assert_array_equal(
    reward, [[1, 0, tenth, 0, 0], [1, 0, tenth, 0, 0]]
  )


@pytest.mark.parametrize('stop_properly', [0.0, 0.1])
def test_truncation_equals_the_loops(stop_properly):
  rng = np.random.default_rng(0)
  shape = (20, 16)
  rollouts = reference.rollouts(
    correct=rng.integers(0, 2, shape),
    length=rng.integers(1, 9, shape),
    truncated=rng.integers(0, 2, shape),
    cap=rng.integers(2, 8, shape[0]),
  )
  reward = capped.truncation(rollouts, stop_properly=stop_properly)
  expected = shaping_capped.truncation(rollouts, stop_properly)
  assert len(np.unique(expected)) == (3 if stop_properly else 2)
  np.testing.assert_allclose(reward, expected, atol=1e-7)


@pytest.mark.parametrize(
  'function',
  [
    capped.outcome,
    functools.partial(capped.truncation, stop_properly=0.1),
  ],
)
def test_jit_equals_eager(function):
  np.testing.assert_array_equal(
    jax.jit(function)(CASES), function(CASES)
  )


def test_all_truncated():
  rollouts = reference.rollouts(
    correct=[[0, 0]], length=[[4, 4]], truncated=[[1, 1]], cap=[4]
  )
  for function in (capped.outcome, capped.truncation):
    np.testing.assert_array_equal(function(rollouts), [[0, 0]])
