"""Over-sampling: how many problems are drawn to fill a batch.

`f(memory, **keywords) -> factor`, a float of at least 1: problems drawn over
problems wanted. It runs on the host; a step draws once and then, if
`train.max_rounds` allows, again. `record` is told of every step.
"""

import numpy as np

from lrm_jax.errors import UserError
from lrm_jax.structs import Memory


def no_oversampling(memory: Memory | None) -> float:
  """`factor = 1`: as many as wanted."""
  del memory
  return 1.0


def predictive(
  memory: Memory,
  *,
  window: int = 20,
  first: float = 1.5,
  low: float = 1.2,
  high: float = 5.0,
) -> float:
  """DOT's predictive dynamic sampling, from the pass rates of recent steps.

      factor = clip((1 + std) / mean, low, high)

  A pass rate is kept groups over sampled groups. Mean and standard deviation
  (of the population: `ddof` 0) run over the steps recorded so far, at most
  `window`. If no group was kept in any of them, the factor is `high`.

  Source: DOT, arXiv 2601.03969; `ddof` as in the released code and the
  constants as in its script (the code alone has a `high` of 3).

  Args:
    memory: `shared['pass_rate']` `[window]`, newest last, NaN where nothing
      was recorded yet.
    window: steps remembered; read by `predictive_start`.
    first: the factor before anything was recorded, not clipped.
    low: smallest factor.
    high: largest factor.

  Returns:
    Problems drawn over problems wanted.
  """
  del window
  rates = np.asarray(memory.shared['pass_rate'], np.float64)
  rates = rates[~np.isnan(rates)]
  if not rates.size:
    return float(first)
  mean = rates.mean()
  if mean == 0:
    return float(high)
  return float(np.clip((1 + rates.std()) / mean, low, high))


def predictive_start(
  *, window: int, first: float, low: float, high: float
) -> Memory:
  """A window in which nothing is recorded.

  Raises:
    UserError: no window, or factors that fill no batch or no range.
  """
  if window < 1:
    raise UserError(f'predictive: window = {window} steps; give at least 1')
  if not 1 <= low <= high:
    raise UserError(
      f'predictive: low = {low}, high = {high}; give 1 <= low <= high'
    )
  if not first >= 1:
    raise UserError(f'predictive: first = {first}; give at least 1')
  rates = np.full(window, np.nan, np.float32)
  return Memory(shared={'pass_rate': rates}, problem={})


def record(memory: Memory, rate: float) -> Memory:
  """Puts the pass rate of a step last; the oldest leaves the window.

  Args:
    memory: `shared['pass_rate']` `[window]`.
    rate: kept groups over sampled groups of the step, in [0, 1].

  Returns:
    The new memory; the one given is not changed.
  """
  rates = np.asarray(memory.shared['pass_rate'], np.float32)
  rates = np.append(rates[1:], np.float32(rate))
  return Memory(
    shared=memory.shared | {'pass_rate': rates}, problem=memory.problem
  )
