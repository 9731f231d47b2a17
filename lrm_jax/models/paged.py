"""Attention of one new token per slot to pages and to the running round.

Every page is met by its readers where it lies, which gives a softmax over that
page alone: its largest score m, the sum l of exp(score - m), and the sum o of
exp(score - m) * value. A slot then adds up those of its own pages, in the order
of its tokens, so that the result does not depend on where pages are, on who
shares them or on the number of slots:

  m = max(m1, m2)    (l, o) = (l1, o1) * exp(m1 - m) + (l2, o2) * exp(m2 - m)

Milakov and Gimelshein 2018 (arXiv 1805.02867); pages as in Kwon et al. 2023
(arXiv 2309.06180).
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrm_jax import ordered
from lrm_jax.models import attention, cache, positions
from lrm_jax.models.config import ModelConfig
from lrm_jax.structs import Array

# Pages of a slot that are added up at a time where pools are read in blocks.
COLUMNS = 32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Directory:
  """Who reads which pages of a pool; the same for all layers of a round.

  Attributes:
    reader: `[n, g]` int32 slots; any where `fill` is 0.
    first: `[n]` int32, the position of the page's first token, the same in
      all its readers' sequences.
    fill: `[n, g]` int32, how many of its tokens the reader sees.
    entries: `[W, J]` int32, a slot's pages in order: page * g + column, and
      n * g behind the last one.
    count: int32 scalar, the most pages that any slot has.
    used: int32 scalar, segments in use, or blocks.
    block: pages that are read at a time; 0 for segments.
  """

  reader: Array
  first: Array
  fill: Array
  entries: Array
  count: Array
  used: Array
  block: int = dataclasses.field(default=0, metadata={'static': True})


class Partial(NamedTuple):
  """A softmax over a part of the keys.

  Attributes:
    m: `[..., R]` float32, largest score.
    l: `[..., R]` float32, sum of exp(score - m).
    o: `[..., R, head_dim]` float32, sum of exp(score - m) * value.
  """

  m: Array
  l: Array  # noqa: E741
  o: Array


def merge(a: Partial, b: Partial) -> Partial:
  """The softmax over both parts."""
  m = jnp.maximum(a.m, b.m)
  x, y = jnp.exp(a.m - m), jnp.exp(b.m - m)
  return Partial(m, a.l * x + b.l * y, a.o * x[..., None] + b.o * y[..., None])


def nothing(shape: tuple[int, ...], width: int) -> Partial:
  """The softmax over no keys at all; `merge` leaves others as they are."""
  return Partial(
    jnp.full(shape, attention.MASKED, jnp.float32),
    jnp.zeros(shape),
    jnp.zeros((*shape, width)),
  )


class Memory(NamedTuple):
  """What the layers of a step hand on.

  Attributes:
    recent: of each layer.
    scratch: of each of the two pools, see `empty_scratch`.
  """

  recent: tuple[cache.Recent, ...]
  scratch: tuple[Partial, Partial]


def empty_scratch(
  config: ModelConfig, pages: int, readers: int, block: int = 0
) -> Partial:
  """Room for what the pages of a pool give to a layer, `[n + 1, K, g, R]`.

  Written before it is read, but for the last row, which stays nothing: slots
  with fewer pages than others read that.
  """
  heads, each = config.n_kv_heads, config.n_heads // config.n_kv_heads
  pages = sum(cache.segment_sizes(pages, block))
  return nothing((pages + 1, heads, readers, each), config.head_dim)


def empty_recents(
  config: ModelConfig, slots: int, tokens: int
) -> tuple[cache.Recent, ...]:
  """Of each layer, for a round of `tokens` on `slots` rows."""
  return (cache.empty_recent(config, slots, tokens),) * config.n_layers


def prepare(config: ModelConfig, at: Array) -> tuple[Any, ...]:
  """What `positions` needs of tokens, for each kind of layer; any shape."""
  scheme = positions.SCHEMES[config.positions]
  return tuple(
    scheme.prepare(config, kind, at[..., None]) for kind in config.kinds
  )


def attend(
  config: ModelConfig,
  pools: tuple[tuple[cache.Pool, ...], tuple[cache.Pool, ...]],
  directories: tuple[Directory, Directory],
  step: Array,
  at: Array,
  prepared: tuple[Any, ...],
  memory: Memory,
  layer: int,
  table: Array | None,
  kind: int,
  q: Array,
  k: Array,
  v: Array,
) -> tuple[Array, Memory]:
  """One new token per slot.

  Args:
    config: the architecture.
    pools: of prompts and of responses, one for each layer.
    directories: of prompts and responses.
    step: int32 scalar, tokens of this round that are there already.
    at: `[W]` int32, positions of the new tokens.
    prepared: of them, see `prepare`.
    memory: from the layer before.
    layer: its number.
    table: see `attention.Rows`.
    kind: the layer's index into `config.kinds`.
    q: `[W, H, head_dim]`.
    k: `[W, K, head_dim]`.
    v: `[W, K, head_dim]`.

  Returns:
    `[W, H, head_dim]` in the dtype of v, and the memory with the new tokens.
  """
  place = positions.SCHEMES[config.positions].place
  k = place(k, prepared[kind])
  recent = memory.recent[layer].write(k, v, step)
  # Each of those who read it would compute it again.
  q = jax.lax.optimization_barrier(
    attention.scaled(config, place(q, prepared[kind]))
  )
  part = functools.partial(_part, config, table, kind)

  grouped = (len(q), config.n_kv_heads, q.shape[1] // config.n_kv_heads)
  total = nothing(grouped, q.shape[-1])
  scratch = []
  for pool, directory, whole in zip(
    pools, directories, memory.scratch, strict=True
  ):
    whole = _over_pool(part, pool[layer], directory, q, at, whole)
    total = _add_up(total, whole, directory)
    scratch.append(whole)

  since = _over_recent(part, recent, q, at, step)
  total = merge(total, Partial(*(x[:, :, 0] for x in since)))
  out = total.o / total.l[..., None]
  kept = (*memory.recent[:layer], recent, *memory.recent[layer + 1 :])
  return out.astype(v.dtype).reshape(q.shape), Memory(kept, tuple(scratch))


def _over_recent(part, recent: cache.Recent, q, at, step) -> Partial:
  """`[W, K, 1, R]`, of the tokens since the round began."""
  places = jnp.arange(recent.v.shape[2])
  return part(
    q[:, None],
    at[:, None],
    recent.k,
    recent.v,
    (at - step)[:, None] + places,
    jnp.broadcast_to(places <= step, (len(q), 1, len(places))),
  )


def _over_pool(
  part, pool: cache.Pool, directory: Directory, q, at, whole: Partial
) -> Partial:
  """`whole`, with what the segments in use give, or the blocks.

  For each a loop that runs once or not at all, and not a branch, so that it is
  written in place.
  """
  if directory.block:
    return _over_blocks(part, *pool, directory, q, at, whole)
  start = 0
  for number, pages in enumerate(pool):
    mine = slice(start, start + len(pages.k))

    def one(turn, whole, pages=pages, mine=mine):
      # Nothing else depends on the turn: all would be moved out of the loop.
      _, now = jax.lax.optimization_barrier((turn, (q, at)))
      readers = (
        x[mine] for x in (directory.reader, directory.first, directory.fill)
      )
      found = _over_pages(part, pages, *readers, *now)
      return _put(whole, found, mine.start)

    is_used = (directory.used > number).astype(jnp.int32)
    whole = jax.lax.fori_loop(0, is_used, one, whole)
    start = mine.stop
  return whole


def _over_blocks(
  part, pages: cache.Pages, directory: Directory, q, at, whole: Partial
) -> Partial:
  """`whole`, with what the blocks in use give; one loop, in place."""

  def one(turn, whole):
    start = turn * directory.block
    cut = lambda x: jax.lax.dynamic_slice_in_dim(x, start, directory.block)
    mine = jax.tree.map(cut, pages)
    readers = map(cut, (directory.reader, directory.first, directory.fill))
    return _put(whole, _over_pages(part, mine, *readers, q, at), start)

  return jax.lax.fori_loop(0, directory.used, one, whole)


def _put(whole: Partial, found: Partial, start: Array | int) -> Partial:
  """`whole`, with `found` from its page `start` on."""
  put = jax.lax.dynamic_update_slice_in_dim
  return Partial(
    *(put(old, new, start, 0) for old, new in zip(whole, found, strict=True))
  )


def _over_pages(
  part, pages: cache.Pages, reader, first, fill, q, at
) -> Partial:
  """`[pages, K, g, R]`, each reader of each page."""
  places = jnp.arange(cache.PAGE)
  return part(
    q[reader],
    at[reader],
    *pages.read(q.dtype),
    first[:, None] + places,
    places < fill[..., None],
  )


def _add_up(total: Partial, whole: Partial, directory) -> Partial:
  """Page after page, each slot its own."""
  if directory.block:
    return _add_up_columns(total, whole, directory)
  width, readers = len(total.m), directory.reader.shape[1]

  def one(j, total):
    page, column = jnp.divmod(directory.entries[:width, j], readers)
    return merge(total, Partial(*(x[page, :, column] for x in whole)))

  return jax.lax.fori_loop(0, directory.count, one, total)


def _add_up_columns(total: Partial, whole: Partial, directory) -> Partial:
  """COLUMNS pages of every slot at a time: few steps, each of some work."""
  width, readers = len(total.m), directory.reader.shape[1]
  entries = directory.entries[:width]
  room = -entries.shape[1] % COLUMNS
  # The row behind all pages is nothing.
  entries = jnp.pad(
    entries, ((0, 0), (0, room)), constant_values=(len(whole.m) - 1) * readers
  )

  def one(turn, total):
    mine = jax.lax.dynamic_slice_in_dim(entries, turn * COLUMNS, COLUMNS, 1)
    page, column = jnp.divmod(mine, readers)
    # [W, COLUMNS, K, R, ...].
    found = Partial(*(x[page, :, column] for x in whole))
    m = jnp.max(found.m, axis=1)
    scale = jnp.exp(found.m - m[:, None])
    return merge(
      total,
      Partial(
        m,
        jnp.sum(found.l * scale, axis=1),
        jnp.sum(found.o * scale[..., None], axis=1),
      ),
    )

  return jax.lax.fori_loop(0, -(-directory.count // COLUMNS), one, total)


def _part(
  config: ModelConfig,
  table: Array | None,
  kind: int,
  q: Array,
  q_at: Array,
  k: Array,
  v: Array,
  k_at: Array,
  is_there: Array,
) -> Partial:
  """The softmax of g readers over s keys of n pages.

  Args:
    config: the architecture.
    table: see `attention.Rows`.
    kind: the layer's index into `config.kinds`.
    q: `[n, g, H, head_dim]`, placed and scaled.
    q_at: `[n, g]` int32.
    k: `[n, K, head_dim, s]`, placed.
    v: `[n, K, s, head_dim]`.
    k_at: `[n, s]` int32, their positions.
    is_there: `[n, g, s]` bool, which of them a reader has.

  Returns:
    A `Partial` of `[n, K, g, R]`.
  """
  pair = positions.Pair(
    product=functools.partial(attention.product, config, _multiply),
    q=q,
    k=k,
    q_positions=q_at[..., None],
    k_positions=k_at[:, None],
    distance=(q_at[..., None] - k_at[:, None])[:, None, :, None],
    start=k_at[:, None, None, None],
    tokens_last=True,
  )
  window = config.kinds[kind].window
  mask = is_there[:, None, :, None] & (not window or pair.distance < window)
  scores = attention.scores(config, table, pair, mask)
  # As rows of a matrix; along five axes it would take longer.
  rows = scores.reshape(-1, scores.shape[-1])
  m = rows.max(-1)
  weights = jnp.exp(rows - m[:, None])
  flat = weights.astype(v.dtype).reshape(*v.shape[:2], -1, v.shape[2])
  o, total = _batched(flat, v), ordered.total(weights)
  shape = scores.shape[:-1]
  return Partial(m.reshape(shape), total.reshape(shape), o.reshape(*shape, -1))


def _multiply(q: Array, k: Array) -> Array:
  """`[n, g, K, R, d]` and `[n, K, d, s]` -> `[n, K, g, R, s]`.

  One matrix product for each key/value head of each page, with nothing to move
  but the queries, so that pages are read as fast as memory gives them.
  """
  count, readers, heads, each, width = q.shape
  flat = jnp.swapaxes(q, 1, 2).reshape(count, heads, -1, width)
  return _batched(flat, k).reshape(count, heads, readers, each, -1)


def _batched(a: Array, b: Array) -> Array:
  """`[n, K, x, y]` and `[n, K, y, z]` -> `[n, K, x, z]` float32."""
  return jax.lax.dot_general(
    a,
    b,
    (((3,), (2,)), ((0, 1), (0, 1))),
    preferred_element_type=jnp.float32,
  )
