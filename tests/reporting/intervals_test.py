"""Means with errors, against numbers worked by hand and a slow version."""

import math

import numpy as np
import pytest

from lrm_jax.reporting import intervals


def test_equal_counts_give_the_error_of_the_means():
  # Problems have the means 1, 0, 1/2, 1/2: mean 1/2, deviation
  # sqrt((1/4 + 1/4) / 3), error of the mean sqrt(1/6) / 2.
  values = np.array([1, 1, 0, 0, 1, 0, 0, 1])
  found = intervals.clustered(values, np.array([5, 5, 2, 2, 3, 3, 9, 9]))
  assert found.value == 0.5
  assert found.error == pytest.approx(1.959964 * math.sqrt(1 / 6) / 2)


def test_unequal_counts_against_a_loop():
  random = np.random.default_rng(0)
  problem = random.integers(0, 7, 40)
  values = random.normal(size=40)
  mean, total = values.mean(), 0.0
  for p in set(problem.tolist()):
    total += sum(v - mean for v in values[problem == p]) ** 2
  error = math.sqrt(7 / 6 * total) / 40
  found = intervals.clustered(values, problem)
  assert found == pytest.approx((mean, 1.959964 * error))


def test_too_little_to_tell():
  one = intervals.clustered(np.array([1.0, 0.0]), np.array([3, 3]))
  assert one.value == 0.5 and math.isnan(one.error)
  nothing = np.zeros(0)
  none = intervals.clustered(nothing, nothing.astype(int))
  assert math.isnan(none.value) and math.isnan(none.error)
  a = np.array([1.0]), np.array([0])
  assert math.isnan(intervals.paired(*a, *a).value)


def test_pairs_by_problem():
  # Changes of the common problems 1, 2, 3: 1/2, 1, 0; mean 1/2, deviation 1/2.
  first = np.array([0, 1, 0, 0, 7]), np.array([1, 1, 2, 3, 8])
  second = np.array([0, 1, 1, 1, 5]), np.array([3, 1, 1, 2, 9])
  found = intervals.paired(*first, *second)
  assert found.value == pytest.approx(0.5)
  assert found.error == pytest.approx(1.959964 * 0.5 / math.sqrt(3))
