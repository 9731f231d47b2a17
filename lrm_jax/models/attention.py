"""Attention over rows, whatever the scheme of positions.

Scores and softmax are float32, `[N, K, Q, R, S]`: key/value head k has the
R = H / K query heads k * R ..., as in the Hugging Face layout. Over rows one of
KERNELS computes it; `paged.py` has the cache.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax.errors import UserError
from lrm_jax.models import kernels, positions
from lrm_jax.models.config import ModelConfig
from lrm_jax.structs import Array

# Finite, so a row that may look at nothing gives a uniform law, not NaN.
MASKED = -1e30
# Of the chunked kernel: queries at a time, at most, and parts of a row whose
# queries meet only the keys up to the end of their part.
CHUNK = 128
PARTS = 8
# Kernels that are given their masks; the others make them as they go.
MASKED_KERNELS = ('reference', 'dot_product')
# Stands for no window where windows are data.
ENDLESS = np.iinfo(np.int32).max


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
  """What attention needs to know of packed rows, once for all layers.

  A leading axis counts the kinds of layers: the layers are one scanned program,
  to which its own kind is data.

  Attributes:
    positions: `[N, S]` int32.
    segment_ids: `[N, S]` int32; 0 is padding, every other number is one
      sequence of the row, in order.
    prefix_ids: `[N, S]` int32, the segment that each one continues, which
      stands before it in the row; its own number where it continues none.
      None where nothing is continued.
    windows: `[kinds]` int32 tokens, ENDLESS where there is none.
    prepared: `[kinds, ...]`, what the scheme needs to place tokens.
    masks: `[kinds, N, S, S]` bool, True where a query (axis 2) sees a key
      (axis 3); None where the kernel makes its own.
    table: T5's `[buckets, H]`; None for other schemes.
  """

  positions: Array
  segment_ids: Array
  prefix_ids: Array | None
  windows: Array
  prepared: Any
  masks: Array | None
  table: Array | None


def make_rows(
  config: ModelConfig,
  at: Array,
  segment_ids: Array,
  table: Array | None,
  prefix_ids: Array | None = None,
) -> Rows:
  """Prepares rows whose tokens stand `at` `[N, S]` in their sequences."""
  scheme = positions.SCHEMES[config.positions]
  windows = np.array(
    [kind.window if kind.window else ENDLESS for kind in config.kinds], np.int32
  )
  prepared = [scheme.prepare(config, k, at[..., None]) for k in config.kinds]
  masks = None
  if config.attention in MASKED_KERNELS:
    seen = segment_ids if prefix_ids is None else prefix_ids
    row = jnp.arange(at.shape[1]), at, segment_ids
    masks = jnp.stack([_mask(window, (*row, seen), row) for window in windows])
  return Rows(
    positions=at,
    segment_ids=segment_ids,
    prefix_ids=prefix_ids,
    windows=jnp.asarray(windows),
    prepared=jax.tree.map(lambda *leaves: jnp.stack(leaves), *prepared),
    masks=masks,
    table=table,
  )


@functools.cache
def over_rows(config: ModelConfig) -> Callable[..., Any]:
  """`attend(rows, kind, q, k, v)` over the sequences of packed rows.

  The same function for equal configs, so that it can be static in a pytree.

  Args:
    config: the architecture; its `attention` names the kernel.

  Returns:
    A function of rows from `make_rows`, the layer's index into `config.kinds`,
    q `[N, S, H, head_dim]`, k and v `[N, S, K, head_dim]`; it gives
    `[N, S, H, head_dim]` in the dtype of v, and (placed k, v) for a cache.
  """
  scheme = positions.SCHEMES[config.positions]
  kernel = KERNELS[config.attention]

  def attend(rows: Rows, kind: Array | int, q: Array, k: Array, v: Array):
    if len(config.kinds) == 1:
      kind = 0  # Known, where the scan only hands over a number.
    prepared = jax.tree.map(lambda x: _of_kind(x, kind), rows.prepared)
    q, k = scheme.place(q, prepared), scheme.place(k, prepared)
    return kernel(config, rows, kind, q, k, v), (k, v)

  return attend


def reference(
  config: ModelConfig,
  rows: Rows,
  kind: Array | int,
  q: Array,
  k: Array,
  v: Array,
) -> Array:
  """Every query against every key of its row: S^2 scores per head."""
  mask = _of_kind(rows.masks, kind)
  return _attend_rows(config, rows, rows.positions, mask, q, k, v)


def chunked(
  config: ModelConfig,
  rows: Rows,
  kind: Array | int,
  q: Array,
  k: Array,
  v: Array,
) -> Array:
  """The reference, CHUNK queries at a time against the keys before them.

  Scores are made again in the backward pass, so that S^2 of them never exist.
  Those of keys behind the queries' part of the row are never made, which
  leaves some 5 / 8 of them in a row of four parts.
  """
  length = q.shape[1]
  count = -(-length // CHUNK)
  each = -(-count // PARTS)  # Chunks of a part.
  size = -(-length // count)  # Even chunks waste less padding.
  seen = rows.segment_ids if rows.prefix_ids is None else rows.prefix_ids
  places = jnp.broadcast_to(jnp.arange(length), seen.shape)
  keys = places, rows.positions, rows.segment_ids
  # Turned here, so that the products need not turn them once a chunk.
  k, v = jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)

  def chunk(end, q, *own):
    known = tuple(x[:, :end] for x in keys)
    mask = _mask(rows.windows[kind], own, known)
    operands = rows.table, q, jnp.swapaxes(k[:, :, :end], 1, 2)
    make_scores = functools.partial(_scores, config)
    fixed = own[1], known[1], mask
    return _attend(make_scores, operands, fixed, v[:, :, :end])

  def part(start):
    end = min(start + each * size, length)
    own = (x[:, start:end] for x in (q, *keys, seen))
    return _in_turn(functools.partial(chunk, end), size, *own)

  parts = [part(start) for start in range(0, length, each * size)]
  return jnp.concatenate(parts, axis=1)


def _in_turn(function, size, *arrays):
  """`function(*arrays)`, `size` entries of axis 1 at a time."""
  length = arrays[0].shape[1]
  count = -(-length // size)
  if count == 1:
    return function(*arrays)

  def cut(x: Array) -> Array:
    room = count * size - length
    x = jnp.pad(x, [(0, 0), (0, room)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(len(x), count, size, *x.shape[2:]), 1, 0)

  out = jax.lax.map(lambda part: function(*part), tuple(map(cut, arrays)))
  out = jnp.moveaxis(out, 0, 1)
  return out.reshape(len(out), -1, *out.shape[3:])[:, :length]


def dot_product(
  config: ModelConfig,
  rows: Rows,
  kind: Array | int,
  q: Array,
  k: Array,
  v: Array,
) -> Array:
  """See `kernels.dot_product`."""
  mask = _of_kind(rows.masks, kind)
  return kernels.dot_product(q, k, v, mask, scale=_scale(config))


def splash(
  config: ModelConfig,
  rows: Rows,
  kind: Array | int,
  q: Array,
  k: Array,
  v: Array,
) -> Array:
  """See `kernels.splash`. A window is part of its program, so kinds branch.

  Raises:
    UserError: segments continue others, which it cannot do.
  """
  if rows.prefix_ids is not None:
    raise UserError(
      "model: attention='splash' keeps segments apart and has no prefixes; "
      'choose another'
    )
  branches = [
    functools.partial(
      kernels.splash,
      scale=_scale(config),
      window=each.window,
      softcap=config.attention_softcap,
    )
    for each in config.kinds
  ]
  return jax.lax.switch(kind, branches, q, k, v, rows.segment_ids)


KERNELS: dict[str, Callable[..., Array]] = {
  'reference': reference,
  'chunked': chunked,
  'dot_product': dot_product,
  'splash': splash,
}


def _of_kind(stacked: Array, kind: Array | int) -> Array:
  return jax.lax.dynamic_index_in_dim(stacked, kind, keepdims=False)


def _multiply(q: Array, k: Array) -> Array:
  """`[N, Q, K, R, d]` by `[N, S, K, d]` -> `[N, K, Q, R, S]` float32."""
  k = jnp.swapaxes(k, 1, 2)
  found = _matmul(_by_head(q), jnp.swapaxes(k, 2, 3))
  return found.reshape(len(q), q.shape[2], q.shape[1], q.shape[3], -1)


def _by_head(x: Array) -> Array:
  """`[N, Q, K, R, d]` -> `[N, K, Q * R, d]`: products that a CPU is good at."""
  n, size, heads, each, width = x.shape
  return jnp.moveaxis(x, 2, 1).reshape(n, heads, size * each, width)


_matmul = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)


def _attend_rows(config, rows, at, mask, q, k, v):
  """Queries `[N, Q, ...]` that stand `at` `[N, Q]`, against all keys."""
  found = _scores(config, rows.table, q, k, (at, rows.positions, mask))
  weights = _softmax(found, v.dtype)
  return jnp.einsum('nkqrs,nskd->nqkrd', weights, v).reshape(q.shape)


def _scores(config, table, q, k, fixed):
  """`[N, K, Q, R, S]`; fixed: positions `[N, Q]` and `[N, S]`, and the mask."""
  at, starts, mask = fixed
  pair = positions.Pair(
    product=functools.partial(product, config, _multiply),
    q=scaled(config, q),
    k=k,
    q_positions=at[..., None],
    k_positions=starts[..., None],
    distance=(at[:, :, None] - starts[:, None])[:, None, :, None],
    start=starts[:, None, None, None],
  )
  return scores(config, table, pair, mask[:, None, :, None])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(make_scores, operands, fixed, v):
  """softmax(make_scores(*operands, fixed)) v; keeps no scores for later.

  Divides by the sum of the weights last, where they have been added up. The
  gradient is that of FlashAttention (Dao et al. 2022, arXiv 2205.14135,
  appendix B.2), in one block.
  """
  return _attend_forward(make_scores, operands, fixed, v)[0]


def _attend_forward(make_scores, operands, fixed, v):
  found = make_scores(*operands, fixed)
  n, heads, size, each, _ = found.shape
  most = jnp.max(found, axis=-1, keepdims=True)
  weights = jnp.exp(found - most).reshape(n, heads, size * each, -1)
  total = jnp.sum(weights, axis=-1, keepdims=True)
  out = _matmul(weights.astype(v.dtype), v) / total
  result = jnp.moveaxis(out.reshape(n, heads, size, each, -1), 1, 2)
  result = result.astype(v.dtype).reshape(operands[1].shape)
  log_total = most + jnp.log(total).reshape(most.shape)
  return result, (operands, fixed, v, out, log_total)


def _attend_backward(make_scores, kept, slopes):
  operands, fixed, v, out, log_total = kept
  # Traced out of reach of the setting around the model.
  with jax.default_matmul_precision('highest'):
    found, pull = jax.vjp(lambda *x: make_scores(*x, fixed), *operands)
    n, heads, size, each, _ = found.shape
    weights = jnp.exp(found - log_total).reshape(n, heads, size * each, -1)
    slopes = _by_head(slopes.reshape(n, size, heads, each, -1))
    of_mean = jnp.sum(slopes * out, axis=-1, keepdims=True)
    of_v = _matmul(jnp.swapaxes(weights.astype(v.dtype), 2, 3), slopes)
    of_weights = _matmul(slopes, jnp.swapaxes(v, 2, 3))
    of_scores = weights * (of_weights - of_mean)
    return pull(of_scores.reshape(found.shape)), None, of_v.astype(v.dtype)


_attend.defvjp(_attend_forward, _attend_backward)


def _mask(window: Array | int, queries, keys) -> Array:
  """`[N, Q, S]`: same segment or its prefix, not later, within the window.

  Either side is (places in the row `[Q]`, positions `[N, Q]`, segments), and
  queries have the segments that they continue as well.
  """
  q_place, q_at, q_segment, q_prefix = queries
  k_place, k_at, k_segment = (x[..., None, :] for x in keys)
  same = q_segment[..., None] == k_segment
  same |= q_prefix[..., None] == k_segment
  past = q_place[..., None] >= k_place
  return same & past & (q_at[..., None] - k_at < window)


def scores(
  config: ModelConfig, table: Array | None, pair: positions.Pair, mask: Array
) -> Array:
  """Scores of the scheme, MASKED where nothing may be seen."""
  scheme = positions.SCHEMES[config.positions]
  found, seen = scheme.scores(config, table, pair)
  return jnp.where(mask & seen, found, MASKED)


def _softmax(scores: Array, dtype) -> Array:
  return jax.nn.softmax(scores, axis=-1).astype(dtype)


def scaled(config: ModelConfig, q: Array) -> Array:
  """Queries whose products with keys are scores."""
  return q * jnp.asarray(_scale(config), q.dtype)


def _scale(config: ModelConfig) -> float:
  width = config.query_width if config.query_width else config.head_dim
  return width**-0.5


def product(
  config: ModelConfig, multiply: Callable[..., Array], q: Array, k: Array
) -> Array:
  """Soft-capped products in float32, heads in groups."""
  grouped = q.reshape(*q.shape[:-2], config.n_kv_heads, -1, q.shape[-1])
  found = multiply(grouped, k)
  if config.attention_softcap:
    cap = config.attention_softcap
    found = cap * jnp.tanh(found / cap)
  return found
