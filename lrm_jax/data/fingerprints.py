"""SHA-256 of what a run reads at every start, so that another is noticed.

  of_problems(source)      the problems in their order, field by field
  of_demonstrations(rows)  likewise
  of_run(...)              all that `lrm train` reads, by the names of messages

Fields go in as JSON, an array for each row, so that neither spaces in a file
nor columns that nobody reads matter, and no two sets look alike.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from lrm_jax.data import sources
from lrm_jax.structs import Problem
from lrm_jax.tokenization import base

# Of a generated set: what the generator makes of these shows which one it is.
GENERATED = 1000
# Names of what `of_run` reads, as the identity of a run and its messages have
# them.
TRAIN, EVAL, TOKENIZER = 'data.train', 'data.eval', 'tokenizer'
# That of `demonstrated.load`, which has one of its own.
GIVEN = 'data.demonstrations'

_FIELDS = tuple(
  field.name for field in dataclasses.fields(Problem) if field.name != 'task'
)


def of_problems(source: sources.ProblemSource) -> str:
  """The digest of all problems in their order; 64 hexadecimal digits.

  Of generated problems, which no file holds, of the first `GENERATED` (or
  those that stand for all) and of their number.
  """
  count = len(source)
  read = source.first(GENERATED) if source.is_generated else count
  problems = (source[index] for index in range(read))
  rows = (_row(problem) for problem in problems)
  return _digest(count, rows)


def _row(problem: Problem) -> list:
  fields = [getattr(problem, name) for name in _FIELDS]
  # Checkpoints that are older than tasks know no such field.
  return [*fields, problem.task] if problem.task else fields


def of_demonstrations(rows: Sequence[Mapping[str, object]]) -> str:
  """The digest of rows with `question` and `response`, in their order."""
  pairs = ([row['question'], row['response']] for row in rows)
  return _digest(len(rows), pairs)


def of_run(
  tokenizer: base.Tokenizer,
  train: sources.ProblemSource,
  evaluation: sources.ProblemSource,
) -> dict[str, str]:
  """The digests of what makes prompts and verdicts, by name.

  Evaluations are in it since the numbers of one run are compared.
  """
  return {
    TRAIN: of_problems(train),
    EVAL: of_problems(evaluation),
    TOKENIZER: tokenizer.fingerprint,
  }


def _digest(count: int, rows: Iterable[Sequence[object]]) -> str:
  found = hashlib.sha256(f'{count}\n'.encode())
  for row in rows:
    found.update(json.dumps(row).encode() + b'\n')
  return found.hexdigest()
