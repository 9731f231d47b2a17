"""Pictures of square tables of numbers from -1 to 1."""

import io
import os
from collections.abc import Sequence

import numpy as np
from matplotlib import figure

from lrm_jax import storage

# Of more rows the numbers would not be read.
_MOST_NUMBERS = 24


def draw(
  values: Sequence[Sequence[float]] | np.ndarray,
  names: Sequence[str],
  title: str,
  path: str | os.PathLike[str],
) -> None:
  """Draws a heat map, blue for 1 and red for -1, as a PNG.

  Args:
    values: `[K, K]` in [-1, 1]; NaN is grey.
    names: K of them.
    title: above it.
    path: the PNG to write.
  """
  values = np.asarray(values)
  size = 2.4 + 0.42 * len(names)
  fig = figure.Figure(figsize=(size + 0.8, size), dpi=100, layout='constrained')
  axes = fig.subplots()
  axes.set_facecolor('#DDDDDD')
  image = axes.imshow(values, cmap='RdBu', vmin=-1, vmax=1)
  places = range(len(names))
  axes.set_xticks(places, names, rotation=90, fontsize=8)
  axes.set_yticks(places, names, fontsize=8)
  axes.set_title(title, loc='left', fontsize=10, fontweight='bold')
  axes.spines[:].set_visible(False)
  if len(names) <= _MOST_NUMBERS:
    for (row, column), value in np.ndenumerate(values):
      if np.isfinite(value):
        axes.text(
          column,
          row,
          f'{value:.2f}'.replace('0.', '.'),
          ha='center',
          va='center',
          fontsize=7,
          # Legible on both ends of the colours.
          color='white' if abs(value) > 0.6 else '#222222',
        )
  fig.colorbar(image, ax=axes, shrink=0.6)
  picture = io.BytesIO()
  fig.savefig(picture, format='png', pil_kwargs={'optimize': True})
  storage.as_path(path).write_bytes(picture.getvalue())
