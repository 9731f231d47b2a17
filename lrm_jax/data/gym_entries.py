"""Entries of reasoning-gym by position; needs that package and nothing else.

The trainer makes problems with it, and the process that grades loads this file
by its path and makes the same entry again: what travels between them is text.

An entry is made by its task from (seed + position) alone. A block of `DRAWS`
positions belongs to each index of a split, and the hash of a question says
which split it is in, so that no question is in both, at any index, level, key
or seed. The first entry of the block that is in the split is the problem; one
that its task fails to make is passed over.

That holds for one version of reasoning-gym, and not for every task: see
`REFUSED`.
"""

import dataclasses
import functools
import hashlib
import json
import re

SPLITS = {'train': 100_000, 'heldout': 4096}
DRAWS = 32
MAX_SEED = 1000
# Tasks build tables of so many entries; two of them take a fifth of a second.
_SIZE = DRAWS * max(SPLITS.values())
_AS_CODE = 'it reads an answer by running it as Python'
_ORDER = "its problems depend on the order of Python's sets"
_SLOW = 'a problem of it may take minutes'
REFUSED = {
  'simple_integration': _AS_CODE,
  'intermediate_integration': _AS_CODE,
  'polynomial_multiplication': _AS_CODE,
  'codeio': _ORDER,
  'isomorphic_strings': _ORDER,
  'knight_swap': _ORDER,
  'ransom_note': _ORDER,
  'list_functions': 'its problems depend on the random state of the process',
  'time_intervals': 'its problems depend on the date of today',
  'acre': _SLOW,
  'futoshiki': _SLOW,
  'number_sequence': _SLOW,
  'word_ladder': 'it has no more than 20,000 problems',
  'composite': 'it is no task; join tasks by +',
}

Keys = tuple[tuple[str, object], ...]


def names() -> list[str]:
  """The tasks that can be used."""
  from reasoning_gym import factory

  return sorted(set(factory.DATASETS) - set(REFUSED))


def max_level(task: str) -> int:
  """The most difficult level of the task's own curriculum; 0 without one."""
  from reasoning_gym import factory

  if not factory.has_curriculum(task):
    return 0
  curriculum = factory.create_curriculum(task)
  levels = [len(each.levels) for each in curriculum.attributes.values()]
  return max(levels, default=0)


@functools.lru_cache(maxsize=64)
def dataset(task: str, level: int, keys: Keys):
  """What makes and scores the entries of a task.

  Args:
    task: of `names`.
    level: counted from 1, of its curriculum; 0 for the task's own setting.
    keys: pairs of a field of its config, or `seed`, and a value.

  Raises:
    ValueError: there is no such task, level or field, or the task refuses a
      value; one line.
  """
  from reasoning_gym import factory

  if task in REFUSED:
    raise ValueError(f'{task} cannot be used: {REFUSED[task]}')
  if task not in factory.DATASETS:
    raise ValueError(f'no task {task!r}; it has {", ".join(names())}')
  kind, config_kind = factory.DATASETS[task]
  stated = dict(keys)
  seed = stated.pop('seed', 0)
  if type(seed) is not int or not 0 <= seed <= MAX_SEED:
    raise ValueError(f'seed is {seed!r}; expected 0 to {MAX_SEED}')
  base = {'seed': seed * _SIZE, 'size': _SIZE}
  if level:
    if not 1 <= level <= max_level(task):
      raise ValueError(f'{task}: no level {level}; it has {_levels(task)}')
    curriculum = factory.create_curriculum(task)
    curriculum.set_global_level(level - 1)
    config = curriculum.generate_configuration(base)
  else:
    config = config_kind(**base)
  fields = {field.name for field in dataclasses.fields(config)} - set(base)
  for name in stated:
    if name not in fields:
      raise ValueError(
        f'{task}: no key {name!r}; it has {", ".join(sorted(fields))}, seed'
      )
  try:
    return kind(config=dataclasses.replace(config, **stated))
  except Exception as error:  # Of its own checks: asserts and anything else.
    reason = ' '.join(str(error).split())[:200]
    raise ValueError(
      f'{task}: refuses level {level} and keys {stated} '
      f'({type(error).__name__}: {reason})'
    ) from error


def _levels(task: str) -> str:
  most = max_level(task)
  return f'1 to {most}' if most else 'none; drop it'


def split_of(question: str) -> str:
  """The one split that a question belongs to."""
  digest = hashlib.sha256(question.encode()).digest()
  return list(SPLITS)[digest[0] % 2]


def find(made, index: int, split: str) -> tuple[int, dict]:
  """The position and the entry of a problem.

  Args:
    made: from `dataset`.
    index: of the problem, in its split.
    split: one of `SPLITS`.

  Raises:
    ValueError: none of `DRAWS` entries is in the split.
  """
  reason = 'all of them are in the other split'
  for position in range(index * DRAWS, (index + 1) * DRAWS):
    try:
      entry = made[position]
    except Exception as error:  # It gave up on this one.
      reason = f'{type(error).__name__}: {" ".join(str(error).split())[:100]}'
      continue
    if split_of(entry['question']) == split:
      return position, entry
  raise ValueError(
    f'none of {DRAWS} entries is a problem of the split {split} ({reason})'
  )


def reference(
  task: str, level: int, keys: Keys, position: int, question: str
) -> str:
  """JSON from which `recall` makes an entry again."""
  told = {
    'task': task,
    'level': level,
    'keys': dict(keys),
    'position': position,
    'question': _fingerprint(question),
  }
  return json.dumps(told, separators=(',', ':'))


@functools.lru_cache(maxsize=64)
def recall(text: str):
  """The dataset and the entry that a `reference` is of.

  Raises:
    ValueError: the text is none, or the entry that it gives here is another.
  """
  told = json.loads(text)
  keys = tuple(sorted(told['keys'].items()))
  made = dataset(told['task'], told['level'], keys)
  entry = made[told['position']]
  if _fingerprint(entry['question']) != told['question']:
    raise ValueError('made again, the entry has another question')
  return made, entry


def parse_keys(text: str) -> Keys:
  """'max_terms=3,seed=1' -> pairs; values are JSON, or texts as they stand.

  Raises:
    ValueError: a part is not KEY=VALUE, or a key stands there twice.
  """
  found = {}
  for part in filter(None, re.split(r',(?![^\[]*\])', text)):
    name, sign, value = part.partition('=')
    if not sign or not name or name in found:
      raise ValueError(f'{part!r}; expected KEY=VALUE, each key once')
    try:
      found[name] = json.loads(value)
    except ValueError:
      found[name] = value
    if isinstance(found[name], list | dict):
      # A key of the cache has to be hashable.
      raise ValueError(f'{part!r}; expected a number, true, false or a word')
  return tuple(sorted(found.items()))


def _fingerprint(question: str) -> str:
  return hashlib.sha256(question.encode()).hexdigest()[:16]
