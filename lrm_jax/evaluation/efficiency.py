"""What right answers cost: scores that weigh accuracy against tokens.

Every token is one of the evaluated model's tokenizer; models with different
ones are not compared by any of these.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# (alpha, beta, gamma) of `aes`. The first as in O1-Pruner's line of work, the
# second with the penalty that DRPO's tables are consistent with.
AES_WEIGHTS = ((1.0, 3.0, 5.0), (1.0, 3.0, 10.0))
# Budgets of a curve, evenly spaced.
_BUDGETS = 16

# Ruler's intervals (low, high], in words: target -> precise and flexible match.
RULER = {
  10: ((0, 20), (0, 20)),
  30: ((20, 40), (20, 40)),
  50: ((40, 60), (40, 60)),
  80: ((70, 90), (60, 100)),
  150: ((130, 170), (100, 200)),
  300: ((280, 320), (200, 400)),
  500: ((450, 550), (400, 600)),
  700: ((630, 770), (600, 800)),
  # Its last target, '>800'.
  math.inf: ((800, math.inf), (800, math.inf)),
}


def aes(
  accuracy: float,
  tokens: float,
  base_accuracy: float,
  base_tokens: float,
  weights: tuple[float, float, float],
) -> float:
  """Accuracy-efficiency score against a baseline.

      dL = (L0 - L) / L0,  dA = (A - A0) / A0
      AES = alpha dL + beta |dA|   if dA >= 0
            alpha dL - gamma |dA|  if dA < 0

  Papers take different weights and do not always say which, so they are an
  argument here and part of every name under which a score is shown. The table
  of O1-Pruner does not follow from its own formula where accuracy falls; it is
  no reference.

  Source: O1-Pruner, arXiv 2501.12570; DRPO, arXiv 2510.04474, for its penalty.

  Args:
    accuracy: A, in [0, 1].
    tokens: L, mean response tokens.
    base_accuracy: A0 of the baseline.
    base_tokens: L0 of the baseline.
    weights: (alpha, beta, gamma).

  Returns:
    0 for the baseline itself; NaN where the baseline has no right answer.
  """
  if base_accuracy == 0 or base_tokens == 0:
    return math.nan
  alpha, beta, gamma = weights
  shorter = (base_tokens - tokens) / base_tokens
  better = (accuracy - base_accuracy) / base_accuracy
  return alpha * shorter + (beta if better >= 0 else gamma) * better


def all_aes(
  accuracy: float, tokens: float, base_accuracy: float, base_tokens: float
) -> dict[str, float]:
  """`aes` for each of AES_WEIGHTS, by names such as '1,3,5'."""
  return {
    ','.join(f'{w:g}' for w in weights): aes(
      accuracy, tokens, base_accuracy, base_tokens, weights
    )
    for weights in AES_WEIGHTS
  }


def acu(accuracy: float, parameters: int, tokens: float) -> float:
  """Accuracy per computation unit.

      ACU = 100 accuracy / (parameters / 1e9 * tokens)

  Percent, over billions of parameters times tokens: the units with which the
  paper's numbers (there times 100) come out.

  Source: CoT-Valve, arXiv 2502.09601, section 4.1.

  Args:
    accuracy: in [0, 1].
    parameters: of the model, all of them.
    tokens: mean response tokens.

  Returns:
    NaN where nothing was written.
  """
  cost = parameters / 1e9 * tokens
  return 100 * accuracy / cost if cost else math.nan


def accuracy_within(
  correct: np.ndarray, thinking: np.ndarray, budget: int
) -> float:
  """The share of responses that are right and think fewer than budget tokens.

      OAA_t = mean correct 1[thinking < t]

  The responses are those that were sampled, without any budget: a model that
  was stopped at t might still answer.

  Source: OptimalThinkingBench, arXiv 2508.13141.

  Args:
    correct: `[B, G]` verdicts, 0 or 1.
    thinking: `[B, G]` tokens of thinking.
    budget: t, in tokens.
  """
  return float(((np.asarray(correct) > 0) & (thinking < budget)).mean())


def auc(correct: np.ndarray, thinking: np.ndarray, limit: int) -> float:
  """The area under `accuracy_within`, over budgets of 0 to limit tokens.

      AUC = 1 / limit * sum over t = 0 ... limit of OAA_t
          = mean correct max(0, 1 - thinking / limit)

  Each right answer is in the terms t = thinking + 1 ... limit, which gives the
  second line; in [0, 1], and 1 for right answers without thinking.

  Source: AUC_OAA of OptimalThinkingBench, arXiv 2508.13141, with limit 1000.

  Args:
    correct: `[B, G]` verdicts, 0 or 1.
    thinking: `[B, G]` tokens of thinking.
    limit: the largest budget, at least 1 token.

  Raises:
    ValueError: a smaller limit.
  """
  if limit < 1:
    raise ValueError(f'limit={limit}; at least 1 token')
  left = np.maximum(0, limit - np.asarray(thinking, np.int64))
  right = np.asarray(correct) > 0
  return float(left[right].sum() / (limit * left.size))


def auc_curve(
  correct: np.ndarray, thinking: np.ndarray, limit: int
) -> dict[str, Any]:
  """`auc` with its axis: limit, and accuracy at some of the budgets.

  Returns:
    value; limit, the largest budget; budgets, about 16 from 0 to limit, all in
    tokens of thinking; accuracy, `accuracy_within` each of them.
  """
  budgets = np.unique(np.linspace(0, limit, _BUDGETS + 1).astype(int)).tolist()
  return {
    'value': auc(correct, thinking, limit),
    'limit': limit,
    'budgets': budgets,
    'accuracy': [accuracy_within(correct, thinking, t) for t in budgets],
  }


def ruler_interval(target: float, flexible: bool) -> tuple[float, float]:
  """(low, high] in which a length matches a target, in its unit.

  Ruler's own for its targets; infinity stands for its '>800', which every
  length above 800 matches. Other targets, which Ruler does not have, match
  within a tenth (precise) or a fifth (flexible) of the target: this is ours,
  about what Ruler has at 500.

  Source: Ruler, arXiv 2409.18943, and its released code.

  Args:
    target: at least 1.
    flexible: FM; else PM.

  Raises:
    ValueError: a smaller target.
  """
  if target < 1:
    raise ValueError(f'target={target}; at least 1')
  if target in RULER:
    return RULER[target][flexible]
  part = 0.2 if flexible else 0.1
  return target - part * target, target + part * target


def target_match(lengths: np.ndarray, target: float) -> dict[str, float]:
  """The share of lengths in Ruler's intervals of a target.

  Args:
    lengths: of responses, any shape, in the unit of the target: words as
      Ruler counts them, or tokens where the prompts asked for tokens.
    target: what the prompts asked for.

  Returns:
    pm, the precise match, and fm, the flexible match, in [0, 1].
  """
  found = {}
  for name, flexible in (('pm', False), ('fm', True)):
    low, high = ruler_interval(target, flexible)
    found[name] = float(((lengths > low) & (lengths <= high)).mean())
  return found


def yap_score(characters: np.ndarray, minimal: np.ndarray) -> np.ndarray:
  """Characters beyond what would have done: max(0, characters - minimal).

  Source: YapScore of YapBench, v0.1, whose minimal answers are written by hand.

  Args:
    characters: of visible answers, any shape.
    minimal: of a minimal answer to the same question, of a shape that fits.
  """
  return np.maximum(0, np.asarray(characters) - np.asarray(minimal))


def yap_index(scores: Mapping[str, Sequence[float]]) -> float:
  """The unweighted mean of the medians of each category, in characters.

  Source: YapIndex of YapBench, v0.1, with three categories.

  Args:
    scores: category -> `yap_score` of its responses; no category is empty.
  """
  return float(np.mean([np.median(values) for values in scores.values()]))
