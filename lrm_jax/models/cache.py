"""The key/value cache: prompts stored once per problem, responses per sample.

Layers are a tuple of buffers and not one stacked array: a decode loop then
updates each buffer in place, where a scan over layers would copy the whole
cache for every token.
"""

import dataclasses

import jax
import jax.numpy as jnp

from lrm_jax.structs import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LayerCache:
  """One layer's keys (rotated) and values.

  Attributes:
    prompt_k: `[B, K, P, head_dim]`, shared by the G samples of a problem.
    prompt_v: like `prompt_k`.
    prompt_mask: `[B, P]` bool, True on prompt tokens.
    k: `[B, G, K, T, head_dim]`, the responses' own.
    v: like `k`.
  """

  prompt_k: Array
  prompt_v: Array
  prompt_mask: Array
  k: Array
  v: Array

  def write(self, k: Array, v: Array, step: Array) -> 'LayerCache':
    """Stores `k`, `v` `[B, G, K, head_dim]` at response position `step`."""
    at = (0, 0, 0, step, 0)
    return dataclasses.replace(
      self,
      k=jax.lax.dynamic_update_slice(self.k, k[..., None, :], at),
      v=jax.lax.dynamic_update_slice(self.v, v[..., None, :], at),
    )


Cache = tuple[LayerCache, ...]


def from_prefill(
  keys: Array,
  values: Array,
  prompt_mask: Array,
  samples: int,
  max_tokens: int,
) -> Cache:
  """Room for `samples` responses of `max_tokens` behind each prompt.

  Args:
    keys: `[L, B, P, K, head_dim]` from the prefill.
    values: like `keys`.
    prompt_mask: `[B, P]` bool.
    samples: G.
    max_tokens: T.

  Returns:
    One `LayerCache` per layer, response blocks zero.
  """
  keys, values = jnp.swapaxes(keys, 2, 3), jnp.swapaxes(values, 2, 3)
  batch, kv_heads, _, head_dim = keys.shape[1:]
  shape = (batch, samples, kv_heads, max_tokens, head_dim)
  return tuple(
    LayerCache(
      prompt_k=k,
      prompt_v=v,
      prompt_mask=prompt_mask,
      k=jnp.zeros(shape, k.dtype),
      v=jnp.zeros(shape, v.dtype),
    )
    for k, v in zip(keys, values, strict=True)
  )
