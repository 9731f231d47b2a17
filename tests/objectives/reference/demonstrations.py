"""Which groups are given a response, one at a time."""

import numpy as np


def undemonstrated(rollouts):
  return np.zeros(len(rollouts.length))


def gate(rollouts, solved, coefficient):
  return np.array(
    [coefficient * (sum(row > 0) <= solved) for row in rollouts.correct]
  )


def teach(advantages, mask, coefficient):
  found = [np.array(advantage, np.float64) for advantage in advantages]
  for b, given in enumerate(coefficient):
    if given > 0:
      for out in found:
        out[b] = 0
      for g, t in np.argwhere(mask[b]):
        found[0][b, g, t] = given / mask[b, g].sum()
  return tuple(found)
