"""Rewards within a cap, one sample at a time."""

import numpy as np


def truncation(rollouts, stop_properly):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, g in np.ndindex(reward.shape):
    if rollouts.correct[b, g] and rollouts.length[b, g] <= rollouts.cap[b]:
      reward[b, g] = stop_properly if rollouts.truncated[b, g] else 1.0
  return reward
