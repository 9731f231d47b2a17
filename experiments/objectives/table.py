"""The table, the picture and results.json of this folder's README.

  python experiments/objectives/table.py RUNS_DIR

RUNS_DIR holds workdirs named METHOD_seedN, as `run.py` makes them. A run that
failed is a line of the table too, with its last words; one that is not
finished is named and left out.
"""

import json
import pathlib
import re
import statistics
import sys

import numpy as np
from matplotlib import figure

from lrm_jax import jsonl
from lrm_jax.reporting import tables

HERE = pathlib.Path(__file__).parent
HEADER = (
  'method',
  'seeds',
  'accuracy ± 95 %',
  'over seeds',
  'response tokens',
  'over seeds',
  'tokens per right',
  'right / wrong length',
  'truncated',
  'entropy',
  's / step',
  'steps',
)
# Where the picture is crowded it is shown again, larger: from and below so
# many tokens, from so many percent.
CROWDED = ((0, 42, 75), (42, 100, 80))
# Means over the last steps of a run, where a single step is noise.
LAST = 5


def read(workdir: pathlib.Path) -> dict:
  """What the table needs of one run."""
  method, seed = re.fullmatch(r'(.+)_seed(\d+)', workdir.name).groups()
  summary = json.loads((workdir / 'summary.json').read_text('utf-8'))
  rows = jsonl.read_rows(workdir / 'metrics.jsonl')
  column = lambda name: [r[name] for r in rows if r.get(name) is not None]
  # The first two steps compile.
  warm = rows[2:] if len(rows) > 2 else rows
  seconds = [r['sample_seconds'] + r['update_seconds'] for r in warm]
  names = ('step', 'accuracy', 'response_tokens', 'cap')
  return {
    'method': method,
    'seed': int(seed),
    'steps': summary['steps'],
    'sampled_tokens': summary['sampled_tokens'],
    'seconds_per_step': statistics.median(seconds),
    'entropy': _mean(column('entropy')[-LAST:]),
    'revised': float(np.mean(column('revised'))),
    'before': summary['before'],
    'after': summary['after'],
    'logp_gap_max': summary['logp_gap_max'],
    'curve': [{name: r[name] for name in names} for r in rows],
  }


def row(runs: list[dict]) -> tuple[str, ...]:
  """One line of the table: the seeds of one method."""
  mean = lambda key: np.mean([run['after'][key] for run in runs])
  spread = lambda key, scale, form: ' '.join(
    format(scale * run['after'][key], form) for run in runs
  )
  lengths = '{} / {}'.format(
    *(
      _number([run['after'][f'response_tokens_{which}'] for run in runs])
      for which in ('correct', 'wrong')
    )
  )
  return (
    runs[0]['method'],
    str(len(runs)),
    # The same problems for every seed: their spread does not average out.
    f'{100 * mean("accuracy"):.1f} ± {196 * mean("accuracy_se"):.1f}',
    spread('accuracy', 100, '.1f'),
    f'{mean("response_tokens"):.1f}',
    spread('response_tokens', 1, '.0f'),
    _number([run['after']['tokens_per_correct'] for run in runs]),
    lengths,
    f'{100 * mean("truncated"):.1f} %',
    _number([run['entropy'] for run in runs], '.3f'),
    f'{np.mean([run["seconds_per_step"] for run in runs]):.1f}',
    f'{np.mean([run["steps"] for run in runs]):.0f}',
  )


def failures(root: pathlib.Path) -> list[tuple[str, ...]]:
  """A line per run that failed: how far it came, and why it ended."""
  lines = []
  for path in sorted(root.glob('*.failed')):
    rows = root / path.stem / 'metrics.jsonl'
    steps = len(jsonl.read_rows(rows)) if rows.exists() else 0
    words = path.read_text('utf-8').replace('|', '/')[:200]
    story = f'FAILED after {steps} steps: {words}'
    lines.append((path.stem, '', story, *[''] * (len(HEADER) - 3)))
  return lines


def _number(values: list[float | None], form: str = '.1f') -> str:
  known = [value for value in values if value is not None]
  return format(np.mean(known), form) if known else '-'


def _mean(values: list[float]) -> float | None:
  return float(np.mean(values)) if values else None


def front(methods: dict[str, list[dict]], path: pathlib.Path) -> None:
  """Accuracy over response tokens: everything, and the crowded corner."""
  points = {
    name: (
      np.mean([run['after']['response_tokens'] for run in runs]),
      100 * np.mean([run['after']['accuracy'] for run in runs]),
      196 * np.mean([run['after']['accuracy_se'] for run in runs]),
    )
    for name, runs in methods.items()
  }
  best = []
  for name in sorted(points, key=lambda n: (points[n][0], -points[n][1])):
    if not best or points[name][1] > points[best[-1]][1]:
      best.append(name)
  start = methods[next(iter(methods))][0]['before']
  fig = figure.Figure(figsize=(19, 7.5), layout='constrained')
  whole, *corners = fig.subplots(1, 1 + len(CROWDED), width_ratios=(2, 3, 3))
  _draw(whole, points, best)
  others = dict(points)
  for corner, (low, high, least) in zip(corners, CROWDED, strict=True):
    crowd = {
      name: point
      for name, point in points.items()
      if low <= point[0] < high and point[1] >= least
    }
    others = {name: p for name, p in others.items() if name not in crowd}
    _draw(corner, crowd, best)
    _label_beside(corner, crowd, best)
    corner.set_title(f'{low} to {high} tokens')
  for name, (tokens, accuracy, _) in others.items():
    whole.annotate(
      name,
      (tokens, accuracy),
      xytext=(4, 3),
      textcoords='offset points',
      fontsize=7,
    )
  at = (start['response_tokens'], 100 * start['accuracy'])
  whole.plot(*at, 'k*', markersize=12)
  whole.annotate(
    'start', at, xytext=(-30, -14), textcoords='offset points', weight='bold'
  )
  whole.set_ylabel('accuracy (%), with 95 % intervals')
  fig.savefig(path, dpi=110)


def _draw(axes, points: dict[str, tuple], best: list[str]) -> None:
  """The points with their intervals; the front as a line."""
  for name, (tokens, accuracy, error) in points.items():
    is_best = name in best
    axes.errorbar(
      tokens,
      accuracy,
      yerr=error,
      fmt='D' if is_best else 'o',
      color='#0072B2' if is_best else '#777777',
      markersize=5,
      elinewidth=0.5,
    )
  line = [points[name][:2] for name in best if name in points]
  if line:
    axes.plot(*zip(*line, strict=True), color='#0072B2', linewidth=1)
  axes.set_xlabel('response tokens (mean, held-out)')
  axes.grid(alpha=0.3)


def _label_beside(axes, points: dict[str, tuple], best: list[str]) -> None:
  """Names in a column at the right, in the order of accuracy."""
  low, high = axes.get_ylim()
  order = sorted(points, key=lambda name: points[name][1])
  for i, name in enumerate(order):
    height = low + (high - low) * (i + 0.5) / len(order)
    axes.annotate(
      f'{name}  {points[name][1]:.1f} % at {points[name][0]:.1f}',
      points[name][:2],
      xytext=(1.03, height),
      textcoords=('axes fraction', 'data'),
      fontsize=8,
      va='center',
      weight='bold' if name in best else 'normal',
      arrowprops={
        'arrowstyle': '-',
        'color': '#BBBBBB',
        'linewidth': 0.6,
        'relpos': (0, 0.5),
      },
    )


def main() -> None:
  """Reads the runs, prints the table, writes the files."""
  root = pathlib.Path(sys.argv[1])
  methods: dict[str, list[dict]] = {}
  for workdir in sorted(root.glob('*_seed*')):
    if not workdir.is_dir():
      continue
    if not (workdir / 'summary.json').exists():
      print(f'{workdir.name}: not finished', file=sys.stderr)
      continue
    run = read(workdir)
    methods.setdefault(run['method'], []).append(run)
  order = sorted(methods, key=lambda name: (-len(methods[name]), name))
  methods = {name: methods[name] for name in order}
  lines = [row(runs) for runs in methods.values()]
  print(tables.markdown(HEADER, lines + failures(root)))
  runs = [run for group in methods.values() for run in group]
  jsonl.write_json(HERE / 'results.json', runs)
  front(methods, HERE / 'front.png')


if __name__ == '__main__':
  main()
