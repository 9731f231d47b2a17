"""Which checkpoints of a run stay."""

import math
from collections.abc import Iterable, Mapping


def retained(
  steps: Iterable[int],
  scores: Mapping[int, float | None],
  newest: int,
  best: int,
) -> set[int]:
  """The steps that stay: the newest ones, and those with the best scores.

  Args:
    steps: of all checkpoints.
    scores: by step; higher is better. One without a score, or whose score is
      not a number, is never among the best.
    newest: how many stay for their age, at least 1.
    best: how many stay for their score, whatever their age; of equal ones the
      newer.
  """
  ordered = sorted(set(steps))
  rated = [
    (scores[step], step)
    for step in ordered
    if step in scores
    and scores[step] is not None
    and not math.isnan(scores[step])
  ]
  highest = sorted(rated, reverse=True)[:best]
  return {*ordered[-newest:], *(step for _, step in highest)}
