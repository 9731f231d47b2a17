"""Several training seeds: by hand, by scipy, and against loops."""

import math

import numpy as np
import pytest
from scipy import stats

from lrm_jax.evaluation import intervals, seeds
from lrm_jax.evaluation.intervals import Estimate


def test_student_by_hand():
  """1, 2, 3: error 1 / sqrt(3), and 4.3027 is the quantile of 2 degrees."""
  found = seeds.mean([1, 2, 3])
  half = 4.302653 / math.sqrt(3)
  assert found.value == 2
  assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
  assert math.isnan(seeds.mean([1]).low)


def test_welch_by_hand():
  """Variances 1, 3 each: error sqrt(2/3), 4 degrees, whose 2.7764 is tabled."""
  found = seeds.welch([1, 2, 3], [4, 5, 6])
  half = 2.776445 * math.sqrt(2 / 3)
  assert found.value == 3
  assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))
  # t = 3.6742.
  assert found.p == pytest.approx(0.0213, abs=5e-5)
  other = seeds.welch([4, 5, 6], [1, 2, 3])
  assert (other.low, other.high) == pytest.approx((-found.high, -found.low))


def test_welch_of_unequal_variances():
  """(1/3 + 4/3)^2 / ((1/9 + 16/9) / 2) = 50/17 degrees of freedom."""
  found = seeds.welch([1, 2, 3], [4, 6, 8])
  half = stats.t.ppf(0.975, 50 / 17) * math.sqrt(5 / 3)
  assert (found.low, found.high) == pytest.approx((4 - half, 4 + half))
  theirs = stats.ttest_ind([1, 2, 3], [4, 6, 8], equal_var=False)
  assert found.p == pytest.approx(theirs.pvalue)


def test_welch_without_spread_or_seeds():
  assert seeds.welch([1, 1], [2, 2]) == Estimate(1, 1, 1, 0.0)
  assert seeds.welch([1, 1], [1, 1]).p == 1.0
  assert math.isnan(seeds.welch([1], [2, 3]).low)


def seeds_by_loops(first, second, draws, seed, compare):
  """Seeds of each method and problems of both, drawn one at a time."""
  rng = np.random.default_rng(seed)
  found = []
  for _ in range(draws):
    problems = rng.integers(0, first.shape[1], first.shape[1])
    means = [
      x[rng.integers(0, len(x), len(x))][:, problems].mean()
      for x in (first, second)
    ]
    found.append(compare(*means))
  return np.quantile(found, [0.025, 0.975])


@pytest.mark.parametrize('ratio', [False, True])
def test_seeds_and_problems_against_loops(ratio):
  rng = np.random.default_rng(2)
  problem = rng.normal(4, 1, 30)
  make = lambda count: (
    rng.normal(0, 0.4, (count, 1)) + problem + rng.normal(0, 0.2, (count, 30))
  )
  first, second = make(3), 0.8 * make(4)
  function = seeds.ratio if ratio else seeds.difference
  compare = (lambda a, b: b / a) if ratio else (lambda a, b: b - a)
  found = function(first, second)
  assert found.value == pytest.approx(compare(first.mean(), second.mean()))
  loops = seeds_by_loops(first, second, 4000, 0, compare)
  width = found.high - found.low
  np.testing.assert_allclose((found.low, found.high), loops, atol=0.06 * width)
  # Nothing of 10,001 is on the other side.
  assert found.p == pytest.approx(2 / (intervals.DRAWS + 1), abs=1e-3)


def test_seeds_that_are_equal_differ_in_nothing():
  values = np.random.default_rng(0).random((1, 20))
  assert seeds.difference(values, values) == Estimate(0, 0, 0, 1)
  assert seeds.ratio(values, values) == Estimate(1, 1, 1, 1)


def test_one_seed_each_is_the_paired_interval_of_problems():
  rng = np.random.default_rng(4)
  first, second = rng.random((2, 1, 25))
  found = seeds.difference(first, second)
  paired = intervals.paired_difference(first.T, second.T)
  assert (found.low, found.high) == pytest.approx(
    (paired.low, paired.high), abs=0.01
  )


def test_one_problem_says_nothing():
  for function, same in ((seeds.difference, 0), (seeds.ratio, 1)):
    found = function(np.ones((2, 1)), np.ones((3, 1)))
    assert found.value == same
    assert math.isnan(found.low) and math.isnan(found.p)


def test_trained_models_are_of_the_same_problems():
  with pytest.raises(ValueError, match='2 and 3 problems'):
    seeds.difference(np.ones((4, 2)), np.ones((4, 3)))
