"""Tasks of reasoning-gym as problems: `pip install 'lrm_jax[gym]'`.

  gym:chain_sum                        the task as it comes
  gym:chain_sum:train:1-3              levels 1 to 3 of its curriculum
  gym:chain_sum+gcd:heldout            by turns
  gym:chain_sum?max_terms=3,seed=1     with keys of the task's config

Nothing is stored: a problem is made when it is read, from the seed, the split
and the index, and is the same for ever (with one version of the package, which
the extra pins). A question is in one split only; see `gym_entries.py`, which
says too which tasks are refused and why. `level` is that of the task's
curriculum, 0 without one in the name, and `domain` is the task.

Answers are scored by the task's own code, in a process of the verifier's pool;
see `rewards/tasks.py`.
"""

import functools
import hashlib
import importlib.util
import json
import re

from lrm_jax.data import gym_entries
from lrm_jax.errors import UserError
from lrm_jax.structs import Problem

FORM = 'gym:TASK[+TASK...][:SPLIT[:LEVELS]][?KEY=VALUE,...]'
# The first ones stand for all where a start looks at its problems: some tasks
# take a tenth of a second for one.
EXAMINED = 100


class Problems:
  """The problems of a name, by index.

  Attributes:
    split: 'train' or 'heldout'.
    length: number of problems.
    examined: how many of the first ones stand for all; of each task and level
      the same number.
  """

  def __init__(self, spec: str, default_split: str):
    """Reads the name and makes its first problems.

    Args:
      spec: see the module.
      default_split: where the name has none; 'test' means 'heldout'.

    Raises:
      UserError: reasoning-gym is not installed, or has not what is named.
    """
    if importlib.util.find_spec('reasoning_gym') is None:
      raise UserError(
        f'data set {spec!r}: reasoning-gym is not installed; '
        "pip install 'lrm_jax[gym]'"
      )
    name, _, keys = spec.removeprefix('gym:').partition('?')
    tasks, *options = name.split(':')
    if len(options) > 2 or not tasks:
      raise UserError(f'data set {spec!r}: expected {FORM}')
    split = options[0] if options else default_split
    self.split = 'heldout' if split == 'test' else split
    if self.split not in gym_entries.SPLITS:
      raise UserError(
        f'data set {spec!r}: no split {split!r}; it has '
        f'{", ".join(gym_entries.SPLITS)}'
      )
    self.length = gym_entries.SPLITS[self.split]
    self._spec = spec
    try:
      levels = _levels(options[1]) if len(options) == 2 else (0,)
      self._keys = gym_entries.parse_keys(keys)
      # The tasks alternate faster than the levels.
      self._kinds = [
        (task, level) for level in levels for task in tasks.split('+')
      ]
      for task, level in self._kinds:
        gym_entries.dataset(task, level, self._keys)
    except ValueError as error:
      raise UserError(f'data set {spec!r}: {error}') from error
    self.examined = len(self._kinds) * -(-EXAMINED // len(self._kinds))
    self.read = functools.lru_cache(maxsize=4096)(self._make)

  def _make(self, index: int) -> Problem:
    count = len(self._kinds)
    task, level = self._kinds[index % count]
    made = gym_entries.dataset(task, level, self._keys)
    try:
      position, entry = gym_entries.find(made, index // count, self.split)
    except ValueError as error:
      raise UserError(
        f'data set {self._spec!r}: problem {index}: {error}; take another '
        'task, or other keys'
      ) from error
    answer = entry['answer']
    return Problem(
      id=self._name(task, level, index),
      question=entry['question'],
      # Some tasks accept many answers and state none.
      answer='' if answer is None else str(answer),
      level=level,
      domain=task,
      task=gym_entries.reference(
        task, level, self._keys, position, entry['question']
      ),
    )

  def _name(self, task: str, level: int, index: int) -> str:
    name = f'gym-{task}-{self.split}-{level}-{index:06d}'
    if not self._keys:
      return name
    text = json.dumps(self._keys)
    return f'{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}'


def _levels(text: str) -> tuple[int, ...]:
  """'3' -> (3,), '1-3' -> (1, 2, 3)."""
  match = re.fullmatch(r'([1-9]\d{0,2})(?:-([1-9]\d{0,2}))?', text)
  if not match or (match[2] and int(match[2]) < int(match[1])):
    raise ValueError(
      f'levels {text!r}; expected one level or a range such as 1-3'
    )
  last = match[1] if match[2] is None else match[2]
  return tuple(range(int(match[1]), int(last) + 1))
