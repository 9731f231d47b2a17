"""Rewards within a cap: against the loops, and what always holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.objectives.shaping import capped
from tests.objectives import reference
from tests.objectives.reference import shaping_capped
from tests.objectives.shaping.capped_cases import (
  CASES,
  COSINE,
  EAGER,
  EVERY,
  KEYS,
  one_group,
  random,
)


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('seed', [0, 1])
def test_equals_the_loops(name, seed):
  rollouts = random(seed)
  expected = getattr(shaping_capped, name)(rollouts, **KEYS[name])
  assert len(np.unique(expected)) > (1 if name == 'valid_format' else 2)
  np.testing.assert_allclose(
    EVERY[name](rollouts), expected, rtol=1e-5, atol=1e-6
  )


def test_truncation_equals_the_loops_as_in_the_paper():
  rollouts = random()
  expected = shaping_capped.truncation(rollouts, 0.0)
  np.testing.assert_array_equal(capped.truncation(rollouts), expected)


@pytest.mark.parametrize('name', ['outcome', *EAGER])
def test_jit_equals_eager(name):
  function = EAGER[name] if name in EAGER else capped.outcome
  eager = function(CASES)
  assert eager.dtype == jnp.float32
  np.testing.assert_allclose(
    jax.jit(function)(CASES), eager, rtol=1e-6, atol=1e-6
  )


# All right, all wrong, all truncated (right and wrong), equal lengths, one
# token each, a cap of one token; then groups of one sample.
DEGENERATE = {
  'groups': reference.rollouts(
    correct=[[1, 1], [0, 0], [1, 0], [1, 0], [1, 0], [1, 0]],
    length=[[3, 9], [3, 9], [20, 20], [5, 5], [1, 1], [1, 1]],
    truncated=[[0, 0], [0, 0], [1, 1], [0, 0], [0, 0], [1, 0]],
    answered=[[1, 1], [1, 0], [0, 0], [1, 0], [1, 1], [1, 0]],
    cap=[20, 20, 20, 20, 20, 1],
    target=[0, 1, 2, 0, 1, 2],
  ),
  'alone': reference.rollouts(
    correct=[[1], [0], [1]],
    length=[[3], [9], [20]],
    truncated=[[0], [0], [1]],
    cap=[20, 20, 20],
  ),
}


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('case', DEGENERATE)
def test_degenerate_groups(name, case):
  rollouts = DEGENERATE[case]
  reward = np.asarray(EVERY[name](rollouts))
  assert np.isfinite(reward).all()
  expected = getattr(shaping_capped, name)(rollouts, **KEYS[name])
  np.testing.assert_allclose(reward, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', EVERY)
def test_members_of_a_group_may_be_permuted(name):
  rollouts = random()
  order = np.array([3, 0, 2, 1, 7, 4, 6, 5])
  permuted = reference.rollouts(
    correct=rollouts.correct[:, order],
    length=rollouts.length[:, order],
    truncated=rollouts.truncated[:, order],
    think_closed=rollouts.think_closed[:, order],
    answered=rollouts.answered[:, order],
    cap=rollouts.cap,
    target=rollouts.target,
    tokens=rollouts.response_ids.shape[-1],
  )
  np.testing.assert_allclose(
    EVERY[name](permuted),
    np.asarray(EVERY[name](rollouts))[:, order],
    rtol=1e-6,
    atol=1e-6,
  )


def _rising(target=0):
  """All right, from one token to the cap of 20, where two are truncated."""
  length = [*range(1, 21), 20]
  return one_group(
    [1] * 21, length, 20, truncated=[[0] * 19 + [1, 1]], target=[target]
  )


@pytest.mark.parametrize(
  'name',
  [
    'truncation',
    'difficulty_truncation',
    'overlong',
    'cosine',
    'l1_max',
    'tldr',
  ],
)
def test_a_shorter_right_response_never_earns_less(name):
  reward = np.asarray(EVERY[name](_rising()))[0]
  assert (np.diff(reward) <= 0).all()
  assert reward[0] > reward[-1]


@pytest.mark.parametrize(
  ('name', 'best'), [('format_length', 8), ('l1_exact', 6), ('triangular', 7)]
)
def test_where_the_best_length_is_not_the_shortest(name, best):
  """At 0.4 of the cap, and at the length asked for: 6, or 6 of thinking."""
  reward = np.asarray(EVERY[name](_rising(target=6)))[0]
  assert np.argmax(reward) + 1 == best
  assert (np.diff(reward)[: best - 1] > 0).all()


@pytest.mark.parametrize(
  'name', ['truncation', 'difficulty_truncation', 'l1_max', 'tldr']
)
def test_wrong_is_never_above_right(name):
  rollouts = random()
  within = rollouts.length <= rollouts.cap[:, None]
  reward = np.asarray(EVERY[name](rollouts))
  right = rollouts.correct > 0
  assert reward[right & within].min() >= reward[~right].max()


def test_cosine_puts_wrong_below_right_except_near_the_cap():
  rollouts = random()
  reward = np.asarray(EVERY['cosine'](rollouts))
  near = rollouts.length + COSINE['margin'] >= rollouts.cap[:, None]
  right = rollouts.correct > 0
  assert reward[right & ~near].min() > reward[~right].max()
  assert (reward[right & near] == -10).all()
