"""Regularizers in float64 loops."""

import math

import numpy as np

from tests.objectives.reference import float64


def kl(name, logp, ref_logp, mask):
  logp, ref_logp, mask = float64(logp, ref_logp, mask)
  values = np.zeros(mask.shape)
  for i in np.ndindex(mask.shape):
    if mask[i]:
      d = logp[i] - ref_logp[i]
      if name == 'kl_k1':
        values[i] = d
      elif name == 'kl_k2':
        values[i] = d * d / 2
      else:
        d = min(max(d, -20), 20)
        values[i] = min(math.exp(-d) + d - 1, 10)
  return values
