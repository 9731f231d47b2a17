"""The transformer. Linen stays in this file; outside it is pure functions.

  init_params(config, key)                      -> params
  apply(config, params, tokens, ...)            -> hidden, (keys, values)
  decode(config, params, tokens, ..., cache)    -> hidden, cache
  logits(config, params, hidden)                -> [..., V]
  token_logp(config, params, hidden, targets)   -> logp, entropy

`apply` (training and prefill) and `decode` (sampling) run the same `Block`
with the same parameters; only where attention finds its keys differs.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from lrm_jax.models import attention
from lrm_jax.models import positions as rope
from lrm_jax.models.cache import Cache
from lrm_jax.models.config import ModelConfig
from lrm_jax.structs import Array

Params = Any

# float32 means float32: accelerators would multiply it in TF32 or bfloat16, and
# sampler and trainer, whose shapes differ, would drift apart. Products of
# bfloat16 are not affected.
PRECISION = 'highest'

REMAT_POLICIES = {
  'full': jax.checkpoint_policies.nothing_saveable,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class RMSNorm(nn.Module):
  """x / sqrt(mean(x^2) + eps) * scale, computed in float32."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x: Array) -> Array:
    scale = self.param(
      'scale',
      nn.initializers.ones_init(),
      (x.shape[-1],),
      self.config.param_dtype,
    )
    wide = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(mean_square + self.config.rms_eps)
    return (wide * scale.astype(jnp.float32)).astype(x.dtype)


class Attention(nn.Module):
  """Projections and RoPE around an `attend(q, k, v) -> out, kept` function."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x: Array, angles: tuple[Array, Array], attend: Callable):
    cfg = self.config
    project = functools.partial(_dense, cfg)
    heads = lambda y, n: y.reshape(*y.shape[:-1], n, cfg.head_dim)
    q = project(cfg.n_heads * cfg.head_dim, 'q', bias=cfg.qkv_bias)(x)
    k = project(cfg.n_kv_heads * cfg.head_dim, 'k', bias=cfg.qkv_bias)(x)
    v = project(cfg.n_kv_heads * cfg.head_dim, 'v', bias=cfg.qkv_bias)(x)
    q = rope.rotate(heads(q, cfg.n_heads), *angles)
    k = rope.rotate(heads(k, cfg.n_kv_heads), *angles)
    out, kept = attend(q, k, heads(v, cfg.n_kv_heads))
    out = out.reshape(*x.shape[:-1], cfg.n_heads * cfg.head_dim)
    return project(cfg.d_model, 'o')(out), kept


class SwiGLU(nn.Module):
  """down(silu(gate(x)) * up(x))."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x: Array) -> Array:
    cfg = self.config
    gate = _dense(cfg, cfg.d_ff, 'gate')(x)
    up = _dense(cfg, cfg.d_ff, 'up')(x)
    return _dense(cfg, cfg.d_model, 'down')(nn.silu(gate) * up)


class Block(nn.Module):
  """Pre-norm attention and SwiGLU, each added to the residual stream."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x: Array, angles: tuple[Array, Array], attend: Callable):
    cfg = self.config
    normed = RMSNorm(cfg, name='attention_norm')(x)
    out, kept = Attention(cfg, name='attention')(normed, angles, attend)
    x = x + out
    normed = RMSNorm(cfg, name='mlp_norm')(x)
    return x + SwiGLU(cfg, name='mlp')(normed), kept


class Transformer(nn.Module):
  """Embedding, L scanned blocks, final norm (the head is in `logits`)."""

  config: ModelConfig

  @nn.compact
  def __call__(self, tokens: Array, positions: Array, segment_ids: Array):
    cfg = self.config
    table = self.param(
      'embedding',
      nn.initializers.normal(0.02),
      (cfg.vocab_size, cfg.d_model),
      cfg.param_dtype,
    )
    if not cfg.tie_embeddings:
      self.param(
        'head',
        nn.initializers.normal(0.02),
        (cfg.d_model, cfg.vocab_size),
        cfg.param_dtype,
      )
    x = _embed(cfg, table, tokens)
    angles = rope.rope_angles(positions, cfg.head_dim, cfg.rope_theta)
    # Partial is a pytree, so the scan can carry the mask to every layer.
    attend = jax.tree_util.Partial(
      attention.attend, attention.causal_mask(segment_ids)
    )
    block = Block
    if cfg.remat != 'none':
      block = nn.remat(
        Block, policy=REMAT_POLICIES[cfg.remat], prevent_cse=False
      )
    layers = nn.scan(
      block,
      variable_axes={'params': 0},
      split_rngs={'params': True},
      in_axes=(nn.broadcast, nn.broadcast),
      length=cfg.n_layers,
      unroll=cfg.scan_unroll,
    )
    x, kept = layers(cfg, name='layers')(x, angles, attend)
    return RMSNorm(cfg, name='final_norm')(x), kept


def init_params(config: ModelConfig, key: Array) -> Params:
  """Random parameters: normal(0.02), residual outputs scaled by (2L)^-1/2."""
  one = jnp.ones((1, 1), jnp.int32)
  init = Transformer(config).init
  return init(key, one, one, one)['params']


def apply(
  config: ModelConfig,
  params: Params,
  tokens: Array,
  positions: Array,
  segment_ids: Array,
) -> tuple[Array, tuple[Array, Array]]:
  """Teacher-forced forward pass over packed or padded rows.

  Args:
    config: the architecture.
    params: from `init_params` or a checkpoint.
    tokens: `[N, S]` int32.
    positions: `[N, S]` int32, counted from 0 inside each segment.
    segment_ids: `[N, S]` int32; 0 is padding.

  Returns:
    hidden `[N, S, D]` after the final norm, and rotated keys and values,
    each `[L, N, S, K, head_dim]` (free when unused: the compiler drops them).
  """
  with jax.default_matmul_precision(PRECISION):
    return Transformer(config).apply(
      {'params': params}, tokens, positions, segment_ids
    )


def layer_params(config: ModelConfig, params: Params) -> tuple[Params, ...]:
  """The scanned parameters cut into one tree per layer, for `decode`."""
  cut = lambda i: jax.tree.map(lambda leaf: leaf[i], params['layers'])
  return tuple(cut(i) for i in range(config.n_layers))


def decode(
  config: ModelConfig,
  params: Params,
  layers: tuple[Params, ...],
  tokens: Array,
  positions: Array,
  step: Array,
  cache: Cache,
) -> tuple[Array, Cache]:
  """One new token for every sample, keys and values kept in `cache`.

  Args:
    config: the architecture.
    params: the whole tree (embedding and final norm are read from it).
    layers: `layer_params(config, params)`, cut once outside the loop.
    tokens: `[B, G]` int32, the tokens to feed.
    positions: `[B, G]` int32, their positions in their own sequence.
    step: int32 scalar, where in the response cache they are written.
    cache: from `cache.from_prefill`, updated by earlier calls.

  Returns:
    hidden `[B, G, D]` after the final norm, and the new cache.
  """
  x = _embed(config, params['embedding'], tokens)
  angles = rope.rope_angles(positions, config.head_dim, config.rope_theta)
  updated = []
  for layer, blocks in zip(layers, cache, strict=True):
    attend = functools.partial(attention.attend_cached, blocks, step)
    with jax.default_matmul_precision(PRECISION):
      x, blocks = Block(config).apply({'params': layer}, x, angles, attend)
    updated.append(blocks)
  hidden = RMSNorm(config).apply({'params': params['final_norm']}, x)
  return hidden, tuple(updated)


def logits(config: ModelConfig, params: Params, hidden: Array) -> Array:
  """`[..., D]` -> `[..., V]` float32, multiplied in `logits_dtype`."""
  head = _head(config, params)
  with jax.default_matmul_precision(PRECISION):
    out = hidden.astype(config.logits_dtype) @ head.astype(config.logits_dtype)
  return out.astype(jnp.float32)


def token_logp(
  config: ModelConfig,
  params: Params,
  hidden: Array,
  targets: Array,
  *,
  temperature: float | Array = 1.0,
  chunk: int = 256,
) -> tuple[Array, Array]:
  """Log softmax(logits / temperature)[target], a chunk of tokens at a time.

  No array of size N * T * V exists, forward or backward: each chunk's logits
  are recomputed in the backward pass, which holds some four arrays of
  chunk * V at a time.

  Args:
    config: the architecture.
    params: the parameters; gradients flow to the head and to `hidden`.
    hidden: `[..., D]`.
    targets: `[...]` int32.
    temperature: positive scalar, the one the sampler used.
    chunk: tokens per chunk.

  Returns:
    (logp, entropy), each `[...]` float32 in nats: of the targets, and of the
    whole next-token law.
  """
  count = math.prod(targets.shape)
  chunks = -(-count // chunk)
  size = -(-count // chunks)  # even chunks waste less padding
  pad = chunks * size - count
  flat = jnp.pad(hidden.reshape(count, -1), ((0, pad), (0, 0)))
  wanted = jnp.pad(targets.reshape(count), (0, pad))

  # The head is an argument, so its gradient is summed over the chunks.
  @jax.checkpoint
  def one_chunk(weights, inputs):
    states, ids = inputs
    scores = logits(config, weights, states) / temperature
    log_total = jax.nn.logsumexp(scores, axis=-1)
    chosen = jnp.take_along_axis(scores, ids[:, None], axis=-1)[:, 0]
    expected = jnp.sum(jnp.exp(scores - log_total[:, None]) * scores, axis=-1)
    return weights, (chosen - log_total, log_total - expected)

  head = {k: params[k] for k in ('embedding', 'head') if k in params}
  _, (logp, entropy) = jax.lax.scan(
    lambda _, inputs: (None, one_chunk(head, inputs)[1]),
    None,
    (flat.reshape(chunks, size, -1), wanted.reshape(chunks, size)),
  )
  restore = lambda x: x.reshape(-1)[:count].reshape(targets.shape)
  return restore(logp), restore(entropy)


def _dense(cfg: ModelConfig, features: int, name: str, bias: bool = False):
  # Projections back into the residual stream start smaller, so that the
  # variance of the stream does not grow with depth (GPT-2, section 2.3).
  scale = (2 * cfg.n_layers) ** -0.5 if name in ('o', 'down') else 1.0
  dense = nn.Dense(
    features,
    use_bias=bias,
    dtype=cfg.compute_dtype,
    param_dtype=cfg.param_dtype,
    kernel_init=nn.initializers.normal(0.02 * scale),
    name=name,
  )

  # One token axis: on CPU the weight gradient of a `[N, S, D]` input is a
  # contraction over two axes and takes more than twice as long.
  def project(x: Array) -> Array:
    flat = dense(x.reshape(-1, x.shape[-1]))
    return flat.reshape(*x.shape[:-1], features)

  return project


def _embed(config: ModelConfig, table: Array, tokens: Array) -> Array:
  return table.astype(config.compute_dtype)[tokens]


def _head(config: ModelConfig, params: Params) -> Array:
  if config.tie_embeddings:
    return params['embedding'].T
  return params['head']
