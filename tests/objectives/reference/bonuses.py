"""Bonuses in float64 loops, n-grams in a set."""

import numpy as np


def repeated_tokens(ids, mask, n):
  """What is written once more, by looking n-grams up in a set."""
  repeated = np.zeros(np.shape(mask), bool)
  for b, g in np.ndindex(*np.shape(mask)[:2]):
    seen = set()
    for start in range(np.shape(mask)[2] - n + 1):
      if all(mask[b, g, start : start + n]):
        gram = tuple(ids[b, g, start : start + n].tolist())
        if gram in seen:
          repeated[b, g, start : start + n] = True
        seen.add(gram)
  return repeated


def repetition(rollouts, mask, n, penalty, discount):
  repeated = repeated_tokens(rollouts.response_ids, mask, n)
  bonus = np.zeros(np.shape(mask))
  for b, g, t in np.argwhere(mask):
    for s in range(t, np.shape(mask)[2]):
      if repeated[b, g, s]:
        bonus[b, g, t] += penalty * discount ** (s - t)
  return bonus


def close_thinking(rollouts, mask):
  bonus = np.zeros(np.shape(mask))
  for b, g in np.ndindex(*np.shape(mask)[:2]):
    at = rollouts.thinking_length[b, g]
    if not (rollouts.correct[b, g] and rollouts.think_closed[b, g]):
      continue
    if not mask[b, g, at]:
      continue
    if rollouts.measures['answer_prefix'][b, g] < 0:
      bonus[b, g, at] = -1
    else:
      bonus[b, g, at] = 1 - at / (at + rollouts.removed[b, g])
  return bonus
