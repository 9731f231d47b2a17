"""Losses: from advantages to a loss per token.

`f(logp, old_logp, advantage, mask, **keywords) -> [B, G, T]`, all inputs
`[B, G, T]`, log-probabilities in nats. The result is 0 outside the mask and is
not averaged: `aggregate.py` owns the denominators. What lies outside the mask
is never looked at, and its gradient is exactly 0.
"""

import math

import jax
import jax.numpy as jnp

from lrm_jax.errors import UserError
from lrm_jax.structs import Array

# exp(20) is 4.9e8: far outside any clip range, far inside float32. As in verl.
MAX_LOG_RATIO = 20.0


def ppo_clip(
  logp: Array,
  old_logp: Array,
  advantage: Array,
  mask: Array,
  *,
  low: float = 0.2,
  high: float = 0.2,
  dual: float = math.inf,
) -> jax.Array:
  """PPO's clipped surrogate with separate ranges and dual clipping.

      rho = exp(logp - old_logp)
      l   = max(-A rho, -A clip(rho, 1 - low, 1 + high))
      l   = min(l, -A dual)                                where A < 0

  which is `-A` times the ratio held within `[0, 1 + high]` where A >= 0 and
  within `[1 - low, dual]` where A < 0, the form computed here. A token is
  clipped, and has no gradient, only *outside* its bounds: at a bound the whole
  gradient passes, as with Torch's `clamp` (`jnp.clip` passes half of it). On
  policy `rho` is 1 and the gradient is REINFORCE's, `-A grad logp`.

  Source: PPO, arXiv 1707.06347, equation 7; dual clipping, arXiv 1912.09729;
  `high > low`, DAPO, arXiv 2503.14476.

  Args:
    logp: under the policy being trained.
    old_logp: under the policy that sampled; a constant.
    advantage: of each token; a constant.
    mask: 1 on tokens that are trained.
    low: clip range below 1.
    high: clip range above 1.
    dual: largest ratio a negative advantage is multiplied with; infinity
      switches dual clipping off.

  Returns:
    `[B, G, T]` loss, to be minimized.

  Raises:
    UserError: bounds that would clip a ratio of 1.
  """
  if low < 0 or high < 0 or dual <= 1:
    raise UserError(
      f'ppo_clip: low = {low}, high = {high}, dual = {dual}; give low and '
      'high of at least 0 and a dual above 1, or no token would be trained'
    )
  kept = jnp.asarray(mask) != 0
  advantage = jnp.where(kept, advantage, 0)
  negative = advantage < 0
  ratio = clamp(
    jnp.exp(log_ratio(logp, old_logp, mask)),
    jnp.where(negative, 1 - low, 0),
    jnp.where(negative, dual, 1 + high),
  )
  return -advantage * ratio


def log_ratio(logp: Array, other_logp: Array, mask: Array) -> jax.Array:
  """`logp - other_logp`, held within +-20 nats; 0 outside the mask.

  The bound keeps the exponential finite. Beyond it the gradient is 0.
  """
  # Selected before any exponential: a gradient of 0 times inf would be NaN.
  difference = jnp.where(jnp.asarray(mask) != 0, logp - other_logp, 0)
  return clamp(difference, -MAX_LOG_RATIO, MAX_LOG_RATIO)


def clamp(
  values: Array, lower: Array | float, upper: Array | float
) -> jax.Array:
  """`clip(values, lower, upper)` with slope 1 at the bounds, 0 beyond them."""
  inside = (values >= lower) & (values <= upper)
  bounded = jax.lax.stop_gradient(jnp.clip(values, lower, upper))
  return jnp.where(inside, values, bounded)
