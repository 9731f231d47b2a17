"""The transformer. Linen stays in this file; outside it is pure functions.

  init_params(config, key)                      -> params
  apply(config, params, tokens, ...)            -> hidden, Kept
  decode(config, params, layers, tokens, ...)   -> hidden, kept

`apply` (training and prefill) and `decode` (sampling) run the same `Block`
with the same parameters; only where attention finds its keys differs.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from lrm_jax import collectives, mesh
from lrm_jax.models import attention, feed_forward, positions
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


class Kept(NamedTuple):
  """What a forward pass leaves behind; free when unused.

  Attributes:
    keys: `[L, N, S, K, head_dim]`, placed.
    values: like `keys`.
    routing: of the experts, `[L, ...]`; None without any.
  """

  keys: Array
  values: Array
  routing: feed_forward.Routing | None


class RMSNorm(nn.Module):
  """x / sqrt(mean(x^2) + eps) * scale, computed in float32."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x: Array) -> Array:
    cfg = self.config
    start = nn.initializers.zeros_init()
    if not cfg.norm_plus_one:
      start = nn.initializers.ones_init()
    scale = self.param('scale', start, (x.shape[-1],), cfg.param_dtype)
    scale = scale.astype(jnp.float32) + cfg.norm_plus_one
    wide = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(mean_square + cfg.rms_eps)
    return (wide * scale).astype(x.dtype)


class Attention(nn.Module):
  """Projections around an `attend(kind, q, k, v) -> out, kept` function."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x: Array, kind: Array | int, attend: Callable):
    cfg = self.config
    project = functools.partial(feed_forward.dense, cfg)
    heads = lambda y, n: y.reshape(*y.shape[:-1], n, cfg.head_dim)
    q = project(cfg.n_heads * cfg.head_dim, 'q', bias=cfg.qkv_bias)(x)
    k = project(cfg.n_kv_heads * cfg.head_dim, 'k', bias=cfg.qkv_bias)(x)
    v = project(cfg.n_kv_heads * cfg.head_dim, 'v', bias=cfg.qkv_bias)(x)
    q, k, v = (
      heads(y, n)
      for y, n in ((q, cfg.n_heads), (k, cfg.n_kv_heads), (v, cfg.n_kv_heads))
    )
    tokens = ('rows', 'places')[: x.ndim - 1]
    q, k, v = (mesh.constrain(y, *tokens, 'heads', None) for y in (q, k, v))
    if cfg.qk_norm:
      q, k = RMSNorm(cfg, name='q_norm')(q), RMSNorm(cfg, name='k_norm')(k)
    out, kept = attend(kind, q, k, v)
    out = out.reshape(*x.shape[:-1], cfg.n_heads * cfg.head_dim)
    return collectives.total(project(cfg.d_model, 'o')(out)), kept


class Block(nn.Module):
  """Attention and feed-forward network, each added to the residual stream."""

  config: ModelConfig

  @nn.compact
  def __call__(
    self, x: Array, kind: Array | int, attend: Callable, is_token: Array | None
  ):
    cfg = self.config
    norm = lambda name: RMSNorm(cfg, name=name)
    after = lambda name: norm(name) if cfg.post_norms else lambda out: out
    normed = norm('attention_norm')(x)
    out, kept = Attention(cfg, name='attention')(normed, kind, attend)
    x = x + after('post_attention_norm')(out)
    normed = norm('mlp_norm')(x)
    if cfg.experts is None:
      out, routing = feed_forward.Gated(cfg, name='mlp')(normed), None
    else:
      experts = feed_forward.MixtureOfExperts(cfg, name='experts')
      out, routing = experts(normed, is_token)
    x = _divide(x + after('post_mlp_norm')(out))
    return x, (kept, routing)


class Transformer(nn.Module):
  """Embedding, L scanned blocks, final norm (the head is in `logits`)."""

  config: ModelConfig

  @nn.compact
  def __call__(
    self,
    tokens: Array,
    at: Array,
    segment_ids: Array,
    prefix_ids: Array | None = None,
  ):
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
    bias = None
    if cfg.positions == 't5':
      bias = self.param(
        'position_bias',
        nn.initializers.normal(0.02),
        (positions.BUCKETS, cfg.n_heads),
        cfg.param_dtype,
      )
    x = _divide(_embed(cfg, table, tokens))
    # Partial is a pytree, so the scan can carry the rows to every layer.
    attend = jax.tree_util.Partial(
      attention.over_rows(cfg),
      attention.make_rows(cfg, at, segment_ids, bias, prefix_ids),
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
      in_axes=(0, nn.broadcast, nn.broadcast),
      length=cfg.n_layers,
      unroll=cfg.scan_unroll,
    )
    x, ((keys, values), routing) = layers(cfg, name='layers')(
      x, jnp.array(cfg.layer_kinds), attend, segment_ids > 0
    )
    hidden = RMSNorm(cfg, name='final_norm')(x)
    return hidden, Kept(keys, values, routing)


def init_params(config: ModelConfig, key: Array) -> Params:
  """Random parameters: normal(0.02), residual outputs scaled by (2L)^-1/2.

  Norms start as the identity, biases at zero.
  """
  one = jnp.ones((1, 1), jnp.int32)
  init = Transformer(config).init
  return init(key, one, one, one)['params']


def apply(
  config: ModelConfig,
  params: Params,
  tokens: Array,
  at: Array,
  segment_ids: Array,
  prefix_ids: Array | None = None,
) -> tuple[Array, Kept]:
  """Teacher-forced forward pass over packed or padded rows.

  Args:
    config: the architecture.
    params: from `init_params` or a checkpoint.
    tokens: `[N, S]` int32.
    at: `[N, S]` int32 positions, increasing inside each segment; counted
      from 0 but where positions are randomised.
    segment_ids: `[N, S]` int32; 0 is padding.
    prefix_ids: `[N, S]` int32, the segment that each one continues, if any
      does; see `attention.Rows`.

  Returns:
    hidden `[N, S, D]` after the final norm, and what a cache is filled from.
  """
  with jax.default_matmul_precision(PRECISION):
    return Transformer(config).apply(
      {'params': params}, tokens, at, segment_ids, prefix_ids
    )


class Turned(NamedTuple):
  """Parameters for sampling, prepared once, outside the loop over tokens.

  Attributes:
    layers: of each layer; kernels `[out, in]` on a CPU, else `[in, out]`.
    head: `[V, D]`.
    others: what belongs to no layer.
  """

  layers: tuple[Params, ...]
  head: Array
  others: Params


def turn(config: ModelConfig, params: Params) -> Turned:
  """Cuts the scanned parameters into layers, and turns what is multiplied.

  On a CPU a row times a turned kernel gives the same bits, however many rows
  and threads there are: it is always packed first. The other way round it would
  be some ten percent faster, but packed from some fifty rows on only, and added
  up in another order then. A program of its own: inside another one, XLA would
  turn them back. An embedding is not copied.
  """
  params = lighten(config, params)
  turned = _swap(params['layers'])
  is_tied = config.tie_embeddings
  head = params['embedding'] if is_tied else params['head'].T
  cut = lambda i: jax.tree.map(lambda leaf: leaf[i], turned)
  layers = tuple(cut(i) for i in range(config.n_layers))
  names = [name for name in params if name not in ('layers', 'head')]
  return Turned(layers, head, {name: params[name] for name in names})


def lighten(config: ModelConfig, params: Params) -> Params:
  """What is multiplied, in the dtype that it is multiplied in.

  So that it is not read in a wider one for every token. The numbers that come
  of it are the same: every product would round its operands first.
  """

  def one(path, leaf):
    keys = [key.key for key in path]
    if keys[-1] == 'kernel' or 'experts' in keys[:-1]:
      return leaf.astype(config.compute_dtype)
    return leaf

  light = jax.tree_util.tree_map_with_path(one, params)
  if not config.tie_embeddings:
    light['head'] = params['head'].astype(config.logits_dtype)
    light['embedding'] = params['embedding'].astype(config.compute_dtype)
  return light


def _swap(layers: Params) -> Params:
  """Swaps the last two axes of every kernel, where that is of use."""
  if mesh.platform() != 'cpu':
    return layers

  def one(path, leaf):
    return jnp.swapaxes(leaf, -1, -2) if path[-1].key == 'kernel' else leaf

  return jax.tree_util.tree_map_with_path(one, layers)


def apply_turned(
  config: ModelConfig,
  turned: Turned,
  tokens: Array,
  at: Array,
  segment_ids: Array,
) -> tuple[Array, Kept]:
  """`apply`, with the parameters of `decode`: they are there only once."""
  params = turned.others
  bias = params['position_bias'] if config.positions == 't5' else None
  with jax.default_matmul_precision(PRECISION):
    x = _divide(_embed(config, params['embedding'], tokens))
    rows = attention.make_rows(config, at, segment_ids, bias)
    attend = functools.partial(attention.over_rows(config), rows)
    kept = []
    for layer, kind in zip(turned.layers, config.layer_kinds, strict=True):
      x, (own, _) = Block(config).apply(
        {'params': _swap(layer)}, x, kind, attend, segment_ids > 0
      )
      kept.append(own)
    hidden = RMSNorm(config).apply({'params': params['final_norm']}, x)
  keys, values = (jnp.stack(leaves) for leaves in zip(*kept, strict=True))
  return hidden, Kept(keys, values, None)


def decode(
  config: ModelConfig,
  turned: Turned,
  tokens: Array,
  at: Array,
  attend: Callable[..., Any],
  memory: Any,
) -> tuple[Array, Any]:
  """One new token for every slot.

  Args:
    config: the architecture.
    turned: `turn(config, params)`.
    tokens: `[W]` int32, the tokens to feed.
    at: `[W]` int32, their positions in their own sequence.
    attend: `(memory, number of the layer, bias, kind, q, k, v)`; returns
      what follows attention and the memory for the next layer. See
      `paged.attend`.
    memory: for the first layer.

  Returns:
    hidden `[W, D]` after the final norm, and what the last layer left.
  """
  params = turned.others
  x = _embed(config, params['embedding'], tokens)
  bias = params['position_bias'] if config.positions == 't5' else None
  for number, (layer, kind) in enumerate(
    zip(turned.layers, config.layer_kinds, strict=True)
  ):
    own = functools.partial(attend, memory, number, bias)
    with jax.default_matmul_precision(PRECISION):
      x, (memory, _) = Block(config).apply(
        {'params': _swap(layer)}, x, kind, own, None
      )
  hidden = RMSNorm(config).apply({'params': params['final_norm']}, x)
  return hidden, memory


def _embed(config: ModelConfig, table: Array, tokens: Array) -> Array:
  # Rows of it are looked up where they are. Were their width divided as well,
  # XLA would bring all of what is looked up to every device.
  table = mesh.constrain(table.astype(config.compute_dtype), 'vocab', None)
  x = collectives.lookup(table, tokens)
  if config.scale_embeddings:
    # Rounded to the compute dtype first, as the models were trained.
    x = x * jnp.asarray(config.d_model**0.5, x.dtype)
  return x


def _divide(x: Array) -> Array:
  """The residual stream, each device its own tokens."""
  return mesh.constrain(x, *('rows', 'places')[: x.ndim - 1], None)
