"""Prints the table of README.md, writes results.json, draws progress.png.

  python experiments/curricula/table.py RUNS_DIR [ACCURACY]

A run is there when two evaluations in a row have the accuracy, and counts with
the step of the first.
"""

import itertools
import json
import pathlib
import statistics
import sys

from matplotlib import figure

from lrm_jax import jsonl

HERE = pathlib.Path(__file__).parent
COLOURS = ('#000000', '#E69F00', '#56B4E9', '#009E73', '#0072B2', '#D55E00')


def read(root: pathlib.Path) -> dict[str, list[dict]]:
  """By name, what the table needs of each finished run."""
  found: dict[str, list[dict]] = {}
  for workdir in sorted(root.glob('*_seed*')):
    if not (workdir / 'summary.json').exists():
      continue
    name, _, seed = workdir.name.rpartition('_seed')
    rows = jsonl.read_rows(workdir / 'metrics.jsonl')
    sampled = list(itertools.accumulate(row['sampled_tokens'] for row in rows))
    evaluations = []
    for path in (workdir / 'evaluation').glob('*.json'):
      summary = json.loads(path.read_text('utf-8'))
      evaluations.append((summary['step'], summary['accuracy']))
    # The first steps compile.
    late = rows[3:]
    median = lambda name: statistics.median(row[name] for row in late)  # noqa: B023
    found.setdefault(name, []).append(
      {
        'seed': int(seed),
        'accuracy': sorted(evaluations),
        'sampled': sampled,
        'choose': median('seconds_choose'),
        'sample': median('sample_seconds'),
        'step': statistics.median(
          row['sample_seconds'] + row['update_seconds'] for row in late
        ),
        'kept': statistics.fmean(
          row['kept_groups'] / row['sampled_groups'] for row in rows
        ),
      }
    )
  return found


def arrival(run: dict, wanted: float) -> tuple[int, int] | None:
  """Step and sampled tokens at which a run is there; None if it never is."""
  for (step, one), (_, other) in itertools.pairwise(run['accuracy']):
    if min(one, other) >= wanted:
      return step, run['sampled'][step - 1] if step else 0
  return None


def row(name: str, runs: list[dict], wanted: float) -> str:
  """One line of the table, in Markdown."""
  there = [arrival(run, wanted) for run in runs]
  steps = ' '.join('-' if at is None else str(at[0]) for at in there)
  tokens = ' '.join(
    '-' if at is None else f'{at[1] / 1000:.0f}' for at in there
  )
  mean = lambda key: statistics.fmean(run[key] for run in runs)
  last = statistics.fmean(run['accuracy'][-1][1] for run in runs)
  cells = (
    name,
    steps,
    tokens,
    f'{100 * last:.1f}',
    f'{mean("sampled_total") / 1000:.0f}',
    f'{100 * mean("kept"):.0f} %',
    f'{mean("choose"):.3f}',
    f'{mean("step"):.2f}',
  )
  return f'| {" | ".join(cells)} |'


def draw(found: dict[str, list[dict]], wanted: float) -> None:
  """Mean accuracy over steps and over sampled tokens, a line a way."""
  fig = figure.Figure(figsize=(11, 4.2), layout='constrained')
  axes = fig.subplots(1, 2, sharey=True)
  for (name, runs), colour in zip(found.items(), COLOURS, strict=False):
    steps = [step for step, _ in runs[0]['accuracy']]
    mean = [
      100 * statistics.fmean(run['accuracy'][i][1] for run in runs)
      for i in range(len(steps))
    ]
    tokens = [
      statistics.fmean(
        run['sampled'][step - 1] / 1000 if step else 0 for run in runs
      )
      for step in steps
    ]
    axes[0].plot(steps, mean, '.-', color=colour, label=name)
    axes[1].plot(tokens, mean, '.-', color=colour)
  for axis, label in zip(
    axes, ('step', 'thousand sampled tokens'), strict=True
  ):
    axis.set_xlabel(label)
    axis.axhline(100 * wanted, color='#999999', linewidth=0.8)
    axis.grid(alpha=0.3)
  axes[0].set_ylabel('held-out accuracy (%), mean of the seeds')
  axes[0].legend(fontsize=8)
  fig.savefig(HERE / 'progress.png', dpi=110)


def main() -> None:
  """Reads the runs, prints the table, writes the files."""
  found = read(pathlib.Path(sys.argv[1]))
  wanted = float(sys.argv[2]) if len(sys.argv) > 2 else 0.85
  for run in itertools.chain(*found.values()):
    run['sampled_total'] = run['sampled'][-1]
  print(
    f'| | steps to {100 * wanted:.0f} % | thousand tokens | at the end, % | '
    'tokens in all, thousand | groups kept | s to choose | s / step |\n'
    '|---|---|---|---|---|---|---|---|'
  )
  for name, runs in found.items():
    print(row(name, runs, wanted))
  (HERE / 'results.json').write_text(json.dumps(found, indent=1) + '\n')
  draw(found, wanted)


if __name__ == '__main__':
  main()
