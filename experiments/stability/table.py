"""Prints the table of README.md, writes results.json and draws collapse.png.

python experiments/stability/table.py RUNS_DIR
"""

import json
import pathlib
import statistics
import sys

from matplotlib import figure

from lrm_jax import jsonl

HERE = pathlib.Path(__file__).parent
COLUMNS = ('accuracy', 'entropy', 'response_tokens', 'grad_norm')
# A seed has collapsed if it ends below this share of its accuracy before.
COLLAPSED = 0.5
# The safest for eyes that see fewer colours, then line styles.
COLOURS = ('#000000', '#E69F00', '#56B4E9', '#009E73', '#0072B2', '#D55E00')


def read(root: pathlib.Path) -> dict[str, list[dict]]:
  """By name, what the table needs of each finished run."""
  found: dict[str, list[dict]] = {}
  for workdir in sorted(root.glob('*_seed*')):
    if not (workdir / 'summary.json').exists():
      continue
    name, _, seed = workdir.name.rpartition('_seed')
    summary = json.loads((workdir / 'summary.json').read_text('utf-8'))
    rows = jsonl.read_rows(workdir / 'metrics.jsonl')
    found.setdefault(name, []).append(
      {
        'seed': int(seed),
        'before': summary['before']['accuracy'],
        'after': summary['after']['accuracy'],
        'error': 1.96 * summary['after']['accuracy_se'],
        'tokens': summary['after']['response_tokens'],
        'seconds': summary['seconds'],
        'steps': {
          column: [row.get(column) for row in rows] for column in COLUMNS
        },
      }
    )
  return found


def row(name: str, runs: list[dict]) -> str:
  """One line of the table, in Markdown."""
  mean = lambda key: statistics.fmean(run[key] for run in runs)
  last = [run['steps']['entropy'][-1] for run in runs]
  last = [value for value in last if value is not None]
  collapsed = sum(run['after'] < COLLAPSED * run['before'] for run in runs)
  cells = (
    name,
    f'{100 * mean("before"):.1f}',
    f'{100 * mean("after"):.1f}',
    ' '.join(f'{100 * run["after"]:.0f}' for run in runs),
    f'{collapsed} of {len(runs)}',
    f'{mean("tokens"):.0f}',
    f'{statistics.fmean(last):.2f}' if last else '-',
  )
  return f'| {" | ".join(cells)} |'


def draw(found: dict[str, list[dict]], path: pathlib.Path) -> None:
  """Accuracy and entropy over steps: seeds pale, their mean strong."""
  fig = figure.Figure(figsize=(11, 4.6), layout='constrained')
  axes = fig.subplots(1, 2)
  for i, (name, runs) in enumerate(found.items()):
    look = {
      'color': COLOURS[i % len(COLOURS)],
      'linestyle': ('-', '--')[i // len(COLOURS)],
    }
    for axis, column in zip(axes, ('accuracy', 'entropy'), strict=True):
      lines = [
        [float('nan') if x is None else x for x in run['steps'][column]]
        for run in runs
      ]
      steps = range(1, len(lines[0]) + 1)
      for line in lines:
        axis.plot(range(1, len(line) + 1), line, **look, lw=0.6, alpha=0.25)
      mean = [statistics.fmean(values) for values in zip(*lines, strict=False)]
      axis.plot(steps[: len(mean)], mean, **look, lw=2, label=name)
  axes[0].set_ylabel('accuracy of what is sampled')
  axes[1].set_ylabel('entropy (nats a trained token)')
  axes[1].set_yscale('log')
  for axis in axes:
    axis.set_xlabel('step')
    axis.grid(alpha=0.3)
  fig.legend(
    *axes[0].get_legend_handles_labels(), ncols=8, loc='outside upper center'
  )
  fig.savefig(path, dpi=110)


def main() -> None:
  """Reads the runs, prints the table, writes the files."""
  found = read(pathlib.Path(sys.argv[1]))
  order = sorted(
    found, key=lambda name: -statistics.fmean(r['after'] for r in found[name])
  )
  found = {name: found[name] for name in order}
  print(
    '| | before | after, % | by seed | collapsed | tokens | entropy at the end '
    '|\n|---|---|---|---|---|---|---|'
  )
  for name, runs in found.items():
    print(row(name, runs))
  (HERE / 'results.json').write_text(json.dumps(found, indent=1) + '\n')
  draw(found, HERE / 'collapse.png')


if __name__ == '__main__':
  main()
