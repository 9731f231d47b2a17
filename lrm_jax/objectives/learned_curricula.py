"""Curricula that learn from the steps which problems are drawn.

  dump  `f(memory) -> probability [D]`, of D distributions of problems
  pcl   `f(value [N], count) -> places [count]`, of N problems looked at

NumPy in float64, on the host. `NAME_start` makes a memory, `NAME_learn` what a
step changes in it; `choosing.py` calls them.
"""

import numpy as np

from lrm_jax.errors import UserError
from lrm_jax.structs import Memory


def dump(
  memory: Memory, *, by: str, window: int = 300, temperature: float = 0.1
) -> np.ndarray:
  """DUMP: an upper confidence bound on what a distribution teaches.

      UCB_d = mean |A| of window d + sqrt(2 ln(N + 1) / (n_d + 1))
      P     = softmax(UCB / temperature)

  A window holds the last |A| of distribution d, A the mean advantage of a
  response over its trained tokens; its mean is 0 while it is empty. n_d counts
  all that were ever recorded, N is their sum: before the first step all
  distributions are equally likely. What the count means, responses or problems,
  is not stated; responses here, as in the window.

  Source: arXiv 2504.09710 and its code: window 300, temperature 0.1. The code
  also feeds validation batches, with raw rewards for advantages: a leak, left
  out; only what was trained on is learned from.

  Args:
    memory: `shared['window']` `[D, window]`, NaN where nothing was recorded;
      `shared['count']` `[D]`.
    by: 'level' or 'domain', what makes a distribution; read by `dump_start`.
    window: values kept per distribution; likewise.
    temperature: of the softmax.

  Returns:
    `[D]` float64, of sum 1.
  """
  del by, window
  values = np.asarray(memory.shared['window'], np.float64)
  count = np.asarray(memory.shared['count'], np.float64)
  there = np.sum(~np.isnan(values), axis=1)
  mean = np.nansum(values, axis=1) / np.maximum(there, 1)
  bound = mean + np.sqrt(2 * np.log(count.sum() + 1) / (count + 1))
  # The largest is 1: nothing overflows.
  odds = np.exp((bound - bound.max()) / temperature)
  return odds / odds.sum()


def dump_start(
  count: int, *, by: str, window: int, temperature: float
) -> Memory:
  """Empty windows of `count` distributions.

  Raises:
    UserError: numbers out of range, or nothing to choose between.
  """
  if by not in ('level', 'domain'):
    raise UserError(f"dump: by = {by!r}; give 'level' or 'domain'")
  if window < 1:
    raise UserError(f'dump: window = {window} values; give at least 1')
  if not temperature > 0:
    raise UserError(f'dump: temperature = {temperature}; give more than 0')
  if count < 2:
    raise UserError(
      f'dump: the training problems have {count} {by}; it chooses between '
      'several: give data that states them, or another curriculum'
    )
  return Memory(
    shared={
      'window': np.full((count, window), np.nan, np.float32),
      'count': np.zeros(count, np.int32),
    },
    problem={},
  )


def dump_learn(
  memory: Memory, distribution: np.ndarray, advantage: np.ndarray
) -> Memory:
  """Puts the |A| of a step's responses last; the oldest leave the windows.

  Args:
    memory: see `dump`; not changed.
    distribution: `[N]` int, that of each response.
    advantage: `[N]`, its mean advantage.

  Returns:
    The new memory.
  """
  window = np.array(memory.shared['window'], np.float32)
  count = np.array(memory.shared['count'], np.int32)
  for d in range(len(window)):
    new = np.abs(np.asarray(advantage)[np.asarray(distribution) == d])
    joined = np.concatenate([window[d], new.astype(np.float32)])
    window[d] = joined[len(joined) - window.shape[1] :]
    count[d] += len(new)
  return Memory(shared={'window': window, 'count': count}, problem={})


def pcl(
  value: np.ndarray, count: int, *, factor: int, learning_rate: float
) -> np.ndarray:
  """PCL: of the problems looked at, those the policy solves half of the time.

  The `count` places with the smallest `|V - 1/2|`, the earlier of two equal
  ones; in the order of the draw.

  Source: arXiv 2510.01135: 4 times as many problems are looked at as are kept.
  There V is a value model of its own, of unknown size and learning rate; here
  it is a logistic head on the policy's hidden state, see `pcl_value`.

  Args:
    value: `[N]` predicted pass rates in [0, 1].
    count: problems wanted, at most N.
    factor: problems looked at over problems kept; read by who draws.
    learning_rate: of the head; read by `pcl_learn`.

  Returns:
    `[count]` int, ascending.
  """
  del factor, learning_rate
  distance = np.abs(np.asarray(value, np.float64) - 0.5)
  return np.sort(np.argsort(distance, kind='stable')[:count])


def pcl_start(width: int, *, factor: int, learning_rate: float) -> Memory:
  """A head that says 1/2 of every problem, its Adam untouched.

  Raises:
    UserError: numbers out of range.
  """
  if factor < 1:
    raise UserError(f'pcl: factor = {factor}; give at least 1')
  if not learning_rate > 0:
    raise UserError(f'pcl: learning_rate = {learning_rate}; give more than 0')
  zeros = lambda: np.zeros(width + 1, np.float32)
  return Memory(
    shared={
      'head': zeros(),
      'first': zeros(),
      'second': zeros(),
      'updates': np.int32(0),
    },
    problem={},
  )


def pcl_value(memory: Memory, features: np.ndarray) -> np.ndarray:
  """`V = sigmoid(w . x + b)`, `[N]` float64.

  Args:
    memory: `shared['head']` `[D + 1]`: w, then b.
    features: `[N, D]`, x: see `pcl_learn`.
  """
  head = np.asarray(memory.shared['head'], np.float64)
  # Sums of its own, not those of a BLAS, which depend on the machine.
  logit = np.sum(np.asarray(features, np.float64) * head[:-1], 1) + head[-1]
  return 0.5 * (1 + np.tanh(logit / 2))


def pcl_learn(
  memory: Memory,
  features: np.ndarray,
  rate: np.ndarray,
  *,
  learning_rate: float,
) -> Memory:
  """One step of Adam on `sum_i (V_i - rate_i)^2`.

  Adam's numbers are its usual ones (0.9, 0.999, 1e-8). x is the policy's final
  hidden state at the last token of the prompt, scaled to length 1, so that one
  learning rate does for every model; both are ours. The features are those of
  the draw: the head is one step behind the policy.

  Args:
    memory: from `pcl_start`; not changed.
    features: `[N, D]` of the problems sampled.
    rate: `[N]`, the share of right responses, in [0, 1].
    learning_rate: of Adam.

  Returns:
    The new memory; the one given where N is 0.
  """
  if not len(rate):
    return memory
  x = np.asarray(features, np.float64)
  value = pcl_value(memory, x)
  # d/dlogit of (V - rate)^2.
  slope = 2 * (value - rate) * value * (1 - value)
  gradient = np.append(np.sum(slope[:, None] * x, 0), np.sum(slope))
  old = {k: np.asarray(v, np.float64) for k, v in memory.shared.items()}
  updates = int(old['updates']) + 1
  first = 0.9 * old['first'] + 0.1 * gradient
  second = 0.999 * old['second'] + 0.001 * gradient**2
  mean, square = first / (1 - 0.9**updates), second / (1 - 0.999**updates)
  head = old['head'] - learning_rate * mean / (np.sqrt(square) + 1e-8)
  new = {'head': head, 'first': first, 'second': second}
  new = {key: leaf.astype(np.float32) for key, leaf in new.items()}
  return Memory(shared=new | {'updates': np.int32(updates)}, problem={})
