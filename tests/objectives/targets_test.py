"""Targets: who is asked for what."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.errors import UserError
from lrm_jax.objectives import budgets, targets
from tests.objectives.reference import targets as expected

EVERY = {
  'no_target': targets.no_target,
  'uniform_target': functools.partial(
    targets.uniform_target, low=100, high=4000
  ),
  'level_target': targets.level_target,
  'cap_target': targets.cap_target,
  'share_of_cap': functools.partial(targets.share_of_cap, times=2, room=32),
}


def keys(count, step=1):
  """As the trainer makes them: one per problem."""
  hashes = rng.name_hashes([f'problem {i}' for i in range(count)])
  stream = rng.stream(0, 'target', step)
  return jax.vmap(jax.random.fold_in, (None, 0))(stream, hashes)


def test_no_target():
  target = targets.no_target(keys(3), 96)
  np.testing.assert_array_equal(target, [0, 0, 0])
  np.testing.assert_array_equal(target, expected.no_target(3, 96))


@pytest.mark.parametrize('cap', [96, jnp.int32(96)])
def test_cap_target(cap):
  target = targets.cap_target(keys(2), cap)
  np.testing.assert_array_equal(target, [96, 96])
  np.testing.assert_array_equal(target, expected.cap_target(2, 96))


# (96 - 32) / 2 = 32 and (97 - 32) / 2 = 32.5; there is always one to ask for.
@pytest.mark.parametrize(('cap', 'budget'), [(96, 32), (97, 32), (33, 1)])
def test_share_of_cap(cap, budget):
  for given in (cap, jnp.int32(cap)):
    target = EVERY['share_of_cap'](keys(2), given)
    np.testing.assert_array_equal(target, [budget, budget])
  assert expected.share_of_cap(2, cap, 2, 32) == [budget, budget]


def test_share_of_cap_is_the_budget_of_the_step():
  made = dict(initial=800, least=1, gamma=0.2, steps=9)
  for step in range(1, 12):
    budget = budgets.geometric(step, **made, times=1, room=0)
    cap = budgets.geometric(step, **made, times=3, room=50)
    target = targets.share_of_cap(keys(1), cap, times=3, room=50)
    assert target.tolist() == [budget]


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'times': 0}, 'times = 0; give at least 1'),
    ({'room': -1}, 'room = -1; give at least 0'),
  ],
)
def test_share_of_cap_refuses(change, message):
  with pytest.raises(UserError, match=f'^share_of_cap: {message}$'):
    targets.share_of_cap(keys(1), 96, **{'times': 2, 'room': 32} | change)


def test_uniform_target_reaches_both_ends_equally_often():
  drawn = targets.uniform_target(keys(5000), 9, low=3, high=7)
  value, count = np.unique(drawn, return_counts=True)
  np.testing.assert_array_equal(value, [3, 4, 5, 6, 7])
  # 1000 each, deviation sqrt(5000 * 0.2 * 0.8) = 28.3: within five of them.
  assert np.abs(count - 1000).max() < 142


def test_uniform_target_of_l1():
  # Mean 2050, deviation 1126 / sqrt(5000) = 15.9: within five of them.
  drawn = np.asarray(EVERY['uniform_target'](keys(5000), 96))
  assert 100 <= drawn.min() <= 110
  assert 3990 <= drawn.max() <= 4000
  assert abs(drawn.mean() - 2050) < 80


@pytest.mark.parametrize('count', [1, 2, 3])
def test_level_target_has_every_level_equally_often(count):
  drawn = targets.level_target(keys(3000), 96, count=count)
  value, times = np.unique(drawn, return_counts=True)
  np.testing.assert_array_equal(value, np.arange(count))
  # Deviation below sqrt(3000) / 2 = 27.4: within five of them.
  assert np.abs(times - 3000 / count).max() < 137


def test_three_levels_by_default():
  assert set(np.unique(targets.level_target(keys(200), 96))) == {0, 1, 2}


@pytest.mark.parametrize('name', EVERY)
def test_a_target_does_not_depend_on_the_batch(name):
  all_keys = keys(20)
  drawn = np.asarray(EVERY[name](all_keys, 96))
  assert drawn.dtype == np.int32
  order = np.array([7, 3, 19])
  np.testing.assert_array_equal(EVERY[name](all_keys[order], 96), drawn[order])


@pytest.mark.parametrize('name', ['uniform_target', 'level_target'])
def test_each_step_asks_anew(name):
  first, second = (EVERY[name](keys(50, step), 96) for step in (1, 2))
  assert np.any(first != second)
  np.testing.assert_array_equal(EVERY[name](keys(50, 1), 96), first)


@pytest.mark.parametrize('name', EVERY)
def test_jit_equals_eager(name):
  np.testing.assert_array_equal(
    jax.jit(EVERY[name])(keys(9), 96), EVERY[name](keys(9), 96)
  )


@pytest.mark.parametrize('name', EVERY)
def test_an_empty_batch(name):
  assert EVERY[name](keys(1)[:0], 96).shape == (0,)


def test_one_value_to_draw_from():
  drawn = targets.uniform_target(keys(4), 96, low=8, high=8)
  np.testing.assert_array_equal(drawn, [8] * 4)


@pytest.mark.parametrize(('low', 'high'), [(0, 9), (9, 8), (-1, 5)])
def test_uniform_target_refuses(low, high):
  message = f'low = {low}, high = {high} tokens; give 1 <= low <= high'
  with pytest.raises(UserError, match=message):
    targets.uniform_target(keys(1), 96, low=low, high=high)


@pytest.mark.parametrize('count', [-1, 0, 4])
def test_level_target_refuses(count):
  message = f'^level_target: count = {count} levels; give 1 to 3$'
  with pytest.raises(UserError, match=message):
    targets.level_target(keys(1), 96, count=count)
