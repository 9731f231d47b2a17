"""Scores of graded responses; every length is in response tokens."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrm_jax.structs import Problem, Rollouts


def summarize(rollouts: Rollouts) -> dict[str, float]:
  """The numbers of one evaluation; means run over all samples that are there.

  Returns:
    accuracy (avg@G, in [0, 1]), response_tokens, thinking_tokens, truncated
    (fraction that hit its cap), tokens_per_correct (all tokens / number of
    correct responses; inf where none is), response_tokens_correct and
    response_tokens_wrong (nan where there is no such response).
  """
  there = rollouts.there
  correct = rollouts.correct[there] > 0
  tokens = rollouts.length[there].astype(np.float64)
  return {
    'accuracy': mean(correct),
    'response_tokens': mean(tokens),
    'thinking_tokens': mean(rollouts.thinking_length[there]),
    'truncated': mean(rollouts.truncated[there]),
    'tokens_per_correct': tokens_per_correct(tokens, correct),
    'response_tokens_correct': mean(tokens[correct]),
    'response_tokens_wrong': mean(tokens[~correct]),
  }


def count_unverified(rollouts: Rollouts) -> int:
  """Responses that the verifier was lost on; they count as wrong."""
  return int((~rollouts.verified).sum())


def tokens_per_correct(tokens: np.ndarray, correct: np.ndarray) -> float:
  """Sum of tokens over all samples / number of correct ones; inf if none."""
  right = int(np.sum(correct))
  return float(np.sum(tokens) / right) if right else math.inf


def by_level(
  problems: Sequence[Problem], rollouts: Rollouts
) -> list[dict[str, float]]:
  """One row per level: level, n (samples), accuracy, response_tokens, ..."""
  levels = np.array([problem.level for problem in problems])
  rows = []
  for level in sorted(set(levels.tolist())):
    at = levels == level
    rows.append(
      {
        'level': level,
        'n': int(rollouts.correct[at].size),
        'accuracy': float(rollouts.correct[at].mean()),
        'response_tokens': float(rollouts.length[at].mean()),
        'truncated': float(rollouts.truncated[at].mean()),
      }
    )
  return rows


def pass_rates(
  problems: Sequence[Problem], rollouts: Rollouts
) -> list[dict[str, Any]]:
  """One row per problem: id, pass_rate (the share of right responses), samples.

  What `data.pass_rates` of a training run reads.
  """
  rates = (rollouts.correct > 0).mean(axis=1)
  return [
    {'id': problem.id, 'pass_rate': float(rate), 'samples': len(row)}
    for problem, rate, row in zip(
      problems, rates, rollouts.correct, strict=True
    )
  ]


def mean(values: np.ndarray) -> float:
  """The mean in float64; NaN of nothing."""
  return float(values.mean(dtype=np.float64)) if values.size else math.nan
