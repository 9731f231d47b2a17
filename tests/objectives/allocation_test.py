"""Responses to problems: GVM."""

import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import allocation
from tests.objectives.reference import allocation as expected

KEYS = {'probes': 4, 'samples': 4, 'alpha': 1e-3, 'beta': 2.0}


def test_gvm():
  # 1 / sqrt(1 + 0.001) = 0.9995, 1 / sqrt(0.25 + 0.004) = 1.9842, and twice
  # that: shares of 16 are 2.298, 4.562 and 9.125, and nothing for the last.
  # The whole parts are 15: the second has the largest fraction.
  found = allocation.gvm(
    np.array([1.0, 0.25, 0.25, 0.0]), np.array([1, 1, 2, 5.0]), 16, **KEYS
  )
  np.testing.assert_array_equal(found, [2, 5, 9, 0])
  # At most 6: of the other 10, 3.349 and 6.651 are for the first two, so the
  # second has 6 as well and the first the last 4.
  found = allocation.gvm(
    np.array([1.0, 0.25, 0.25, 0.0]), np.array([1, 1, 2, 5.0]), 6, **KEYS
  )
  np.testing.assert_array_equal(found, [4, 6, 6, 0])


def test_alpha_spares_what_is_hardly_ever_solved():
  rate, gradient = np.array([1.0, 0.01]), np.array([1.0, 1.0])
  without = allocation.gvm(rate, gradient, 99, **KEYS | {'alpha': 0.0})
  # 1 to 10 in 8: 0.73 and 7.27. With alpha 0.01 / 0.01 = 1: 1 / sqrt(1.01).
  np.testing.assert_array_equal(without, [1, 7])
  with_alpha = allocation.gvm(rate, gradient, 99, **KEYS | {'alpha': 0.01})
  np.testing.assert_array_equal(with_alpha, [4, 4])


@pytest.mark.parametrize('seed', range(6))
def test_gvm_equals_the_loops(seed):
  rng = np.random.default_rng(seed)
  rate = rng.integers(0, 5, 12) / 4
  gradient = rng.exponential(size=12) * (rng.random(12) < 0.8)
  for room in (4, 5, 8, 48):
    found = allocation.gvm(rate, gradient, room, **KEYS)
    assert list(found) == expected.gvm(rate, gradient, room, 4, 1e-3, 2.0)
    positive = np.sum((rate > 0) & (gradient > 0))
    assert found.sum() == min(48, room * positive)
    assert found.max() <= room and not found[rate == 0].any()


@pytest.mark.parametrize(
  ('weight', 'total', 'room', 'count'),
  [
    ([1, 1, 1], 7, 9, [3, 2, 2]),  # equal fractions: the earlier one
    ([1, 0, 1], 4, 9, [2, 0, 2]),
    ([1, 1], 8, 3, [3, 3]),  # no room for all
    ([1e-300, 1e300], 5, 9, [0, 5]),
    ([0.1, 0.2, 0.3, 0.4], 10, 9, [1, 2, 3, 4]),  # whole up to rounding
    ([0, 0], 4, 9, [0, 0]),
    ([], 4, 9, []),
    ([5], 4, 4, [4]),
  ],
)
def test_divide(weight, total, room, count):
  found = allocation.divide(np.array(weight, float), total, room)
  np.testing.assert_array_equal(found, count)
  assert found.dtype.kind == 'i'


@pytest.mark.parametrize(
  ('rate', 'gradient'), [([0, 0, 0], [1, 1, 1]), ([1, 1, 1], [0, 0, 0])]
)
def test_where_the_formula_says_nothing_all_are_alike(rate, gradient):
  found = allocation.gvm(np.array(rate), np.array(gradient), 9, **KEYS)
  np.testing.assert_array_equal(found, [4, 4, 4])


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      {'probes': 0},
      'gvm: probes = 0; give 1 to train.samples=8, the room that a problem has',
    ),
    ({'samples': 9}, 'gvm: samples = 9; give 1 to train.samples=8, the room'),
    ({'alpha': -1.0}, 'gvm: alpha = -1.0, beta = 2.0; give alpha >= 0, beta'),
    ({'beta': 0.5}, 'gvm: alpha = 0.001, beta = 0.5; give alpha >= 0, beta'),
  ],
)
def test_refused(change, message):
  with pytest.raises(UserError, match=message):
    allocation.check(8, **KEYS | change)
