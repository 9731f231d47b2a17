"""Sequences of different lengths -> rows of one length, and back.

Rows hold whole sequences one behind the other; segment ids keep them apart
and positions start at 0 in each. Responses to one prompt may share it: all but
its last token stand once in a row, as a segment of their own that the segments
of the responses continue. Each begins with the last token of the prompt, so
that every response is predicted within its own segment. The losses never see
rows: they gather log-probabilities back to `[B, G, T]` by each sequence's
offset.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

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
    prefix_ids: the segment that each one continues, its own number where it
      continues none; None where every segment is a whole sequence.
  """

  tokens: Array
  positions: Array
  segment_ids: Array
  prefix_ids: Array | None = None

  @property
  def inputs(self) -> tuple[Array | None, ...]:
    """What `transformer.apply` takes."""
    return self.tokens, self.positions, self.segment_ids, self.prefix_ids


def empty_rows(*shape: int, shared: bool = False) -> Rows:
  """Rows of `shape` with nothing in them; `shared`: with `prefix_ids`."""
  fields = [np.zeros(shape, np.int32) for _ in range(4 if shared else 3)]
  return Rows(*fields)


def place(
  rows: Rows,
  row: int,
  start: int,
  segment: int,
  tokens: Sequence[int],
  *,
  prefix: tuple[int, int] = (0, 0),
) -> None:
  """Writes one segment into `rows` (two-dimensional, NumPy), in place.

  Args:
    rows: written to.
    row: which of them.
    start: place of the first token.
    segment: its number.
    tokens: ids.
    prefix: the segment that it continues and the tokens of that one; of none.
  """
  span = slice(start, start + len(tokens))
  rows.tokens[row, span] = tokens
  rows.positions[row, span] = prefix[1] + np.arange(len(tokens))
  rows.segment_ids[row, span] = segment
  if rows.prefix_ids is not None:
    rows.prefix_ids[row, span] = prefix[0] if prefix[0] else segment


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


def empty_batch(
  batch: int,
  samples: int,
  rows: int,
  row_length: int,
  groups: int,
  *,
  shared: bool = False,
) -> PackedBatch:
  """No sequences at all, in the shapes of `pack_groups`."""
  return PackedBatch(
    rows=empty_rows(batch, rows, row_length, shared=shared),
    groups=np.full((batch, groups), -1, np.int32),
    offsets=np.zeros((batch, groups, samples), np.int32),
    count=np.int32(0),
  )


def pack_groups(
  rollouts: Rollouts,
  keep: np.ndarray,
  *,
  rows: int,
  row_length: int,
  groups_per_micro_batch: int,
  shared: bool = False,
) -> PackedBatch:
  """Packs prompt + response of every kept sample; groups stay whole.

  Groups are taken longest first, and each goes into the first micro-batch
  whose rows have room for it.

  Args:
    rollouts: `Rollouts` of NumPy arrays.
    keep: `[B, G]` bool; the others are not packed at all.
    rows: R, rows of a micro-batch.
    row_length: S, tokens of a row.
    groups_per_micro_batch: Q, groups in a micro-batch at most.
    shared: samples of a group in the same row share their prompt.

  Returns:
    NumPy arrays with M = B, the most micro-batches that can be needed.

  Raises:
    UserError: a sequence is longer than a row, or a group needs more rows
      than a micro-batch has.
  """
  batch, samples = keep.shape
  sizes = (rollouts.prompt_length[:, None] + rollouts.length) * keep
  packed = empty_batch(
    batch, samples, rows, row_length, groups_per_micro_batch, shared=shared
  )
  order = [b for b in np.argsort(-sizes.sum(1), kind='stable') if keep[b].any()]
  layouts: list[_Layout] = []
  for b in order:
    chosen = np.flatnonzero(keep[b])
    common = rollouts.prompt_length[b] - 1 if shared else 0
    own = sizes[b, chosen] - common
    limit = groups_per_micro_batch
    layout = next(
      (x for x in layouts if x.groups < limit and x.add(own, common)), None
    )
    if layout is None:
      layout = _Layout(rows, row_length)
      if not layout.add(own, common):
        raise _does_not_fit(sizes[b], rows, row_length)
      layouts.append(layout)
    micro, slot = layouts.index(layout), layout.groups - 1
    packed.groups[micro, slot] = b
    target = jax.tree.map(lambda x: x[micro], packed.rows)  # noqa: B023
    starts = _write_group(target, layout, rollouts, b, chosen, common)
    packed.offsets[micro, slot, chosen] = starts
  return dataclasses.replace(packed, count=np.int32(len(layouts)))


def _write_group(
  rows: Rows,
  layout: '_Layout',
  rollouts: Rollouts,
  b: int,
  chosen: np.ndarray,
  common: int,
) -> list[int]:
  """Writes the layout's last group; where its responses start, flattened."""
  prompt = rollouts.prompt_ids[b, : rollouts.prompt_length[b]]
  for spot in layout.copies:
    place(rows, *spot[:3], prompt[:common])
  starts = []
  for g, spot in zip(chosen, layout.spots, strict=True):
    response = rollouts.response_ids[b, g, : rollouts.length[b, g]]
    tokens = np.concatenate([prompt[common:], response])
    place(rows, *spot[:3], tokens, prefix=(spot.prefix, common))
    before = spot.row * rows.tokens.shape[1] + spot.start
    starts.append(before + len(prompt) - common)
  return starts


class _Spot(NamedTuple):
  """Where a segment goes; `prefix` is the one that it continues, or 0."""

  row: int
  start: int
  segment: int
  prefix: int


class _Layout:
  """The rows of one micro-batch while it fills up.

  Attributes:
    groups: how many it has.
    copies: where the last group's prefix stands, once in each of its rows.
    spots: where the other segments of the last group stand.
  """

  def __init__(self, rows: int, row_length: int):
    self.groups = 0
    self.copies: list[_Spot] = []
    self.spots: list[_Spot] = []
    self._length = row_length
    self._used = [0] * rows
    self._segments = [0] * rows

  def add(self, sizes: np.ndarray, common: int = 0) -> bool:
    """Finds places for a group, or leaves everything as it is.

    Args:
      sizes: tokens of each segment, what they share not counted.
      common: tokens of a prefix that must be in the row of each.

    Returns:
      Whether there was room.
    """
    if sizes.sum() + common > self._length * len(self._used) - sum(self._used):
      return False
    used, segments = list(self._used), list(self._segments)
    copies: dict[int, _Spot] = {}
    spots: dict[int, _Spot] = {}

    def append(row: int, size: int, prefix: int) -> _Spot:
      segments[row] += 1
      used[row] += size
      return _Spot(row, used[row] - size, segments[row], prefix)

    for i in np.argsort(-sizes, kind='stable'):
      free = [self._length - u - int(sizes[i]) for u in used]
      fitting = [
        row
        for row, room in enumerate(free)
        if room >= (0 if row in copies else common)
      ]
      if not fitting:
        return False
      # Where the prefix is; and best fit: the fullest that still has room.
      row = max(fitting, key=lambda r: (r in copies, used[r]))
      if common and row not in copies:
        copies[row] = append(row, common, 0)
      prefix = copies[row].segment if common else 0
      spots[i] = append(row, int(sizes[i]), prefix)
    self.groups += 1
    self.copies = list(copies.values())
    self.spots = [spots[i] for i in range(len(sizes))]
    self._used, self._segments = used, segments
    return True


def _does_not_fit(
  sizes: np.ndarray, rows: int, row_length: int
) -> errors.UserError:
  return errors.UserError(
    f'packing: one group has {np.count_nonzero(sizes)} sequences of up to '
    f'{sizes.max()} tokens, a micro-batch has {rows} rows of {row_length}; '
    'raise train.row_length or train.rows'
  )


def segments(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
  """(tokens that stand before it, tokens) of every segment, in their order.

  What stands before is the segment that it continues.

  Args:
    rows: NumPy arrays, `[..., R, S]`.
  """
  ids = rows.segment_ids.reshape(-1, rows.segment_ids.shape[-1])
  border = np.zeros((len(ids), 1), bool)
  changes = ids[:, 1:] != ids[:, :-1]
  begins = np.concatenate([~border, changes], axis=1) & (ids > 0)
  ends = np.concatenate([changes, ~border], axis=1) & (ids > 0)
  first, last = np.flatnonzero(begins), np.flatnonzero(ends)
  return rows.positions.reshape(-1)[first], last - first + 1


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
    if not layout.add(np.array([len(tokens)])):
      break
    row, start, segment, _ = layout.spots[0]
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
