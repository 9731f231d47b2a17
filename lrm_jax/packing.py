"""Sequences of different lengths -> rows of one length, and back.

Rows hold whole sequences one behind the other; segment ids keep them apart
and positions start at 0 in each. The losses never see rows: they gather
log-probabilities back to `[B, G, T]` by each sequence's offset.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from lrm_jax import errors
from lrm_jax.structs import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
  """Packed rows; every field is `[..., R, S]` int32.

  Attributes:
    tokens: token ids; 0 where empty.
    positions: counted from 0 inside each sequence.
    segment_ids: 1, 2, ... in the order of the row; 0 where empty.
  """

  tokens: Array
  positions: Array
  segment_ids: Array


def first_fit_decreasing(
  lengths: Sequence[int], capacity: int
) -> list[list[int]]:
  """Bins of at most `capacity`, the longest sequences placed first.

  Uses at most 11/9 of the fewest bins possible, plus one (Johnson 1973).
  Ties keep the order of the input, so the result is deterministic.

  Args:
    lengths: of each sequence.
    capacity: of a bin.

  Returns:
    The indices of the sequences in each bin.

  Raises:
    UserError: a sequence is longer than a bin.
  """
  order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
  if order and lengths[order[0]] > capacity:
    raise errors.UserError(
      f'packing: a sequence has {lengths[order[0]]} tokens, a row holds '
      f'{capacity}; raise row_length'
    )
  bins: list[list[int]] = []
  room: list[int] = []
  for i in order:
    for b, free in enumerate(room):
      if lengths[i] <= free:
        break
    else:
      b = len(bins)
      bins.append([])
      room.append(capacity)
    bins[b].append(i)
    room[b] -= lengths[i]
  return bins


def empty_rows(*shape: int) -> Rows:
  """Rows of `shape` with nothing in them."""
  return Rows(*(np.zeros(shape, np.int32) for _ in range(3)))


def place(
  rows: Rows, row: int, start: int, segment: int, tokens: Sequence[int]
) -> None:
  """Writes one sequence into `rows` (two-dimensional, NumPy), in place."""
  span = slice(start, start + len(tokens))
  rows.tokens[row, span] = tokens
  rows.positions[row, span] = np.arange(len(tokens))
  rows.segment_ids[row, span] = segment
