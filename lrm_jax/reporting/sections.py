"""The parts of a page that compare models: tables and lengths."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lrm_jax.reporting import (
  charts,
  grouping,
  intervals,
  paired,
  samples,
  scales,
)
from lrm_jax.reporting.figures import Figures
from lrm_jax.reporting.grouping import Group
from lrm_jax.reporting.intervals import Estimate
from lrm_jax.reporting.markup import Markup, element, table
from lrm_jax.reporting.samples import Tally
from lrm_jax.reporting.workdirs import Evaluation, Run

_BARS = 24
# Of the first and the last steps of a run without evaluations, this share.
_END = 0.2

Rows = list[list[str]]


def tiles(run: Run) -> Markup:
  """The headline of one run: three numbers, before and after."""
  first, last = run.first, run.last
  if first is None or last is None:
    return Markup()
  found = []
  for name, key, show in (
    ('accuracy', 'accuracy', percent),
    ('response tokens', 'response_tokens', tokens),
    ('tokens per correct', 'tokens_per_correct', tokens),
  ):
    old, new = first.numbers[key], last.numbers[key]
    points = scales.signed(100 * (new - old), 1, ' points')
    ratio = new / old - 1 if old else math.nan
    change = points if show is percent else scales.signed(100 * ratio, 1, ' %')
    found.append(
      element(
        'div',
        {'class': 'tile'},
        element('span', {'class': 'label'}, name),
        element('span', {'class': 'value'}, show(new)),
        element('span', {'class': 'from'}, f'from {show(old)}'),
        element('span', {'class': 'change'}, change),
      )
    )
  return element('div', {'class': 'tiles'}, *found)


def before_after(
  run: Run, place: int, tallies: Sequence[Tally]
) -> Markup | None:
  """The table of one run, with the intervals that are known.

  Changes are paired by problem where the responses of both evaluations are
  stored; without them a change has no interval.

  Args:
    run: evaluated before and after.
    place: of the run.
    tallies: of all sources.
  """
  first, last = run.first, run.last
  if first is None or last is None:
    return None
  ends = [paired.of_evaluation(place, e.label, tallies) for e in (first, last)]
  rows = []
  for name, key, values, show, factor, unit in (
    (
      *('accuracy', 'accuracy', lambda t: t.correct, percent),
      *(100, ' points'),
    ),
    (
      *('response tokens', 'response_tokens', lambda t: t.length, tokens),
      *(1, ''),
    ),
    ('thinking tokens', 'thinking_tokens', None, tokens, 1, ''),
    ('truncated', 'truncated', None, percent, 100, ' points'),
    ('tokens per correct', 'tokens_per_correct', None, tokens, 1, ''),
  ):
    old, new = first.numbers[key], last.numbers[key]
    cells = [
      with_error(e.numbers[key], error(e, key, tally, values), show)
      for e, tally in zip((first, last), ends, strict=True)
    ]
    change = Estimate(new - old, math.nan)
    if values is not None and None not in ends:
      change = intervals.paired(
        *(part for t in ends for part in (values(t), t.problem))
      )
    text = scales.signed(factor * change.value, 1, unit)
    if math.isfinite(change.error):
      text += f' ± {scales.fixed(factor * change.error, 1)}'
    ratio = new / old - 1 if old else math.nan
    relative = '' if factor == 100 else scales.signed(100 * ratio, 1, ' %')
    rows.append([name, *cells, text, relative])
  caption = f'{run.name}: {first.label} and {last.label}, evaluation problems'
  header = ('', 'before', _newest(last), 'change', 'relative')
  return table(caption, header, rows)


def overview(
  runs: Sequence[Run], tallies: Sequence[Tally], groups: Sequence[Group]
) -> Markup:
  """One row a run: its newest evaluation, and what changed since `before`.

  Args:
    runs: of the page.
    tallies: of all sources.
    groups: of these runs; where there are several, each row says its own.
  """
  rows = []
  for place, run in enumerate(runs):
    number = grouping.number_of(place, groups)
    own = [scales.NONE if number is None else str(number)]
    names = [run.name, *(own if len(groups) > 1 else ())]
    last = run.newest
    if last is None:
      rows.append([*names, 'not evaluated', *[scales.NONE] * 6])
      continue
    tally = paired.of_evaluation(place, last.label, tallies)
    numbers = last.numbers
    cells = [
      with_error(numbers[key], error(last, key, tally, values), show)
      for key, values, show in (
        ('accuracy', lambda t: t.correct, percent),
        ('response_tokens', lambda t: t.length, tokens),
      )
    ]
    rows.append(
      [
        *names,
        _newest(last),
        *cells,
        percent(numbers['truncated']),
        tokens(numbers['tokens_per_correct']),
        *_changes(run),
      ]
    )
  header = (
    *('run', *(('group',) if len(groups) > 1 else ()), 'model', 'accuracy'),
    *('response tokens', 'truncated', 'tokens per correct'),
    *('accuracy since before', 'tokens since before'),
  )
  return table('Newest evaluation of each run', header, rows)


def pairs(found: Sequence[paired.Pair]) -> list[Markup]:
  """The paired table of a comparison, and what was not compared."""
  has_groups = any(pair.group is not None for pair in found)
  weights = [list(pair.found.aes) for pair in found if pair.found is not None]
  weights, rows = weights[0] if weights else [], []
  for pair in found:
    row = pair.found
    if row is None:
      continue
    length = [row.ratio.value, row.ratio.low, row.ratio.high]
    # Tokens of two vocabularies are different units.
    cells = ['other tokenizers', *[scales.NONE] * (1 + len(weights))]
    if row.same_tokenizer:
      cells = [
        _interval([x - 1 for x in length], ' %'),
        probability(row.ratio_holm),
        *(scales.signed(row.aes[name], 2) for name in weights),
      ]
    rows.append(
      [
        f'{pair.second} against {pair.first}',
        *((str(pair.group),) if has_groups else ()),
        str(row.problems),
        _interval(
          [row.difference.value, row.difference.low, row.difference.high],
          ' points',
        ),
        probability(row.difference_holm),
        *cells,
      ]
    )
  header = (
    *('', *(('group',) if has_groups else ()), 'problems', 'accuracy', 'p'),
    *('response tokens', 'p', *(f'AES {name}' for name in weights)),
  )
  family = ' within a group' if has_groups else ''
  caption = (
    f'Paired by problem, with 95 % intervals; p adjusted by Holm{family}'
  )
  made = [table(caption, header, rows)] if rows else []
  return made + _refused(found)


def _refused(found: Sequence[paired.Pair]) -> list[Markup]:
  """A list of the pairs that were not compared, and why."""
  lines = [
    element('li', {}, f'{pair.second} against {pair.first}: {pair.refusal}')
    for pair in found
    if pair.refusal
  ]
  return [element('ul', {'class': 'notes'}, *lines)] if lines else []


def _interval(values: Sequence[float], unit: str) -> str:
  """A change and the ends of its interval, from fractions."""
  value, low, high = (scales.signed(100 * x, 1) for x in values)
  return f'{value}{unit} ({low} to {high})'


def lengths(
  figures: Figures, runs: Sequence[Run], tallies: Sequence[Tally]
) -> list[Markup]:
  """Histograms of lengths by verdict, of each run before and after."""
  shown: list[tuple[str, list[Tally]]] = []
  for place, run in enumerate(runs):
    own = [t for t in tallies if t.source.run == place and len(t.length)]
    shown += [(f'{run.name}: {k}', group) for k, group in _ends(own).items()]
  # Of one axis, to be compared.
  most = max(
    (int(t.length.max()) for _, group in shown for t in group), default=0
  )
  edges = np.array(scales.linear([0, most], 0, 1, count=_BARS).ticks)
  return [_histogram(figures, name, group, edges) for name, group in shown]


def _histogram(
  figures: Figures, title: str, group: Sequence[Tally], edges: np.ndarray
) -> Markup:
  length = np.concatenate([t.length for t in group])
  verdict = np.concatenate([t.verdict for t in group])
  counts = [
    np.histogram(length[verdict == number], edges)[0].tolist()
    for number in range(len(samples.VERDICTS))
  ]
  parts = [i for i in range(len(counts)) if sum(counts[i])]
  legend = [
    (charts.part_key(i), f'{samples.VERDICTS[i]} ({sum(counts[i]):,})')
    for i in parts
  ]
  rows = [
    (
      f'{scales.number(low, 6)} to {scales.number(high, 6)}',
      *(f'{counts[i][bar]:,}' for i in parts),
    )
    for bar, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True))
    if any(counts[i][bar] for i in parts)
  ]
  return figures.figure(
    title,
    f'{len(length):,} responses, mean {scales.number(length.mean())} tokens.',
    charts.stacked(edges.tolist(), counts, 'response tokens'),
    legend,
    ('tokens', *(samples.VERDICTS[i] for i in parts)),
    rows,
  )


def _ends(own: Sequence[Tally]) -> Mapping[str, list[Tally]]:
  """What stands for the begin and the end of a run, by its name."""
  by_kind = {t.source.kind: [t] for t in own if t.source.kind != 'training'}
  if 'before' in by_kind or 'after' in by_kind or 'evaluation' in by_kind:
    names = {
      'before': 'before training',
      'after': 'after training',
      'evaluation': 'evaluation',
    }
    return {names[k]: by_kind[k] for k in names if k in by_kind}
  steps = [t for t in own if t.source.kind == 'training']
  if len(steps) < 2:
    return {f'step {t.source.step}': [t] for t in steps}
  count = max(1, round(_END * len(steps)))
  head, tail = steps[:count], steps[-count:]
  return {_span(head): head, _span(tail): tail}


def _span(group: Sequence[Tally]) -> str:
  first, last = group[0].source.step, group[-1].source.step
  if first == last:
    return f'rollouts of step {first}'
  return f'rollouts of steps {first} to {last}'


def error(made: Evaluation, key: str, tally: Tally | None, values) -> float:
  """Half of a 95 % interval, NaN where nothing tells it.

  Args:
    made: the evaluation.
    key: of its numbers.
    tally: its responses, if they are stored.
    values: what the mean is of, taken from a tally; None if of no mean.
  """
  if tally is not None and values is not None:
    return intervals.clustered(values(tally), tally.problem).error
  if key == 'accuracy':
    return intervals.HALF_WIDTH * made.numbers['accuracy_se']
  return math.nan


def percent(value: float) -> str:
  """A fraction in percent."""
  return scales.fixed(100 * value, 1, ' %')


def tokens(value: float) -> str:
  """A mean of tokens."""
  return scales.fixed(value, 1)


def probability(value: float) -> str:
  """A p-value."""
  if math.isnan(value):
    return scales.NONE
  return '< 0.001' if value < 0.001 else f'{value:.3f}'


def with_error(value: float, half: float, show) -> str:
  """A number and half of its interval."""
  if not math.isfinite(half):
    return show(value)
  return f'{show(value)} ± {show(half).removesuffix(" %")}'


def _newest(made: Evaluation) -> str:
  names = {'after': 'after', 'evaluation': 'evaluated', 'before': 'before'}
  return names[made.label] if made.label in names else f'step {made.step}'


def _changes(run: Run) -> list[str]:
  if run.first is None or run.last is None:
    return [scales.NONE] * 2
  old, new = run.first.numbers, run.last.numbers
  ratio = math.nan
  if old['response_tokens']:
    ratio = new['response_tokens'] / old['response_tokens'] - 1
  points = 100 * (new['accuracy'] - old['accuracy'])
  return [
    scales.signed(points, 1, ' points'),
    scales.signed(100 * ratio, 1, ' %'),
  ]
