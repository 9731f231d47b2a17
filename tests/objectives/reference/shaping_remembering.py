"""Rewards that remember, one response at a time; memories are plain values."""

import math

import numpy as np


def hapo(rollouts, shortest, weight):
  """Reward, and the records after the batch."""

  def term(correct, length, record):
    f = math.cos(length / record * math.pi / 2) if length < 2 * record else -1
    return max(-0.7, f) if correct else min(0.0, f)

  return _by_record(rollouts, shortest, weight, term)


def hapo_linear(rollouts, shortest, weight, tolerance):
  """Reward, and the records after the batch."""

  def term(correct, length, record):
    if correct and length < record:
      return 1 - length / record
    if length < (1 + tolerance) * record:
      return 0.0
    over = (length - (1 + tolerance) * record) / record
    return max(-0.7 if correct else -1.0, -over)

  return _by_record(rollouts, shortest, weight, term)


def _by_record(rollouts, shortest, weight, term):
  reward = np.zeros(np.shape(rollouts.correct))
  records = {}
  for b, g in np.ndindex(reward.shape):
    problem = int(rollouts.problem_index[b])
    correct, length = rollouts.correct[b, g], float(rollouts.length[b, g])
    before = float(shortest[b])
    if math.isfinite(before):
      reward[b, g] = weight * term(correct, length, before)
    records.setdefault(problem, before)
    if correct:
      records[problem] = min(records[problem], length)
  return reward, [records[int(p)] for p in rollouts.problem_index]


def adaptive_penalty(rollouts, penalty, rate, reference):
  """Reward, and the next price."""
  reward = np.zeros(np.shape(rollouts.correct))
  right = 0
  for b, g in np.ndindex(reward.shape):
    reward[b, g] = -penalty * float(rollouts.length[b, g])
    right += int(rollouts.correct[b, g])
  accuracy = right / reward.size
  return reward, max(0.0, penalty + rate * (accuracy - reference))


def laser(rollouts, target_length, bonus):
  return _laser(rollouts, [target_length] * 3, bonus, lambda b, g: False)


def laser_d(rollouts, adaptive_length, bonus):
  return _laser(rollouts, adaptive_length, bonus, lambda b, g: False)


def laser_de(rollouts, adaptive_length, ngram, threshold, bonus):
  def explores(b, g):
    ids = [int(i) for i in rollouts.response_ids[b, g, : rollouts.length[b, g]]]
    seen, repeated = set(), set()
    for start in range(len(ids) - ngram + 1):
      words = tuple(ids[start : start + ngram])
      if words in seen:
        repeated |= set(range(start, start + ngram))
      seen.add(words)
    return len(repeated) / len(ids) <= threshold

  return _laser(rollouts, adaptive_length, bonus, explores)


def _laser(rollouts, allowed, bonus, explores):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, g in np.ndindex(reward.shape):
    limit = allowed[_tier(rollouts, b)]
    is_short = rollouts.length[b, g] <= limit
    if not _is_valid(rollouts, b, g):
      reward[b, g] = -1
    elif rollouts.correct[b, g]:
      reward[b, g] = 1 + (bonus if is_short else 0)
    else:
      is_paid = not is_short and explores(b, g)
      reward[b, g] = -0.5 + (bonus if is_paid else 0)
  return reward


def laser_d_observe(rollouts, adaptive_length, lower, upper, step):
  problems, samples = np.shape(rollouts.correct)
  expected = [samples * 2 // 3, samples // 3, 1]
  chosen = []
  for tier in range(3):
    lengths = []
    for b in range(problems):
      if _tier(rollouts, b) == tier:
        lengths += [int(rollouts.length[b, g]) for g in range(samples)]
    if not lengths:
      chosen.append(int(adaptive_length[tier]))
      continue
    best = upper
    for candidate in reversed(range(lower, upper + 1, step)):
      fitting = sum(length <= candidate for length in lengths)
      # The nudge undoes what dividing whole numbers rounds off.
      if math.floor(fitting / len(lengths) * expected[tier] + 1e-9) >= 1:
        best = candidate
    chosen.append(best)
  return chosen


def _is_valid(rollouts, b, g):
  return bool(rollouts.answered[b, g]) and bool(rollouts.think_closed[b, g])


def _tier(rollouts, b):
  samples = np.shape(rollouts.correct)[1]
  right = sum(
    bool(rollouts.correct[b, g]) and _is_valid(rollouts, b, g)
    for g in range(samples)
  )
  if 3 * right >= 2 * samples:
    return 0
  return 1 if 3 * right >= samples else 2
