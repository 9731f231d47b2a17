"""Curricula that are known before the run: which problems are drawn, how often.

  of pass rates  `f(pass_rate [N], **keywords) -> weight [N]`; never change
  levels         `f(level [N], step) -> weight [N]`

NumPy in float64, at least 0; the chance of a problem is proportional to its
weight. The pass rate is the share of right responses the starting policy gives,
NaN where it is not known. Those that learn are in `learned_curricula.py`, and
who calls all of them is in `choosing.py`.
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


# Those that weigh problems once, by their pass rates.
OF_PASS_RATES = (uniform, easy_upweight)


def levels(
  level: np.ndarray, step: int, *, first: float, last: float, steps: int
) -> np.ndarray:
  """A level schedule: the hardest level that is drawn grows with the steps.

      h = first + (last - first) * min(1, (step - 1) / steps)
      w = clip(h - level + 1, 0, 1)

  Up to `h` every problem has weight 1; the level above it fades in, so a whole
  number of `h` is a plain limit. The schedule is ours: the simplest that begins
  with easy problems and ends with all of them.

  Args:
    level: `[N]`, as the data states it; 0, unknown, is below every limit.
    step: counted from 1.
    first: the hardest level of step 1.
    last: that of step `steps + 1` and of all after it.
    steps: RL steps from one to the other.

  Returns:
    `[N]` float64.

  Raises:
    UserError: a schedule that does not grow, or takes no step.
  """
  if not 1 <= first <= last:
    raise UserError(
      f'levels: first = {first}, last = {last}; give 1 <= first <= last'
    )
  if steps < 1:
    raise UserError(f'levels: steps = {steps}; give at least 1')
  hardest = first + (last - first) * min(1.0, (step - 1) / steps)
  return np.clip(hardest - np.asarray(level, np.float64) + 1, 0.0, 1.0)
