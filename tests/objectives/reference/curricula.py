"""Weights of problems, one at a time."""

import math


def uniform(pass_rate):
  return [1.0 for _ in pass_rate]


def easy_upweight(pass_rate, lower, upper, factor):
  weights = []
  for rate in pass_rate:
    if math.isnan(rate):
      weights.append(1.0)
    elif rate >= 1:
      weights.append(0.0)
    else:
      weights.append(factor if lower <= rate < upper else 1.0)
  return weights


def levels(level, step, first, last, steps):
  weights = []
  for one in level:
    if step > steps:
      hardest = last
    else:
      hardest = first + (last - first) * (step - 1) / steps
    weights.append(min(max(hardest + 1 - one, 0.0), 1.0))
  return weights
