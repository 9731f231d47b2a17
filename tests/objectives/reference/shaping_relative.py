"""Rewards relative to a group, one group and one sample at a time."""

import math

import numpy as np


def _groups(rollouts):
  """Yields `b, right or wrong, lengths` of each group, as Python numbers."""
  for b in range(len(rollouts.correct)):
    verdicts = [c > 0 for c in rollouts.correct[b]]
    yield b, verdicts, [int(n) for n in rollouts.length[b]]


def _sigmoid(x):
  return 1 / (1 + math.exp(-x))


def _moments(values):
  mean = sum(values) / len(values)
  return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))


def group_lambda(rollouts, fraction, alpha, floor):
  reward = np.zeros(np.shape(rollouts.correct))
  groups = list(_groups(rollouts))
  ranking = sorted(groups, key=lambda group: -sum(group[1]))  # stable
  # As a decimal, so that 0.07 of 100 is 7.
  top = math.ceil(round(fraction * len(groups), 6))
  for place, (b, right, length) in enumerate(ranking):
    lengths = [n for c, n in zip(right, length, strict=True) if c]
    for g, c in enumerate(right):
      if c:
        reward[b, g] = 1
        if place < top:
          mean, std = _moments(lengths)
          z = (length[g] - mean) / max(std, floor)
          reward[b, g] = 1 - alpha * _sigmoid(z)
  return reward


def sigmoid_length(rollouts, alpha):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, verdicts, length in _groups(rollouts):
    right = [
      g for g, c in enumerate(verdicts) if c and not rollouts.truncated[b, g]
    ]
    for g in right:
      mean, std = _moments([length[j] for j in right])
      z = (length[g] - mean) / (std + 1e-7)
      reward[b, g] = 1 - alpha * _sigmoid(z)
  return reward


def kimi(rollouts, coefficient):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, right, length in _groups(rollouts):
    low, high = min(length), max(length)
    if low == high:
      continue
    for g, c in enumerate(right):
      value = 0.5 - (length[g] - low) / (high - low)
      reward[b, g] = coefficient * (value if c else min(0, value))
  return reward


def alp(rollouts, beta):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, right, length in _groups(rollouts):
    rate = max(sum(right) / len(right), 1 / len(right))
    for g in range(len(right)):
      reward[b, g] = -beta * length[g] * rate
  return reward


def shorter_better(rollouts, alpha, beta):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, right, length in _groups(rollouts):
    lengths = [n for c, n in zip(right, length, strict=True) if c]
    best = min(lengths) if lengths else sum(length) / len(length)
    for g, c in enumerate(right):
      reward[b, g] = (alpha if c else 0) - beta * abs(length[g] - best)
  return reward


def o1_pruner(rollouts, alpha, low, high):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, right, length in _groups(rollouts):
    mean, rate = sum(length) / len(length), sum(right) / len(right)
    for g, c in enumerate(right):
      weight = mean / length[g] - 1 + alpha * (int(c) - rate)
      reward[b, g] = min(max(weight, low), high)
  return reward


def decoupled_length(rollouts, temperature):
  """From the length reward itself, over that of the group's best."""
  reward = np.zeros(np.shape(rollouts.correct))
  for b, right, length in _groups(rollouts):
    value = [1 - n / int(rollouts.cap[b]) for n in length]
    weight = [math.exp(v / temperature) for v in value]
    for g, c in enumerate(right):
      if c:
        best = max(w for w, d in zip(weight, right, strict=True) if d)
        reward[b, g] = weight[g] / best
  return reward


def conciseness(rollouts, score, alpha, anneal_from, anneal_steps):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, right, _ in _groups(rollouts):
    s = anneal_from * max(0, 1 - int(rollouts.step[b]) / anneal_steps)
    for g, c in enumerate(right):
      if c:
        q = min(max(float(rollouts.measures[score][b, g]), 0.1), 1.0)
        reward[b, g] = 1 + alpha * q * (s + sum(right) / len(right))
  return reward


def step_pruner(rollouts, alpha, eps):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, right, _ in _groups(rollouts):
    n = [float(k) for k in rollouts.measures['paragraphs'][b]]
    counted = [k for c, k in zip(right, n, strict=True) if c]
    for g, c in enumerate(right):
      if c:
        span = max(counted) - min(counted) + eps
        reward[b, g] = 1 - alpha * (n[g] - min(counted)) / span
  return reward


def relative_length(rollouts):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, right, length in _groups(rollouts):
    lengths = [n for c, n in zip(right, length, strict=True) if c]
    if lengths:
      for g in range(len(right)):
        reward[b, g] = 1 - length[g] / max(lengths)
  return reward
