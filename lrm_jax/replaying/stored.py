"""The files of `rollouts/`, back as the groups that a step has sampled.

A file is one step, its rows are those of `records.sampled_rows`: a row a
sample, groups one behind the other in the order of the rounds. What recipes
read comes back as it was, to the bit: JSON has every float32.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from lrm_jax import jsonl, rollout, storage
from lrm_jax.errors import UserError
from lrm_jax.rewards import guards
from lrm_jax.structs import Problem, Rollouts

_NAME = re.compile(r'step_(\d+)\.jsonl\.gz')
# What rows of every version have.
_FIELDS = {
  'id': (str,),
  'sample': (int,),
  'step': (int,),
  'prompt_ids': (list,),
  'response': (str,),
  'response_ids': (list,),
  'logp': (list,),
  'thinking_length': (int,),
  'truncated': (bool,),
  'correct': (bool,),
  'reward': (float, int, type(None)),
  'advantage': (float, int, type(None)),
}
# And what came with `lrm replay`, or stood in rollouts only.
_MORE = {
  'verified': (bool,),
  'guards': (list,),
  'removed': (int,),
  'stale': (int,),
  'forced': (list,),
  'round': (int,),
  'row': (int, type(None)),
  'kept': (bool,),
  'think_closed': (bool,),
  'answered': (bool,),
  'cap': (int,),
  'target': (int,),
  'begun': (int,),
  'room': (int,),
  'samples': (int,),
  'measures': (dict,),
  'question': (str,),
  'answer': (str,),
  'level': (int,),
  'whole_law': (bool,),
  'demonstrated': (bool,),
}
_OF_GROUPS = ('prompt_ids', 'round', 'row', 'cap', 'target', 'begun')
_MOST_ROOM = 1 << 20

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Step:
  """What a step has sampled: N groups of G, in the order of its rounds.

  Attributes:
    number: of the step, from 1.
    problems: N of them, as far as rows tell.
    rollouts: their responses; NumPy arrays, `problem_index` over all of them.
    texts: the responses as text, N lists of G.
    rounds: `[N]` int, the round of each group.
    batch: B, groups of the batch that was trained.
    reward: `[N, G]`, as recorded; NaN for null.
    advantage: `[N, G]`, likewise.
    kept: `[N, G]` bool, likewise.
    whole_law: whether nothing was truncated when they were sampled.
    is_scored: `[N, G]` bool, whether the two below are known.
    old_logp: `[N, G, T]` float32, of the trainer's graph before the step.
    entropy: `[N, G, T]` float32, likewise.
  """

  number: int
  problems: list[Problem]
  rollouts: Rollouts
  texts: list[list[str]]
  rounds: np.ndarray
  batch: int
  reward: np.ndarray
  advantage: np.ndarray
  kept: np.ndarray
  whole_law: bool
  is_scored: np.ndarray
  old_logp: np.ndarray
  entropy: np.ndarray

  def each_round(self) -> Iterator[np.ndarray]:
    """The places of the groups of each round."""
    for number in np.unique(self.rounds):
      yield np.flatnonzero(self.rounds == number)


def find(text: str) -> list[storage.Path]:
  """The files that --rollouts names, those of a folder by their step.

  Args:
    text: a run's folder, its `rollouts/`, a file, or several of these with
      commas between.

  Raises:
    UserError: there is no such thing, or no step in it.
  """
  found = []
  for part in filter(None, text.split(',')):
    path = storage.as_path(part)
    with storage.explained(path):
      if path.is_file():
        found.append(path)
        continue
      steps = []
      for folder in (path, path / 'rollouts'):
        if folder.is_dir():
          names = (
            (_NAME.fullmatch(file.name), file) for file in folder.iterdir()
          )
          steps += [(int(name[1]), file) for name, file in names if name]
    if not steps:
      raise UserError(
        f'--rollouts={part!r}: no step_NNNNNN.jsonl.gz is there; give the '
        'folder of a run of lrm train, its rollouts/, or one file of it'
      )
    found += [file for _, file in sorted(steps, key=lambda step: step[0])]
  return found


def read(path: storage.Path) -> Step:
  """The groups of one file.

  Raises:
    UserError: it cannot be read, was written by an earlier version, or is not
      as `lrm train` writes it.
  """
  rows = jsonl.read_rows(path, _FIELDS)
  _check_version(path, rows)
  if any(row['demonstrated'] for row in rows if 'demonstrated' in row):
    raise UserError(
      f'{path}: has responses that were given and not sampled (HPT), in the '
      'places of others; lrm replay reads what was sampled: give other rollouts'
    )
  if len({row['samples'] for row in rows if 'samples' in row}) > 1:
    raise UserError(
      f'{path}: problems have different numbers of responses (GVM); lrm replay '
      'reads groups of one size: give other rollouts'
    )
  try:
    return _step(rows)
  except (ValueError, TypeError, OverflowError, MemoryError) as error:
    raise UserError(
      f'{path}: not rollouts as lrm train writes them ({error}); give files '
      'that nobody has changed'
    ) from error


def _check_version(path: storage.Path, rows: Sequence[Row]) -> None:
  missing = [name for name in _MORE if rows and name not in rows[0]]
  if missing:
    raise UserError(
      f'{path}: rows have no {missing[0]!r}, which recipes need; an earlier '
      'version wrote them, or another verb; give rollouts of lrm train of this '
      'version'
    )


def _step(rows: Sequence[Row]) -> Step:
  """Raises ValueError or its like where anything is amiss."""
  if not rows:
    raise ValueError('no rows')
  for number, row in enumerate(rows, start=1):
    _check_row(number, row)
  groups = _groups(rows)
  room, samples = rows[0]['room'], len(groups[0])
  if {row['step'] for row in rows} != {rows[0]['step']}:
    raise ValueError('rows of several steps')
  if any(row['room'] != room for row in rows):
    raise ValueError('rows of different room')
  if any(len(group) != samples for group in groups):
    raise ValueError('groups of different sizes')
  first = [group[0] for group in groups]
  places = [row['row'] for row in first if row['row'] is not None]
  if sorted(places) != list(range(len(places))) or not places:
    raise ValueError('the groups of the batch are not all there')
  problems = [
    Problem(row['id'], row['question'], row['answer'], row['level'])
    for row in first
  ]
  numbers = functools.partial(_numbers, groups)
  tokens = functools.partial(_tokens, groups, room)
  is_scored = numbers(lambda row: 'entropy' in row and 'old_logp' in row, bool)
  return Step(
    number=rows[0]['step'],
    problems=problems,
    rollouts=_rollouts(groups, problems, numbers, tokens),
    texts=[[row['response'] for row in group] for group in groups],
    rounds=np.array([row['round'] for row in first]),
    batch=len(places),
    reward=numbers('reward', np.float64),
    advantage=numbers('advantage', np.float64),
    kept=numbers('kept', bool),
    whole_law=all(row['whole_law'] for row in rows),
    is_scored=is_scored,
    old_logp=tokens('old_logp', np.float32, is_scored),
    entropy=tokens('entropy', np.float32, is_scored),
  )


def _check_row(number: int, row: Row) -> None:
  where = f'row {number}'
  for name, types in _MORE.items():
    if name not in row or type(row[name]) not in types:
      raise ValueError(f'{where}: {name!r} is missing or of another type')
  length = len(row['response_ids'])
  if not length <= row['room'] <= _MOST_ROOM or length == 0:
    raise ValueError(f'{where}: {length} tokens in a room of {row["room"]}')
  for name in ('logp', 'old_logp', 'entropy'):
    types = (float, int, type(None)) if name == 'logp' else (float, int)
    if name in row and (
      len(row[name]) != length or any(type(x) not in types for x in row[name])
    ):
      raise ValueError(f'{where}: {name!r} has not one number a token')
  for name in ('prompt_ids', 'response_ids', 'forced'):
    if any(type(x) is not int or x < 0 for x in row[name]):
      raise ValueError(f'{where}: {name!r} has what is no whole number')
  if any(x >= length for x in row['forced']) or not row['prompt_ids']:
    raise ValueError(f'{where}: forced tokens beyond the end, or no prompt')
  if any(type(x) not in (int, float) for x in row['measures'].values()):
    raise ValueError(f'{where}: a measure is no number')


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
  """Rows cut where samples are counted from 0 again."""
  groups: list[list[Row]] = []
  for number, row in enumerate(rows, start=1):
    if row['sample'] == 0:
      groups.append([])
    if not groups or row['sample'] != len(groups[-1]):
      raise ValueError(f'row {number}: samples are not counted from 0')
    groups[-1].append(row)
    same = (*_OF_GROUPS, 'id', 'question', 'answer', 'level')
    if any(row[name] != groups[-1][0][name] for name in same):
      raise ValueError(f'row {number}: not of the problem of its group')
  return groups


def _numbers(groups: list[list[Row]], name: Any, kind: Any) -> np.ndarray:
  """`[N, G]` of a field, or of what a function makes of a row."""
  read = name if callable(name) else lambda row: row[name]
  values = [[read(row) for row in group] for group in groups]
  return np.array(values, kind)


def _tokens(
  groups: list[list[Row]],
  room: int,
  name: str,
  kind: Any,
  is_there: np.ndarray | None = None,
) -> np.ndarray:
  """`[N, G, T]` of a list with a number a token; 0 elsewhere, NaN for null."""
  values = np.zeros((len(groups), len(groups[0]), room), kind)
  for at in np.ndindex(values.shape[:2]):
    if is_there is None or is_there[at]:
      numbers = groups[at[0]][at[1]][name]
      values[at][: len(numbers)] = numbers
  return values


def _rollouts(
  groups: list[list[Row]], problems: list[Problem], numbers: Any, tokens: Any
) -> Rollouts:
  first = [group[0] for group in groups]
  of_problems = lambda name: np.array([row[name] for row in first], np.int32)
  prompts = [row['prompt_ids'] for row in first]
  prompt_length = np.array([len(ids) for ids in prompts], np.int32)
  prompt_ids = np.zeros((len(first), prompt_length.max()), np.int32)
  for row, ids in zip(prompt_ids, prompts, strict=True):
    row[: len(ids)] = ids
  forced = np.zeros(tokens('response_ids', np.int32).shape, bool)
  for at in np.ndindex(forced.shape[:2]):
    forced[at][groups[at[0]][at[1]]['forced']] = True
  return Rollouts(
    prompt_ids=prompt_ids,
    prompt_length=prompt_length,
    response_ids=tokens('response_ids', np.int32),
    length=numbers(lambda row: len(row['response_ids']), np.int32),
    thinking_length=numbers('thinking_length', np.int32),
    # JSON's null becomes NaN.
    sampler_logp=tokens('logp', np.float32),
    forced=forced,
    truncated=numbers('truncated', bool),
    think_closed=numbers('think_closed', bool),
    correct=numbers('correct', np.float32),
    answered=numbers('answered', bool),
    verified=numbers('verified', bool),
    removed=numbers('removed', np.int32),
    stale=numbers('stale', np.int32),
    cap=of_problems('cap'),
    target=of_problems('target'),
    step=of_problems('begun'),
    problem_index=rollout.first_rows(problems),
    measures={
      name: numbers(lambda row: row['measures'][name], np.float32)  # noqa: B023
      for name in _common(row['measures'] for group in groups for row in group)
    },
    guards={
      name: numbers(lambda row: name in row['guards'], bool)  # noqa: B023
      for name in guards.GUARDS
    },
  )


def _common(keys: Iterable[Iterable[str]]) -> list[str]:
  """What all of them have, in alphabetical order."""
  return sorted(functools.reduce(set.intersection, map(set, keys)))
