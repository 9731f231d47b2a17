"""Pictures of a run: accuracy and response tokens over training steps.

Rows are those of metrics.jsonl. A row without a key, or with null there, is
left out of that key's line, so rows of different phases may share a file.
"""

import io
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import axes, figure, ticker

from lrm_jax import storage
from lrm_jax.reporting import smoothing

# Okabe and Ito's palette, told apart with any colour vision; a second cue (line
# style or marker) goes with each.
_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
_STYLES = ('-', '--', '-.', ':')
_FAINT = '#B3D1E8'
_GREY = '#555555'
_PANELS = (
  ('accuracy', 'Accuracy', '%'),
  ('response_tokens', 'Response length', 'tokens (mean)'),
)

Rows = Sequence[Mapping[str, float | None]]


def training_curves(
  metrics: Rows,
  path: str | os.PathLike[str],
  before: Mapping[str, float] | None = None,
  after: Mapping[str, float] | None = None,
) -> None:
  """Draws one run: accuracy and response tokens over steps, side by side.

  From twenty rows on, the line is a running mean over a tenth of them and the
  values themselves are faint.

  Args:
    metrics: rows with `step` and some of `accuracy` (fraction),
      `response_tokens` and `cap` (tokens; dashed, the budget of each step).
    path: the PNG to write.
    before: held-out `accuracy` and `response_tokens` of the model at the first
      step, marked by a circle.
    after: the same at the last step, marked by a diamond.
  """
  fig, panels = _canvas()
  steps = [row['step'] for row in metrics]
  for panel, (key, _, _) in zip(panels, _PANELS, strict=True):
    width = smoothing.width_for(len(metrics))
    if width > 1:
      panel.plot(*_points(metrics, key), color=_FAINT, linewidth=1)
    _line(panel, metrics, key, _COLOURS[0], '-', 'training', width)
    if key == 'response_tokens':
      _line(panel, metrics, 'cap', _GREY, '--', 'cap')
    ends = (before, 'o', 'before', min), (after, 'D', 'after', max)
    for evaluation, marker, name, end in ends:
      if evaluation is not None:
        _mark(panel, end(steps, default=0), key, evaluation, marker, name)
    _legend(panel)
  _save(fig, path)


def comparison(runs: Mapping[str, Rows], path: str | os.PathLike[str]) -> None:
  """Draws the same two panels with one line (running mean) a run."""
  fig, panels = _canvas()
  for panel, (key, _, _) in zip(panels, _PANELS, strict=True):
    for i, (name, metrics) in enumerate(runs.items()):
      colour = _COLOURS[i % len(_COLOURS)]
      style = _STYLES[i % len(_STYLES)]
      _line(
        panel,
        metrics,
        key,
        colour,
        style,
        name,
        smoothing.width_for(len(metrics)),
      )
  _legend(panels[0])
  _save(fig, path)


def _canvas() -> tuple[figure.Figure, list[axes.Axes]]:
  # A Figure without pyplot: no global state, no display.
  fig = figure.Figure(figsize=(9, 3.4), dpi=100, layout='constrained')
  panels = list(fig.subplots(1, 2))
  for panel, (_, title, unit) in zip(panels, _PANELS, strict=True):
    panel.set_title(title, loc='left', fontsize=11, fontweight='bold')
    panel.set_xlabel('training step')
    panel.set_ylabel(unit)
    panel.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    panel.grid(axis='y', color='#DDDDDD', linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[['top', 'right']].set_visible(False)
  return fig, panels


def _points(metrics: Rows, key: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns steps and values of the rows that have key; accuracy in percent."""
  pairs = [
    (row['step'], row[key])
    for row in metrics
    if key in row and row[key] is not None
  ]
  steps, values = np.array(pairs, float).reshape(-1, 2).T
  return steps, values * (100 if key == 'accuracy' else 1)


def _line(
  panel: axes.Axes,
  metrics: Rows,
  key: str,
  colour: str,
  style: str,
  name: str,
  width: int = 1,
) -> None:
  """Draws a curve as its running mean over `width` rows (1: as it is)."""
  steps, values = _points(metrics, key)
  if len(values):
    values = smoothing.moving_average(values, width)
    panel.plot(steps, values, style, color=colour, linewidth=1.8, label=name)


def _mark(
  panel: axes.Axes,
  step: float,
  key: str,
  evaluation: Mapping[str, float],
  marker: str,
  name: str,
) -> None:
  """Marks an evaluation; its number goes into the legend."""
  is_accuracy = key == 'accuracy'
  value = evaluation[key] * (100 if is_accuracy else 1)
  panel.plot(
    [step],
    [value],
    marker,
    color=_COLOURS[1],
    markeredgecolor='white',
    markersize=9,
    linestyle='none',
    label=f'{name}: {value:.1f}' + ('%' if is_accuracy else ' tokens'),
    zorder=5,
    clip_on=False,
  )


def _legend(panel: axes.Axes) -> None:
  if panel.get_legend_handles_labels()[0]:
    panel.legend(frameon=False, fontsize=9, loc='best')


def _save(fig: figure.Figure, path: str | os.PathLike[str]) -> None:
  # From zero: a cropped axis would make any change of length look large.
  fig.axes[1].set_ylim(bottom=0)
  picture = io.BytesIO()
  fig.savefig(picture, format='png', pil_kwargs={'optimize': True})
  storage.as_path(path).write_bytes(picture.getvalue())
