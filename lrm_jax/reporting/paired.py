"""Differences between evaluations of the same problems.

Within a group of comparable runs, the newest evaluation of every other run is
compared with that of the first, by `evaluation.comparison`; or a refusal says
why that cannot be.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lrm_jax import storage
from lrm_jax.errors import UserError
from lrm_jax.evaluation import comparison
from lrm_jax.evaluation.comparison import Comparison
from lrm_jax.reporting.grouping import Group
from lrm_jax.reporting.samples import Tally
from lrm_jax.reporting.workdirs import Run


class Pair(NamedTuple):
  """One row.

  Attributes:
    group: number of their group; None where there is only one.
    first: name of a run.
    second: of the one that is compared with it.
    found: what the second has more; None where they are not compared.
    refusal: why not; '' where they are.
  """

  group: int | None
  first: str
  second: str
  found: Comparison | None
  refusal: str


def compare(runs: Sequence[Run], groups: Sequence[Group]) -> list[Pair]:
  """The newest evaluation of each run beside that of the first of its group.

  Runs that were only evaluated before their training are left out. P-values
  are adjusted for the pairs of a group that are compared.

  Args:
    runs: of a report.
    groups: of these runs.
  """
  return [
    pair
    for group in groups
    for pair in _of_group(
      group.number,
      [runs[place] for place in group.places if runs[place].last is not None],
    )
  ]


def _of_group(number: int | None, runs: Sequence[Run]) -> list[Pair]:
  if len(runs) < 2:
    return []
  read = {run.name: _read(run) for run in runs}
  first, refusal = read[runs[0].name]
  allowed, refusals = [], {}
  for run in runs[1:]:
    other, fault = read[run.name]
    if first is not None and other is not None:
      fault = _difference(first, other)
    if first is None:
      fault = refusal
    if fault:
      refusals[run.name] = f'not compared: {fault}'
    else:
      allowed.append((run.name, other))
  rows = []
  if allowed:
    rows = comparison.compare([first, *(other for _, other in allowed)])
  found = dict(zip((name for name, _ in allowed), rows, strict=True))
  return [
    Pair(
      number,
      runs[0].name,
      run.name,
      found[run.name] if run.name in found else None,
      refusals[run.name] if run.name in refusals else '',
    )
    for run in runs[1:]
  ]


def _difference(
  first: comparison.Evaluation, other: comparison.Evaluation
) -> str:
  """Why two evaluations cannot be compared; '' where they can."""
  try:
    comparison.check([first, other])
  except UserError as error:
    return str(error)
  return ''


def _read(run: Run) -> tuple[comparison.Evaluation | None, str]:
  """The newest evaluation of a run, or why it cannot be compared."""
  place: str | storage.Path = run.folder
  if run.verb != 'eval':
    place = run.folder / 'evaluation' / run.last.label
  try:
    return comparison.read(place), ''
  except UserError as error:
    return None, str(error)


def of_evaluation(
  run: int, label: str, tallies: Sequence[Tally]
) -> Tally | None:
  """The counts of an evaluation by its label."""
  for tally in tallies:
    if (tally.source.run, tally.source.kind) == (run, label):
      return tally
  return None
