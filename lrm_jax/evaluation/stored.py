"""Evaluations on the disk, and the one form in which they are compared.

  WORKDIR of `lrm eval`            rollouts.jsonl.gz and summary.json
  RUN/evaluation of `lrm train`    NAME.jsonl.gz and NAME.json, with NAME of
                                   before, step_000100, ..., after

Every evaluation has a row of numbers for each of its B * G samples; texts,
token ids and log-probabilities are in the rows that have `response`: all of
them in an evaluation of `lrm eval`, the first `eval.responses` of each problem
in one of a run.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lrm_jax import jsonl, storage
from lrm_jax.data import prompts
from lrm_jax.errors import UserError

# What every row has, and the types that JSON gives it.
FIELDS = {
  'id': (str,),
  'sample': (int,),
  'correct': (bool,),
  'verified': (bool,),
  'length': (int,),
  'thinking_length': (int,),
  'truncated': (bool,),
  'extracted': (str, type(None)),
  'class': (int,),
}
# What arrays of 64 bits hold, with room for sums.
_MOST = 10**18
_NAMES = re.compile(r'before|after|step_\d+')

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Evaluation:
  r"""G graded responses to each of B problems; lengths are in tokens.

  Attributes:
    name: where it was read from; heads columns and messages.
    settings: what two evaluations must have in common to be compared, see
      `settings.py`.
    identity: of what was evaluated: the model's path, checksum, dtype and
      tokenizer, and the step of a run. Never compared.
    ids: of the B problems, in their order.
    correct: `[B, G]` bool, the verdicts.
    verified: `[B, G]` bool; False where the verifier was lost on a response.
    length: `[B, G]` int64 response tokens.
    thinking_length: `[B, G]` int64 tokens before `</think>`.
    truncated: `[B, G]` bool, ended by the cap.
    answer_class: `[B, G]` int64, see `classes.py`: 0 for right answers, equal
      numbers for answers of a problem that are equal, -1 without an answer.
    words: `[B, G]` int64, runs of `\w` in the response; -1 without its text.
    characters: `[B, G]` int64, of what follows `</think>`; likewise.
    rows: the rows as they are stored, B lists of G, if they were asked for;
      of those without `response` there are numbers only.
  """

  name: str
  settings: dict[str, Any]
  identity: dict[str, Any]
  ids: tuple[str, ...]
  correct: np.ndarray
  verified: np.ndarray
  length: np.ndarray
  thinking_length: np.ndarray
  truncated: np.ndarray
  answer_class: np.ndarray
  words: np.ndarray
  characters: np.ndarray
  rows: tuple[tuple[Row, ...], ...] | None = None

  @property
  def there(self) -> np.ndarray:
    """`[B, G]` bool: an evaluation has all samples of every problem."""
    return np.ones(self.correct.shape, bool)


def read(folder: str | storage.Path, *, texts: bool = False) -> Evaluation:
  """One evaluation.

  Args:
    folder: the WORKDIR of a finished `lrm eval` of one data set; or
      RUN/evaluation/NAME of a run (NAME.json will do too); or RUN itself, for
      the evaluation after training.
    texts: keep `rows`. A row of a token costs a hundred bytes of memory.

  Returns:
    The evaluation; its name is `folder` as given.

  Raises:
    UserError: there is none, it is not finished, an earlier version wrote it
      without what a comparison needs, or it is damaged.
  """
  name = str(folder)
  summary_path, rows_path = _files(storage.as_path(folder))
  summary = _read_summary(summary_path)
  with storage.explained(rows_path):
    has_rows = rows_path.exists()
  if not _is_complete(summary) or not has_rows:
    raise UserError(
      f"'{name}' was written by an earlier version, without what a comparison "
      'needs; evaluate that model again'
    )
  return of_rows(
    name,
    jsonl.each_row(rows_path, FIELDS),
    samples=summary['settings']['samples'],
    settings=summary['settings'],
    identity=summary['identity'],
    texts=texts,
  )


def find(folder: str | storage.Path) -> list[str]:
  """What `read` can be given of a folder, in the order of time.

  Args:
    folder: of `lrm eval` (of one data set or of several), or of a run.

  Returns:
    Paths; none where nothing was evaluated.
  """
  path = storage.as_path(folder)
  inner = path / 'evaluation'
  with storage.explained(path):
    if (path / 'rollouts.jsonl.gz').exists():
      return [str(folder)]
    if inner.is_dir():
      names = [p.name.removesuffix('.jsonl.gz') for p in inner.iterdir()]
      names = filter(_NAMES.fullmatch, names)
      order = {'before': 0, 'after': 2}
      key = lambda name: (order[name] if name in order else 1, name)
      return [str(inner / name) for name in sorted(names, key=key)]
    if not path.is_dir():
      return []
    folders = sorted(p for p in path.iterdir() if p.is_dir())
    return [str(p) for p in folders if (p / 'rollouts.jsonl.gz').exists()]


def of_rows(
  name: str,
  rows: Iterable[Row],
  *,
  samples: int,
  settings: Mapping[str, Any],
  identity: Mapping[str, Any],
  texts: bool = False,
) -> Evaluation:
  """An evaluation of its rows, which are read once and one at a time.

  Args:
    name: for messages.
    rows: with `FIELDS`; problems one behind the other, samples from 0.
    samples: G.
    settings: see `Evaluation`.
    identity: likewise.
    texts: keep the rows.

  Raises:
    UserError: they are not that.
  """
  columns = {key: [] for key in (*FIELDS, 'words', 'characters')}
  kept = []
  for row in rows:
    _check_size(name, row)
    for key in FIELDS:
      columns[key].append(row[key])
    words, characters = sizes(row)
    columns['words'].append(words)
    columns['characters'].append(characters)
    if texts:
      kept.append(row)
  ids = columns['id'][::samples]
  whole = [name for name in ids for _ in range(samples)]
  numbers = list(range(samples)) * len(ids)
  is_whole = columns['id'] == whole and columns['sample'] == numbers
  if not ids or not is_whole or len(set(ids)) < len(ids):
    raise UserError(
      f"'{name}': its rows are not {samples} samples of each problem; "
      'evaluate that model again'
    )
  table = functools.partial(_table, columns, samples)
  return Evaluation(
    name=name,
    settings=dict(settings),
    identity=dict(identity),
    ids=tuple(ids),
    correct=table('correct', bool),
    verified=table('verified', bool),
    length=table('length', np.int64),
    thinking_length=table('thinking_length', np.int64),
    truncated=table('truncated', bool),
    answer_class=table('class', np.int64),
    words=table('words', np.int64),
    characters=table('characters', np.int64),
    rows=_groups(kept, samples) if texts else None,
  )


def count_words(text: str) -> int:
  r"""Words as Ruler counts them: runs of `\w`, so `don't` has two."""
  return sum(1 for _ in re.finditer(r'\w+', text))


def sizes(row: Row) -> tuple[int, int]:
  """(words of the response, characters of its visible answer); -1 unknown."""
  if 'words' in row:
    return row['words'], row['characters']
  if is_numbers_only(row):
    return -1, -1
  _, answer, _ = prompts.split_response(row['response'])
  return count_words(row['response']), len(answer.strip())


def is_numbers_only(row: Row) -> bool:
  """Whether a row was stored without its text."""
  return 'response' not in row


def numbers_only(row: Row) -> Row:
  """A row without what is long: the `FIELDS`."""
  return {key: row[key] for key in FIELDS}


def _check_size(name: str, row: Row) -> None:
  numbers = (row['length'], row['thinking_length'], row['class'])
  if max(map(abs, numbers)) > _MOST:
    raise UserError(
      f"'{name}': a row of {row['id']!r} has a number of more than 18 digits; "
      'evaluate that model again'
    )


def _table(
  columns: Mapping[str, list], samples: int, name: str, kind: Any
) -> np.ndarray:
  return np.array(columns[name], kind).reshape(-1, samples)


def _groups(rows: list[Row], samples: int) -> tuple[tuple[Row, ...], ...]:
  return tuple(
    tuple(rows[start : start + samples])
    for start in range(0, len(rows), samples)
  )


def _files(path: storage.Path) -> tuple[storage.Path, storage.Path]:
  """(summary, rows) of what `read` was given: what lies there says which."""
  own = path / 'summary.json', path / 'rollouts.jsonl.gz'
  name = path.name.removesuffix('.json').removesuffix('.jsonl.gz')
  named = path.parent / f'{name}.json', path.parent / f'{name}.jsonl.gz'
  inner = path / 'evaluation'
  with storage.explained(path):
    # A run has a summary too, and its rows elsewhere.
    if own[1].exists():
      return own
    if inner.is_dir():
      return inner / 'after.json', inner / 'after.jsonl.gz'
    if path.is_dir():
      return own
    # Of what is nowhere, its name tells what was meant.
    is_of_run = path.parent.name == 'evaluation'
    return named if is_of_run or any(x.exists() for x in named) else own


def _is_complete(summary: Mapping[str, Any]) -> bool:
  """Whether it says what was asked, and of whom."""
  parts = [summary[x] for x in ('settings', 'identity') if x in summary]
  if len(parts) < 2 or not all(isinstance(x, dict) for x in parts):
    return False
  samples = parts[0]['samples'] if 'samples' in parts[0] else None
  return type(samples) is int and samples > 0


def _read_summary(path: storage.Path) -> dict[str, Any]:
  try:
    with storage.explained(path):
      summary = json.loads(path.read_text('utf-8'))
  except FileNotFoundError:
    raise UserError(
      f"'{path}': no such file; give the --workdir of a finished lrm eval, or "
      'RUN/evaluation/NAME of a run'
    ) from None
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(
      f"'{path}': not the summary of an evaluation ({error}); evaluate that "
      'model again'
    ) from error
  return summary if isinstance(summary, dict) else {}
