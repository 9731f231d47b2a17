"""The table of results.json: accuracy by number of steps.

python experiments/extrapolation/table.py
"""

import json
import math
import pathlib
from collections.abc import Sequence

from lrm_jax.reporting import tables

HERE = pathlib.Path(__file__).parent


def render(results: Sequence[dict]) -> str:
  """A row for each scheme, in their order; means over its seeds.

  The standard error is that of one run's problems, sqrt(p (1 - p) / n): seeds
  share the problems.
  """
  levels = [row['level'] for row in results[0]['by_level']]
  schemes = list(dict.fromkeys(row['scheme'] for row in results))
  rows = []
  for scheme in schemes:
    runs = [row['by_level'] for row in results if row['scheme'] == scheme]
    cells = [_accuracy(at) for at in zip(*runs, strict=True)]
    lengths = [run[-1]['response_tokens'] for run in runs]
    mean = sum(lengths) / len(lengths)
    rows.append((scheme, str(len(runs)), *cells, f'{mean:.1f}'))
  return tables.markdown(
    (
      'scheme',
      'seeds',
      *(f'{level} steps' for level in levels),
      f'response tokens at {levels[-1]}',
    ),
    rows,
  )


def _accuracy(runs: Sequence[dict]) -> str:
  """Mean ± standard error, in percent."""
  p = sum(run['accuracy'] for run in runs) / len(runs)
  error = math.sqrt(p * (1 - p) / runs[0]['n'])
  return f'{100 * p:.1f} ± {100 * error:.1f}'


if __name__ == '__main__':
  print(render(json.loads((HERE / 'results.json').read_text())))
