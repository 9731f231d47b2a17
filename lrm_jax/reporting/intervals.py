"""Means of responses with 95 % intervals, clustered by problem.

Responses to one problem are not independent: what varies is the problem. All
intervals are those of the normal law, 1.96 standard errors on both sides.
"""

import math
from typing import NamedTuple

import numpy as np

HALF_WIDTH = 1.959964


class Estimate(NamedTuple):
  """A mean, and half of its 95 % interval; NaN where it is not known."""

  value: float
  error: float


def clustered(values: np.ndarray, problem: np.ndarray) -> Estimate:
  """The mean over all responses, with an error clustered by problem.

  With the sums s and counts n of G problems and the mean m, the variance is
  `G / (G - 1) * sum((s - m n)^2) / N^2`; equal counts give the standard error
  of the problems' means.

  Args:
    values: `[N]`, any numbers.
    problem: `[N]` int, 0 or more.
  """
  if not len(values):
    return Estimate(math.nan, math.nan)
  mean = float(values.mean(dtype=np.float64))
  _, place = np.unique(problem, return_inverse=True)
  groups = int(place.max()) + 1
  if groups < 2:
    return Estimate(mean, math.nan)
  rest = np.bincount(place, values) - mean * np.bincount(place)
  variance = groups / (groups - 1) * float((rest**2).sum()) / len(values) ** 2
  return Estimate(mean, HALF_WIDTH * math.sqrt(variance))


def paired(
  values: np.ndarray,
  problem: np.ndarray,
  other_values: np.ndarray,
  other_problem: np.ndarray,
) -> Estimate:
  """The mean over common problems of (mean of other - mean), with its error.

  NaN where the two have fewer than two problems in common.

  Args:
    values: `[N]`.
    problem: `[N]` int, 0 or more.
    other_values: `[M]`.
    other_problem: `[M]`, of the same numbering.
  """
  common = np.intersect1d(problem, other_problem)
  if len(common) < 2:
    return Estimate(math.nan, math.nan)
  change = _means(other_values, other_problem, common) - _means(
    values, problem, common
  )
  error = HALF_WIDTH * float(change.std(ddof=1)) / math.sqrt(len(common))
  return Estimate(float(change.mean()), error)


def _means(
  values: np.ndarray, problem: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
  """`[G]` means of chosen problems, which are sorted."""
  is_in = np.isin(problem, chosen)
  place = np.searchsorted(chosen, problem[is_in])
  counts = np.bincount(place, minlength=len(chosen))
  return np.bincount(place, values[is_in], len(chosen)) / counts
