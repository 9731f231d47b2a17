"""Rewards within a cap: case by case, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives.shaping import capped
from tests.objectives import reference
from tests.objectives.reference import shaping_capped
from tests.objectives.shaping.capped_cases import (
  CASES,
  EVERY,
  KEYS,
  one_group,
  random,
)


def test_valid_format_looks_at_no_verdict():
  rollouts = one_group(
    [1, 0, 1, 0],
    [3, 3, 3, 3],
    5,
    think_closed=[[1, 1, 0, 0]],
    answered=[[1, 1, 1, 0]],
  )
  np.testing.assert_array_equal(capped.valid_format(rollouts), [[1, 1, 0, 0]])


def test_outcome_is_the_verdict():
  reward = capped.outcome(CASES)
  np.testing.assert_array_equal(reward, [[1, 0, 1, 0, 1], [1, 0, 1, 0, 1]])


@pytest.mark.parametrize('keys', [(1.0, 0.0), (1.0, -1.0), (0.5, 0.25)])
def test_outcome_equals_the_loops(keys):
  right, wrong = keys
  for rollouts in (CASES, random()):
    np.testing.assert_array_equal(
      capped.outcome(rollouts, right=right, wrong=wrong),
      shaping_capped.outcome(rollouts, right, wrong),
    )


def test_truncation_as_in_the_paper():
  reward = capped.truncation(CASES)
  np.testing.assert_array_equal(reward, [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]])


def test_truncation_as_released():
  reward = capped.truncation(CASES, stop_properly=0.1)
  tenth = np.float32(0.1)
  np.testing.assert_array_equal(
    reward, [[1, 0, tenth, 0, 0], [1, 0, tenth, 0, 0]]
  )


# Three of four right in time is more than half: only lengths up to 3 count.
# Two of four is not, be the others wrong, truncated or beyond the cap.
@pytest.mark.parametrize(
  ('correct', 'length', 'truncated', 'expected'),
  [
    ([1, 1, 1, 0], [2, 3, 4, 1], [0, 0, 0, 0], [1, 1, 0, 0]),
    ([1, 1, 0, 0], [2, 4, 3, 1], [0, 0, 0, 0], [1, 1, 0, 0]),
    ([1, 1, 1, 0], [2, 4, 5, 1], [0, 0, 1, 0], [1, 1, 0.25, 0]),
    ([1, 1, 1, 0], [2, 4, 6, 1], [0, 0, 0, 0], [1, 1, 0, 0]),
    ([1, 1, 1, 1], [4, 4, 4, 5], [0, 0, 0, 1], [0, 0, 0, 0]),
  ],
  ids=['easy', 'hard', 'truncated', 'beyond', 'nothing left'],
)
def test_difficulty_truncation_literal(correct, length, truncated, expected):
  rollouts = one_group(correct, length, 5, truncated=[truncated])
  reward = capped.difficulty_truncation(
    rollouts, easy_cap=3, stop_properly=0.25
  )
  np.testing.assert_array_equal(reward, [expected])


@pytest.mark.parametrize(
  ('threshold', 'samples', 'solved', 'is_easy'),
  [
    (0.6, 5, 3, False),  # float32(0.6) is above 3/5
    (0.6, 5, 4, True),
    (0.29, 100, 29, False),  # 0.29 * 100 is 28.999999999999996
    (0.53, 100, 53, False),  # in float32 0.53 * 100 is below 53
    (0.53, 100, 54, True),
    (0.0, 4, 0, False),
    (0.0, 4, 1, True),
    (1.0, 4, 4, False),
  ],
)
def test_difficulty_is_compared_in_whole_responses(
  threshold, samples, solved, is_easy
):
  correct = np.arange(samples) < solved
  rollouts = one_group(correct, np.full(samples, 4), 5)
  expected = np.zeros(samples) if is_easy else correct
  for given in (threshold, jnp.float32(threshold)):
    reward = capped.difficulty_truncation(rollouts, easy_cap=3, threshold=given)
    np.testing.assert_array_equal(reward, [expected])


def test_easy_cap_may_be_traced():
  function = jax.jit(
    lambda cap: capped.difficulty_truncation(CASES, easy_cap=cap, threshold=0.1)
  )
  for easy_cap in (2, 3, 5):
    expected = shaping_capped.difficulty_truncation(CASES, easy_cap, 0.1, 0.0)
    np.testing.assert_array_equal(function(easy_cap), expected)


# A cap of 20 and a buffer of 8: nothing up to 12, then an eighth per token.
def test_overlong_literal():
  rollouts = one_group([1, 0, 1, 0, 1, 0], [1, 12, 13, 16, 20, 23], 20)
  expected = np.array([0, 0, -0.125, -0.5, -1, -1])
  reward = capped.overlong(rollouts, buffer=8)
  np.testing.assert_array_equal(reward, [expected])
  reward = capped.overlong(rollouts, buffer=8, factor=0.5)
  np.testing.assert_array_equal(reward, [expected / 2])


def test_overlong_without_a_buffer():
  rollouts = one_group([1, 1, 1], [1, 20, 21], 20)
  reward = capped.overlong(rollouts, buffer=0)
  np.testing.assert_array_equal(reward, [[0, 0, -1]])


# A cap of 120. Right: 2 at no length, 1.5 at 60, 1 at 120; at 40, where the
# cosine is 1/2, 1 + (1 + 1/2) / 2 = 1.75, and at 80 it is 1.25. Wrong:
# -10 * (3/4, 1/2, 1/4). 104 + 16 reaches the cap, 103 + 16 does not: there
# the cosine is -0.9025853, so the wave (1 - 0.9025853) / 2 = 0.0487074.
@pytest.mark.parametrize(
  ('is_right', 'expected'),
  [
    (1, [1.75, 1.5, 1.25, 1.0487074, -10, -10]),
    (0, [-7.5, -5, -2.5, -0.487074, -10, -10]),
  ],
)
def test_cosine_literal(is_right, expected):
  rollouts = one_group([is_right] * 6, [40, 60, 80, 103, 104, 120], 120)
  np.testing.assert_allclose(capped.cosine(rollouts), [expected], rtol=1e-5)


def test_cosine_under_a_cap_within_its_margin():
  rollouts = one_group([1, 0, 1], [1, 1, 17], 17)
  np.testing.assert_array_equal(capped.cosine(rollouts), [[-10, -10, -10]])
  rollouts = one_group([1, 0], [1, 1], 18)
  assert (np.asarray(capped.cosine(rollouts)) > -10).all()


# A cap of 8: x = 1/4, 1/2, 3/4, 1 gives y = 3/4, 1, 1/2, -1 at p = 1/2.
def test_format_length_literal():
  reward = functools.partial(
    one_group, [1, 0, 1, 0], [2, 4, 6, 8], 8, think_closed=[[1, 1, 0, 0]]
  )
  answered = capped.format_length(reward(answered=[[1, 1, 1, 1]]))
  np.testing.assert_array_equal(answered, [[1.75, 2, 1, -0.5]])
  silent = capped.format_length(reward(answered=[[0, 0, 0, 0]]))
  np.testing.assert_array_equal(silent, [[0, 0, 0, -1]])


def test_format_length_never_looks_at_the_verdict():
  seen = random()
  flipped = random()
  np.copyto(flipped.correct, 1 - seen.correct)
  part = EVERY['format_length']
  np.testing.assert_array_equal(part(seen), part(flipped))


def test_format_length_may_turn_at_the_cap():
  rollouts = one_group([1, 1], [4, 8], 8)
  with jax.debug_nans(True):  # not even where it is not selected
    reward = capped.format_length(rollouts, turning_point=1.0)
  np.testing.assert_array_equal(reward, [[1.75, 2]])  # 1 + 1 - (1/2)^2


# 1000 asked for; 3e-4 times 0, 500, 500, 4000 tokens.
def test_l1_literals():
  rollouts = one_group(
    [1, 1, 0, 1], [1000, 500, 1500, 5000], 5000, target=[1000], tokens=1
  )
  reward = capped.l1_exact(rollouts)
  np.testing.assert_allclose(reward, [[0, -0.15, -0.15, -1.2]], rtol=1e-6)
  reward = capped.l1_max(rollouts)
  np.testing.assert_allclose(reward, [[0.5, 0.65, 0, 0]], rtol=1e-6)


def test_l1_max_at_the_clips():
  rollouts = one_group([1, 1, 0], [1, 9, 1], 9, target=[5])
  reward = capped.l1_max(rollouts, alpha=1.0)
  np.testing.assert_array_equal(reward, [[1, 0, 0]])


def test_l1_exact_lets_a_wrong_hit_pass_a_right_miss():
  rollouts = one_group([1, 0], [4334, 1000], 5000, target=[1000], tokens=1)
  total = np.asarray(capped.outcome(rollouts) + capped.l1_exact(rollouts))
  assert total[0, 0] < total[0, 1] == 0


# 8 asked for: an eighth a token up to 8, and back again until 16.
def test_triangular_literal():
  thinking = [0, 1, 4, 8, 12, 15, 16, 17]
  rollouts = one_group(
    [1, 0] * 4, [20] * 8, 20, thinking_length=[thinking], target=[8]
  )
  expected = np.array([0, 0.125, 0.5, 1, 0.5, 0.125, 0, 0])
  np.testing.assert_array_equal(capped.triangular(rollouts), [expected])
  reward = capped.triangular(rollouts, peak=0.5)
  np.testing.assert_array_equal(reward, [expected / 2])


def test_triangular_where_nothing_was_asked_for():
  rollouts = one_group([1, 1], [1, 2], 2, thinking_length=[[0, 1]], target=[0])
  np.testing.assert_array_equal(capped.triangular(rollouts), [[0, 0]])


@pytest.mark.parametrize('seed', [0, 1])
def test_triangular_equals_the_loops_at_long_targets(seed):
  rng = np.random.default_rng(seed)
  length = rng.integers(1, 60, (9, 8))
  rollouts = reference.rollouts(
    correct=rng.integers(0, 2, (9, 8)),
    length=length,
    thinking_length=rng.integers(0, length),
    target=rng.integers(1, 30, 9),
  )
  expected = shaping_capped.triangular(rollouts, 0.5)
  np.testing.assert_allclose(EVERY['triangular'](rollouts), expected, atol=1e-6)


# Half of the cap at betas of 1, 1/2 and 0; a level of 7 counts as 2.
def test_tldr_literal():
  rollouts = reference.rollouts(
    correct=[[1, 0]] * 4, length=[[4, 4]] * 4, cap=[8] * 4, target=[0, 1, 2, 7]
  )
  reward = capped.tldr(rollouts, short=1.0, medium=0.5, long=0.0)
  np.testing.assert_array_equal(reward, [[0.5, 0], [0.75, 0], [1, 0], [1, 0]])


@pytest.mark.parametrize(
  ('name', 'change', 'message'),
  [
    ('difficulty_truncation', {'easy_cap': 0}, '0; give at least 1'),
    ('difficulty_truncation', {'threshold': 1.5}, '1.5; give one from 0 to 1'),
    ('difficulty_truncation', {'threshold': -0.5}, '-0.5; give one from 0'),
    ('overlong', {'buffer': -1}, '-1; give at least 0'),
    ('overlong', {'factor': -1.0}, '-1.0; give at least 0'),
    ('cosine', {'margin': -1}, '-1; give at least 0'),
    ('format_length', {'turning_point': 0.0}, '0.0; give one above 0, up to 1'),
    ('format_length', {'turning_point': 1.5}, '1.5; give one above 0, up to 1'),
    ('l1_exact', {'alpha': -1.0}, '-1.0; give at least 0'),
    ('l1_max', {'alpha': -1.0}, '-1.0; give at least 0'),
    ('triangular', {'peak': -1.0}, '-1.0; give at least 0'),
    ('tldr', {'medium': -1.0}, '-1.0; give at least 0'),
  ],
)
def test_refused(name, change, message):
  function = functools.partial(getattr(capped, name), **KEYS[name] | change)
  (key,) = change
  with pytest.raises(UserError, match=f'^{name}: {key} = {message}'):
    jax.eval_shape(function, CASES)
