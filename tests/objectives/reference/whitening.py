"""Whitened tokens in float64 loops."""

import math
import statistics

import numpy as np

from tests.objectives.reference import float64
from tests.objectives.reference.advantages import group_mean


def batch_token_whiten(reward, mask, eps):
  return _whiten_tokens(group_mean(reward, mask), mask, 1.0, eps)


def return_whiten(reward, mask, gamma, eps):
  return _whiten_tokens(float64(reward)[0], mask, gamma, eps)


def _whiten_tokens(values, mask, gamma, eps):
  """Runs through each sample from its end, then whitens all tokens at once."""
  tokens = {}
  for b, g in np.ndindex(np.shape(values)):
    running = values[b, g]
    for t in reversed(range(np.shape(mask)[-1])):
      if mask[b, g, t]:
        tokens[b, g, t] = running
        running = running * gamma
  mean = statistics.fmean(tokens.values())
  variance = statistics.variance(tokens.values())
  advantage = np.zeros(np.shape(mask))
  for index, value in tokens.items():
    advantage[index] = (value - mean) / math.sqrt(variance + eps)
  return advantage
