"""Rewards relative to a group: by hand, and what is refused."""

import functools

import jax
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import advantages
from lrm_jax.objectives.shaping import relative
from tests.objectives import reference
from tests.objectives.shaping.relative_cases import (
  EVERY,
  KEYS,
  one_group,
  random,
)

# sigmoid(+-1) = 0.731059, 0.268941: of lengths 2 and 6 the mean is 4 and the
# population's deviation 2. The wrong one of length 9 is in no statistic.
SHORT, LONG = 1 - 0.5 * 0.268941, 1 - 0.5 * 0.731059


def test_group_lambda_literal():
  # Rates 1/3, 2/3, 2/3, 0: of five tenths of four groups the second and third
  # are on top, of a quarter only the second, which stands before its equal.
  rollouts = reference.rollouts(
    correct=[[1, 0, 0], [1, 1, 0], [1, 1, 0], [0, 0, 0]],
    length=[[2, 6, 9], [2, 6, 9], [6, 2, 9], [2, 6, 9]],
  )
  reward = relative.group_lambda(rollouts, fraction=0.5, alpha=0.5)
  np.testing.assert_allclose(
    reward,
    [[1, 0, 0], [SHORT, LONG, 0], [LONG, SHORT, 0], [0, 0, 0]],
    rtol=1e-5,
  )
  reward = relative.group_lambda(rollouts, fraction=0.25, alpha=0.5)
  np.testing.assert_allclose(
    reward, [[1, 0, 0], [SHORT, LONG, 0], [1, 1, 0], [0, 0, 0]], rtol=1e-5
  )


# On paper 0.07 * 100 = 7 and 0.15 * 100 = 15; in float64 the first is
# 7.000000000000001, and in float32 the second is above 15.
@pytest.mark.parametrize(
  ('fraction', 'problems', 'top'),
  [
    (0.2, 5, 1),
    (0.07, 100, 7),
    (0.15, 100, 15),
    (0.2, 6, 2),
    (0, 4, 0),
    (1, 4, 4),
    (0.01, 3, 1),
  ],
)
def test_group_lambda_counts_groups(fraction, problems, top):
  rollouts = reference.rollouts(
    correct=[[1]] * problems, length=[[3]] * problems
  )
  part = functools.partial(relative.group_lambda, alpha=0.5)
  reward = part(rollouts, fraction=fraction)
  expected = np.where(np.arange(problems) < top, 0.75, 1)[:, None]
  np.testing.assert_array_equal(reward, expected)
  traced = jax.jit(lambda f: part(rollouts, fraction=f))(np.float32(fraction))
  np.testing.assert_array_equal(traced, expected)


def test_group_lambda_floor():
  # Lengths 2 and 6 over a floor of 4 instead of their deviation: sigmoid(1/2)
  # is 0.622459.
  rollouts = one_group([1, 1], [2, 6])
  reward = relative.group_lambda(rollouts, fraction=1.0, alpha=1.0, floor=4.0)
  np.testing.assert_allclose(reward, [[0.622459, 0.377541]], rtol=1e-5)


def test_sigmoid_length_literal():
  rollouts = one_group([1, 0, 1], [2, 9, 6])
  reward = relative.sigmoid_length(rollouts, alpha=0.5)
  np.testing.assert_allclose(reward, [[SHORT, 0, LONG]], rtol=1e-5)


def test_sigmoid_length_of_truncated_responses():
  """They get 0 and move nobody's mean."""
  rollouts = one_group([1, 0, 1, 1], [2, 9, 6, 9], truncated=[[0, 1, 0, 1]])
  reward = relative.sigmoid_length(rollouts, alpha=0.5)
  np.testing.assert_allclose(reward, [[SHORT, 0, LONG, 0]], rtol=1e-5)


# From 2 to 10 tokens: lambda = 1/2, 1/4, 0, -1/4, -1/2.
@pytest.mark.parametrize(
  ('correct', 'expected'),
  [
    ([1] * 5, [0.5, 0.25, 0, -0.25, -0.5]),
    ([0] * 5, [0, 0, 0, -0.25, -0.5]),
    ([0, 1, 0, 1, 0], [0, 0.25, 0, -0.25, -0.5]),
  ],
)
def test_kimi_literal(correct, expected):
  rollouts = one_group(correct, [2, 4, 6, 8, 10])
  reward = relative.kimi(rollouts, coefficient=1.0)
  np.testing.assert_array_equal(reward, [expected])
  np.testing.assert_allclose(
    relative.kimi(rollouts), [0.4 * np.array(expected)], rtol=1e-6
  )


# Rates 1/2 and 0, the latter raised to 1/4.
def test_alp_literal():
  rollouts = reference.rollouts(
    correct=[[1, 1, 0, 0], [0, 0, 0, 0]], length=[[2, 4, 6, 8]] * 2
  )
  reward = relative.alp(rollouts, beta=0.5)
  np.testing.assert_array_equal(
    reward, [[-0.5, -1, -1.5, -2], [-0.25, -0.5, -0.75, -1]]
  )


# The best is 4 although a wrong one has 2; without a right one it is the
# mean, 16 / 4 = 4, again.
def test_shorter_better_literal():
  rollouts = reference.rollouts(
    correct=[[0, 1, 1, 0], [0, 0, 0, 0]], length=[[2, 4, 5, 5]] * 2
  )
  reward = relative.shorter_better(rollouts, alpha=2.0, beta=0.5)
  np.testing.assert_array_equal(
    reward, [[-1, 2, 1.5, -0.5], [-1, 0, -0.5, -0.5]]
  )


# Mean 5: 5 / L - 1 = 3/2, 1/4, 0, -3/8. Two of four right: +-5/2, or with an
# alpha of 1/2 +-1/4.
def test_o1_pruner_literal():
  rollouts = one_group([1, 1, 0, 0], [2, 4, 5, 9])
  length = np.array([1.5, 0.25, 0, -4 / 9])
  reward = relative.o1_pruner(rollouts, alpha=0.5)
  np.testing.assert_allclose(
    reward, [length + [0.25, 0.25, -0.25, -0.25]], rtol=1e-6
  )
  reward = relative.o1_pruner(rollouts)
  np.testing.assert_allclose(reward, [[4, 2.75, -2, -2]], rtol=1e-6)


# (4 - L) / (20 * 1/2) = 0, -1/5, -1.6 for right ones.
def test_decoupled_length_literal():
  rollouts = one_group([1, 0, 1, 1], [4, 2, 6, 20], 20)
  reward = relative.decoupled_length(rollouts, temperature=0.5)
  np.testing.assert_allclose(reward, [[1, 0, 0.818731, 0.201897]], rtol=1e-5)


def test_decoupled_length_normalised_is_the_weight_of_the_paper():
  """`w = exp(r / lambda)` over its sum, `r = 1 - L / C`."""
  length, cap = np.array([300, 700, 5000, 8192]), 8192
  rollouts = one_group([1, 1, 0, 1], length, cap, tokens=1)
  reward = np.asarray(relative.decoupled_length(rollouts), np.float64)
  weight = np.exp((1 - length / cap) / 0.1) * [1, 1, 0, 1]
  np.testing.assert_allclose(
    reward[0] / reward.sum(), weight / weight.sum(), rtol=1e-4
  )


def test_decoupled_length_at_extreme_temperatures():
  rollouts = one_group([1, 0, 1], [5, 1, 9], 10)
  reward = relative.decoupled_length(rollouts, temperature=float('inf'))
  np.testing.assert_array_equal(reward, [[1, 0, 1]])
  reward = relative.decoupled_length(rollouts, temperature=1e-30)
  np.testing.assert_array_equal(reward, [[1, 0, np.float32(2.0**-126)]])


def test_the_longest_right_response_is_still_no_wrong_one():
  # exp(-0.9 / 0.008) = 1e-49 has no float32.
  rollouts = one_group([1, 1, 1, 0], [100, 900, 1000, 500], 1000)
  reward = relative.decoupled_length(rollouts, temperature=0.008)
  share = advantages.class_share(reward, np.ones((1, 4, 1)))
  np.testing.assert_array_equal(np.sign(share), [[1, 1, 1, -1]])
  np.testing.assert_allclose(share, [[1, 0, 0, -1]], atol=1e-6)


# Half right at step 3 of 4: s + p = 2 / 4 + 1/2 = 1. The scores count as 1,
# 1/10, 1/2; at step 4 and after it s is 0.
def test_conciseness_literal():
  rollouts = reference.rollouts(
    correct=[[1, 1, 1, 0, 0, 0]] * 3,
    length=[[3] * 6] * 3,
    step=[3, 4, 9],
    measures={'compressibility': [[7, -1, 0.5, 1, 1, np.nan]] * 3},
  )
  reward = relative.conciseness(
    rollouts,
    score='compressibility',
    alpha=0.5,
    anneal_from=2.0,
    anneal_steps=4,
  )
  late = [1.25, 1.025, 1.125, 0, 0, 0]
  np.testing.assert_allclose(
    reward, [[1.5, 1.05, 1.25, 0, 0, 0], late, late], rtol=1e-6
  )


def test_conciseness_without_annealing():
  rollouts = one_group([1, 0], [3, 3], measures={'score': [[1.0, 1.0]]})
  reward = relative.conciseness(
    rollouts, score='score', alpha=1.0, anneal_from=9.0, anneal_steps=0
  )
  np.testing.assert_array_equal(reward, [[1.5, 0]])


# From 2 to 6 paragraphs; the wrong ones' 1 and 40 are not in the range.
def test_step_pruner_literal():
  rollouts = one_group(
    [1, 1, 1, 0, 0], [3] * 5, measures={'paragraphs': [[2, 3, 6, 1, 40]]}
  )
  reward = relative.step_pruner(rollouts, alpha=0.5)
  np.testing.assert_allclose(reward, [[1, 0.875, 0.5, 0, 0]], rtol=1e-5)


# The longest right one has 8.
def test_relative_length_literal():
  rollouts = one_group([1, 1, 0, 0], [2, 8, 4, 10])
  reward = relative.relative_length(rollouts)
  np.testing.assert_array_equal(reward, [[0.75, 0, 0.5, -0.25]])


@pytest.mark.parametrize(
  ('name', 'measure'),
  [('conciseness', 'compressibility'), ('step_pruner', 'paragraphs')],
)
@pytest.mark.parametrize(
  ('measures', 'given'),
  [({}, 'none'), ({'b': [[1]], 'a': [[1]]}, 'a, b')],
)
def test_a_missing_measure(name, measure, measures, given):
  rollouts = one_group([1], [3], measures=measures)
  with pytest.raises(UserError) as error:
    EVERY[name](rollouts)
  assert str(error.value) == (
    f'config.objective.shaping.{name}: reads the measure {measure!r}, and '
    f'those taken are {given}; add it to config.objective.measures'
  )


@pytest.mark.parametrize(
  ('name', 'change', 'message'),
  [
    ('group_lambda', {'fraction': 1.5}, 'fraction = 1.5; give one from 0 to 1'),
    ('group_lambda', {'fraction': -0.5}, 'fraction = -0.5; give one from 0'),
    ('group_lambda', {'alpha': -1.0}, 'alpha = -1.0; give at least 0'),
    ('group_lambda', {'floor': -1.0}, 'floor = -1.0; give at least 0'),
    ('sigmoid_length', {'alpha': -1.0}, 'alpha = -1.0; give at least 0'),
    ('kimi', {'coefficient': -1.0}, 'coefficient = -1.0; give at least 0'),
    ('alp', {'beta': -1.0}, 'beta = -1.0; give at least 0'),
    ('shorter_better', {'alpha': -1.0}, 'alpha = -1.0; give at least 0'),
    ('shorter_better', {'beta': -1.0}, 'beta = -1.0; give at least 0'),
    ('o1_pruner', {'low': 5.0}, 'low = 5.0, high = 4.0; give low <= high'),
    ('decoupled_length', {'temperature': 0.0}, 'temperature = 0.0; give one'),
    ('decoupled_length', {'temperature': -1.0}, 'temperature = -1.0; give one'),
    ('conciseness', {'alpha': -1.0}, 'alpha = -1.0; give at least 0'),
    ('conciseness', {'anneal_steps': -1}, 'anneal_steps = -1; give at least 0'),
    ('step_pruner', {'alpha': -1.0}, 'alpha = -1.0; give at least 0'),
    ('step_pruner', {'eps': -1.0}, 'eps = -1.0; give at least 0'),
  ],
)
def test_refused(name, change, message):
  function = functools.partial(getattr(relative, name), **KEYS[name] | change)
  with pytest.raises(UserError, match=f'^{name}: {message}'):
    jax.eval_shape(function, random())
