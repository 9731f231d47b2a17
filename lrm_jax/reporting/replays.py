"""The tables of `lrm replay`."""

from collections.abc import Mapping
from typing import Any

from lrm_jax.reporting import tables

_SHORT = {
  'right_short': 'r.short',
  'right_long': 'r.long',
  'wrong_short': 'w.short',
  'wrong_long': 'w.long',
}


def describe(summary: Mapping[str, Any]) -> str:
  """Tables for a terminal, and the remarks.

  Args:
    summary: of `Session.summary`, with `groups`, `responses` and `model`.
  """
  recipes = summary['recipes']
  steps = len(summary['steps'])
  parts = [
    f'{summary["responses"]} responses in {summary["groups"]} groups of '
    f'{steps} step{"s" if steps > 1 else ""}; short: up to the median of the '
    'group'
  ]
  for name in ('reward', 'advantage'):
    rows = [
      (recipe, *(_number(found[name][part]) for part in _SHORT))
      for recipe, found in recipes.items()
    ]
    parts.append(tables.aligned((name, *_SHORT.values()), rows))
  parts.append(_groups(summary))
  parts += _pushed(summary)
  by_note: dict[str, list[str]] = {}
  for recipe, found in recipes.items():
    for note in found['notes']:
      by_note.setdefault(note, []).append(recipe)
  notes = [f'{note} ({", ".join(who)})' for note, who in by_note.items()]
  return '\n\n'.join(parts + ['\n'.join(notes)] * bool(notes))


def _groups(summary: Mapping[str, Any]) -> str:
  has_model = summary['model'] is not None
  header = ['recipe', 'zero groups', 'tokens kept', 'as recorded']
  rows = []
  for recipe, found in summary['recipes'].items():
    different = found['differs_from_recorded'].values()
    row = [
      recipe,
      f'{found["zero_gradient_groups"]:.1%}',
      f'{found["tokens_kept"]:.1%}',
      'no' if any(different) else 'yes',
    ]
    if has_model:
      row += [_number(found['loss']), f'{found["grad_norm"]:.3g}']
    rows.append(row)
  header += ['loss', 'grad norm'] * has_model
  return tables.aligned(header, rows)


def _pushed(summary: Mapping[str, Any]) -> list[str]:
  """Ids of tokens by the sum of their pushes, three up and three down."""
  if summary['model'] is None:
    return []
  rows = []
  for recipe, found in summary['recipes'].items():
    pushed = found['pushed_ids']
    cells = []
    for sign in (1, -1):
      chosen = [row for row in pushed if sign * row['push'] > 0][:3]
      cells.append(' '.join(repr(row['token']) for row in chosen))
    rows.append((recipe, *(cell if cell else '-' for cell in cells)))
  return [tables.aligned(('tokens pushed', 'up', 'down'), rows)]


def _number(value: float | None) -> str:
  return '-' if value is None else f'{value:+.3f}'
