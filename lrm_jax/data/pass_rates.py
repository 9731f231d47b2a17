"""How often the starting policy solves a problem: what curricula go by.

A file of pass rates is one of

  pass_rates.jsonl   of `lrm eval`, or any .jsonl of `id` and `pass_rate`, one
                     problem a line
  summary.json       of `lrm eval`: by level, from its `by_level`
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lrm_jax import jsonl, small_files, storage
from lrm_jax.errors import UserError
from lrm_jax.structs import Problem

# Of longer sets, which are generated, the start has every level.
CHECKED_PROBLEMS = 10_000


@dataclasses.dataclass(frozen=True)
class PassRates:
  """Shares of right responses, in [0, 1].

  Attributes:
    path: of the file, for messages.
    by_id: of single problems; '1' and 1 are the same id.
    by_level: of all problems of a level.
  """

  path: str
  by_id: Mapping[str, float]
  by_level: Mapping[int, float]

  def of(self, problem: Problem) -> float:
    """The rate of a problem, NaN where it is not known."""
    if problem.id in self.by_id:
      return self.by_id[problem.id]
    if problem.level in self.by_level:
      return self.by_level[problem.level]
    return math.nan

  @property
  def values(self) -> list[float]:
    """Every rate in the file."""
    return [*self.by_id.values(), *self.by_level.values()]

  @property
  def fingerprint(self) -> str:
    """A few digits that another file of rates does not have."""
    text = repr((sorted(self.by_id.items()), sorted(self.by_level.items())))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load(path: str | os.PathLike[str]) -> PassRates:
  """Reads pass rates.

  Raises:
    UserError: no such file, or one without pass rates.
  """
  path = storage.as_path(path)
  if not path.is_file():
    raise UserError(
      f'data.pass_rates={str(path)!r}: no such file; give the summary.json of '
      'an `lrm eval`, or a .jsonl of id and pass_rate'
    )
  by_id, by_level = {}, {}
  try:
    if path.suffix == '.jsonl':
      for row in jsonl.read_rows(path):
        by_id[str(row['id'])] = float(row['pass_rate'])
    else:
      for row in _summary(path)['by_level']:
        by_level[int(row['level'])] = float(row['accuracy'])
  except UserError:
    raise
  except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
    raise UserError(
      f'{path}: no pass rates ({type(error).__name__}: {error}); expected '
      'by_level with level and accuracy, or lines with id and pass_rate'
    ) from error
  rates = PassRates(str(path), by_id, by_level)
  wrong = [rate for rate in rates.values if not 0 <= rate <= 1]
  if wrong or not rates.values:
    raise UserError(
      f'{path}: has {wrong[0] if wrong else "none"}; pass rates must be in '
      '[0, 1], at least one'
    )
  return rates


def _summary(path: storage.Path) -> Any:
  if storage.is_remote(path):
    return json.loads(path.read_text('utf-8'))
  return small_files.read_json(path)


def chance(
  rates: PassRates,
  curriculum: Callable[[np.ndarray], np.ndarray],
  problems: Sequence[Problem],
) -> Callable[[Problem], float]:
  """`problem -> weight / largest weight` of a curriculum.

  Args:
    rates: from `load`; a problem that has none is unknown, NaN.
    curriculum: `pass_rate [N] -> weight [N]`.
    problems: to be drawn from.

  Raises:
    UserError: none of the problems has a rate, or every weight is 0.
  """
  some = range(min(len(problems), CHECKED_PROBLEMS))
  if all(math.isnan(rates.of(problems[i])) for i in some):
    raise UserError(
      f'{rates.path}: has a pass rate for none of the training problems; give '
      'one that was measured on them'
    )
  largest = float(curriculum(np.array([*rates.values, math.nan])).max())
  if not largest > 0:
    raise UserError(
      'objective.curriculum: gives every problem the weight 0; change its keys'
    )

  def of(problem: Problem) -> float:
    (weight,) = curriculum(np.array([rates.of(problem)]))
    return float(weight) / largest

  return of
