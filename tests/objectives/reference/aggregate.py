"""The scalar loss in float64 loops."""

import numpy as np

from tests.objectives.reference import float64


def loss(name, values, mask, length=None):
  """The scalar loss, each aggregation in the words of its paper."""
  values, mask = float64(values, mask)
  responses = [
    values[b, g][mask[b, g] > 0]
    for b, g in np.ndindex(mask.shape[:2])
    if mask[b, g].any()
  ]
  if name == 'token_mean':
    return np.concatenate(responses).mean()
  if name == 'sequence_mean':
    return np.mean([response.mean() for response in responses])
  if name == 'sequence_sum':
    return np.mean([response.sum() for response in responses])
  return np.mean([response.sum() / length for response in responses])
