"""Losses in float64 loops."""

import math

import numpy as np

from tests.objectives.reference import float64


def ppo_clip(logp, old_logp, advantage, mask, low, high, dual):
  logp, old_logp, advantage, mask = float64(logp, old_logp, advantage, mask)
  loss = np.zeros(mask.shape)
  for i in np.ndindex(mask.shape):
    if mask[i]:
      a = advantage[i]
      rho = math.exp(min(max(logp[i] - old_logp[i], -20), 20))
      loss[i] = max(-a * rho, -a * min(max(rho, 1 - low), 1 + high))
      if a < 0:
        loss[i] = min(loss[i], -a * dual)
  return loss
