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

from lrm_jax.models import kernels, positions
from lrm_jax.models.cache import LayerCache
from lrm_jax.models.config import LayerKind, ModelConfig
from lrm_jax.structs import Array

# Finite, so a row that may look at nothing gives a uniform law, not NaN.
MASKED = -1e30
# Queries at a time in the chunked kernel.
CHUNK = 256


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
  """What attention needs to know of packed rows, once for all layers.

  Attributes:
    positions: `[N, S]` int32.
    segment_ids: `[N, S]` int32; 0 is padding, every other number is one
      sequence of the row, in order.
    prepared: per kind of layer, what its scheme needs to place tokens.
    masks: per kind of layer `[N, S, S]` bool, True where a query (axis 1)
      sees a key (axis 2); empty where the kernel makes its own.
    table: T5's `[buckets, H]`; None for other schemes.
  """

  positions: Array
  segment_ids: Array
  prepared: tuple[Any, ...]
  masks: tuple[Array, ...]
  table: Array | None


def make_rows(
  config: ModelConfig, at: Array, segment_ids: Array, table: Array | None
) -> Rows:
  """Prepares rows whose tokens stand `at` `[N, S]` in their sequences."""
  scheme = positions.SCHEMES[config.positions]
  masks = ()
  if config.attention == 'reference':
    row = jnp.arange(at.shape[1]), at, segment_ids
    masks = tuple(_mask(kind, row, row) for kind in config.kinds)
  return Rows(
    positions=at,
    segment_ids=segment_ids,
    prepared=tuple(
      scheme.prepare(config, kind, at[..., None]) for kind in config.kinds
    ),
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

  def attend(rows: Rows, kind: Array | int, q: Array, k: Array, v: Array):
    branches = [
      functools.partial(_attend_kind, config, rows, i)
      for i in range(len(config.kinds))
    ]
    if len(branches) == 1:
      return branches[0](q, k, v)
    return jax.lax.switch(kind, branches, q, k, v)

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
  prompt, room = cache.prompt_k.shape[-2], cache.k.shape[-2]
  # Positions run on through prompt and response.
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
  masks = cache.prompt_mask[:, None, None, None], jnp.arange(room) <= step
  scores = [
    _scores(
      config, table, pair, mask & _within(config.kinds[kind], pair.distance)
    )
    for pair, mask in zip((to_prompt, to_past), masks, strict=True)
  ]
  weights = _softmax(jnp.concatenate(scores, axis=-1), v.dtype)
  on_prompt, on_past = jnp.split(weights, [prompt], axis=-1)
  out = jnp.einsum('bkgrp,bkpd->bgkrd', on_prompt, cache.prompt_v)
  out += jnp.einsum('bkgrt,bgktd->bgkrd', on_past, cache.v)
  return out.reshape(q.shape), cache


def reference(
  config: ModelConfig, rows: Rows, index: int, q: Array, k: Array, v: Array
) -> Array:
  """Every query against every key of its row: S^2 scores per head."""
  return _attend_rows(
    config, rows, index, rows.positions, rows.masks[index], q, k, v
  )


def chunked(
  config: ModelConfig, rows: Rows, index: int, q: Array, k: Array, v: Array
) -> Array:
  """The reference, CHUNK queries at a time, recomputed in the backward pass.

  For rows so long that S^2 scores are too many, where no kernel is at hand.
  """
  length = q.shape[1]
  count = -(-length // CHUNK)
  places = jnp.arange(count * CHUNK)
  keys = places[:length], rows.positions, rows.segment_ids

  def cut(x: Array) -> Array:
    x = jnp.pad(
      x, [(0, 0), (0, len(places) - length)] + [(0, 0)] * (x.ndim - 2)
    )
    return jnp.moveaxis(x.reshape(len(x), count, CHUNK, *x.shape[2:]), 1, 0)

  @jax.checkpoint
  def one(part):
    queries, place, at, segments = part
    mask = _mask(config.kinds[index], (place, at, segments), keys)
    return _attend_rows(config, rows, index, at, mask, queries, k, v)

  parts = cut(q), places.reshape(count, CHUNK), *map(cut, keys[1:])
  out = jnp.moveaxis(jax.lax.map(one, parts), 0, 1)
  return out.reshape(len(q), -1, *q.shape[2:])[:, :length]


def _plain(kernel: Callable[..., Array]) -> Callable[..., Array]:
  """A kernel of products only, called as those above."""

  def call(config, rows, index, q, k, v):
    return kernel(
      config, config.kinds[index], rows.positions, rows.segment_ids, q, k, v
    )

  return call


KERNELS: dict[str, Callable[..., Array]] = {
  'reference': reference,
  'chunked': chunked,
  'dot_product': _plain(kernels.dot_product),
  'splash': _plain(kernels.splash),
}


def _attend_kind(config, rows, index, q, k, v):
  """Attention of one kind of layer."""
  scheme = positions.SCHEMES[config.positions]
  q = scheme.place(q, rows.prepared[index])
  k = scheme.place(k, rows.prepared[index])
  return KERNELS[config.attention](config, rows, index, q, k, v), (k, v)


def _attend_rows(config, rows, index, at, mask, q, k, v):
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


def _mask(kind: LayerKind, queries, keys) -> Array:
  """`[N, Q, S]`: same segment, not later in the row, within the window.

  Either side is (places in the row `[Q]`, positions `[N, Q]`, segments).
  """
  (q_place, q_at, q_segment), (k_place, k_at, k_segment) = queries, keys
  same = q_segment[:, :, None] == k_segment[:, None]
  past = q_place[:, None] >= k_place
  return same & past & _within(kind, q_at[:, :, None] - k_at[:, None])


def _within(kind: LayerKind, distance: Array) -> Array | bool:
  return distance < kind.window if kind.window else True


def _scores(config, table, pair: positions.Pair, mask: Array) -> Array:
  """Scores of the scheme, MASKED where nothing may be seen."""
  scheme = positions.SCHEMES[config.positions]
  scores, seen = scheme.scores(config, table, pair)
  return jnp.where(mask & seen, scores, MASKED)


def _softmax(scores: Array, dtype) -> Array:
  return jax.nn.softmax(scores, axis=-1).astype(dtype)


def _product(config: ModelConfig, equation: str, q: Array, k: Array) -> Array:
  """Scaled, soft-capped products in float32."""
  width = config.query_width if config.query_width else config.head_dim
  scale = width**-0.5
  scaled = q * jnp.asarray(scale, q.dtype)
  grouped = scaled.reshape(*q.shape[:-2], config.n_kv_heads, -1, q.shape[-1])
  scores = jnp.einsum(equation, grouped, k, preferred_element_type=jnp.float32)
  if config.attention_softcap:
    cap = config.attention_softcap
    scores = cap * jnp.tanh(scores / cap)
  return scores
