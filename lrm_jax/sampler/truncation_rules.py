"""Which truncation rules are on, and their numbers, checked."""

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lrm_jax.errors import UserError
from lrm_jax.structs import Array


class Rules(NamedTuple):
  """What is truncated, and how much of it.

  A field is None, and then nothing of that rule is computed, or an array that
  broadcasts with the rows: one number for all, or one for each. Numbers are
  traced; which fields are None is compiled in. The neutral number leaves a row
  as it is.

  Attributes:
    top_n_sigma: n; keep z >= max z - n * std z. In (0, inf], neutral inf.
    top_h: alpha; keep the longest prefix q with H(q) <= alpha * H(p), as in
      the paper (arXiv 2509.02510). In (0, 1], neutral 1 and above.
    top_h_cumulative: alpha; the rule of that paper's code and of transformers:
      the longest prefix whose part of the sum H(p) = -sum p ln p is at most
      alpha * H(p). It keeps about twice as many tokens. Both of them restrict
      the law to the 100 largest first: `most=100`. In (0, 1], neutral 1 and
      above.
    min_p: keep p >= min_p * max p. In [0, 1], neutral 0.
    top_k: int; keep the k largest, and what equals the smallest of them. At
      least 1, neutral 0.
    top_p: keep the shortest prefix of mass top_p or more. In (0, 1], neutral 1
      and above.
    typical: keep those with the smallest |-ln p - H(p)|, until their mass is
      `typical` or more, and what equals the last of them. May drop the most
      likely id. In (0, 1], neutral 1 and above.
    epsilon: keep p >= epsilon. In [0, 1), neutral 0.
    eta: keep p >= min(eta, sqrt(eta) * exp(-H(p))), as in the code of the
      paper (arXiv 2210.15191) and of transformers; the formula in the
      docstring of the latter has exp(-H) under the root. In [0, 1), neutral 0.
  """

  top_n_sigma: Array | float | None = None
  top_h: Array | float | None = None
  top_h_cumulative: Array | float | None = None
  min_p: Array | float | None = None
  top_k: Array | int | None = None
  top_p: Array | float | None = None
  typical: Array | float | None = None
  epsilon: Array | float | None = None
  eta: Array | float | None = None


class _Limits(NamedTuple):
  neutral: float
  allows: Callable[[float], bool]
  allowed: str


_MASS = _Limits(1, lambda x: 0 < x <= 1, 'above 0 and at most 1 (1: off)')
_CUTOFF = _Limits(0, lambda x: 0 <= x < 1, 'at least 0 and below 1 (0: off)')
_LIMITS = {
  'top_n_sigma': _Limits(math.inf, lambda x: x >= 0, 'above 0 (0, inf: off)'),
  'top_h': _MASS,
  'top_h_cumulative': _MASS,
  'min_p': _Limits(0, lambda x: 0 <= x <= 1, 'from 0 to 1 (0: off)'),
  'top_k': _Limits(
    0,
    lambda x: isinstance(x, numbers.Integral) and x >= 0,
    'a whole number of at least 1 (0: off)',
  ),
  'top_p': _MASS,
  'typical': _MASS,
  'epsilon': _CUTOFF,
  'eta': _CUTOFF,
}


def parse(
  settings: Mapping[str, float], most: int | None, section: str
) -> Rules:
  """Rules of a config or a request, checked; None for what is off.

  Args:
    settings: numbers by the names in `Rules`; those left out are off.
    most: of `truncate`.
    section: what the settings are called, for errors, such as 'sampler'.

  Raises:
    UserError: an unknown name, a number out of its range, or a top_k of more
      ids than `most`.
  """
  values = {}
  for name, value in settings.items():
    if name not in _LIMITS:
      raise UserError(
        f'{section}.{name} is not a truncation rule; known are '
        f'{", ".join(_LIMITS)}'
      )
    limits = _LIMITS[name]
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not limits.allows(value):
      raise UserError(f'{section}.{name}={value!r} must be {limits.allowed}')
    if name == 'top_k' and most is not None and value > most:
      raise UserError(
        f'{section}.top_k={value} is more than the most={most} ids that are '
        'ever kept; lower the one or raise the other'
      )
    # Files of settings cannot hold an infinity.
    is_off = name == 'top_n_sigma' and value == 0
    if value != limits.neutral and not is_off:
      values[name] = value
  return Rules(**values)


def stack(requests: Sequence[Rules]) -> Rules:
  """Scalar rules of several rows as arrays, `[N]`.

  A rule that any row has is on, with its neutral number in the other rows.
  """
  columns = {}
  for name, limits in _LIMITS.items():
    values = [getattr(rules, name) for rules in requests]
    if any(value is not None for value in values):
      columns[name] = np.array(
        [limits.neutral if value is None else value for value in values],
        np.int32 if name == 'top_k' else np.float32,
      )
  return Rules(**columns)
