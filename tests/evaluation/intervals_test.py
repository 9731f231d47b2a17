"""Errors, intervals and tests: by hand, and against loops."""

import math

import numpy as np
import pytest
from scipy import stats

from lrm_jax.evaluation import intervals
from lrm_jax.evaluation.intervals import Estimate


def test_standard_error_is_that_of_problem_means():
  # Means 1, 0.5, 0: variance 0.25 with ddof 1, over 3 problems.
  found = intervals.clustered_standard_error([[1, 1], [1, 0], [0, 0]])
  assert found == pytest.approx(math.sqrt(0.25 / 3))


def test_copies_of_a_sample_do_not_shrink_the_error():
  few = np.array([[1], [0], [1], [1]])
  many = np.repeat(few, 50, axis=1)
  assert intervals.clustered_standard_error(many) == pytest.approx(
    intervals.clustered_standard_error(few)
  )


def test_one_problem_has_no_standard_error():
  assert math.isnan(intervals.clustered_standard_error([[1, 0, 1]]))


def by_loops(first, second, ratio, *, draws, seed):
  """The same resamples, one at a time."""
  rng = np.random.default_rng(seed)
  found = []
  for chosen in rng.integers(0, len(first), (draws, len(first))):
    a = np.mean([first[i] for i in chosen])
    b = np.mean([second[i] for i in chosen])
    found.append(b / a if ratio else b - a)
  low, high = np.quantile(found, 0.025), np.quantile(found, 0.975)
  null = float(ratio)
  tails = [sum(x <= null + 1e-12 for x in found)]
  tails.append(sum(x >= null - 1e-12 for x in found))
  p = min(1, 2 * (min(tails) + 1) / (draws + 1))
  return low, high, p


@pytest.mark.parametrize('ratio', [False, True])
def test_paired_intervals_against_loops(ratio):
  rng = np.random.default_rng(3)
  first = rng.integers(1, 9, (12, 4))
  second = first + rng.integers(-1, 3, (12, 4))
  function = intervals.paired_ratio if ratio else intervals.paired_difference
  found = function(first, second, draws=300, seed=5)
  low, high, p = by_loops(first, second, ratio, draws=300, seed=5)
  assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
  assert found.p == pytest.approx(p)
  means = first.mean(), second.mean()
  expected = means[1] / means[0] if ratio else means[1] - means[0]
  assert found.value == pytest.approx(expected)


def test_the_mean_and_its_interval_by_hand():
  """Two problems: resamples have means 0, 1/2, 1 with chances 1/4, 1/2, 1/4."""
  found = intervals.mean_interval([[0, 0], [1, 1]], level=0.4)
  assert found == Estimate(0.5, 0.5, 0.5, pytest.approx(math.nan, nan_ok=True))
  found = intervals.mean_interval([[0, 0], [1, 1]], level=0.6)
  assert (found.low, found.high) == (0, 1)


def test_unequal_numbers_of_samples_are_paired_by_problem():
  first, second = [[1, 0], [1, 1]], [[1], [0]]
  # (0.5, 1) against (1, 0).
  found = intervals.paired_difference(first, second)
  assert found.value == pytest.approx(-0.25)
  assert intervals.paired_ratio(first, second).value == pytest.approx(
    0.5 / 0.75
  )


def test_pairing_takes_the_difficulty_out():
  """Each problem 0.1 longer: nothing is left to be uncertain about."""
  first = np.random.default_rng(0).integers(1, 1000, (40, 1)) * 10
  second = first * 11 // 10
  found = intervals.paired_ratio(first, second)
  assert (found.low, found.high) == pytest.approx((1.1, 1.1))
  assert found.p == pytest.approx(2 / (intervals.DRAWS + 1))
  assert intervals.mean_interval(first).high > 1.2 * found.value


def test_equal_runs_differ_in_nothing():
  first = np.random.default_rng(0).random((30, 7)) < 0.5
  found = intervals.paired_difference(first, first)
  assert found == Estimate(0.0, 0.0, 0.0, 1.0)
  assert intervals.paired_ratio(first + 1, first + 1).p == 1.0


def test_three_samples_against_seven_give_an_exact_zero():
  """1/3 and 1/7 are no float64: counted as whole numbers they still cancel."""
  first, second = np.tile([1, 1, 0], (9, 1)), np.tile([1, 1, 0], (9, 7))
  assert intervals.paired_difference(first, second).p == 1.0


def test_one_problem_says_nothing():
  for function in (intervals.paired_difference, intervals.paired_ratio):
    found = function([[1, 2]], [[3, 4]])
    assert math.isfinite(found.value)
    assert math.isnan(found.low) and math.isnan(found.p)
  found = intervals.seeds_difference(np.ones((2, 1)), np.ones((3, 1)))
  assert (found.value, math.isnan(found.low)) == (0, True)


def test_runs_of_other_problems_are_no_pairs():
  with pytest.raises(ValueError, match='2 and 3 problems'):
    intervals.paired_difference(np.ones((2, 1)), np.ones((3, 1)))


def test_a_ratio_to_nothing():
  found = intervals.paired_ratio([[0], [0]], [[1], [2]])
  assert found.value == math.inf
  assert math.isnan(found.low) and math.isnan(found.p)


def test_two_sided_by_hand():
  # One of nine at 0 or below: 2 (1 + 1) / (9 + 1).
  assert intervals.two_sided(np.arange(9), 0.0) == pytest.approx(0.4)
  assert intervals.two_sided(np.arange(1, 10), 0.0) == pytest.approx(0.2)
  assert intervals.two_sided(np.zeros(9), 0.0) == 1.0


def test_the_test_is_the_interval_turned_around():
  """Below 0.05 where the 95 % interval leaves the value out, within a draw."""
  rng = np.random.default_rng(0)
  for shift in np.linspace(1.5, 2.5, 21):
    draws = rng.normal(shift, 1, 4001)
    low, _ = intervals.percentile(draws)
    p = intervals.two_sided(draws, 0.0)
    if abs(low) > 0.02:
      assert (p < 0.05) == (low > 0)


def test_holm_by_hand():
  # 3 * 0.01, 2 * 0.02, 1 * 0.9.
  assert intervals.holm([0.02, 0.9, 0.01]) == pytest.approx([0.04, 0.9, 0.03])
  # 3 * 0.02 = 0.06, and 2 * 0.021 must not be below that; then 1 * 0.03.
  found = intervals.holm([0.02, 0.021, 0.03])
  assert found == pytest.approx([0.06, 0.06, 0.06])
  assert intervals.holm([0.5, 0.6]) == [1.0, 1.0]
  assert intervals.holm([]) == []


def test_what_was_not_tested_is_no_member_of_the_family():
  found = intervals.holm([0.03, math.nan, 0.02])
  assert found[0] == pytest.approx(0.04)
  assert math.isnan(found[1])
  assert found[2] == pytest.approx(0.04)


def test_student_by_hand():
  """1, 2, 3: error 1 / sqrt(3), and 4.3027 is the quantile of 2 degrees."""
  found = intervals.seeds_interval([1, 2, 3])
  half = 4.302653 / math.sqrt(3)
  assert found.value == 2
  assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
  assert math.isnan(intervals.seeds_interval([1]).low)


def test_welch_by_hand():
  """Variances 1, 3 each: error sqrt(2/3), 4 degrees, whose 2.7764 is tabled."""
  found = intervals.welch_difference([1, 2, 3], [4, 5, 6])
  half = 2.776445 * math.sqrt(2 / 3)
  assert found.value == 3
  assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))
  # t = 3.6742.
  assert found.p == pytest.approx(0.0213, abs=5e-5)
  other = intervals.welch_difference([4, 5, 6], [1, 2, 3])
  assert (other.low, other.high) == pytest.approx((-found.high, -found.low))


def test_welch_of_unequal_variances():
  """(1/3 + 4/3)^2 / ((1/9 + 16/9) / 2) = 50/17 degrees of freedom."""
  found = intervals.welch_difference([1, 2, 3], [4, 6, 8])
  half = stats.t.ppf(0.975, 50 / 17) * math.sqrt(5 / 3)
  assert (found.low, found.high) == pytest.approx((4 - half, 4 + half))
  theirs = stats.ttest_ind([1, 2, 3], [4, 6, 8], equal_var=False)
  assert found.p == pytest.approx(theirs.pvalue)


def test_welch_without_spread_or_seeds():
  assert intervals.welch_difference([1, 1], [2, 2]) == Estimate(1, 1, 1, 0.0)
  assert intervals.welch_difference([1, 1], [1, 1]).p == 1.0
  assert math.isnan(intervals.welch_difference([1], [2, 3]).low)


def seeds_by_loops(first, second, draws, seed):
  """Seeds of each method and problems of both, drawn one at a time."""
  rng = np.random.default_rng(seed)
  found = []
  for _ in range(draws):
    problems = rng.integers(0, first.shape[1], first.shape[1])
    means = [
      x[rng.integers(0, len(x), len(x))][:, problems].mean()
      for x in (first, second)
    ]
    found.append(means[1] - means[0])
  return np.quantile(found, [0.025, 0.975])


def test_seeds_and_problems_against_loops():
  rng = np.random.default_rng(2)
  problem = rng.normal(0, 1, 30)
  make = lambda count: (
    rng.normal(0, 0.4, (count, 1)) + problem + rng.normal(0, 0.2, (count, 30))
  )
  first, second = make(3), make(4)
  found = intervals.seeds_difference(first, second)
  assert found.value == pytest.approx(second.mean() - first.mean())
  loops = seeds_by_loops(first, second, 4000, 0)
  width = found.high - found.low
  np.testing.assert_allclose((found.low, found.high), loops, atol=0.06 * width)


def test_one_seed_each_is_the_paired_interval_of_problems():
  rng = np.random.default_rng(4)
  first, second = rng.random((2, 1, 25))
  found = intervals.seeds_difference(first, second)
  paired = intervals.paired_difference(first.T, second.T)
  assert (found.low, found.high) == pytest.approx(
    (paired.low, paired.high), abs=0.01
  )


def test_many_problems_are_resampled_in_blocks(monkeypatch):
  values = np.random.default_rng(0).random((50, 2))
  whole = intervals.mean_interval(values, draws=500)
  monkeypatch.setattr(intervals, '_BLOCK', 120)
  blocks = intervals.mean_interval(values, draws=500)
  assert (blocks.low, blocks.high) == pytest.approx((whole.low, whole.high))
