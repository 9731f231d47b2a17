"""Figures over the steps of training: what was learned, how, and how fast."""

import itertools
from collections.abc import Sequence

import numpy as np

from lrm_jax.reporting import charts, grouping, samples, scales, workdirs
from lrm_jax.reporting.charts import Series
from lrm_jax.reporting.figures import Figures
from lrm_jax.reporting.grouping import Group
from lrm_jax.reporting.intervals import HALF_WIDTH
from lrm_jax.reporting.markup import Markup
from lrm_jax.reporting.samples import Tally
from lrm_jax.reporting.workdirs import Run

PHASES = (
  *('choose', 'sample', 'verify', 'shape'),
  *('select', 'credit', 'update', 'record'),
)
# (metric, title, unit, what it is, factor)
_DYNAMICS = (
  (
    'entropy',
    'Entropy',
    'nats a token',
    'Mean entropy of the next-token law on trained tokens.',
    1.0,
  ),
  (
    'ratio_outside_0.2',
    'Clipping',
    '% of tokens',
    'Trained tokens whose probability ratio to the policy that sampled them '
    'is outside 1 ± 0.2.',
    100.0,
  ),
  (
    'ratio_mean',
    'Probability ratio',
    'ratio',
    'Mean ratio of trained tokens: 1 where policy and sampler agree.',
    1.0,
  ),
  (
    'kl',
    'Divergence from the reference',
    'nats a token',
    'Mean log-ratio of policy and reference on trained tokens.',
    1.0,
  ),
  (
    'grad_norm',
    'Gradient norm',
    'norm',
    'Of the whole gradient, before clipping.',
    1.0,
  ),
)


def learned(
  figures: Figures, runs: Sequence[Run], groups: Sequence[Group]
) -> list[Markup]:
  """Accuracy and tokens over steps, and over tokens that were sampled.

  Args:
    figures: makes them.
    runs: of the page.
    groups: of these runs; curves of evaluations are of one group each.
  """
  found = []
  behind = ', with its running mean' if len(runs) == 1 else ' (running mean)'
  for key, title, unit, factor in (
    ('accuracy', 'Training accuracy', '%', 100.0),
    ('response_tokens', 'Training response length', 'tokens', 1.0),
  ):
    zero = key == 'response_tokens'
    curves = _metric(runs, key, factor)
    if zero and len(runs) == 1:
      cap = workdirs.column(runs[0].metrics, 'cap')
      curves.append(Series('cap', *cap, style=5))
    text = f'Mean over the responses of a step{behind}.'
    found.append(
      figures.curve(f'{title} over steps', text, curves, unit=unit, zero=zero)
    )
    evaluated = _evaluated(runs, key, factor)
    text = (
      'Evaluation problems; whiskers are 95 % intervals, clustered by problem.'
      if key == 'accuracy'
      else 'Evaluation problems, mean over all responses.'
    )
    name = f'{title.replace("Training", "Evaluation")} over steps'
    for group in groups:
      own = [series for series in evaluated if series.style in group.places]
      name_of = grouping.titled(name, group)
      found.append(figures.curve(name_of, text, own, unit=unit, zero=zero))
    found.append(
      figures.curve(
        f'{title} over sampled tokens',
        f'The same against what sampling has cost{behind}.',
        _metric(runs, key, factor, 'sampled'),
        unit=unit,
        x_name='tokens sampled since the start',
        zero=zero,
        whole=False,
      )
    )
  return [figure for figure in found if figure is not None]


def dynamics(
  figures: Figures, runs: Sequence[Run], tallies: Sequence[Tally]
) -> list[Markup]:
  """Advantage, clipping, entropy and what goes with them."""
  found = _advantages(figures, runs, tallies)
  for key, title, unit, text, factor in _DYNAMICS:
    found.append(
      figures.curve(
        title,
        text,
        _metric(runs, key, factor),
        unit=unit,
        zero=key == 'ratio_outside_0.2',
      )
    )
  return [figure for figure in found if figure is not None]


def phases(figures: Figures, runs: Sequence[Run]) -> list[Markup]:
  """Seconds of the eight phases of a step."""
  timed = []
  for run in runs:
    seconds = [_median(run, phase) for phase in PHASES]
    if any(seconds):
      timed.append((run.name, seconds))
  if not timed:
    return []
  show = lambda x: f'{scales.number(x, 3)} s'
  drawing, height = charts.bars(PHASES, [row for _, row in timed], show)
  legend = [(charts.key(place), name) for place, (name, _) in enumerate(timed)]
  rows = [
    (phase, *(scales.number(row[place], 3) for _, row in timed))
    for place, phase in enumerate(PHASES)
  ]
  return [
    figures.figure(
      'Time per phase',
      'Median seconds of the host in each phase of a step, the first step of '
      'the run apart (it compiles).',
      drawing,
      legend if len(timed) > 1 else (),
      ('phase', *(f'{name}, s' for name, _ in timed)),
      rows,
      height,
    )
  ]


def _metric(
  runs: Sequence[Run], key: str, factor: float, by: str = 'step'
) -> list[Series]:
  """A metric of each run, by step or by tokens sampled so far."""
  found = []
  for style, run in enumerate(runs):
    rows = run.metrics if by == 'step' else _counted(run)
    xs, ys = workdirs.column(rows, key, by)
    values = [factor * y for y in ys]
    found.append(Series(run.name, xs, values, style, faint=True))
  return found


def _counted(run: Run) -> list[dict]:
  """Rows of metrics with the tokens that were sampled up to there."""
  has_count = lambda row: workdirs.is_finite(row, 'sampled_tokens')
  rows = list(filter(has_count, run.metrics))
  sums = itertools.accumulate(float(row['sampled_tokens']) for row in rows)
  return [
    {**row, 'sampled': total} for row, total in zip(rows, sums, strict=True)
  ]


def _evaluated(runs: Sequence[Run], key: str, factor: float) -> list[Series]:
  """The evaluations of runs that were evaluated more than once."""
  found = []
  for style, run in enumerate(runs):
    by_step = {e.step: e for e in run.evaluations if e.step is not None}
    if len(by_step) < 2:
      continue
    steps = sorted(by_step)
    error = 'accuracy_se' if key == 'accuracy' else None
    found.append(
      Series(
        run.name,
        [float(step) for step in steps],
        [factor * by_step[step].numbers[key] for step in steps],
        style,
        dots=True,
        error=[
          factor * HALF_WIDTH * by_step[step].numbers[error] for step in steps
        ]
        if error
        else (),
      )
    )
  return found


def _advantages(
  figures: Figures, runs: Sequence[Run], tallies: Sequence[Tally]
) -> list[Markup | None]:
  """From stored rollouts: of right and wrong responses, their spread, zeros."""
  means = {
    samples.RIGHT: 'right responses',
    samples.WRONG: 'wrong and truncated responses',
  }
  found: list[Markup | None] = []
  curves = {
    verdict: [
      _of_steps(run, place, tallies, _mean_of(verdict == samples.RIGHT))
      for place, run in enumerate(runs)
    ]
    for verdict in means
  }
  text = 'Mean advantage of the trained responses of a step.'
  if len(runs) == 1:
    series = [
      curves[verdict][0]._replace(name=name, style=number)
      for number, (verdict, name) in enumerate(means.items())
    ]
    found.append(figures.curve('Advantage', text, series, unit='advantage'))
  else:
    for verdict, name in means.items():
      found.append(
        figures.curve(
          f'Advantage of {name}', text, curves[verdict], unit='advantage'
        )
      )
  for title, about, measure, unit in (
    (
      'Spread of advantages',
      'Standard deviation over the trained responses of a step.',
      _spread,
      'advantage',
    ),
    (
      'Responses without a gradient',
      'Sampled responses that were dropped or have an advantage of 0.',
      lambda tally: 100 * (1 - (_trained(tally)).mean()),
      '% of responses',
    ),
  ):
    series = [
      _of_steps(run, place, tallies, measure) for place, run in enumerate(runs)
    ]
    found.append(figures.curve(title, about, series, unit=unit, zero=True))
  return found


def _trained(tally: Tally) -> np.ndarray:
  return np.nan_to_num(tally.advantage) != 0


def _mean_of(is_right: bool):
  """The mean advantage of trained responses that are right, or are not."""

  def measure(tally: Tally) -> float:
    chosen = tally.advantage[_trained(tally) & (tally.correct == is_right)]
    return chosen.mean() if len(chosen) else np.nan

  return measure


def _spread(tally: Tally) -> float:
  chosen = tally.advantage[_trained(tally)]
  return chosen.std() if len(chosen) else np.nan


def _of_steps(
  run: Run, place: int, tallies: Sequence[Tally], measure
) -> Series:
  """What a function makes of the rollouts of each step, where it is a number.

  A step of which nothing was trained is a step: 100 % are without a gradient.
  """
  xs, ys = [], []
  for tally in tallies:
    is_training = tally.source.kind == 'training'
    if tally.source.run == place and is_training and len(tally.length):
      value = float(measure(tally))
      if np.isfinite(value):
        xs.append(float(tally.source.step))
        ys.append(value)
  return Series(run.name, xs, ys, place, faint=True)


def _median(run: Run, phase: str) -> float:
  _, seconds = workdirs.column(run.metrics, f'seconds_{phase}')
  seconds = seconds[1:] if len(seconds) > 1 else seconds
  return float(np.median(seconds)) if seconds else 0.0
