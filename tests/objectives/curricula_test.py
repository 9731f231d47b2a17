"""Curricula: which problems come more often."""

import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import curricula
from tests.objectives.reference import curricula as expected

KEYS = {'lower': 0.5, 'upper': 0.9, 'factor': 3.0}


def test_uniform():
  rates = np.array([0.0, 0.5, 1.0, np.nan])
  weight = curricula.uniform(rates)
  assert weight.dtype == np.float64
  np.testing.assert_array_equal(weight, expected.uniform(rates))
  np.testing.assert_array_equal(weight, [1, 1, 1, 1])


def test_easy_upweight():
  # Never solved, hard, at the border, easy, too easy, solved, unknown.
  rates = np.array([0.0, 0.4, 0.5, 0.8, 0.9, 0.95, 1.0, np.nan])
  weight = curricula.easy_upweight(rates, **KEYS)
  assert weight.dtype == np.float64
  np.testing.assert_array_equal(weight, [1, 1, 3, 3, 1, 1, 0, 1])


def test_solved_is_dropped_even_at_the_upper_border():
  weight = curricula.easy_upweight(
    np.array([15 / 16, 1.0], np.float32), lower=0.5, upper=1.0, factor=2.0
  )
  np.testing.assert_array_equal(weight, [2, 0])


@pytest.mark.parametrize('seed', [0, 1])
def test_equals_the_loops(seed):
  rng = np.random.default_rng(seed)
  rates = rng.integers(0, 17, 500) / 16
  rates[rng.random(500) < 0.1] = np.nan
  keys = {'lower': 0.5, 'upper': 0.875, 'factor': 2.5}
  weight = curricula.easy_upweight(rates, **keys)
  assert set(np.unique(weight)) == {0, 1, 2.5}
  np.testing.assert_array_equal(weight, expected.easy_upweight(rates, **keys))


@pytest.mark.parametrize(
  ('rates', 'weight'),
  [([], []), ([1.0, 1.0], [0, 0]), ([0.0], [1]), ([np.nan], [1])],
)
def test_degenerate(rates, weight):
  np.testing.assert_array_equal(
    curricula.easy_upweight(np.array(rates), **KEYS), weight
  )


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'lower': 0.9}, 'lower = 0.9, upper = 0.9; give 0 <= lower < upper <= 1'),
    ({'lower': -0.1}, 'lower = -0.1'),
    ({'upper': 1.5}, 'upper = 1.5'),
    ({'factor': -1.0}, 'factor = -1.0; give at least 0'),
  ],
)
def test_refused(change, message):
  with pytest.raises(UserError, match=message):
    curricula.easy_upweight(np.array([0.5]), **KEYS | change)


@pytest.mark.parametrize(
  ('step', 'weight'),
  [
    # The limit is 2, 2 + 2 / 4, 2 + 2 * 3 / 4, 4 and 4.
    (1, [1, 1, 1, 0, 0, 0]),
    (2, [1, 1, 1, 0.5, 0, 0]),
    (4, [1, 1, 1, 1, 0.5, 0]),
    (5, [1, 1, 1, 1, 1, 0]),
    (99, [1, 1, 1, 1, 1, 0]),
  ],
)
def test_levels(step, weight):
  found = curricula.levels(np.arange(6), step, first=2, last=4, steps=4)
  assert found.dtype == np.float64
  np.testing.assert_array_equal(found, weight)


@pytest.mark.parametrize('step', [1, 7, 30, 31])
def test_levels_equal_the_loops(step):
  level = np.random.default_rng(0).integers(0, 9, 50)
  keys = {'first': 1.5, 'last': 6.25, 'steps': 30}
  np.testing.assert_allclose(
    curricula.levels(level, step, **keys),
    expected.levels(level, step, **keys),
    rtol=0,
    atol=1e-12,
  )


def test_levels_that_do_not_grow_are_a_limit():
  found = curricula.levels(np.array([1, 2, 3]), 9, first=2, last=2, steps=1)
  np.testing.assert_array_equal(found, [1, 1, 0])
  empty = curricula.levels(np.array([]), 1, first=1, last=2, steps=1)
  assert empty.shape == (0,)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'first': 0.0}, 'levels: first = 0.0, last = 3; give 1 <= first <= last'),
    ({'first': 4}, 'levels: first = 4, last = 3; give 1 <= first <= last'),
    ({'steps': 0}, 'levels: steps = 0; give at least 1'),
  ],
)
def test_levels_refused(change, message):
  keys = {'first': 2, 'last': 3, 'steps': 5} | change
  with pytest.raises(UserError, match=message):
    curricula.levels(np.array([1]), 1, **keys)
