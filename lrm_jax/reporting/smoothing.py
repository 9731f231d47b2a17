"""Running means of noisy curves."""

import numpy as np


def moving_average(values: np.ndarray, width: int) -> np.ndarray:
  """Returns centred means over `width` (odd) values, fewer at the borders."""
  half = width // 2
  return np.array(
    [values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))]
  )


def width_for(rows: int) -> int:
  """Returns the rows of a running mean: a tenth, one for a short run."""
  return 2 * (rows // 20) + 1
