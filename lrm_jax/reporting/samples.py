"""The responses that a report shows and counts.

Files of rows -> `read` -> all rows of a file, checked; `gather` counts each of
them in a `Tally`, and hands those that go into the page to a store. A row
without `response` (of a run's evaluations, which keep few texts) is counted
and never shown.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrm_jax import jsonl, storage
from lrm_jax.errors import UserError
from lrm_jax.reporting.workdirs import Run

# In the order of their numbers. A response that is right and truncated is
# right; one that is wrong and truncated is truncated.
VERDICTS = ('right', 'wrong', 'truncated', 'unverified')
RIGHT, WRONG, TRUNCATED, UNVERIFIED = range(4)
_REQUIRED = {
  'id': (str,),
  'sample': (int,),
  'length': (int,),
  'correct': (bool,),
  'truncated': (bool,),
}
_OPTIONAL = {
  'response': (str,),
  'response_ids': (list,),
  'verified': (bool,),
  'thinking_length': (int,),
  'reward': (int, float, type(None)),
  'advantage': (int, float, type(None)),
  'kept': (bool,),
  'question': (str,),
  'answer': (str,),
  'logp': (list,),
  'entropy': (list,),
  'token_advantages': (list,),
}
_MOST = 1 << 31

Row = Mapping[str, Any]


class Source(NamedTuple):
  """A file of responses.

  Attributes:
    run: its place among the runs.
    kind: `training`, or what `Evaluation.label` says.
    step: of the policy; -1 where none is known.
    path: the file.
  """

  run: int
  kind: str
  step: int
  path: storage.Path


@dataclasses.dataclass(frozen=True)
class Tally:
  """What all responses of a source are, N of them.

  Attributes:
    source: the file.
    problem: `[N]` places in the list of problems.
    verdict: `[N]` places in VERDICTS.
    correct: `[N]` bool; an unverified response is not.
    length: `[N]` response tokens.
    reward: `[N]`, NaN where there is none.
    advantage: `[N]` likewise.
    texts: how many have a text.
    shown: how many are in the page.
  """

  source: Source
  problem: np.ndarray
  verdict: np.ndarray
  correct: np.ndarray
  length: np.ndarray
  reward: np.ndarray
  advantage: np.ndarray
  texts: int
  shown: int


class Problems:
  """The problems of all sources: question, answer, id.

  A row may lack the question: it is of the first problem with its id and its
  answer. A row of numbers alone lacks both: it is of the problem that its id
  had last, which the rows before it told.
  """

  def __init__(self):
    """There is none."""
    self.rows: list[dict[str, str]] = []
    self._by_answer: dict[tuple[str, str], int] = {}
    self._by_question: dict[tuple[str, str, str], int] = {}
    self._by_id: dict[str, int] = {}

  def place(self, row: Row) -> int:
    """That of the problem of a row, which is new or known."""
    if 'answer' in row or row['id'] not in self._by_id:
      self._by_id[row['id']] = self._place(row)
    return self._by_id[row['id']]

  def _place(self, row: Row) -> int:
    answer = row['answer'] if 'answer' in row else ''
    question = row['question'] if 'question' in row else ''
    known = self._by_answer.get((row['id'], answer))
    if known is not None:
      if not question:
        return known
      if not self.rows[known]['question']:
        self.rows[known]['question'] = question
        self._by_question[row['id'], answer, question] = known
    key = row['id'], answer, question
    if key not in self._by_question:
      self._by_question[key] = len(self.rows)
      self._by_answer.setdefault(key[:2], len(self.rows))
      self.rows.append(
        {'id': row['id'], 'question': question, 'answer': answer}
      )
    return self._by_question[key]


def sources(runs: Sequence[Run]) -> list[Source]:
  """The files of some runs: of each the evaluations, then the training."""
  found = []
  for place, run in enumerate(runs):
    for made in run.evaluations:
      if made.rows is not None:
        step = -1 if made.step is None else made.step
        found.append(Source(place, made.label, step, made.rows))
    for step, path in run.rollouts:
      found.append(Source(place, 'training', step, path))
  return found


def quotas(files: int, limit: int) -> Callable[[int, int], int]:
  """How many rows of each file are shown, asked in the order of the files.

  Each has the same share; what a file does not use is shared by those behind
  it. With fewer rows than files, files are chosen evenly.

  Args:
    files: how many there are.
    limit: rows of all together.

  Returns:
    (place of the file, its rows) -> rows to show.
  """
  left = limit
  chosen = {number * files // max(limit, 1) for number in range(limit)}

  def quota(place: int, rows: int) -> int:
    nonlocal left
    share = left // (files - place)
    if limit < files:
      share = int(place in chosen)
    share = min(share, rows)
    left -= share
    return share

  return quota


def spread(rows: int, count: int) -> list[int]:
  """`count` of so many places, evenly."""
  return [number * rows // count for number in range(count)]


def gather(
  found: Sequence[Source],
  limit: int,
  problems: Problems,
  show: Callable[[Source, int, Row], None],
) -> Iterator[Tally]:
  """Counts the rows of each source, and shows some of them.

  Args:
    found: of `sources`.
    limit: rows that are shown of all together.
    problems: are added to.
    show: gets the source, the place of the problem and the row.

  Raises:
    UserError: a file cannot be read, or a row is not as lrm writes it.
  """
  quota = quotas(len(found), limit)
  for place, source in enumerate(found):
    rows = read(source.path)
    places = [problems.place(row) for row in rows]
    texts = [index for index, row in enumerate(rows) if 'response' in row]
    chosen = spread(len(texts), quota(place, len(texts)))
    for index in (texts[number] for number in chosen):
      show(source, places[index], rows[index])
    yield _tally(source, rows, places, (len(texts), len(chosen)))


def read(path: storage.Path) -> list[dict[str, Any]]:
  """The rows of a file, checked.

  Raises:
    UserError: it cannot be read, or a row is not as lrm writes it.
  """
  rows = jsonl.read_rows(path, _REQUIRED)
  for number, row in enumerate(rows, start=1):
    fault = _fault(row)
    if fault is not None:
      raise UserError(
        f'{path}: row {number}: {fault}; give files as lrm train and lrm eval '
        'write them'
      )
  return rows


def verdict(row: Row) -> int:
  """The place of a row's verdict in VERDICTS."""
  if 'verified' in row and not row['verified']:
    return UNVERIFIED
  if row['correct']:
    return RIGHT
  return TRUNCATED if row['truncated'] else WRONG


def number(row: Row, name: str) -> float:
  """A field, NaN where it is absent, null or beyond a float."""
  if name not in row or row[name] is None or not abs(row[name]) < 1e30:
    return math.nan
  return float(row[name])


def _tally(
  source: Source,
  rows: Sequence[Row],
  places: Sequence[int],
  counts: tuple[int, int],
) -> Tally:
  verdicts = np.array([verdict(row) for row in rows], np.uint8)
  return Tally(
    source=source,
    problem=np.array(places, np.int64),
    verdict=verdicts,
    correct=verdicts == RIGHT,
    length=np.array([row['length'] for row in rows], np.int64),
    reward=np.array([number(row, 'reward') for row in rows], np.float64),
    advantage=np.array([number(row, 'advantage') for row in rows], np.float64),
    texts=counts[0],
    shown=counts[1],
  )


def _fault(row: Row) -> str | None:
  """What is wrong with a row, if anything is."""
  for name, types in _OPTIONAL.items():
    if name in row and type(row[name]) not in types:
      return f'{name!r} is of another type'
  for name in ('sample', 'length', 'thinking_length'):
    if name in row and not 0 <= row[name] < _MOST:
      return f'{name!r} is no whole number from 0 on'
  if ('response' in row) != ('response_ids' in row):
    return "'response' without 'response_ids', or these without it"
  if 'response' not in row:
    return None
  if not all(type(x) is int and 0 <= x < _MOST for x in row['response_ids']):
    return "'response_ids' has what is no id of a token"
  for name in ('logp', 'entropy', 'token_advantages'):
    if name in row and not _is_per_token(row[name], len(row['response_ids'])):
      return f'{name!r} has not one number a token'
  return None


def _is_per_token(values: Sequence[Any], length: int) -> bool:
  kinds = set(map(type, values))
  return len(values) == length and kinds <= {int, float, type(None)}
