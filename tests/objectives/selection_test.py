"""Selection of groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.objectives import selection
from tests.objectives import reference
from tests.objectives.reference import selection as expected

# Rules on the reward alone do not read the rollouts.
ROLLOUTS = reference.rollouts(
  correct=[[1]], length=[[1]], truncated=[[0]], cap=[1]
)


def test_all_groups():
  keep = selection.all_groups(ROLLOUTS, jnp.zeros((2, 3)))
  assert keep.dtype == bool
  np.testing.assert_array_equal(keep, np.ones((2, 3), bool))


@pytest.mark.parametrize(
  ('rewards', 'is_kept'),
  [
    ([1.0, 1.0, 1.0], False),  # all right
    ([0.0, 0.0, 0.0], False),  # all wrong
    ([0.0, 1.0, 0.0], True),
    ([1.0, 0.0, 1.0], True),
    ([0.1, 0.1, 0.1], False),  # a tie whose float32 mean is not 0.1
    ([-1.0, -1.0, -1.0], False),
    ([-1.0, -1.0, 0.0], True),
    ([1.0, 1.0, 1.0 + 2**-23], True),  # no tolerance: the next float32
  ],
)
def test_dynamic_sampling(rewards, is_kept):
  reward = jnp.array([[0.0, 0.0, 1.0], rewards], jnp.float32)
  keep = selection.dynamic_sampling(ROLLOUTS, reward)
  assert keep.dtype == bool
  np.testing.assert_array_equal(keep, [[True] * 3, [is_kept] * 3])


def test_one_sample_is_dropped():
  keep = selection.dynamic_sampling(ROLLOUTS, jnp.array([[1.0], [0.0]]))
  np.testing.assert_array_equal(keep, [[False], [False]])


@pytest.mark.parametrize('name', ['all_groups', 'dynamic_sampling'])
def test_rules_on_the_reward_equal_the_loops(name):
  rng = np.random.default_rng(0)
  reward = rng.integers(0, 2, (40, 3)) * np.float32(0.1)
  keep = getattr(selection, name)(ROLLOUTS, reward)
  wanted = getattr(expected, name)(reward.tolist())
  assert 0 < np.sum(wanted)
  np.testing.assert_array_equal(keep, wanted)


def verdicts(correct):
  return reference.rollouts(correct=correct, length=np.ones_like(correct))


@pytest.mark.parametrize(
  ('correct', 'is_kept'),
  [
    ([1, 1, 1], False),
    ([0, 0, 0], False),
    ([0, 1, 0], True),
    ([1, 0, 1], True),
  ],
)
def test_dynamic_sampling_accuracy(correct, is_kept):
  # Whatever they earn: all the same, or all different.
  for reward in ([0.5, 0.5, 0.5], [-1.0, 0.0, 1.0]):
    keep = selection.dynamic_sampling_accuracy(
      verdicts([[0, 1, 1], correct]), jnp.array([reward, reward])
    )
    assert keep.dtype == bool
    np.testing.assert_array_equal(keep, [[True] * 3, [is_kept] * 3])


def test_one_verdict_is_dropped():
  keep = selection.dynamic_sampling_accuracy(
    verdicts([[1], [0]]), jnp.array([[1.0], [0.0]])
  )
  np.testing.assert_array_equal(keep, [[False], [False]])


def test_dynamic_sampling_accuracy_equals_the_loops():
  rng = np.random.default_rng(0)
  correct = (rng.random((40, 3)) < rng.random((40, 1))).astype(int)
  keep = selection.dynamic_sampling_accuracy(
    verdicts(correct), rng.normal(size=(40, 3))
  )
  wanted = expected.dynamic_sampling_accuracy(correct)
  assert 0 < np.sum(wanted) < np.size(wanted)
  np.testing.assert_array_equal(keep, wanted)


@pytest.mark.parametrize(
  'function',
  [
    selection.all_groups,
    selection.dynamic_sampling,
    selection.dynamic_sampling_accuracy,
  ],
)
def test_jit_equals_eager(function):
  reward = jnp.array([[0.0, 1.0], [1.0, 1.0]])
  rollouts = verdicts([[0, 1], [1, 1]])
  np.testing.assert_array_equal(
    jax.jit(function)(rollouts, reward), function(rollouts, reward)
  )
