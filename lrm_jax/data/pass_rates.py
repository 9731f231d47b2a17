"""How often the starting policy solves a problem: what curricula go by.

A file of pass rates is one of

  summary.json   of `lrm eval`: by level, from its `by_level`
  a .jsonl       of `id` and `pass_rate`, one problem a line
"""

import json
import math
import pathlib
from collections.abc import Callable

import numpy as np

from lrm_jax import jsonl
from lrm_jax.errors import UserError
from lrm_jax.structs import Problem


def load(path: str | pathlib.Path) -> dict[str | int, float]:
  """Reads pass rates, in [0, 1], by problem id or by level.

  Raises:
    UserError: no such file, or one without pass rates.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise UserError(
      f'data.pass_rates={str(path)!r}: no such file; give the summary.json of '
      'an `lrm eval`, or a .jsonl of id and pass_rate'
    )
  try:
    if path.suffix == '.jsonl':
      rates = {r['id']: float(r['pass_rate']) for r in jsonl.read_rows(path)}
    else:
      rows = json.loads(path.read_text('utf-8'))['by_level']
      rates = {int(row['level']): float(row['accuracy']) for row in rows}
  except UserError:
    raise
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{path}: no pass rates ({type(error).__name__}: {error}); expected '
      'by_level with level and accuracy, or lines with id and pass_rate'
    ) from error
  if not rates or not all(0 <= rate <= 1 for rate in rates.values()):
    raise UserError(f'{path}: pass rates must be in [0, 1], at least one')
  return rates


def chance(
  rates: dict[str | int, float],
  curriculum: Callable[[np.ndarray], np.ndarray],
) -> Callable[[Problem], float]:
  """`problem -> weight / largest weight` of a curriculum.

  Args:
    rates: from `load`; a problem that has none is unknown, NaN.
    curriculum: `pass_rate [N] -> weight [N]`.

  Raises:
    UserError: every weight is 0.
  """
  known = np.array([*rates.values(), math.nan])
  weights = curriculum(known)
  largest = float(weights.max())
  if not largest > 0:
    raise UserError(
      'objective.curriculum: gives every problem the weight 0; change its keys'
    )
  by_name = dict(zip([*rates, None], weights / largest, strict=True))

  def of(problem: Problem) -> float:
    for name in (problem.id, problem.level):
      if name in by_name:
        return float(by_name[name])
    return float(by_name[None])

  return of
