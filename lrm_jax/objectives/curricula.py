"""Curricula: how often a problem is drawn.

`f(pass_rate [N], **keywords) -> weight [N]` float64 NumPy, at least 0; the
chance of a problem is proportional to its weight. The pass rate is the share
of right responses the starting policy gives, NaN where it is not known.
"""

import numpy as np


def uniform(pass_rate: np.ndarray) -> np.ndarray:
  """`w = 1`: every problem once an epoch."""
  return np.ones(np.shape(pass_rate))
