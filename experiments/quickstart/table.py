"""Prints the table of README.md and draws its pictures.

  python experiments/quickstart/table.py RUNS_DIR

RUNS_DIR holds finished workdirs named METHOD_seedN. Writes results.json,
curves.png (DLER, seed 0) and comparison.png beside this file.
"""

import json
import pathlib
import re
import shutil
import sys

from lrm_jax import jsonl
from lrm_jax.reporting import plots, tables

HERE = pathlib.Path(__file__).parent
HEADER = (
  'method',
  'seed',
  'steps',
  'sampled tokens',
  'minutes',
  'accuracy before',
  'accuracy after',
  'change (points, 95 %)',
  'response tokens before',
  'after',
  'change',
  'logp gap max',
)


def read(workdir: pathlib.Path) -> dict:
  """What the table needs of one run."""
  method, seed = re.fullmatch(r'(.+)_seed(\d+)', workdir.name).groups()
  summary = json.loads((workdir / 'summary.json').read_text('utf-8'))
  metrics = jsonl.read_rows(workdir / 'metrics.jsonl')
  return {
    'method': method,
    'seed': int(seed),
    'steps': summary['steps'],
    'sampled_tokens': sum(row['sampled_tokens'] for row in metrics),
    'seconds': summary['seconds'],
    'before': summary['before'],
    'after': summary['after'],
    'tokens_per_second': summary['tokens_per_second'],
    'logp_gap_max': summary['logp_gap_max'],
  }


def row(run: dict) -> tuple[str, ...]:
  """One line of the table."""
  before, after = run['before'], run['after']
  points = 100 * (after['accuracy'] - before['accuracy'])
  # Unpaired, so on the safe side: the problems are the same.
  error = 196 * (before['accuracy_se'] ** 2 + after['accuracy_se'] ** 2) ** 0.5
  change = after['response_tokens'] / before['response_tokens'] - 1
  return (
    run['method'],
    str(run['seed']),
    str(run['steps']),
    f'{run["sampled_tokens"] / 1e6:.2f} M',
    f'{run["seconds"] / 60:.1f}',
    f'{before["accuracy"]:.3f}',
    f'{after["accuracy"]:.3f}',
    f'{points:+.1f} ± {error:.1f}',
    f'{before["response_tokens"]:.1f}',
    f'{after["response_tokens"]:.1f}',
    f'{100 * change:+.1f} %',
    f'{run["logp_gap_max"]:.1e}',
  )


def main() -> None:
  """Reads the runs, prints the table, writes the files."""
  root = pathlib.Path(sys.argv[1])
  workdirs = sorted(path.parent for path in root.glob('*_seed*/summary.json'))
  runs = [read(workdir) for workdir in workdirs]
  print(tables.markdown(HEADER, [row(run) for run in runs]))
  jsonl.write_json(HERE / 'results.json', runs)
  shutil.copy(root / 'dler_seed0' / 'curves.png', HERE / 'curves.png')
  plots.comparison(
    {
      f'{run["method"].upper()} seed {run["seed"]}': jsonl.read_rows(
        workdir / 'metrics.jsonl'
      )
      for run, workdir in zip(runs, workdirs, strict=True)
      if run['seed'] == 0
    },
    HERE / 'comparison.png',
  )


if __name__ == '__main__':
  main()
