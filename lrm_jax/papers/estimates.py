"""Numbers of a table, with intervals over seeds and problems.

`evaluation/seeds.py` resamples both, which is too narrow where three seeds are
nearly all that varies (82 % for 95 %); these intervals are never.

Values come as `[S, B]`: of S training seeds, each evaluated on the same B
problems, one mean over samples for each pair. Two ways of training are compared
pair by pair, by subtracting their arrays, before anything is estimated.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from lrm_jax.evaluation.intervals import Estimate


def mean(values: np.ndarray) -> Estimate:
  """The mean of `[S, B]`, its interval over other seeds and other problems.

      half^2 = t(S - 1)^2 var_s(mean_b x) / S
             + t(B - 1)^2 var_b(mean_s x) / B        (ddof 1)

  and the interval is `mean +- half`, with `t` the 0.975 quantile of Student's
  law: seeds and problems are crossed effects, and the halves of both intervals
  add in squares. What a seed does to single problems is in both terms, so the
  interval is rather too wide than too narrow. With one seed there is no first
  term, and the interval is over problems alone.

  Args:
    values: `[S, B]`, B of 2 or more.

  Returns:
    The estimate, in the unit of the values.
  """
  values = np.asarray(values, np.float64)
  square = _half(values.mean(0)) ** 2
  if len(values) > 1:
    square += _half(values.mean(1)) ** 2
  value, half = float(values.mean()), math.sqrt(square)
  return Estimate(value, value - half, value + half)


def relative_change(new: np.ndarray, old: np.ndarray) -> Estimate:
  """`mean(new) / mean(old) - 1`, paired; the interval by the delta method.

  A ratio of means, not a mean of ratios: short responses weigh no more than
  long ones.

  Args:
    new: `[S, B]`, such as tokens.
    old: likewise, with a mean above 0.

  Returns:
    The estimate; -0.7 is 70 % less.
  """
  new, old = np.asarray(new, np.float64), np.asarray(old, np.float64)
  below = old.mean()
  ratio = new.mean() / below
  found = mean((new - ratio * old) / below)
  return Estimate(ratio - 1, ratio - 1 + found.low, ratio - 1 + found.high)


def at_length(
  right: Sequence[np.ndarray],
  tokens: Sequence[np.ndarray],
  length: Sequence[float],
) -> np.ndarray:
  """What ways of training would get right at other mean lengths.

  For each seed, the two ways whose mean tokens enclose the length, weighted so
  that it is met: a straight line between neighbours on the accuracy-token
  front. Methods that end at unlike lengths are compared by it.

  Args:
    right: of each way `[S, B]`, the share of right responses.
    tokens: of each way `[S, B]`.
    length: of each seed, mean tokens of a response.

  Returns:
    `[S, B]`; NaN for a seed whose length no two of the ways enclose, so that
    a condition on it is open.
  """
  found = []
  for seed, wanted in enumerate(length):
    means = np.array([each[seed].mean() for each in tokens])
    order = np.argsort(means)
    means = means[order]
    # The weight of each way: a hat function of the length.
    weights = [
      np.interp(wanted, means, hat, np.nan, np.nan)
      for hat in np.eye(len(means))
    ]
    found.append(weights @ np.array([right[way][seed] for way in order]))
  return np.array(found)


def scaled(factor: float, estimate: Estimate) -> Estimate:
  """An estimate in another unit; the factor is above 0."""
  return dataclasses.replace(
    estimate,
    value=factor * estimate.value,
    low=factor * estimate.low,
    high=factor * estimate.high,
  )


def _half(values: np.ndarray) -> float:
  """Half of the interval of a mean of independent values."""
  error = values.std(ddof=1) / math.sqrt(len(values))
  return float(stats.t.ppf(0.975, len(values) - 1) * error)
