"""Sequences of different lengths -> rows of one length, and back.

Rows hold whole sequences one behind the other; segment ids keep them apart
and positions start at 0 in each. The losses never see rows: they gather
log-probabilities back to `[B, G, T]` by each sequence's offset.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax import errors
from lrm_jax.structs import Array, Rollouts


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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PackedBatch:
  """The rollouts of one mini-batch as M micro-batches of packed rows.

  Attributes:
    rows: `[M, R, S]`.
    groups: `[M, Q]` int32, which of the B groups a micro-batch holds; -1
      where it holds fewer than Q.
    offsets: `[M, Q, G]` int32, where each response starts in the flattened
      rows `[R * S]` of its micro-batch; 0 for samples left out.
    count: int32 scalar, micro-batches in use. The rest are empty, so shapes
      never change and the loop over micro-batches stops early.
  """

  rows: Rows
  groups: Array
  offsets: Array
  count: Array


def pack_groups(
  rollouts: Rollouts,
  keep: np.ndarray,
  *,
  rows: int,
  row_length: int,
  groups_per_micro_batch: int,
) -> PackedBatch:
  """Packs prompt + response of every kept sample; groups stay whole.

  Groups are taken longest first, and a micro-batch is closed when the next
  group does not fit into its rows.

  Args:
    rollouts: `Rollouts` of NumPy arrays.
    keep: `[B, G]` bool; the others are not packed at all.
    rows: R, rows of a micro-batch.
    row_length: S, tokens of a row.
    groups_per_micro_batch: Q, groups in a micro-batch at most.

  Returns:
    NumPy arrays with M = B, the most micro-batches that can be needed.

  Raises:
    UserError: a sequence is longer than a row, or a group needs more rows
      than a micro-batch has.
  """
  batch, samples = keep.shape
  sizes = (rollouts.prompt_length[:, None] + rollouts.length) * keep
  packed = PackedBatch(
    rows=empty_rows(batch, rows, row_length),
    groups=np.full((batch, groups_per_micro_batch), -1, np.int32),
    offsets=np.zeros((batch, groups_per_micro_batch, samples), np.int32),
    count=np.int32(0),
  )
  order = [b for b in np.argsort(-sizes.sum(1), kind='stable') if keep[b].any()]
  micro, slot, layout = -1, groups_per_micro_batch, _Layout(0, 0)
  for b in order:
    chosen = np.flatnonzero(keep[b])
    spots = None
    if slot < groups_per_micro_batch:
      spots = layout.add(sizes[b, chosen])
    if spots is None:
      micro, slot = micro + 1, 0
      layout = _Layout(rows, row_length)
      spots = layout.add(sizes[b, chosen])
      if spots is None:
        raise errors.UserError(_does_not_fit(sizes[b], rows, row_length))
    packed.groups[micro, slot] = b
    target = jax.tree.map(lambda x: x[micro], packed.rows)  # noqa: B023
    prompt = rollouts.prompt_ids[b, : rollouts.prompt_length[b]]
    for g, (row, start, segment) in zip(chosen, spots, strict=True):
      response = rollouts.response_ids[b, g, : rollouts.length[b, g]]
      place(target, row, start, segment, np.concatenate([prompt, response]))
      packed.offsets[micro, slot, g] = row * row_length + start + len(prompt)
    slot += 1
  return dataclasses.replace(packed, count=np.int32(micro + 1))


class _Layout:
  """The rows of one micro-batch while it fills up."""

  def __init__(self, rows: int, row_length: int):
    self._length = row_length
    self._used = [0] * rows
    self._segments = [0] * rows

  def add(self, sizes: np.ndarray) -> list[tuple[int, int, int]] | None:
    """(row, start, segment) of each sequence, or None if they do not fit."""
    used, segments = list(self._used), list(self._segments)
    spots: list[tuple[int, int, int]] = [(0, 0, 0)] * len(sizes)
    for i in np.argsort(-sizes, kind='stable'):
      # Best fit: the fullest row that still has room.
      fitting = [r for r, u in enumerate(used) if u + sizes[i] <= self._length]
      if not fitting:
        return None
      row = max(fitting, key=lambda r: used[r])
      segments[row] += 1
      spots[i] = (row, used[row], segments[row])
      used[row] += int(sizes[i])
    self._used, self._segments = used, segments
    return spots


def _does_not_fit(sizes: np.ndarray, rows: int, row_length: int) -> str:
  return (
    f'packing: one group has {np.count_nonzero(sizes)} sequences of up to '
    f'{sizes.max()} tokens, a micro-batch has {rows} rows of {row_length}; '
    'raise train.row_length or train.rows'
  )


def pack_demonstrations(
  source: Callable[[int], tuple[list[int], list[int]]],
  cursor: int,
  *,
  rows: int,
  row_length: int,
) -> tuple[Rows, np.ndarray, int]:
  """Fills rows with demonstrations until one does not fit.

  Args:
    source: index -> (prompt ids, response ids).
    cursor: the first index.
    rows: R.
    row_length: S.

  Returns:
    (rows `[R, S]`, mask `[R, S]` float32 that is 1 on response tokens, the
    index that did not fit: the next cursor).

  Raises:
    UserError: a demonstration is longer than a row.
  """
  packed, layout = empty_rows(rows, row_length), _Layout(rows, row_length)
  mask = np.zeros((rows, row_length), np.float32)
  while True:
    prompt, response = source(cursor)
    tokens = prompt + response
    spots = layout.add(np.array([len(tokens)]))
    if spots is None:
      break
    ((row, start, segment),) = spots
    place(packed, row, start, segment, tokens)
    mask[row, start + len(prompt) : start + len(tokens)] = 1
    cursor += 1
  if not packed.segment_ids.any():
    raise errors.UserError(
      f'packing: demonstration {cursor} has {len(tokens)} tokens, a row holds '
      f'{row_length}; raise row_length'
    )
  return packed, mask, cursor


def gather_responses(values: Array, offsets: Array, tokens: int) -> Array:
  """Per-position values of packed rows -> `[Q, G, T]`, one per token.

  Args:
    values: `[R, S]`; the value at a position belongs to the *next* token of
      its row, as log-probabilities do.
    offsets: `[Q, G]` from `PackedBatch`.
    tokens: T.

  Returns:
    The values of response tokens 0..T-1. Entries beyond a response belong to
    other sequences and must be masked.
  """
  flat = values.reshape(-1)
  index = offsets[..., None] - 1 + jnp.arange(tokens)
  return flat[jnp.clip(index, 0, flat.shape[0] - 1)]
