"""Intervals over seeds and problems: by hand, by simulation."""

import numpy as np
import pytest

from lrm_jax.papers import estimates


def test_by_hand():
  # Seed means 1 and 3: standard error 1, t of one degree 12.7062.
  # Problem means 1, 2, 3: standard error 0.57735, t of two degrees 4.30265.
  values = [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]
  found = estimates.mean(values)
  assert found.value == 2
  half = (12.7062**2 + (4.30265 * 0.57735) ** 2) ** 0.5
  assert found.high - 2 == pytest.approx(half, rel=1e-5)
  assert 2 - found.low == pytest.approx(found.high - 2)


def test_one_seed_is_over_problems_alone():
  found = estimates.mean([[0.0, 1.0, 2.0, 3.0]])
  # sd 1.2910 / 2, t of 3 degrees 3.1824.
  assert found.high == pytest.approx(1.5 + 3.1824 * 0.6455, rel=1e-4)


def test_equal_values_have_no_width():
  found = estimates.mean(np.full((3, 5), 2.0))
  assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_a_change_is_a_ratio_of_means():
  old = np.array([[100.0, 300.0]])
  new = np.array([[50.0, 60.0]])
  found = estimates.relative_change(new, old)
  assert found.value == pytest.approx(110 / 400 - 1)  # not -0.65, of ratios
  # Influences (50 - 27.5) / 200 and (60 - 82.5) / 200: sd 0.15910.
  half = 12.7062 * 0.15910 / 2**0.5
  assert found.high - found.value == pytest.approx(half, rel=1e-4)


def test_a_change_in_proportion_is_certain():
  old = np.array([[100.0, 300.0, 20.0], [80.0, 310.0, 25.0]])
  found = estimates.relative_change(0.25 * old, old)
  assert (found.value, found.low, found.high) == pytest.approx((-0.75,) * 3)


@pytest.mark.parametrize(
  ('seed_sd', 'problem_sd', 'cell_sd'),
  [(0.0, 1.0, 1.0), (0.3, 0.0, 1.0), (0.3, 1.0, 1.0), (1.0, 0.3, 0.0)],
)
def test_the_interval_covers(seed_sd, problem_sd, cell_sd):
  rng, times, (seeds, problems) = np.random.default_rng(1), 4000, (3, 40)
  hits = 0
  for _ in range(times):
    values = (
      seed_sd * rng.standard_normal((seeds, 1))
      + problem_sd * rng.standard_normal((1, problems))
      + cell_sd * rng.standard_normal((seeds, problems))
    )
    found = estimates.mean(values)
    hits += found.low <= 0 <= found.high
  # Two standard errors below 95 %, and not so wide that it says nothing.
  assert 0.9431 <= hits / times <= 0.998


def test_at_equal_length_by_hand():
  # Two seeds, two problems; ways of 10, 40 and 20 mean tokens in both.
  tokens = [np.full((2, 2), float(n)) for n in (10, 40, 20)]
  right = [
    np.array([[0.0, 0.2], [0.0, 0.0]]),
    np.array([[1.0, 1.0], [0.5, 1.0]]),
    np.array([[0.5, 0.8], [0.5, 0.4]]),
  ]
  # 25 is a quarter of the way from 20 to 40; 12 a fifth of that from 10 to 20.
  found = estimates.at_length(right, tokens, [25, 12])
  np.testing.assert_allclose(found, [[0.625, 0.85], [0.1, 0.08]])
  np.testing.assert_allclose(
    estimates.at_length(right, tokens, [40, 20]), [[1, 1], [0.5, 0.4]]
  )


@pytest.mark.parametrize('wanted', [9.9, 40.1])
def test_at_a_length_that_nobody_has(wanted):
  tokens = [np.full((2, 2), float(n)) for n in (10, 40)]
  found = estimates.at_length(tokens, tokens, [wanted, 40])
  np.testing.assert_array_equal(np.isnan(found), [[True] * 2, [False] * 2])
  assert np.isnan(estimates.mean(found).low)


def test_in_another_unit():
  found = estimates.scaled(100, estimates.mean([[0.0, 1.0, 2.0, 3.0]]))
  assert found.value == 150 and found.low < 0 < found.high
  assert found.high - found.value == pytest.approx(found.value - found.low)
