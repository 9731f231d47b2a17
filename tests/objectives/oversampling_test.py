"""Over-sampling: factors by hand, and the window step by step."""

import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import oversampling, tables
from lrm_jax.structs import Memory
from tests.objectives.reference import oversampling as expected

KEYS = {'window': 4, 'first': 1.5, 'low': 1.2, 'high': 5.0}


def window(*rates):
  return Memory({'pass_rate': np.array(rates, np.float32)}, {})


def test_no_oversampling():
  for rates in ([], [0.5]):
    factor = oversampling.no_oversampling(window(*rates))
    assert factor == expected.no_oversampling(rates) == 1


# (1 + std) / mean with the population's deviation.
@pytest.mark.parametrize(
  ('rates', 'factor'),
  [
    ([np.nan] * 4, 1.5),  # nothing recorded
    ([np.nan, np.nan, np.nan, 0.5], 2.0),  # one step: no deviation
    ([np.nan, np.nan, 0.25, 0.75], 2.5),  # 1.25 / 0.5
    ([0.5, 0.5, 0.5, 0.5], 2.0),
    ([1.0, 1.0, 1.0, 1.0], 1.2),  # 1 is below low
    ([0.125, 0.125, 0.125, 0.125], 5.0),  # 8 is above high
    ([0.0, 0.0, 0.0, 0.0], 5.0),  # nothing was ever kept
    ([np.nan, np.nan, np.nan, 0.0], 5.0),
  ],
)
def test_predictive(rates, factor):
  result = oversampling.predictive(window(*rates), **KEYS)
  assert isinstance(result, float)
  assert result == pytest.approx(factor)


def test_defaults_are_those_of_the_script():
  assert oversampling.predictive(window(np.nan)) == 1.5
  assert oversampling.predictive(window(1.0)) == 1.2
  assert oversampling.predictive(window(0.01)) == 5.0


# A window of 2. Rates 0.5, 0.25, 0.75, 1.0:
#   [-, -] 1.5; [-, .5] 2; [.5, .25] 1.125/.375 = 3; [.25, .75] 2.5;
#   [.75, 1] 1.125/.875 = 1.285714
def test_memory_of_four_steps():
  keys = KEYS | {'window': 2}
  memory = oversampling.predictive_start(**keys)
  assert memory.shared['pass_rate'].dtype == np.float32
  factors = [oversampling.predictive(memory, **keys)]
  windows = [(np.nan, 0.5), (0.5, 0.25), (0.25, 0.75), (0.75, 1.0)]
  for wanted in windows:
    before = memory.shared['pass_rate'].copy()
    after = oversampling.record(memory, wanted[-1])
    np.testing.assert_array_equal(memory.shared['pass_rate'], before)
    np.testing.assert_array_equal(after.shared['pass_rate'], wanted)
    assert after.shared['pass_rate'].dtype == np.float32
    memory = after
    factors.append(oversampling.predictive(memory, **keys))
  np.testing.assert_allclose(factors, [1.5, 2, 3, 2.5, 1.285714], rtol=1e-6)


def test_a_window_of_one_step():
  memory = oversampling.predictive_start(**KEYS | {'window': 1})
  for rate in (0.5, 0.25):
    memory = oversampling.record(memory, rate)
    np.testing.assert_array_equal(memory.shared['pass_rate'], [rate])


def test_record_leaves_the_rest():
  memory = Memory(
    {'pass_rate': np.array([0.5], np.float32), 'other': np.int32(3)},
    {'seen': np.zeros(2)},
  )
  after = oversampling.record(memory, 0.25)
  assert after.shared['other'] == 3
  assert after.problem is memory.problem


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_equals_the_loops(seed):
  rng = np.random.default_rng(seed)
  memory, rates = oversampling.predictive_start(**KEYS), []
  for _ in range(12):
    factor = oversampling.predictive(memory, **KEYS)
    assert factor == pytest.approx(expected.predictive(rates, **KEYS), rel=1e-6)
    rate = rng.integers(0, 9) / 8
    memory, rates = oversampling.record(memory, rate), [*rates, rate]


def test_companion():
  assert tables.MEMORIES['predictive'] is oversampling.predictive_start


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'window': 0}, 'window = 0 steps; give at least 1'),
    ({'low': 0.5}, 'low = 0.5, high = 5.0; give 1 <= low <= high'),
    ({'high': 1.1}, 'low = 1.2, high = 1.1; give 1 <= low <= high'),
    ({'first': 0.9}, 'first = 0.9; give at least 1'),
  ],
)
def test_refused(change, message):
  with pytest.raises(UserError, match=message):
    oversampling.predictive_start(**KEYS | change)
