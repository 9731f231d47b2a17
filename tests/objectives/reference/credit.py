"""Credit in float64 loops: every choice tried, every token looked at."""

import itertools
import math

import numpy as np


def mean_of(values, mask):
  """Per sample, over its trained tokens; None for one without any."""
  found = {}
  for b, g in np.ndindex(*np.shape(mask)[:2]):
    kept = [
      float(v) for v, m in zip(values[b, g], mask[b, g], strict=True) if m
    ]
    found[b, g] = sum(kept) / len(kept) if kept else None
  return found


def as_it_is(rollouts, advantage, mask, entropy):
  return (np.float64(advantage),), mask


def d3s(
  rollouts,
  advantage,
  mask,
  entropy,
  rollouts_first,
  rollouts_last,
  tokens_first,
  tokens_last,
  steps,
):
  """Every subset of responses is tried."""
  at = min(1, (rollouts.step.max() - 1) / steps)
  value = {k: v for k, v in mean_of(advantage, mask).items() if v is not None}
  share = rollouts_first + at * (rollouts_last - rollouts_first)
  count = math.ceil(share * len(value) - 1e-9)
  best = max(
    itertools.combinations(value, count),
    key=lambda chosen: round(np.var([value[at] for at in chosen]), 9),
  )
  kept = np.zeros(np.shape(mask))
  for at_sample in best:
    kept[at_sample] = mask[at_sample]
  weights = np.abs(advantage) * entropy
  tokens = sorted((weights[tuple(i)] for i in np.argwhere(kept)), reverse=True)
  share = tokens_first + at * (tokens_last - tokens_first)
  least = tokens[math.ceil(share * len(tokens) - 1e-9) - 1]
  mask = kept * (weights >= least)
  return (advantage * mask,), mask


def stratified(rollouts, advantage, mask, entropy, measure, width, share, eps):
  del entropy
  value = mean_of(advantage, mask)
  out = np.zeros(np.shape(mask))
  for b, g, t in np.argwhere(mask):
    stratum = [
      value[b, j]
      for j in range(np.shape(mask)[1])
      if value[b, j] is not None
      and math.floor(rollouts.measures[measure][b, j] / width)
      == math.floor(rollouts.measures[measure][b, g] / width)
    ]
    own = 0.0
    if len(stratum) > 1 and np.std(stratum) > 1e-6:
      own = (value[b, g] - np.mean(stratum)) / (np.std(stratum, ddof=1) + eps)
    out[b, g, t] = share * own + (1 - share) * advantage[b, g, t]
  return (out,), mask


def copo(
  rollouts,
  advantage,
  mask,
  entropy,
  sharpness,
  middle,
  consistency,
  eps,
):
  del entropy
  bits, reward = {}, {}
  for b in range(np.shape(mask)[0]):
    counted = [g for g in range(np.shape(mask)[1]) if mask[b, g].any()]
    if not counted:
      continue
    answers = [rollouts.measures['answer_class'][b, g] for g in counted]
    n = len(answers)
    shares = [answers.count(a) / n for a in set(answers)]
    bits[b] = -sum(p * math.log2(p) for p in shares)
    rate = np.mean([rollouts.correct[b, g] for g in counted])
    scale = (1 - 1 / n) / math.log2(n) if n > 1 else 0.0
    reward[b] = rate * (1 - consistency * scale * bits[b])
  mean = np.mean(list(reward.values()))
  deviation = np.std(list(reward.values()), ddof=1) if len(reward) > 1 else 0
  local, others = np.zeros(np.shape(mask)), np.zeros(np.shape(mask))
  for b, g, t in np.argwhere(mask):
    weight = 1 / (1 + math.exp(-sharpness * (bits[b] - middle)))
    between = 0.0
    if deviation > 1e-9:
      between = (reward[b] - mean) / (deviation + eps)
    local[b, g, t] = weight * advantage[b, g, t]
    others[b, g, t] = (1 - weight) * between
  return (local, others), mask
