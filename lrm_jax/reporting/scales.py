"""Axes: round ticks, places of values, and how numbers are written."""

import math
from collections.abc import Sequence
from typing import NamedTuple

MINUS = '\N{MINUS SIGN}'
NONE = '\N{EN DASH}'
# Values that differ by less, relative to their size, are drawn as equal: the
# ticks between them would be all digits.
_SAME = 1e-4
# Below that, floats lose digits.
_LEAST = 1e-290


class Scale(NamedTuple):
  """Values from `low` to `high`, drawn from `start` to `end`.

  Attributes:
    low: the least value.
    high: the largest, above `low`.
    start: the place of `low`, in units of the drawing.
    end: the place of `high`.
    ticks: round values within.
  """

  low: float
  high: float
  start: float
  end: float
  ticks: tuple[float, ...]

  def at(self, value: float) -> float:
    """The place of a value."""
    share = (value - self.low) / (self.high - self.low)
    return self.start + share * (self.end - self.start)


def linear(
  values: Sequence[float],
  start: float,
  end: float,
  *,
  zero: bool = False,
  whole: bool = False,
  count: int = 5,
) -> Scale:
  """The scale that shows all of some values, with round ends.

  Args:
    values: those that are not finite do not count; there may be none.
    start: place of the low end.
    end: place of the high end.
    zero: whether 0 is shown too.
    whole: whether only whole numbers are ticks.
    count: of steps between ticks, about.
  """
  found = [float(x) for x in values if math.isfinite(x)] + [0.0] * zero
  low, high = (min(found), max(found)) if found else (0.0, 1.0)
  if high - low <= max(_SAME * max(abs(low), abs(high)), _LEAST):
    # Values that are all the same stand in the middle, or on the ground.
    room = abs(low) * 0.1 if low else 1.0
    low, high = (low if zero and low == 0 else low - room), high + room
  step = _round_step((high - low) / count, whole)
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  ticks = tuple(number * step for number in range(first, last + 1))
  return Scale(ticks[0], ticks[-1], start, end, ticks)


def _round_step(step: float, whole: bool) -> float:
  """1, 2 or 5 times a power of ten, at least `step`."""
  power = 10.0 ** math.floor(math.log10(step))
  found = next(m * power for m in (1, 2, 5, 10) if m * power >= step * 0.999999)
  return max(found, 1.0) if whole else found


def tick(value: float, ticks: Sequence[float]) -> str:
  """A tick as text, with as many places as its axis needs."""
  step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
  places = min(9, max(0, -math.floor(math.log10(step) + 1e-9)))
  if max(map(abs, ticks)) >= 1e6:
    return number(value, 3)
  if max(map(abs, ticks)) >= 1e4 and step >= 100:
    return f'{value / 1000:g}k'.replace('-', MINUS) if value else '0'
  text = f'{value:,.{places}f}'
  text = text if float(text.replace(',', '')) else text.removeprefix('-')
  return text.replace('-', MINUS)


def number(value: float | None, digits: int = 4) -> str:
  """A number with some significant digits; a dash for none.

  Args:
    value: None, NaN and infinities have no digits.
    digits: that are significant.
  """
  if value is None or not math.isfinite(value):
    return NONE
  for limit, unit in ((1e12, 'T'), (1e9, 'G'), (1e6, 'M')):
    if abs(value) >= limit:
      return f'{value / limit:.3g}{unit}'.replace('-', MINUS)
  if abs(value) >= 10 ** (digits - 1):
    return f'{value:,.0f}'.replace('-', MINUS)
  return f'{value:.{digits}g}'.replace('-', MINUS)


def fixed(value: float | None, places: int, unit: str = '') -> str:
  """A number with so many places; a dash for none."""
  if value is None or not math.isfinite(value):
    return NONE
  return f'{value:,.{places}f}{unit}'.replace('-', MINUS)


def signed(value: float | None, places: int, unit: str = '') -> str:
  """A change: the same with its sign."""
  if value is None or not math.isfinite(value):
    return NONE
  return f'{value:+,.{places}f}{unit}'.replace('-', MINUS)
