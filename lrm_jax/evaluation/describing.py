"""Summaries of evaluations as tables for a terminal."""

import math
from collections.abc import Mapping
from typing import Any

from lrm_jax.reporting import tables

_NONE = '-'


def one(summary: Mapping[str, Any]) -> str:
  """The table of one evaluation.

  Args:
    summary: as WORKDIR/summary.json has it; what is not finite may be None.
  """
  interval = summary['accuracy_interval']
  rows = [
    (
      'accuracy',
      f'{summary["accuracy"]:.1%}',
      _number(summary['accuracy_se'], '{:.1f} pp', 100),
    ),
    ('95 % interval', _interval(interval), ''),
    *_at_k(summary),
    (
      'response tokens',
      f'{summary["response_tokens"]:.1f}',
      _number(summary['response_tokens_se'], '{:.1f}'),
    ),
    ('thinking tokens', f'{summary["thinking_tokens"]:.1f}', ''),
    ('of right responses', _number(summary['response_tokens_correct']), ''),
    ('of wrong responses', _number(summary['response_tokens_wrong']), ''),
    ('truncated', f'{summary["truncated"]:.1%}', ''),
    ('tokens per correct', _number(summary['tokens_per_correct']), ''),
    (
      f'area under accuracy, budgets to {summary["auc"]["limit"]}',
      f'{summary["auc"]["value"]:.3f}',
      '',
    ),
  ]
  if summary['target_match'] is not None:
    match = summary['target_match']
    rows.append(
      (
        f'within target {match["target"]} (precise, flexible)',
        f'{match["tokens"]["pm"]:.1%}, {match["tokens"]["fm"]:.1%}',
        '',
      )
    )
  if summary['unverified']:
    rows.append(('unverified responses', str(summary['unverified']), ''))
  title = (
    f'{summary["model"]} on {summary["data"]}: {summary["problems"]} problems '
    f'x {summary["samples"]} samples'
  )
  parts = [title, tables.aligned(('', 'mean', 'standard error'), rows)]
  if summary['by_level']:
    parts.append(tables.by_level(summary['by_level']))
  return '\n\n'.join(parts)


def several(
  summaries: Mapping[str, Mapping[str, Any]], mean: Mapping[str, Any]
) -> str:
  """The table of several data sets, and of their unweighted mean.

  Args:
    summaries: name -> its summary.
    mean: the numbers of `summary.of_data_sets`.
  """
  rows = [
    (
      name,
      str(found['problems']),
      f'{found["accuracy"]:.1%}',
      _number(found['accuracy_se'], '{:.1f} pp', 100),
      f'{found["response_tokens"]:.1f}',
      f'{found["truncated"]:.1%}',
      _number(found['tokens_per_correct']),
    )
    for name, found in (*summaries.items(), ('mean', mean))
  ]
  header = ('', 'problems', 'accuracy', 'error', 'tokens', 'truncated')
  return tables.aligned((*header, 'per correct'), rows)


def _at_k(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
  """pass@n and maj@n of all n samples; of one sample both say accuracy."""
  n = str(summary['samples'])
  if n == '1':
    return []
  return [
    (f'{name}@{n}', f'{summary[f"{name}_at_k"][n]:.1%}', '')
    for name in ('pass', 'maj')
  ]


def _interval(interval: list[float | None]) -> str:
  low, high = interval
  return _NONE if low is None else f'{low:.1%} to {high:.1%}'


def _number(
  value: float | None, form: str = '{:.1f}', factor: float = 1.0
) -> str:
  if value is None or not math.isfinite(value):
    return _NONE
  return form.format(factor * value)
