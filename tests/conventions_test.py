"""Conventions: the numbers by which frameworks differ, and how they apply."""

import math

import numpy as np
import pytest

from configs import conventions, default
from lrm_jax import configuration
from lrm_jax.objectives import recipe

CONVENTIONS = {
  'trl': conventions.trl,
  'verl': conventions.verl,
  'tunix': conventions.tunix,
  'openrlhf': conventions.openrlhf,
  'nemo': conventions.nemo,
}


def applied(name):
  config = default.get_config()
  conventions.apply(config, CONVENTIONS[name]())
  return config


def advantage(name, rewards):
  rewards = np.asarray([rewards], np.float32)
  built = recipe.build(applied(name))
  return np.asarray(built.advantage(rewards, np.ones((*rewards.shape, 1))))[0]


# --- The numbers ---

# One right answer in a group of 8: the mean is 1/8, the variance with n - 1 is
# (49/64 + 7/64) / 7 = 1/8, so (7/8) / (sqrt(1/8) + eps) and a seventh of it.
# NeMo compares with the others: with 7 wrong ones, which are equal, so 1 is
# not scaled; with one right of 7, of mean 1/7 and variance
# (36/49 + 6/49) / 6 = 1/7, so -(1/7) / sqrt(1/7).
ONE_RIGHT = {
  'trl': (2.474, -0.353),
  'verl': (2.475, -0.354),
  'tunix': (2.475, -0.354),
  'openrlhf': (2.475, -0.354),
  'nemo': (1.000, -0.378),
}


@pytest.mark.parametrize('name', CONVENTIONS)
def test_one_right_answer(name):
  right, *wrong = advantage(name, [1, 0, 0, 0, 0, 0, 0, 0])
  assert (round(float(right), 3), round(float(wrong[0]), 3)) == ONE_RIGHT[name]
  np.testing.assert_array_equal(wrong, wrong[0])


# Eight right answers 1e-5 apart: the best is 3.5e-5 above the mean and the
# deviation is sqrt(6) 1e-5. In NeMo it is 4e-5 above the mean of the other 7,
# whose deviation is sqrt(14/3) 1e-5.
TOP_OF_LENGTHS = {
  'trl': 0.28,
  'verl': 1.37,
  'tunix': 1.37,
  'openrlhf': 1.43,
  'nemo': 1.77,
}


@pytest.mark.parametrize('name', CONVENTIONS)
def test_right_answers_that_differ_in_length_alone(name):
  top = advantage(name, 1 - 1e-5 * np.arange(8)).max()
  # A float32 near 1 is good to 6e-8, half a percent of the spacing.
  assert top == pytest.approx(TOP_OF_LENGTHS[name], abs=0.01)


@pytest.mark.parametrize('name', CONVENTIONS)
def test_equal_rewards_carry_no_signal(name):
  np.testing.assert_array_equal(advantage(name, [0.1] * 8), 0)


@pytest.mark.parametrize(
  ('name', 'clipped'),
  [('trl', 5), ('verl', 3), ('tunix', 5), ('openrlhf', 5), ('nemo', 5)],
)
def test_ratio_of_a_wrong_sample(name, clipped):
  """Five times likelier, with an advantage of -1: verl clips twice."""
  old = np.zeros((1, 1, 1), np.float32)
  one = np.ones_like(old)
  built = recipe.build(applied(name))
  loss = built.loss(old + math.log(5), old, -one, one)
  np.testing.assert_allclose(loss, [[[clipped]]], rtol=1e-5)
  # And clips at 1.2 where the advantage is 1.
  loss = built.loss(old + math.log(5), old, one, one)
  np.testing.assert_allclose(loss, [[[-1.2]]], rtol=1e-5)


@pytest.mark.parametrize('name', CONVENTIONS)
def test_weight_of_a_token(name):
  """Two responses of 1 and of 3 tokens."""
  weights = recipe.build(applied(name)).aggregate([[[1, 0, 0], [1, 1, 1]]])
  by_token = [[[1 / 4, 0, 0], [1 / 4, 1 / 4, 1 / 4]]]
  by_response = [[[1 / 2, 0, 0], [1 / 6, 1 / 6, 1 / 6]]]
  expected = by_response if name == 'tunix' else by_token
  np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize(
  ('name', 'terms'),
  [
    ('trl', {}),
    ('verl', {}),
    ('tunix', {'kl_k1': 0.04}),
    ('openrlhf', {'kl_k3': 0.01}),
    ('nemo', {'kl_k3': 0.01}),
  ],
)
def test_divergence_from_the_reference(name, terms):
  built = recipe.build(applied(name))
  assert {term.name: term.coefficient for term in built.regularizers} == terms
  assert built.needs_reference == bool(terms)


# --- Applying them ---


@pytest.mark.parametrize('name', CONVENTIONS)
def test_parts_are_replaced_whole(name):
  """No key of DLER's parts stays behind: its eps, its dual, its k2."""
  before, after = default.get_config(), applied(name)
  convention = CONVENTIONS[name]()
  assert set(convention) == {'advantage', 'loss', 'regularizers', 'aggregate'}
  for part in before.objective:
    expected = before.objective.to_dict()[part]
    if part in convention:
      assert convention[part] != expected or part == 'aggregate'
      expected = convention[part]
    assert after.objective.to_dict()[part] == expected
  for section in set(before) - {'objective'}:
    assert after[section] == before[section]


@pytest.mark.parametrize('name', CONVENTIONS)
def test_applied_config_is_locked_and_becomes_json(name):
  config = applied(name)
  assert config.is_locked
  with pytest.raises((AttributeError, KeyError)):
    config.objective.advantage.epz = 1e-3
  assert configuration.to_json(config)


def test_the_last_one_wins():
  config = default.get_config()
  for convention in CONVENTIONS.values():
    conventions.apply(config, convention())
  conventions.apply(config, conventions.trl())
  assert config == applied('trl')


def test_unknown_parts_are_refused():
  with pytest.raises(ValueError, match='no such part: advantages'):
    conventions.apply(default.get_config(), {'advantages': {}})


def test_trl_with_one_deviation_for_the_batch():
  """(1, 0 x 7) beside (1 x 4, 0 x 4): 5 of 16 right.

  The deviation is sqrt(16/15 * 5/16 * 11/16) = 0.4787, so a lonely right
  answer gets 7/8 / 0.4788 = 1.8275, and a wrong one beside it -0.2611.
  """
  config = default.get_config()
  conventions.apply(config, conventions.trl_batch())
  built = recipe.build(config)
  reward = np.zeros((2, 8), np.float32)
  reward[0, 0] = reward[1, :4] = 1
  found = built.advantage(reward, np.ones((2, 8, 1), np.float32))
  np.testing.assert_allclose(found[0, :2], [1.8275, -0.2611], atol=1e-4)
  assert conventions.trl_batch().keys() == conventions.trl().keys()
