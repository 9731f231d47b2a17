"""The cache's layout: one prompt per problem, one past per sample."""

import jax.numpy as jnp
import numpy as np

from lrm_jax.models import cache as cache_lib

L, B, P, K, DIM, G, T = 3, 2, 4, 2, 6, 5, 7


def make_cache(dtype=jnp.float32):
  shape = (L, B, P, K, DIM)
  keys = jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)
  mask = jnp.array([[True] * P, [True, False, False, False]])
  layers = cache_lib.from_prefill(
    keys.astype(dtype), -keys.astype(dtype), mask, G, T
  )
  return keys, mask, layers


def test_prompts_are_stored_once_per_problem():
  keys, mask, layers = make_cache()
  assert len(layers) == L
  for index, layer in enumerate(layers):
    assert layer.prompt_k.shape == (B, K, P, DIM)
    for b, p, head in np.ndindex(B, P, K):
      np.testing.assert_array_equal(
        layer.prompt_k[b, head, p], keys[index, b, p, head]
      )
    np.testing.assert_array_equal(layer.prompt_v, -layer.prompt_k)
    np.testing.assert_array_equal(layer.prompt_mask, mask)


def test_responses_have_room_and_are_empty():
  _, _, (layer, *_) = make_cache(jnp.bfloat16)
  assert layer.k.shape == layer.v.shape == (B, G, K, T, DIM)
  assert layer.k.dtype == layer.v.dtype == jnp.bfloat16
  assert not layer.k.any() and not layer.v.any()


def test_write_changes_one_position():
  _, _, (layer, *_) = make_cache()
  new = jnp.arange(1.0, 1 + B * G * K * DIM).reshape(B, G, K, DIM)
  written = layer.write(new, 2 * new, jnp.int32(3))
  np.testing.assert_array_equal(written.k[:, :, :, 3], new)
  np.testing.assert_array_equal(written.v[:, :, :, 3], 2 * new)
  others = np.delete(np.arange(T), 3)
  assert not written.k[:, :, :, others].any()
  assert not written.v[:, :, :, others].any()
  np.testing.assert_array_equal(written.prompt_k, layer.prompt_k)
