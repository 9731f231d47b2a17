"""Budgets from the formulas, before rounding."""

import fractions
import math


def _phi(step, period):
  return 2 * math.pi * ((step - 1) % period) / period


def constant(step, cap):
  return cap


def siri_cosine(step, low, high, period):
  phi = _phi(step, period)
  return (high + low) / 2 + (high - low) / 2 * math.cos(phi)


def siri_stair(step, low, high, period):
  position = (step - 1) % period
  return low if period / 4 <= position < 3 * period / 4 else high


def siri_stair_cosine(step, low, high, period):
  phi = _phi(step, period)
  mid, half = (high + low) / 2, (high - low) / 2
  if phi < math.pi / 4 or phi >= 7 * math.pi / 4:
    return high
  if phi < 3 * math.pi / 4:
    return mid + half * math.cos(2 * (phi - math.pi / 4))
  if phi < 5 * math.pi / 4:
    return low
  return mid + half * math.cos(2 * (phi - 3 * math.pi / 4))


def stages(step, caps, lengths):
  end = 0
  for cap, length in zip(caps, lengths, strict=True):
    end += length
    if step <= end:
      return cap
  return caps[-1]


def geometric(step, initial, least, gamma, steps, times, room):
  # Exactly: b <= initial gamma^(t/T) where b^T <= initial^T gamma^t.
  t = min(step - 1, steps)
  bound = initial**steps * fractions.Fraction(str(gamma)) ** t
  b = initial
  while b > least and b**steps > bound:
    b -= 1
  return times * b + room
