"""Axes and numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_jax.reporting import scales


def test_round_ticks_around_the_values():
  scale = scales.linear([0.03, 0.97], 0, 100)
  assert scale.ticks == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1.0))
  assert (scale.at(0), scale.at(0.5), scale.at(1)) == (0, 50, 100)
  # Downwards, as in a drawing, with the 0 that was asked for.
  scale = scales.linear([40, 90], 200, 20, zero=True)
  assert scale.ticks == (0, 20, 40, 60, 80, 100)
  assert (scale.at(0), scale.at(100)) == (200, 20)


def test_whole_ticks():
  assert scales.linear([1, 3], 0, 1, whole=True).ticks == (1, 2, 3)


def test_values_that_are_equal_stand_in_the_middle():
  scale = scales.linear([1, 1 + 1e-6], 0, 100)
  assert scale.low < 1 < scale.high
  assert scale.at(1) == pytest.approx(50, abs=15)
  scale = scales.linear([0, 0], 0, 100, zero=True)
  assert scale.at(0) == 0


@given(st.lists(st.floats(-1e300, 1e300) | st.just(math.nan)), st.booleans())
def test_every_value_is_within(values, zero):
  scale = scales.linear(values, 0, 1, zero=zero)
  assert 2 <= len(scale.ticks) < 20
  for value in values:
    if math.isfinite(value):
      assert -1e-6 <= scale.at(value) <= 1 + 1e-6
  assert all(scales.tick(value, scale.ticks) for value in scale.ticks)


def test_ticks_as_text():
  assert scales.tick(0.2, (0, 0.2, 0.4)) == '0.2'
  assert scales.tick(0.05, (0, 0.05, 0.1)) == '0.05'
  assert scales.tick(-1, (-1, 0, 1)) == '−1'
  assert scales.tick(-1e-17, (-1, -1e-17, 1)) == '0'
  assert scales.tick(2000, (0, 2000, 4000)) == '2,000'
  assert scales.tick(20_000, (0, 20_000, 40_000)) == '20k'
  assert scales.tick(0, (0, 20_000, 40_000)) == '0'
  assert scales.tick(2e6, (0, 1e6, 2e6)) == '2M'


def test_numbers_as_text():
  assert scales.number(None) == scales.number(math.nan) == '–'
  assert scales.number(0.012341) == '0.01234'
  assert scales.number(12345.6) == '12,346'
  assert scales.number(-2.5e9) == '−2.5G'
  assert scales.fixed(1.25, 1) == '1.2' and scales.fixed(math.inf, 1) == '–'
  assert scales.signed(0.5, 1, ' %') == '+0.5 %'
  assert scales.signed(-1234, 0) == '−1,234'
