"""Advantages in float64 loops."""

import math
import statistics

import numpy as np

from tests.objectives.reference import float64


def _groups(reward, mask):
  """Yields `b, samples that count, their rewards` for each group."""
  reward, mask = float64(reward, mask)
  for b in range(len(reward)):
    counted = [g for g in range(reward.shape[1]) if mask[b, g].sum() > 0]
    if counted:
      yield b, counted, reward[b, counted]


def _batch(reward, mask):
  """The rewards of all samples that count."""
  return [float(r) for _, _, rewards in _groups(reward, mask) for r in rewards]


def _deviation(values, ddof):
  mean = statistics.fmean(values)
  return math.sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - ddof))


def group(reward, mask, ddof, eps):
  advantage = np.zeros(np.shape(reward))
  for b, counted, rewards in _groups(reward, mask):
    if len(counted) > 1:
      scale = _deviation(rewards, ddof) + eps
      advantage[b, counted] = (rewards - rewards.mean()) / scale
  return advantage


def group_mean(reward, mask):
  advantage = np.zeros(np.shape(reward))
  for b, counted, rewards in _groups(reward, mask):
    advantage[b, counted] = rewards - rewards.mean()
  return advantage


def leave_one_out(reward, mask):
  advantage = np.zeros(np.shape(reward))
  for b, counted, rewards in _groups(reward, mask):
    for i, g in enumerate(counted):
      others = [*rewards[:i], *rewards[i + 1 :]]
      if others:
        advantage[b, g] = rewards[i] - statistics.fmean(others)
  return advantage


def leave_one_out_std(reward, mask, eps):
  advantage = leave_one_out(reward, mask)
  for b, counted, rewards in _groups(reward, mask):
    for i, g in enumerate(counted):
      others = [*rewards[:i], *rewards[i + 1 :]]
      if len(set(others)) > 1:
        advantage[b, g] /= _deviation(others, 1) + eps
  return advantage


def batch_std(reward, mask, ddof, eps):
  scale = _deviation(_batch(reward, mask), ddof) + eps
  return group_mean(reward, mask) / scale


def batch_zscore(reward, mask, ddof, eps):
  everyone = _batch(reward, mask)
  scale = _deviation(everyone, ddof) + eps
  advantage = np.zeros(np.shape(reward))
  for b, counted, rewards in _groups(reward, mask):
    advantage[b, counted] = (rewards - statistics.fmean(everyone)) / scale
  return advantage


def beta(reward, mask, low, high):
  advantage = np.zeros(np.shape(reward))
  mapped = (float64(reward)[0] - low) / (high - low)
  groups = list(_groups(mapped, mask))
  rates = [rewards.mean() for _, _, rewards in groups]
  first, second = 1.0, 1.0
  if len(rates) > 1 and statistics.variance(rates) > 0:
    m = statistics.fmean(rates)
    k = m * (1 - m) / statistics.variance(rates) - 1
    first = max(1.0, 1 + k * m / 3)
    second = max(1.0, 1 + k * (1 - m) / 3)
  for (b, counted, rewards), p in zip(groups, rates, strict=True):
    if 0 < p < 1:
      weight = min(1e6, 1 / beta_density(p, first, second))
      advantage[b, counted] = (rewards - p) * weight
  return advantage


def beta_density(p, a, b):
  constant = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
  powers = (a - 1) * math.log(p) + (b - 1) * math.log(1 - p)
  return math.exp(max(constant + powers, -700))


def class_share(reward, mask):
  advantage = np.zeros(np.shape(reward))
  for b, counted, rewards in _groups(reward, mask):
    positive = [r for r in rewards if r > 0]
    negative = [r for r in rewards if not r > 0]
    if positive and negative:
      for g, r in zip(counted, rewards, strict=True):
        advantage[b, g] = r / sum(positive) if r > 0 else -1 / len(negative)
  return advantage
