"""The picture of a table: accuracy over tokens, of every way of training."""

import io
import os

import numpy as np
from matplotlib import figure

from lrm_jax import storage
from lrm_jax.papers.paper import Paper
from lrm_jax.papers.results import Results

# Okabe and Ito's palette, told apart with any colour vision; a marker goes with
# each, so that eight may have the seventh colour again.
_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
_MARKERS = ('o', 'D', 's', '^', 'v', 'P', 'X')


def draw(paper: Paper, results: Results, path: str | os.PathLike[str]) -> None:
  """Writes a PNG: up and to the left is better.

  Of each way of training, a line through the means over seeds of all its
  evaluations, from a small ring (before) to a large marker (after); small
  markers are the single seeds after training.

  Args:
    paper: the table.
    results: its numbers.
    path: the file.
  """
  # A Figure without pyplot: no global state, no display.
  fig = figure.Figure(figsize=(7.2, 4.2), dpi=100, layout='constrained')
  panel = fig.subplots()
  for place, run in enumerate(paper.runs):
    tokens, right = course(results, run.name)
    style = dict(
      color=_COLOURS[place % len(_COLOURS)],
      marker=_MARKERS[place % len(_MARKERS)],
      linestyle='none',
      markeredgecolor='white',
    )
    colour = style['color']
    panel.plot(tokens.mean(1), right.mean(1), color=colour, linewidth=1)
    panel.plot(
      *(tokens[0].mean(), right[0].mean()),
      marker='o',
      color=colour,
      markerfacecolor='white',
      markersize=5,
    )
    panel.plot(tokens[-1], right[-1], markersize=5, **style)
    panel.plot(
      *(tokens[-1].mean(), right[-1].mean()),
      markersize=11,
      label=run.name,
      zorder=5,
      **style,
    )
  panel.set_xlabel('response tokens (mean)')
  panel.set_ylabel('accuracy, %')
  panel.grid(color='#DDDDDD', linewidth=0.8)
  panel.set_axisbelow(True)
  panel.spines[['top', 'right']].set_visible(False)
  panel.legend(frameon=False, fontsize=9, loc='best')
  picture = io.BytesIO()
  fig.savefig(picture, format='png', pil_kwargs={'optimize': True})
  storage.as_path(path).write_bytes(picture.getvalue())


def course(results: Results, name: str) -> tuple[np.ndarray, np.ndarray]:
  """Mean tokens, and accuracy in percent, of each evaluation and seed.

  Args:
    results: of a paper.
    name: of a way of training.

  Returns:
    Two arrays `[E, S]`, evaluations in the order of their steps.
  """
  evaluations = results.runs(name)[0]['evaluations']
  order = sorted(evaluations, key=lambda label: evaluations[label]['step'])
  tokens = [results.tokens(name, label).mean(axis=1) for label in order]
  right = [100 * results.right(name, label).mean(axis=1) for label in order]
  return np.array(tokens), np.array(right)
