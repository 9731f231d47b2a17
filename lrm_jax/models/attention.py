"""Attention over rows and over the cache, whatever the scheme of positions.

Scores and softmax are float32, `[N, K, Q, R, S]`: key/value head k has the
R = H / K query heads k * R ..., as in the Hugging Face layout. Over rows one of
KERNELS computes it, over the cache `attend_cached`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax.models import kernels, positions
from lrm_jax.models.cache import LayerCache
from lrm_jax.models.config import ModelConfig
from lrm_jax.structs import Array

# Finite, so a row that may look at nothing gives a uniform law, not NaN.
MASKED = -1e30
# Queries at a time in the chunked kernel, at most.
CHUNK = 256
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
    windows: `[kinds]` int32 tokens, ENDLESS where there is none.
    prepared: `[kinds, ...]`, what the scheme needs to place tokens.
    masks: `[kinds, N, S, S]` bool, True where a query (axis 2) sees a key
      (axis 3); None where the kernel makes its own.
    table: T5's `[buckets, H]`; None for other schemes.
  """

  positions: Array
  segment_ids: Array
  windows: Array
  prepared: Any
  masks: Array | None
  table: Array | None


def make_rows(
  config: ModelConfig, at: Array, segment_ids: Array, table: Array | None
) -> Rows:
  """Prepares rows whose tokens stand `at` `[N, S]` in their sequences."""
  scheme = positions.SCHEMES[config.positions]
  windows = np.array(
    [kind.window if kind.window else ENDLESS for kind in config.kinds], np.int32
  )
  prepared = [scheme.prepare(config, k, at[..., None]) for k in config.kinds]
  masks = None
  if config.attention in MASKED_KERNELS:
    row = jnp.arange(at.shape[1]), at, segment_ids
    masks = jnp.stack([_mask(window, row, row) for window in windows])
  return Rows(
    positions=at,
    segment_ids=segment_ids,
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


def attend_cached(
  config: ModelConfig,
  table: Array | None,
  cache: LayerCache,
  step: Array,
  at: Array,
  kind: int,
  q: Array,
  k: Array,
  v: Array,
) -> tuple[Array, LayerCache]:
  """One new token per row against the shared prompt and the row's own past.

  One softmax runs over both blocks: prompt keys are stored once per problem
  and read by its G samples.

  Args:
    config: the architecture.
    table: see `Rows`.
    cache: the layer's blocks; see `LayerCache`.
    step: int32 scalar, how many response tokens are already in the cache;
      the new token is written there.
    at: `[B, G]` int32, the positions of the new tokens.
    kind: the layer's index into `config.kinds`.
    q: `[B, G, H, head_dim]`.
    k: `[B, G, K, head_dim]`.
    v: `[B, G, K, head_dim]`.

  Returns:
    `[B, G, H, head_dim]` and the cache with the new token in it.
  """
  scheme = positions.SCHEMES[config.positions]
  prepared = scheme.prepare(config, config.kinds[kind], at[..., None])
  q, k = scheme.place(q, prepared), scheme.place(k, prepared)
  cache = cache.write(k, v, step)
  window = config.kinds[kind].window
  masks = (
    cache.prompt_mask[:, None, None, None],
    jnp.arange(cache.k.shape[-2]) <= step,
  )
  scores = [
    _scores(config, table, pair, mask & (not window or pair.distance < window))
    for pair, mask in zip(
      _cached_pairs(config, cache, step, at, q), masks, strict=True
    )
  ]
  weights = _softmax(jnp.concatenate(scores, axis=-1), v.dtype)
  split = [cache.prompt_k.shape[-2]]
  on_prompt, on_past = jnp.split(weights, split, axis=-1)
  out = jnp.einsum('bkgrp,bkpd->bgkrd', on_prompt, cache.prompt_v)
  out += jnp.einsum('bkgrt,bgktd->bgkrd', on_past, cache.v)
  return out.reshape(q.shape), cache


def _cached_pairs(
  config: ModelConfig, cache: LayerCache, step: Array, at: Array, q: Array
) -> tuple[positions.Pair, positions.Pair]:
  """The new tokens with those of the prompt, and with those since.

  Positions run on through prompt and response.
  """
  prompt, room = cache.prompt_k.shape[-2], cache.k.shape[-2]
  in_prompt = jnp.arange(prompt)
  in_past = (at - step)[..., None] + jnp.arange(room)
  to_prompt = positions.Pair(
    product=functools.partial(_product, config, 'bgkrd,bkpd->bkgrp'),
    q=q,
    k=cache.prompt_k,
    q_positions=at[..., None],
    k_positions=in_prompt,
    distance=at[:, None, :, None, None] - in_prompt,
    start=in_prompt,
  )
  to_past = positions.Pair(
    product=functools.partial(_product, config, 'bgkrd,bgktd->bkgrt'),
    q=q,
    k=cache.k,
    q_positions=at[..., None],
    k_positions=in_past[:, :, None],
    distance=(at[..., None] - in_past)[:, None, :, None],
    start=in_past[:, None, :, None],
  )
  return to_prompt, to_past


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
  """The reference, CHUNK queries at a time, recomputed in the backward pass.

  For rows so long that S^2 scores are too many, where no kernel is at hand.
  """
  length = q.shape[1]
  count = -(-length // CHUNK)
  size = -(-length // count)  # Even chunks waste less padding.
  places = jnp.arange(count * size)
  keys = places[:length], rows.positions, rows.segment_ids
  window = rows.windows[kind]

  def cut(x: Array) -> Array:
    room = len(places) - length
    x = jnp.pad(x, [(0, 0), (0, room)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(len(x), count, size, *x.shape[2:]), 1, 0)

  @jax.checkpoint
  def one(part):
    queries, place, at, segments = part
    mask = _mask(window, (place, at, segments), keys)
    return _attend_rows(config, rows, at, mask, queries, k, v)

  parts = cut(q), places.reshape(count, size), *map(cut, keys[1:])
  out = jnp.moveaxis(jax.lax.map(one, parts), 0, 1)
  return out.reshape(len(q), -1, *q.shape[2:])[:, :length]


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
  """See `kernels.splash`. A window is part of its program, so kinds branch."""
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


def _attend_rows(config, rows, at, mask, q, k, v):
  """Queries `[N, Q, ...]` that stand `at` `[N, Q]`, against all keys."""
  starts = rows.positions
  pair = positions.Pair(
    product=functools.partial(_product, config, 'nqkrd,nskd->nkqrs'),
    q=q,
    k=k,
    q_positions=at[..., None],
    k_positions=starts[..., None],
    distance=(at[:, :, None] - starts[:, None])[:, None, :, None],
    start=starts[:, None, None, None],
  )
  scores = _scores(config, rows.table, pair, mask[:, None, :, None])
  weights = _softmax(scores, v.dtype)
  out = jnp.einsum('nkqrs,nskd->nqkrd', weights, v)
  return out.reshape(q.shape)


def _mask(window: Array | int, queries, keys) -> Array:
  """`[N, Q, S]`: same segment, not later in the row, within the window.

  Either side is (places in the row `[Q]`, positions `[N, Q]`, segments).
  """
  (q_place, q_at, q_segment), (k_place, k_at, k_segment) = queries, keys
  same = q_segment[:, :, None] == k_segment[:, None]
  past = q_place[:, None] >= k_place
  return same & past & (q_at[:, :, None] - k_at[:, None] < window)


def _scores(config, table, pair: positions.Pair, mask: Array) -> Array:
  """Scores of the scheme, MASKED where nothing may be seen."""
  scheme = positions.SCHEMES[config.positions]
  scores, seen = scheme.scores(config, table, pair)
  return jnp.where(mask & seen, scores, MASKED)


def _softmax(scores: Array, dtype) -> Array:
  return jax.nn.softmax(scores, axis=-1).astype(dtype)


def _scale(config: ModelConfig) -> float:
  width = config.query_width if config.query_width else config.head_dim
  return width**-0.5


def _product(config: ModelConfig, equation: str, q: Array, k: Array) -> Array:
  """Scaled, soft-capped products in float32."""
  scaled = q * jnp.asarray(_scale(config), q.dtype)
  grouped = scaled.reshape(*q.shape[:-2], config.n_kv_heads, -1, q.shape[-1])
  scores = jnp.einsum(equation, grouped, k, preferred_element_type=jnp.float32)
  if config.attention_softcap:
    cap = config.attention_softcap
    scores = cap * jnp.tanh(scores / cap)
  return scores
