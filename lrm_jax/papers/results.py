"""What a table keeps of its runs: `experiments/NAME/results.json`.

Of each evaluation it has the share of right responses and the mean tokens of
each problem, so intervals can be made again without the runs.
"""

import collections
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrm_jax import jsonl
from lrm_jax.errors import UserError
from lrm_jax.evaluation import stored
from lrm_jax.evaluation.stored import Evaluation

# Digits of the means of single problems; of 8 samples they are exact.
_DIGITS = 4

Record = dict[str, Any]


def record(workdir: pathlib.Path, name: str, start: str) -> Record:
  """What a finished run leaves.

  Args:
    workdir: of `lrm train`.
    name: of the way of training.
    start: name of the model that it started from.

  Returns:
    Plain JSON: name, seed, start, config_sha256, commit, versions and machine
    (of the process that ended the run), steps,
    sampled_tokens, seconds, problems (ids), and by their names the evaluations:
    step, accuracy, response_tokens, truncated, and per problem right and
    tokens.
  """
  summary = json.loads((workdir / 'summary.json').read_text('utf-8'))
  config = summary['config']
  metrics = jsonl.read_rows(workdir / 'metrics.jsonl')
  evaluations, ids = {}, None
  for path in sorted((workdir / 'evaluation').glob('*.json')):
    found = stored.read(path)
    if ids is not None and found.ids != ids:
      raise UserError(f'{path}: other problems than the evaluations before it')
    numbers = json.loads(path.read_text('utf-8'))
    evaluations[path.stem], ids = _evaluation(numbers, found), found.ids
  return {
    'name': name,
    'seed': config['seed'],
    'start': start,
    'config_sha256': config_hash(config),
    **summary['made_with'],
    'steps': len(metrics),
    'sampled_tokens': int(sum(row['sampled_tokens'] for row in metrics)),
    'seconds': round(summary['seconds']),
    'problems': list(ids),
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


def _evaluation(summary: Mapping[str, Any], found: Evaluation) -> Record:
  """What is kept of an evaluation."""
  mean = lambda x: [round(float(each), _DIGITS) for each in x.mean(axis=1)]
  keys = ('step', 'accuracy', 'response_tokens', 'truncated')
  return {key: summary[key] for key in keys} | {
    'right': mean(found.correct),
    'tokens': mean(found.length),
  }
