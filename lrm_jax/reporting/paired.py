"""Differences between evaluations of the same problems.

Every other evaluation is compared with the first, problem by problem. P-values
are those of the normal law, adjusted by Holm over the rows of a quantity.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from lrm_jax.reporting import intervals
from lrm_jax.reporting.intervals import Estimate
from lrm_jax.reporting.samples import Tally
from lrm_jax.reporting.workdirs import Run

# What two evaluations must have in common.
_SETTINGS = (
  *('data', 'samples', 'max_tokens', 'temperature', 'thinking_budget'),
  *('target', 'truncation'),
)


class Pair(NamedTuple):
  """One row: what the second has more than the first.

  Attributes:
    first: name of its run.
    second: likewise.
    refusal: why they are not compared; '' where they are.
    problems: that they have in common.
    accuracy: difference of accuracy, in [-1, 1].
    accuracy_p: adjusted p-value of no difference.
    tokens: difference of response tokens.
    tokens_p: likewise.
  """

  first: str
  second: str
  refusal: str
  problems: int
  accuracy: Estimate
  accuracy_p: float
  tokens: Estimate
  tokens_p: float


def compare(runs: Sequence[Run], tallies: Sequence[Tally]) -> list[Pair]:
  """The newest evaluation of each run beside that of the first.

  Runs without stored responses of an evaluation are left out.

  Args:
    runs: of a report.
    tallies: of all their sources.
  """
  found = []
  for place, run in enumerate(runs):
    tally = newest(run, place, tallies)
    if tally is not None:
      found.append((run, tally))
  rows = [_pair(found[0], other) for other in found[1:]]
  accuracy = holm([_p(row.accuracy) for row in rows])
  tokens = holm([_p(row.tokens) for row in rows])
  return [
    row._replace(accuracy_p=a, tokens_p=t)
    for row, a, t in zip(rows, accuracy, tokens, strict=True)
  ]


def newest(run: Run, place: int, tallies: Sequence[Tally]) -> Tally | None:
  """The counts of a run's last evaluation, if its responses are stored."""
  if run.last is None or run.last.rows is None:
    return None
  return of_evaluation(place, run.last.label, tallies)


def of_evaluation(
  run: int, label: str, tallies: Sequence[Tally]
) -> Tally | None:
  """The counts of an evaluation by its label."""
  for tally in tallies:
    if (tally.source.run, tally.source.kind) == (run, label):
      return tally
  return None


def holm(values: Sequence[float]) -> list[float]:
  """P-values adjusted for their number; NaN is no test.

  p'_(k) = max over j <= k of min(1, (m - j + 1) p_(j))
  """
  tested = sorted((p, i) for i, p in enumerate(values) if not math.isnan(p))
  found, most = [math.nan] * len(values), 0.0
  for rank, (p, index) in enumerate(tested):
    most = max(most, min(1.0, (len(tested) - rank) * p))
    found[index] = most
  return found


def settings(run: Run) -> dict[str, Any]:
  """What an evaluation asked for, as far as a folder tells."""
  if run.verb == 'eval':
    flat = dict(run.config)
  else:
    flat = _section(run, 'eval')
    data = _section(run, 'data')
    flat |= {'data': data['eval']} if 'eval' in data else {}
  return {name: flat[name] for name in _SETTINGS if name in flat}


def _section(run: Run, name: str) -> dict[str, Any]:
  part = run.config[name] if name in run.config else None
  return dict(part) if isinstance(part, dict) else {}


def _pair(first: tuple[Run, Tally], second: tuple[Run, Tally]) -> Pair:
  nothing = Estimate(math.nan, math.nan)
  names = first[0].name, second[0].name
  one, other = settings(first[0]), settings(second[0])
  differ = [
    f'{name} {_short(one[name])} and {_short(other[name])}'
    for name in one
    if name in other and one[name] != other[name]
  ]
  if differ:
    refusal = f'not compared: {", ".join(differ)}'
    return Pair(*names, refusal, 0, nothing, math.nan, nothing, math.nan)
  a, b = first[1], second[1]
  common = len(set(a.problem.tolist()) & set(b.problem.tolist()))
  if common < 2:
    refusal = f'not compared: {common} problems in common'
    return Pair(*names, refusal, common, nothing, math.nan, nothing, math.nan)
  estimates = [
    intervals.paired(x, a.problem, y, b.problem)
    for x, y in ((a.correct, b.correct), (a.length, b.length))
  ]
  return Pair(
    *names, '', common, estimates[0], math.nan, estimates[1], math.nan
  )


def _p(estimate: Estimate) -> float:
  """Two-sided, of the normal law."""
  if math.isnan(estimate.error):
    return math.nan
  if estimate.error == 0:
    return 1.0 if estimate.value == 0 else 0.0
  size = abs(estimate.value) / (estimate.error / intervals.HALF_WIDTH)
  return math.erfc(size / math.sqrt(2))


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 40 else f'{text[:40]}...'
