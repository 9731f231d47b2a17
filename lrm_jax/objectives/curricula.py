"""Curricula: how often a problem is drawn.

`f(pass_rate [N], **keywords) -> weight [N]` float64 NumPy, at least 0; the
chance of a problem is proportional to its weight. The pass rate is the share
of right responses the starting policy gives, NaN where it is not known.
"""

import numpy as np

from lrm_jax.errors import UserError


def uniform(pass_rate: np.ndarray) -> np.ndarray:
  """`w = 1`: every problem once an epoch."""
  return np.ones(np.shape(pass_rate))


def easy_upweight(
  pass_rate: np.ndarray, *, lower: float, upper: float, factor: float
) -> np.ndarray:
  """Frugal reasoning: no solved problems, more of the moderately easy ones.

      w = 0 if p >= 1;  factor if lower <= p < upper;  1 otherwise

  Problems that are never solved stay, and so do those of unknown pass rate.

  Source: arXiv 2511.01937, which measures p with 16 samples of the policy to
  be trained. It gives neither the borders nor the factor: none has a default,
  and that the weight has two steps is a reconstruction.

  Args:
    pass_rate: `[N]` in [0, 1], NaN where it is not known.
    lower: smallest pass rate that is moderately easy.
    upper: the pass rate from which on a problem is too easy for that.
    factor: weight of a moderately easy problem.

  Returns:
    `[N]` float64.

  Raises:
    UserError: borders that enclose nothing, or a negative factor.
  """
  if not 0 <= lower < upper <= 1:
    raise UserError(
      f'easy_upweight: lower = {lower}, upper = {upper}; give '
      '0 <= lower < upper <= 1'
    )
  if not factor >= 0:
    raise UserError(f'easy_upweight: factor = {factor}; give at least 0')
  rate = np.asarray(pass_rate, np.float64)
  is_easy = (lower <= rate) & (rate < upper)  # False for NaN
  return np.where(rate >= 1, 0.0, np.where(is_easy, float(factor), 1.0))
