"""Which runs of a report may stand beside each other.

Two runs are comparable where their newest evaluations asked the same: the same
problems (a digest of them is one of the settings), caps, law of sampling and
prompts, by the rule of `evaluation.comparison`. Their settings are enough to
tell; no rows are read.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lrm_jax.evaluation import comparison
from lrm_jax.reporting.markup import Markup, element
from lrm_jax.reporting.workdirs import Run


class Group(NamedTuple):
  """Runs that are comparable with each other, and with no others.

  Attributes:
    number: from 1; None where all runs are of one group.
    places: of its runs among those of the report, ascending.
    unlike: what sets its first run apart from that of the first group; '' of
      the first group.
  """

  number: int | None
  places: tuple[int, ...]
  unlike: str


def of_runs(runs: Sequence[Run]) -> list[Group]:
  """The groups, in the order of their first runs.

  A run without an evaluation is of none. One whose settings are not stored is
  of a group of its own.

  Args:
    runs: of a report.
  """
  members: list[list[int]] = []
  for place, run in enumerate(runs):
    if run.newest is None:
      continue
    same = [own for own in members if not _difference(runs[own[0]], run)]
    if same:
      same[0].append(place)
    else:
      members.append([place])
  if len(members) < 2:
    return [Group(None, tuple(own), '') for own in members]
  first = runs[members[0][0]]
  unlike = ['', *(_difference(first, runs[own[0]]) for own in members[1:])]
  return [
    Group(number, tuple(own), fault)
    for number, (own, fault) in enumerate(
      zip(members, unlike, strict=True), start=1
    )
  ]


def number_of(place: int, groups: Sequence[Group]) -> int | None:
  """The group of a run; None where it has none, or where there is only one.

  Args:
    place: of the run.
    groups: of `of_runs`.
  """
  found = [group.number for group in groups if place in group.places]
  return found[0] if found else None


def titled(title: str, group: Group) -> str:
  """A title that says of which group it is, where there are several."""
  return title if group.number is None else f'{title}, group {group.number}'


def note(runs: Sequence[Run], groups: Sequence[Group]) -> list[Markup]:
  """Which runs are not comparable with which, and why; [] for one group.

  Args:
    runs: of the report.
    groups: of `of_runs`.
  """
  if len(groups) < 2:
    return []
  lines = [
    'Runs of different groups are not comparable: they were not asked the same '
    'problems in the same way.'
  ]
  for group in groups:
    names = ', '.join(runs[place].name for place in group.places)
    line = f'Group {group.number}: {names}.'
    if group.unlike:
      line += f' Not comparable with group 1: {group.unlike}.'
    lines.append(line)
  items = [element('li', {}, line) for line in lines]
  return [element('ul', {'class': 'notes'}, *items)]


def _difference(first: Run, other: Run) -> str:
  """What their newest evaluations were not asked alike; '' if nothing."""
  settings = []
  for run in (first, other):
    if run.newest.settings is None:
      return f'an earlier version wrote {run.name}, without its settings'
    settings.append(run.newest.settings)
  return ', '.join(comparison.differences(*settings))
