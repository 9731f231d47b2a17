"""Feed-forward networks: one gated, or a mixture of them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from lrm_jax import collectives, mesh
from lrm_jax.models.config import ModelConfig
from lrm_jax.structs import Array

ACTIVATIONS = {'silu': nn.silu, 'gelu_tanh': nn.gelu}


class Routing(NamedTuple):
  """How the tokens of a batch were shared out; padding left out.

  Attributes:
    chosen: `[E]` float32, how often each expert was chosen.
    probability: `[E]` float32, the sum of the router's probabilities.
  """

  chosen: Array
  probability: Array


def loads(routing: Routing, used: int) -> Array:
  """E f_e / N `[E]`, constant: what `load_balance` weighs probabilities with.

  f_e is the share of the batch's N tokens that chose e. Sums of a batch over
  its parts give the same as the whole, so that how it is cut changes nothing.

  Args:
    routing: of a whole batch, with a leading axis of layers, `[L, E]`.
    used: experts that each token is sent to.
  """
  chosen = jax.lax.stop_gradient(jnp.sum(routing.chosen, axis=0))
  tokens = jnp.maximum(jnp.sum(chosen) / used, 1.0)
  return len(chosen) * chosen / jnp.square(tokens)


def load_balance(loads: Array, routing: Routing) -> Array:
  """E * sum_e f_e P_e, `used` where all experts have the same load.

  f_e is the share of tokens that chose e, P_e the mean probability of e, both
  over the tokens of all layers. Shazeer et al. 2017 (arXiv 1701.06538) as
  simplified by Fedus et al. 2021 (arXiv 2101.03961), equation 4, and summed
  over the `used` choices as `transformers` does.

  Args:
    loads: `loads` of the whole batch.
    routing: of the batch or a part of it, `[L, E]`; parts add up.

  Returns:
    Scalar float32; 0 without any token.
  """
  return jnp.sum(loads * jnp.sum(routing.probability, axis=0))


class Gated(nn.Module):
  """down(activation(gate(x)) * up(x))."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x: Array) -> Array:
    cfg = self.config
    gate = dense(cfg, cfg.d_ff, 'gate')(x)
    up = dense(cfg, cfg.d_ff, 'up')(x)
    tokens = ('rows', 'places')[: x.ndim - 1]
    gate, up = (mesh.constrain(y, *tokens, 'inner') for y in (gate, up))
    # Made again in the backward pass: that is faster than to read it back.
    inner = jax.checkpoint(lambda x, y: ACTIVATIONS[cfg.activation](x) * y)
    return collectives.total(dense(cfg, cfg.d_model, 'down')(inner(gate, up)))


class MixtureOfExperts(nn.Module):
  """Every token through its `used` best experts, weighted by the router.

  p = softmax(router(x)) in float32; the largest `used` of p are the weights,
  divided by their sum if `normalize`. Tokens are sorted by expert, and each
  expert multiplies its own in one grouped product, so nothing is dropped.
  """

  config: ModelConfig

  @nn.compact
  def __call__(
    self, x: Array, is_token: Array | None
  ) -> tuple[Array, Routing | None]:
    cfg, experts = self.config, self.config.experts
    flat = x.reshape(-1, cfg.d_model)
    scores = dense(cfg, experts.count, 'router')(flat)
    law = jax.nn.softmax(scores.astype(jnp.float32), axis=-1)
    weights, chosen = jax.lax.top_k(law, experts.used)
    if experts.normalize:
      weights = weights / jnp.sum(weights, axis=-1, keepdims=True)

    order = jnp.argsort(chosen.reshape(-1), stable=True)
    sizes = jnp.bincount(chosen.reshape(-1), length=experts.count)
    rows = flat[order // experts.used]
    grouped = lambda rows, name, width: jax.lax.ragged_dot(
      rows, self._kernel(name, rows.shape[-1], width), sizes
    )
    gate = ACTIVATIONS[cfg.activation](grouped(rows, 'gate', experts.width))
    inner = gate * grouped(rows, 'up', experts.width)
    out = grouped(inner, 'down', cfg.d_model)
    # Back in the order of the tokens, `used` rows each.
    out = out[jnp.argsort(order)].reshape(-1, experts.used, cfg.d_model)
    out = jnp.einsum('nud,nu->nd', out, weights.astype(out.dtype))
    out = collectives.total(out)
    routing = None
    if is_token is not None:
      counted = is_token.reshape(-1, 1).astype(jnp.float32)
      choices = jax.nn.one_hot(chosen, experts.count).sum(axis=1)
      routing = Routing(
        jnp.sum(choices * counted, axis=0), jnp.sum(law * counted, axis=0)
      )
    return out.reshape(x.shape), routing

  def _kernel(self, name: str, width: int, features: int) -> Array:
    cfg = self.config
    scale = 0.02 * residual_scale(cfg, name)
    shape = (cfg.experts.count, width, features)
    kernel = self.param(
      name, nn.initializers.normal(scale), shape, cfg.param_dtype
    )
    return kernel.astype(cfg.compute_dtype)


def residual_scale(config: ModelConfig, name: str) -> float:
  """Projections back into the residual stream start smaller.

  So that the variance of the stream does not grow with depth (GPT-2, section
  2.3).
  """
  return (2 * config.n_layers) ** -0.5 if name in ('o', 'down') else 1.0


def dense(
  cfg: ModelConfig, features: int, name: str, bias: bool = False
) -> Callable[[Array], Array]:
  """A linear map of the last axis, a module of the one that calls this."""
  module = nn.Dense(
    features,
    use_bias=bias,
    dtype=cfg.compute_dtype,
    param_dtype=cfg.param_dtype,
    kernel_init=nn.initializers.normal(0.02 * residual_scale(cfg, name)),
    dot_general=multiply,
    name=name,
  )

  # One token axis: on CPU the weight gradient of a `[N, S, D]` input is a
  # contraction over two axes and takes more than twice as long. Elsewhere the
  # two may be divided among devices each in its own way.
  def project(x: Array) -> Array:
    if mesh.platform() != 'cpu':
      return module(x)
    flat = module(x.reshape(-1, x.shape[-1]))
    return flat.reshape(*x.shape[:-1], features)

  return project


def multiply(x: Array, kernel: Array, *dimensions, **options) -> Array:
  """`lax.dot_general` of `[N, in]` and `[in, out]`, as `nn.Dense` calls it.

  On a CPU the gradient of a kernel that is higher than wide takes half the time
  if it is made in the other order and then turned.
  """
  plain = functools.partial(jax.lax.dot_general, **options)
  if mesh.platform() != 'cpu' or kernel.shape[0] <= kernel.shape[1]:
    return plain(x, kernel, *dimensions)

  @jax.custom_vjp
  def product(x, kernel):
    return plain(x, kernel, *dimensions)

  def backward(kept, slopes):
    x, kernel = kept
    with jax.default_matmul_precision('highest'):
      # The barrier keeps the compiler from turning the product back.
      of_kernel = jax.lax.optimization_barrier(slopes.T @ x).T
      return slopes @ kernel.T, of_kernel

  product.defvjp(lambda *inputs: (product(*inputs), inputs), backward)
  return product(x, kernel)
