"""Right answers among k samples: avg@k, pass@k and maj@k, without bias.

Each is the mean over all C(n, k) choices of k of a problem's n samples, in
closed form: nothing is drawn, so nothing has an error of its own. Then follows
the mean over problems.
"""

import functools
import math

import numpy as np

# Numbers of samples above which C(n, k) leaves float64.
MOST_SAMPLES = 1000


def avg_at_k(correct: np.ndarray) -> float:
  """Mean correctness of all samples: avg@k of any k is the same number.

  Args:
    correct: `[B, n]` verdicts, 0 or 1.
  """
  return float(np.asarray(correct, np.float64).mean())


def pass_at_k(correct: np.ndarray, k: int) -> float:
  """The chance that one of k samples is right.

      mean over problems of 1 - C(n - c, k) / C(n, k)
        = 1 - product over i = n - c + 1 ... n of (1 - k / i)

  with c right ones of n; 1 where fewer than k are wrong. The product never
  leaves [0, 1], whatever n is.

  Source: Chen et al., arXiv 2107.03374, section 2.1.

  Args:
    correct: `[B, n]` verdicts, 0 or 1.
    k: 1 to n.

  Raises:
    ValueError: another k.
  """
  correct = np.asarray(correct) > 0
  n = _check(correct, k)
  factors = np.maximum(1 - k / np.arange(1, n + 1), 0.0)
  # Entry c: the product of the last c factors.
  missed = np.cumprod(np.concatenate([[1.0], factors[::-1]]))
  # A factor of i <= k is reached only where fewer than k are wrong.
  return float(1 - missed[correct.sum(axis=1)].mean())


def maj_at_k(answer_class: np.ndarray, k: int) -> float:
  """The chance that the answer with most votes of k samples is right.

  A sample votes for the class of its answer; without an answer it votes for
  nobody. Where t classes lead, the right one counts 1 / t, the mean of drawing
  one of them. Of no votes nothing is right.

  The right class with s votes and t - 1 others with as many: such choices are
  counted by multiplying, over the other classes of sizes m, polynomials
  sum_{v < s} C(m, v) x^v + C(m, s) x^s y, and C(m, v) x^v for those who do not
  vote; the coefficient of x^(k - s) y^(t - 1), times C(right, s), is divided by
  t and by C(n, k). All terms are positive: the error is that of rounding.

  Source: self-consistency, Wang et al., arXiv 2203.11171, which votes once with
  all samples; this is its mean over subsets.

  Args:
    answer_class: `[B, n]`, 0 for right answers, other numbers for other
      answers of the problem, -1 without an answer; see `classes.py`.
    k: 1 to n.

  Raises:
    ValueError: another k; or less than all of more than MOST_SAMPLES.
  """
  answer_class = np.asarray(answer_class)
  n = _check(answer_class, k)
  if k < n and n > MOST_SAMPLES:
    raise ValueError(f'maj@{k} of {n} samples; k < n up to {MOST_SAMPLES}')
  return float(np.mean([_chance(*_sizes(row), k) for row in answer_class]))


def powers(n: int) -> list[int]:
  """1, 2, 4, ... below n, and n."""
  return [*(2**i for i in range((n - 1).bit_length())), n]


def pass_curve(correct: np.ndarray) -> dict[int, float]:
  """pass@k of k = 1, 2, 4, ..., n; see `pass_at_k`."""
  return {k: pass_at_k(correct, k) for k in powers(np.shape(correct)[1])}


def maj_curve(answer_class: np.ndarray) -> dict[int, float]:
  """maj@k of k = 1, 2, 4, ..., n, of many samples of n alone."""
  n = np.shape(answer_class)[1]
  chosen = powers(n) if n <= MOST_SAMPLES else [n]
  return {k: maj_at_k(answer_class, k) for k in chosen}


def _check(values: np.ndarray, k: int) -> int:
  """The number of samples."""
  n = values.shape[1]
  if not 1 <= k <= n:
    raise ValueError(f'k={k} of {n} samples; k is 1 to {n}')
  return n


def _sizes(row: np.ndarray) -> tuple[int, tuple[int, ...], int]:
  """(right answers, sizes of the other classes, without an answer)."""
  others = np.unique(row[row > 0], return_counts=True)[1]
  sizes = tuple(sorted(others.tolist()))
  return int((row == 0).sum()), sizes, int((row < 0).sum())


@functools.lru_cache(maxsize=1 << 16)
def _chance(right: int, others: tuple[int, ...], silent: int, k: int) -> float:
  """maj@k of one problem."""
  n = right + sum(others) + silent
  if k == n:
    is_first = right > 0 and right >= max(others, default=0)
    return 1 / (1 + others.count(right)) if is_first else 0.0
  ways = (
    math.comb(right, votes) * _ties(others, silent, votes, k - votes)
    for votes in range(1, min(right, k) + 1)
  )
  return math.fsum(ways) / math.comb(n, k)


def _ties(
  others: tuple[int, ...], silent: int, votes: int, places: int
) -> float:
  """Choices of `places` among the others, each divided by the leaders' number.

  None of the others has more than `votes`; those that have as many lead too.
  """
  # [ties, chosen]: how many choices of the classes so far.
  ways = np.zeros((places // votes + 1, places + 1))
  ways[0] = [math.comb(silent, chosen) for chosen in range(places + 1)]
  for size in others:
    found = ways.copy()
    for chosen in range(1, min(size, votes - 1, places) + 1):
      found[:, chosen:] += math.comb(size, chosen) * ways[:, :-chosen]
    if votes <= min(size, places):
      found[1:, votes:] += math.comb(size, votes) * ways[:-1, :-votes]
    ways = found
  return float((ways[:, -1] / np.arange(1, len(ways) + 1)).sum())
