"""Grouped-query attention: masks, the reference product, the cached product.

Scores and softmax are float32. Query head h reads key/value head
h // (H / K), as in the Hugging Face layout.
"""

import jax
import jax.numpy as jnp

from lrm_jax.models.cache import LayerCache
from lrm_jax.structs import Array

# Finite, so a row that may look at nothing gives a uniform law, not NaN.
MASKED = -1e30


def causal_mask(segment_ids: Array) -> Array:
  """Which keys a query may look at in packed rows.

  Args:
    segment_ids: `[N, S]` integers; 0 is padding, every other number is one
      sequence of the row, in order.

  Returns:
    `[N, S, S]` bool: same segment, and not later in the row.
  """
  length = segment_ids.shape[-1]
  same = segment_ids[:, :, None] == segment_ids[:, None, :]
  past = jnp.tril(jnp.ones((length, length), bool))
  return same & past


def attend(
  mask: Array, q: Array, k: Array, v: Array
) -> tuple[Array, tuple[Array, Array]]:
  """Reference attention over the sequence itself.

  Args:
    mask: `[N, S, S]` bool, True where a query (axis 1) sees a key (axis 2).
    q: `[N, S, H, head_dim]`, rotated.
    k: `[N, S, K, head_dim]`, rotated.
    v: `[N, S, K, head_dim]`.

  Returns:
    `[N, S, H, head_dim]` in the dtype of `v`, and (k, v) for a cache.
  """
  queries = _grouped(q, k.shape[-2])
  scores = jnp.einsum(
    'nqkrd,nskd->nkrqs', queries, k, preferred_element_type=jnp.float32
  )
  scores = jnp.where(mask[:, None, None], scores, MASKED)
  weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
  out = jnp.einsum('nkrqs,nskd->nqkrd', weights, v)
  return out.reshape(q.shape), (k, v)


def attend_cached(
  cache: LayerCache, step: Array, q: Array, k: Array, v: Array
) -> tuple[Array, LayerCache]:
  """One new token per row against the shared prompt and the row's own past.

  One softmax runs over both blocks: prompt keys are stored once per problem
  and read by its G samples.

  Args:
    cache: the layer's blocks; see `LayerCache`.
    step: int32 scalar, how many response tokens are already in the cache;
      the new token is written there.
    q: `[B, G, H, head_dim]`, rotated.
    k: `[B, G, K, head_dim]`, rotated.
    v: `[B, G, K, head_dim]`.

  Returns:
    `[B, G, H, head_dim]` and the cache with the new token in it.
  """
  cache = cache.write(k, v, step)
  queries = _grouped(q, k.shape[-2])
  to_prompt = jnp.einsum(
    'bgkrd,bkpd->bkgrp',
    queries,
    cache.prompt_k,
    preferred_element_type=jnp.float32,
  )
  to_past = jnp.einsum(
    'bgkrd,bgktd->bkgrt',
    queries,
    cache.k,
    preferred_element_type=jnp.float32,
  )
  written = jnp.arange(cache.k.shape[-2]) <= step
  to_prompt = jnp.where(
    cache.prompt_mask[:, None, None, None], to_prompt, MASKED
  )
  to_past = jnp.where(written, to_past, MASKED)
  scores = jnp.concatenate([to_prompt, to_past], axis=-1)
  weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
  on_prompt, on_past = jnp.split(weights, [to_prompt.shape[-1]], axis=-1)
  out = jnp.einsum('bkgrp,bkpd->bgkrd', on_prompt, cache.prompt_v)
  out += jnp.einsum('bkgrt,bgktd->bgkrd', on_past, cache.v)
  return out.reshape(q.shape), cache


def _grouped(q: Array, kv_heads: int) -> Array:
  """Scales queries by head_dim^-1/2 and splits heads into [K, H / K]."""
  *lead, heads, head_dim = q.shape
  scaled = q * jnp.asarray(head_dim**-0.5, q.dtype)
  return scaled.reshape(*lead, kv_heads, heads // kv_heads, head_dim)
