"""Ranges of keywords: numbers that can never work are refused in one line.

Parts ask as they are called or traced. A number that is traced itself, or an
array, has no value yet and passes.
"""

import itertools
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

from lrm_jax.errors import UserError


class Range(NamedTuple):
  """The numbers that a keyword may be.

  Attributes:
    allowed: in words, what follows `give` in the message.
    holds: whether a number is among them; False for NaN.
  """

  allowed: str
  holds: Callable[[Any], bool]

  def check(self, part: str, /, **values: Any) -> None:
    """Refuses values outside.

    Args:
      part: its name, for the message.
      **values: by the names of the keywords.

    Raises:
      UserError: the first value that is outside.
    """
    for name, value in values.items():
      if isinstance(value, numbers.Real) and not self.holds(value):
        raise UserError(f'{part}: {name} = {value}; give {self.allowed}')


NOT_NEGATIVE = Range('at least 0', lambda x: x >= 0)
POSITIVE = Range('one above 0', lambda x: x > 0)
COUNT = Range('at least 1', lambda x: x >= 1)
SHARE = Range('one from 0 to 1', lambda x: 0 <= x <= 1)
POSITIVE_SHARE = Range('one above 0, up to 1', lambda x: 0 < x <= 1)
DDOF = Range('0 or 1', lambda x: x in (0, 1))


def check_order(part: str, /, **values: Any) -> None:
  """Refuses numbers that fall from one to the next.

  Args:
    part: its name, for the message.
    **values: by the names of the keywords, the least first.

  Raises:
    UserError: they fall.
  """
  if not all(isinstance(value, numbers.Real) for value in values.values()):
    return
  if not all(a <= b for a, b in itertools.pairwise(values.values())):
    given = ', '.join(f'{name} = {value}' for name, value in values.items())
    raise UserError(f'{part}: {given}; give {" <= ".join(values)}')
