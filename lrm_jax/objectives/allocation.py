"""Curricula that give some problems more responses than others.

  gvm  `f(rate [B], gradient [B], room) -> count [B]`, responses to each problem

NumPy in float64, on the host; `choosing.py` calls them.
"""

import numpy as np

from lrm_jax.errors import UserError


def gvm(
  rate: np.ndarray,
  gradient: np.ndarray,
  room: int,
  *,
  probes: int,
  samples: int,
  alpha: float = 1e-3,
  beta: float = 2.0,
) -> np.ndarray:
  """GVM: responses where they lower the variance of the gradient most.

      n_b ~ G_b / sqrt(p_b + alpha / p_b^(beta - 1));  0 where p_b or G_b is 0

  p is the share of right responses among the probes, G the mean over these
  right ones of the norm of a gradient: that of their summed negative
  log-probability with respect to the input embeddings alone (see
  `programs.make_gradients`). The n_b are normalised to `samples` a problem,
  at most `room` each, and rounded so that they keep their sum; see `divide`.

  Source: arXiv 2505.02391 and its code: 8 probes and, on average, 8 responses,
  alpha 1e-3, beta 2. There the arrays have no bound. Where no probe of any
  problem is right, the formula says nothing; here all problems are alike then.
  A problem that gets a single response has nothing to compare it with, and
  learns nothing from it.

  Args:
    rate: `[B]` p, in [0, 1].
    gradient: `[B]` G, at least 0.
    room: for responses to a problem, `train.samples`.
    probes: responses to find p and G by; read by who samples them.
    samples: responses per problem, on average.
    alpha: of the term that spares problems which are hardly ever solved.
    beta: likewise, its power.

  Returns:
    `[B]` int; of sum `samples * B`, or less where all that get any have `room`.
  """
  del probes
  rate = np.asarray(rate, np.float64)
  there = (rate > 0) & (np.asarray(gradient) > 0)
  if not there.any():
    return divide(np.ones(len(rate)), samples * len(rate), room)
  p = np.where(there, rate, 1.0)
  weight = np.asarray(gradient, np.float64) / np.sqrt(
    p + alpha / p ** (beta - 1)
  )
  return divide(np.where(there, weight, 0.0), samples * len(rate), room)


def check(
  room: int, *, probes: int, samples: int, alpha: float, beta: float
) -> None:
  """Refuses numbers out of range.

  Raises:
    UserError: what is out of range.
  """
  for name, value in (('probes', probes), ('samples', samples)):
    if not 1 <= value <= room:
      raise UserError(
        f'gvm: {name} = {value}; give 1 to train.samples={room}, the room that '
        'a problem has'
      )
  if not (alpha >= 0 and beta >= 1):
    raise UserError(
      f'gvm: alpha = {alpha}, beta = {beta}; give alpha >= 0, beta >= 1'
    )


def divide(weight: np.ndarray, total: int, room: int) -> np.ndarray:
  """Whole numbers in proportion to weights, at most `room` each.

  What is beyond `room` is divided among the others. Fractions are cut off, and
  the largest of them, the earlier of equal ones, are rounded up instead, until
  the sum is kept.

  Args:
    weight: `[B]`, at least 0; who has 0 gets 0.
    total: the sum wanted.
    room: the most that one gets.

  Returns:
    `[B]` int, of sum `min(total, room * positive weights)`.
  """
  weight = np.asarray(weight, np.float64)
  count, is_open = np.zeros(len(weight), int), weight > 0
  while is_open.any():
    left = total - count.sum()
    # The largest first: sums of very different weights stay finite.
    share = np.where(is_open, weight / weight[is_open].max(), 0.0)
    share = left * share / share.sum()
    is_full = is_open & (share >= room)
    if is_full.any():
      count[is_full] = room
      is_open &= ~is_full
      continue
    count[is_open] = share[is_open].astype(int)
    fraction = np.where(is_open, share - count, -1.0)
    largest = np.argsort(-fraction, kind='stable')
    count[largest[: total - count.sum()]] += 1
    break
  return count
