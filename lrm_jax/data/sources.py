"""Names and paths of data sets -> random-access sources of problems.

  benchmarks/mine.jsonl         a JSONL file
  math500, gsm8k:train          a benchmark of `benchmarks.py`: a local copy in
                                `data_dir`, or a TFDS data set, downloaded once
  chain_arithmetic:train:2-6    generated when read; levels 2 to 6
  gym:chain_sum:train:1-3       a task of reasoning-gym, see `gym.py`

A source has `__len__` and `__getitem__`, all that grain asks for.
"""

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Sequence

from lrm_jax import storage
from lrm_jax.data import benchmarks
from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.errors import UserError
from lrm_jax.structs import Problem

CHAIN_ARITHMETIC_LENGTH = {'train': 1_000_000, 'heldout': 4096}

# Names under which benchmarks keep the domain, the first stated one counts.
_DOMAIN_FIELDS = ('domain', 'subject', 'course', 'subfield')


@dataclasses.dataclass(frozen=True)
class ProblemSource(Sequence):
  """Problems by index.

  Attributes:
    name: for messages and reports.
    length: number of problems.
    read: index in `[0, length)` -> problem; always the same one.
    is_generated: the problems are made by this program, and no file has them.
    examined: how many of the first problems stand for all of a generated set,
      where making more of them takes long; 0 for no such limit.
  """

  name: str
  length: int
  read: Callable[[int], Problem] = dataclasses.field(repr=False)
  is_generated: bool = False
  examined: int = 0

  def __len__(self) -> int:
    return self.length

  def first(self, most: int) -> int:
    """Problems to look at for one's picture of all of them, `most` at most."""
    count = min(self.length, most)
    return min(count, self.examined) if self.examined else count

  def __getitem__(self, index: int) -> Problem:
    if not -self.length <= index < self.length:
      raise IndexError(f'{self.name}: no problem {index} of {self.length}')
    return self.read(index % self.length)


def load_problems(
  spec: str,
  *,
  split: str = 'test',
  limit: int | None = None,
  data_dir: str | None = None,
) -> ProblemSource:
  """Opens a data set.

  Args:
    spec: the path of a `.jsonl` file, or NAME[:SPLIT[:LEVELS]] with a name of
      `NAMES`. Levels, such as `3` or `2-6`, are for generated problems only.
      A task of reasoning-gym may have keys, too; see `gym.py`.
    split: used where the spec states none. A file has no splits. Generated
      problems have `train` and `heldout`, benchmarks `train` or `test` or
      both; `heldout` and `test` mean the same.
    limit: keep the first problems only; None for all.
    data_dir: where local copies of benchmarks are looked for, and where TFDS
      keeps those that it prepares; None for its own default.

  Returns:
    The problems, in the data set's order.

  Raises:
    UserError: unknown name or split, unreadable file, bad row, no problems.
  """
  if limit is not None and limit < 1:
    raise UserError(f'limit is {limit}; expected at least 1, or none for all')
  if str(spec).endswith('.jsonl'):
    source = _from_list(str(spec), read_jsonl(spec))
  elif str(spec).startswith('gym:'):
    source = _open_gym(str(spec), split)
  else:
    name, *options = str(spec).split(':')
    if name not in _OPENERS or len(options) > 2:
      raise UserError(
        f'data set {spec!r}: expected the path of a .jsonl file or '
        f'NAME[:SPLIT[:LEVELS]] with a name of {", ".join(NAMES)}'
      )
    source = _OPENERS[name](
      options[0] if options else split,
      options[1] if len(options) == 2 else None,
      data_dir,
    )
  length = len(source) if limit is None else min(limit, len(source))
  return dataclasses.replace(source, length=length)


def read_jsonl(path: str | os.PathLike[str]) -> list[Problem]:
  """Reads problems from a JSONL file.

  Fields of a row: `question` and `answer` (text, or an integer answer); `id`
  (FILESTEM-000123 with the row's number where missing); optionally `level`
  (5, '5' or 'Level 5') and one of `domain`, `subject`, `course`, `subfield`.
  Other fields and blank lines are ignored.

  Args:
    path: the file, UTF-8.

  Returns:
    The problems, at least one.

  Raises:
    UserError: no such file, no rows, or a row that is not a problem, named as
      FILE:LINE.
  """
  path = storage.as_path(path)
  try:
    with storage.explained(path):
      text = path.read_text(encoding='utf-8')
  except OSError as error:
    raise UserError(
      f'{path}: {error.strerror}; give the path of a JSONL file of problems'
    ) from error
  except UnicodeDecodeError as error:
    raise UserError(f'{path}: not UTF-8 ({error}); convert the file') from error
  problems = []
  seen = {}
  # Not splitlines(): JSON strings may hold U+2028, which is no line end here.
  for number, line in enumerate(text.split('\n'), start=1):
    if not line.strip():
      continue
    where = f'{path}:{number}'
    problem = _parse_row(where, line, f'{path.stem}-{len(problems):06d}')
    if problem.id in seen:
      raise UserError(
        f'{where}: id {problem.id!r} is also on line {seen[problem.id]}; ids '
        'name the random stream of a problem and must be unique'
      )
    seen[problem.id] = number
    problems.append(problem)
  if not problems:
    raise UserError(f'{path}: has no problems; expected one JSON object a line')
  return problems


def _from_list(name: str, problems: list[Problem]) -> ProblemSource:
  return ProblemSource(name, len(problems), problems.__getitem__)


def _parse_row(where: str, line: str, default_id: str) -> Problem:
  try:
    row = json.loads(line)
  except (ValueError, RecursionError) as error:
    raise UserError(
      f'{where}: not JSON ({error}); expected one object a line'
    ) from error
  if not isinstance(row, dict):
    raise UserError(
      f'{where}: holds a JSON {type(row).__name__}; expected an object with '
      '"question" and "answer"'
    )
  stated = {key: value for key, value in row.items() if value is not None}
  domains = [stated[key] for key in _DOMAIN_FIELDS if key in stated]
  return Problem(
    id=_text(where, stated, 'id') if 'id' in stated else default_id,
    question=_text(where, stated, 'question'),
    answer=_text(where, stated, 'answer'),
    level=_level(where, stated['level']) if 'level' in stated else 0,
    domain=str(domains[0]) if domains else '',
  )


def _text(where: str, row: dict, key: str) -> str:
  if key not in row:
    raise UserError(
      f'{where}: no {key!r}; a problem needs "question" and "answer"'
    )
  value = row[key]
  if type(value) is int and key != 'question':
    value = str(value)
  if not isinstance(value, str) or not value.strip():
    raise UserError(f'{where}: {key} is {value!r}; expected a non-empty text')
  try:
    value.encode('utf-8')
  except UnicodeEncodeError as error:  # JSON can escape half a character
    raise UserError(
      f'{where}: {key} has half a surrogate pair; escape the whole character'
    ) from error
  return value


def _level(where: str, value: object) -> int:
  """5, 5.0, '5' and 'Level 5' are 5; MATH writes 'Level ?' for unknown."""
  text = str(int(value)) if _is_whole(value) else value
  if isinstance(text, str):
    match = re.fullmatch(r'(?:level\s*)?(\d{1,9}|\?)', text.strip(), re.I)
    if match:
      return 0 if match[1] == '?' else int(match[1])
  raise UserError(
    f"{where}: level is {value!r}; expected an integer or 'Level 5'"
  )


def _is_whole(value: object) -> bool:
  return type(value) is int or (type(value) is float and value.is_integer())


def _open_benchmark(
  split: str, levels: str | None, data_dir: str | None, *, name: str
) -> ProblemSource:
  benchmark = benchmarks.BENCHMARKS[name]
  if levels is not None:
    raise UserError(f'data set {name}: has no levels, got {levels!r}; drop it')
  split = 'test' if split == 'heldout' else split
  if split not in benchmark.splits:
    raise UserError(
      f'data set {name}: no split {split!r}; it has '
      f'{", ".join(benchmark.splits)}'
    )
  local = None
  if data_dir is not None:
    local = _read_local(name, benchmark, split, data_dir)
  if local is not None:
    return _from_list(f'{name}:{split}', local)
  # TFDS takes its time to import, so only who needs it pays.
  from lrm_jax.data.builders import base
  from lrm_jax.data.builders import benchmark as builder

  published = builder.PublishedProblems(benchmark=name, data_dir=data_dir)
  examples = base.prepared(published, split)
  return ProblemSource(
    f'{name}:{split}',
    len(examples),
    lambda index: base.to_problem(examples[index]),
  )


def _read_local(
  name: str, benchmark: benchmarks.Benchmark, split: str, data_dir: str
) -> list[Problem] | None:
  """The problems of a benchmark in DIR/FILE.jsonl; None without that file."""
  path = storage.as_path(data_dir) / f'{benchmark.splits[split].file}.jsonl'
  with storage.explained(path):
    if not path.is_file():
      return None
  problems = read_jsonl(path)
  found, expected = (
    benchmarks.digest_of(problems),
    benchmark.splits[split].digest,
  )
  if found != expected:
    raise UserError(
      f'{path}: is not {name}:{split} (sha256 of its problems '
      f'{found[:8]}..., expected {expected[:8]}...); give {path} itself as the '
      'data set to use it, or take it away to download the benchmark'
    )
  # A download has no other domain than a local copy.
  return [
    dataclasses.replace(p, domain=p.domain if p.domain else benchmark.domain)
    for p in problems
  ]


def _open_gym(spec: str, split: str) -> ProblemSource:
  # Who names no task need not have the package.
  from lrm_jax.data import gym

  problems = gym.Problems(spec, split)
  return ProblemSource(
    spec,
    problems.length,
    problems.read,
    is_generated=True,
    examined=problems.examined,
  )


def _open_chain_arithmetic(
  split: str, levels: str | None, data_dir: str | None
) -> ProblemSource:
  del data_dir  # nothing is stored
  split = 'heldout' if split == 'test' else split
  if split not in CHAIN_ARITHMETIC_LENGTH:
    raise UserError(
      f'data set chain_arithmetic: no split {split!r}; it has '
      f'{", ".join(CHAIN_ARITHMETIC_LENGTH)}'
    )
  make = functools.partial(chain_arithmetic.make_problem, split=split)
  if levels is not None:
    make = functools.partial(make, levels=_levels(levels))
  return ProblemSource(
    f'chain_arithmetic:{split}',
    CHAIN_ARITHMETIC_LENGTH[split],
    make,
    is_generated=True,
  )


def _levels(text: str) -> tuple[int, ...]:
  """'3' -> (3,), '2-6' -> (2, 3, 4, 5, 6)."""
  match = re.fullmatch(r'(\d+)(?:-(\d+))?', text)
  if match:
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    if 1 <= first <= last <= chain_arithmetic.MAX_LEVEL:
      return tuple(range(first, last + 1))
  raise UserError(
    f'data set chain_arithmetic: levels {text!r}; expected one level or a '
    f'range such as 2-6, within 1 to {chain_arithmetic.MAX_LEVEL}'
  )


_OPENERS = {
  **{
    name: functools.partial(_open_benchmark, name=name)
    for name in benchmarks.BENCHMARKS
  },
  'chain_arithmetic': _open_chain_arithmetic,
}
NAMES = (*_OPENERS, 'gym:TASK')
