"""Attention against a loop over queries, and the cached against the plain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.models import attention
from lrm_jax.models import cache as cache_lib

N, S, H, K, DIM = 2, 7, 6, 2, 4


def make_qkv(seed=0):
  generator = np.random.default_rng(seed)
  draw = lambda heads: jnp.asarray(
    generator.standard_normal((N, S, heads, DIM)), jnp.float32
  )
  return draw(H), draw(K), draw(K)


def by_loop(mask, q, k, v):
  """softmax(q k / sqrt(head_dim)) v in float64, query head h on h // 3."""
  q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
  out = np.zeros(q.shape)
  for n, s, h in np.ndindex(N, S, H):
    seen = np.flatnonzero(mask[n, s])
    scores = k[n, seen, h // (H // K)] @ q[n, s, h] / np.sqrt(DIM)
    weights = np.exp(scores - scores.max())
    out[n, s, h] = weights / weights.sum() @ v[n, seen, h // (H // K)]
  return out


def test_mask_by_hand():
  mask = attention.causal_mask(np.array([[1, 1, 2, 2, 0]]))
  assert mask.dtype == bool
  np.testing.assert_array_equal(
    mask[0].astype(int),
    [
      [1, 0, 0, 0, 0],
      [1, 1, 0, 0, 0],
      [0, 0, 1, 0, 0],
      [0, 0, 1, 1, 0],
      [0, 0, 0, 0, 1],
    ],
  )


@pytest.mark.parametrize(
  'segments', [[1, 1, 1, 1, 1, 1, 1], [1, 1, 2, 2, 2, 3, 3]]
)
def test_attention_is_the_loop(segments):
  mask = attention.causal_mask(np.array([segments] * N))
  q, k, v = make_qkv()
  out, (kept_k, kept_v) = attention.attend(mask, q, k, v)
  np.testing.assert_allclose(out, by_loop(mask, q, k, v), atol=1e-6)
  assert kept_k is k and kept_v is v


def test_a_query_that_sees_nothing_is_finite():
  q, k, v = make_qkv()
  mask = jnp.zeros((N, S, S), bool)
  run = lambda q: attention.attend(mask, q, k, v)[0].sum()
  value, gradient = jax.value_and_grad(run)(q)
  assert jnp.isfinite(value)
  assert jnp.isfinite(gradient).all()


def test_large_scores_do_not_overflow():
  q, k, v = make_qkv()
  mask = attention.causal_mask(np.ones((N, S), int))
  out, _ = attention.attend(mask, 1e4 * q, 1e4 * k, v)
  assert jnp.isfinite(out).all()


def test_scores_and_softmax_are_float32_for_half_precision():
  """bfloat16 inputs, exact products: only the weights are rounded."""
  mask = attention.causal_mask(np.ones((N, S), int))
  q, k, v = (x.astype(jnp.bfloat16) for x in make_qkv())
  out, _ = attention.attend(mask, q, k, v)
  assert out.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    out.astype(np.float32), by_loop(mask, q, k, v), atol=0.03
  )


@pytest.mark.parametrize('prompt_length', [1, 4])
def test_cached_steps_are_the_last_rows(prompt_length):
  """G = 2 samples share a prompt; both decode the same keys, then differ."""
  q, k, v = make_qkv()
  mask = attention.causal_mask(np.ones((N, S), int))
  expected, _ = attention.attend(mask, q, k, v)
  # Junk in the padding of the prompt must not be seen.
  pad = lambda x: jnp.pad(
    x[None, :, :prompt_length],
    ((0, 0), (0, 0), (0, 3), (0, 0), (0, 0)),
    constant_values=9.0,
  )
  prompt_mask = jnp.arange(prompt_length + 3) < prompt_length
  (cache,) = cache_lib.from_prefill(
    pad(k), pad(v), jnp.stack([prompt_mask] * N), 2, S
  )
  both = lambda x, t: jnp.stack([x[:, t], 2 * x[:, t]], axis=1)
  for step, t in enumerate(range(prompt_length, S)):
    out, cache = attention.attend_cached(
      cache, jnp.int32(step), both(q, t), both(k, t), both(v, t)
    )
    np.testing.assert_allclose(out[:, 0], expected[:, t], atol=1e-6)
    assert jnp.abs(out[:, 1] - expected[:, t]).max() > 1e-2
