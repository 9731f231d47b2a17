"""What a table keeps of its runs: `experiments/NAME/results.json`.

Of each evaluation it has the share of right responses and the mean tokens of
each problem, so intervals can be made again without the runs.
"""

import collections
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrm_jax import jsonl
from lrm_jax.errors import UserError

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')
# Digits of the means of single problems; of 8 samples they are exact.
_DIGITS = 4

Record = dict[str, Any]


def record(workdir: pathlib.Path, name: str, source: pathlib.Path) -> Record:
  """What a finished run leaves.

  Args:
    workdir: of `lrm train`.
    name: of the way of training.
    source: root of the source, for its commit.

  Returns:
    Plain JSON: name, seed, config_sha256, commit, versions, machine, steps,
    sampled_tokens, seconds, problems (ids), and by their names the evaluations:
    step, accuracy, response_tokens, truncated, and per problem right and
    tokens.
  """
  summary = json.loads((workdir / 'summary.json').read_text('utf-8'))
  config = summary['config']
  metrics = jsonl.read_rows(workdir / 'metrics.jsonl')
  evaluations, ids = {}, None
  for path in sorted((workdir / 'evaluation').glob('*.json')):
    rows = jsonl.read_rows(path.with_suffix('.jsonl.gz'))
    found, own = _evaluation(json.loads(path.read_text('utf-8')), rows)
    if ids is not None and own != ids:
      raise UserError(f'{path}: other problems than the evaluations before it')
    evaluations[path.stem], ids = found, own
  return {
    'name': name,
    'seed': config['seed'],
    'config_sha256': config_hash(config),
    'commit': _commit(source),
    'versions': {p: importlib.metadata.version(p) for p in _PACKAGES},
    'machine': f'{platform.machine()}, {os.cpu_count()} processors',
    'steps': len(metrics),
    'sampled_tokens': int(sum(row['sampled_tokens'] for row in metrics)),
    'seconds': round(summary['seconds']),
    'problems': ids,
    'evaluations': evaluations,
  }


def config_hash(config: Mapping[str, Any]) -> str:
  """SHA-256 of a config without its seed and the place of its model."""
  kept = dict(config) | {'seed': None}
  kept['model'] = dict(config['model']) | {'path': None}
  text = json.dumps(kept, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def save(path: pathlib.Path, records: Sequence[Record]) -> None:
  """Writes results.json, the ids of the problems once.

  Raises:
    UserError: the runs were not evaluated on the same problems.
  """
  problems = records[0]['problems']
  for each in records:
    if each['problems'] != problems:
      raise UserError(
        f'{each["name"]}, seed {each["seed"]}: evaluated on other problems '
        f'than {records[0]["name"]}; one table has one set'
      )
  runs = [{k: v for k, v in r.items() if k != 'problems'} for r in records]
  lines = ',\n'.join(json.dumps(run) for run in runs)
  text = f'{{"problems": {json.dumps(problems)},\n"runs": [\n{lines}\n]}}\n'
  path.write_text(text, 'utf-8')


class Results:
  """Those of one paper, as conditions of claims read them.

  Args:
    content: of results.json.
  """

  def __init__(self, content: Mapping[str, Any]):
    self.problems = content['problems']
    self._runs = collections.defaultdict(list)
    for run in sorted(content['runs'], key=lambda r: r['seed']):
      self._runs[run['name']].append(run)

  @classmethod
  def load(cls, path: pathlib.Path) -> 'Results':
    """Those in a file that `save` wrote.

    Raises:
      UserError: it is not there.
    """
    if not path.exists():
      raise UserError(f'{path} is not there; make it with --run')
    return cls(json.loads(path.read_text('utf-8')))

  def __contains__(self, name: str) -> bool:
    return name in self._runs

  def runs(self, name: str) -> list[Record]:
    """Every seed of one way of training, in their order.

    Raises:
      UserError: there is none.
    """
    if name not in self._runs:
      raise UserError(f'results.json has no run {name!r}; make it with --run')
    return self._runs[name]

  def right(self, name: str, evaluation: str = 'after') -> np.ndarray:
    """`[S, B]`, the share of right responses of each seed and problem."""
    return self._stack(name, evaluation, 'right')

  def tokens(self, name: str, evaluation: str = 'after') -> np.ndarray:
    """`[S, B]`, the mean tokens of a response of each seed and problem."""
    return self._stack(name, evaluation, 'tokens')

  def levels(self) -> np.ndarray:
    """`[B]`, of problems of chain arithmetic, whose ids state them."""
    return np.array([int(each.split('-')[2]) for each in self.problems])

  def _stack(self, name: str, evaluation: str, field: str) -> np.ndarray:
    return np.array(
      [run['evaluations'][evaluation][field] for run in self.runs(name)]
    )


def _evaluation(
  summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[Record, list[str]]:
  """(what is kept of an evaluation, ids of its problems)."""
  right, tokens = collections.defaultdict(list), collections.defaultdict(list)
  for row in rows:
    right[row['id']].append(float(row['correct']))
    tokens[row['id']].append(row['length'])
  mean = lambda found: [round(float(np.mean(x)), _DIGITS) for x in found]
  keys = ('step', 'accuracy', 'response_tokens', 'truncated')
  return (
    {key: summary[key] for key in keys}
    | {'right': mean(right.values()), 'tokens': mean(tokens.values())},
    list(right),
  )


def _commit(source: pathlib.Path) -> str:
  """The commit of the source, with a + if something differs from it."""
  run = lambda *words: subprocess.run(
    ['git', '-C', str(source), *words], capture_output=True, text=True
  )
  found = run('rev-parse', '--short=12', 'HEAD')
  if found.returncode:
    return 'unknown'
  is_changed = run('status', '--porcelain', '--untracked-files=no').stdout
  return found.stdout.strip() + ('+' if is_changed.strip() else '')
