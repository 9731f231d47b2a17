"""Losses: from advantages to a loss per token.

`f(logp, old_logp, advantage, mask, **keywords) -> [B, G, T]`, all inputs
`[B, G, T]`, log-probabilities in nats. The result is 0 outside the mask and is
not averaged: `aggregate.py` owns the denominators. What lies outside the mask
is never looked at, and its gradient is exactly 0. `old_logp` and `advantage`
are constants. No loss looks beyond its own group, so micro-batches of whole
groups give the loss of the mini-batch; those that compare the samples of a
group stand in `discriminative.py`.
"""

import math

import jax
import jax.numpy as jnp

from lrm_jax import masking
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


def gspo(
  logp: Array,
  old_logp: Array,
  advantage: Array,
  mask: Array,
  *,
  low: float = 3e-4,
  high: float = 4e-4,
) -> jax.Array:
  """GSPO: PPO's surrogate with the ratio of the whole sequence.

      s_bg  = exp(mean_t (logp - old_logp))       over the trained tokens
      s_bgt = sg[s_bg] exp(logp - sg[logp])       value s_bg, slope by token
      l     = max(-A s_bgt, -A clip(s_bgt, 1 - low, 1 + high))

  With the aggregate `sequence_mean`, with which it is defined, value and
  gradient are those of `-A s_bg` clipped, response by response. The clip takes
  or leaves a sequence as a whole (where its tokens share one advantage), and
  at a bound the whole gradient passes. The mean of the log-ratios is held
  within +-20 nats.

  Source: GSPO, arXiv 2507.18071; the form by tokens and its aggregation as
  in verl, the ranges of the paper at second hand.

  Args:
    logp: under the policy being trained.
    old_logp: under the policy that sampled.
    advantage: of each token.
    mask: 1 on tokens that are trained.
    low: clip range below 1, of a ratio per sequence: tiny.
    high: clip range above 1.

  Returns:
    `[B, G, T]` loss, to be minimized.

  Raises:
    UserError: a negative range.
  """
  if low < 0 or high < 0:
    raise UserError(
      f'gspo: low = {low}, high = {high}; give ranges of at least 0'
    )
  kept = jnp.asarray(mask) != 0
  advantage = jnp.where(kept, advantage, 0)
  logp = jnp.where(kept, logp, 0)
  mean = masking.mean(logp - old_logp, mask, axis=-1, keepdims=True)
  log_ratio = jax.lax.stop_gradient(mean) + logp - jax.lax.stop_gradient(logp)
  ratio = jnp.exp(clamp(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO))
  negative = advantage < 0
  ratio = clamp(
    ratio,
    jnp.where(negative, 1 - low, 0),
    jnp.where(negative, math.inf, 1 + high),
  )
  return -advantage * ratio


def cispo(
  logp: Array,
  old_logp: Array,
  advantage: Array,
  mask: Array,
  *,
  lower: float,
  upper: float,
) -> jax.Array:
  """CISPO: `-sg[clip(rho, lower, upper)] A logp` with `rho` as in PPO.

  Only the weight is clipped: every token keeps its gradient,
  `-clip(rho) A grad logp`, at the bounds and beyond them.

  The bounds are those of the ratio itself, since projects disagree about
  their names: verl's are `1 - clip_ratio_low` and `1 + clip_ratio_high`;
  TRL has none below (`lower=0`) and takes `epsilon_high` for the upper bound
  itself, 5.0 as recommended there.

  Source: MiniMax-M1, arXiv 2506.13585.

  Args:
    logp: under the policy being trained.
    old_logp: under the policy that sampled.
    advantage: of each token.
    mask: 1 on tokens that are trained.
    lower: smallest weight; 0 for no bound.
    upper: largest weight.

  Returns:
    `[B, G, T]` loss, to be minimized; only its gradient has a meaning.

  Raises:
    UserError: bounds that leave no weight.
  """
  if not 0 <= lower <= upper or upper == 0:
    raise UserError(
      f'cispo: lower = {lower}, upper = {upper}; give bounds of the ratio, '
      '0 <= lower <= upper and upper above 0'
    )
  ratio = jnp.exp(log_ratio(logp, old_logp, mask))
  weight = jax.lax.stop_gradient(jnp.clip(ratio, lower, upper))
  return weight * likelihood(logp, old_logp, advantage, mask)


def policy_ratio(
  logp: Array, old_logp: Array, advantage: Array, mask: Array
) -> jax.Array:
  """`-A rho`: the surrogate without any clip.

  DOT trains with it, restrained by the regularizer `kl_cov` alone. The
  log-ratio is held within +-20 nats, beyond which there is no gradient.

  Source: DOT, arXiv 2601.03969, whose loss is verl's `kl_cov`.

  Args:
    logp: under the policy being trained.
    old_logp: under the policy that sampled.
    advantage: of each token.
    mask: 1 on tokens that are trained.

  Returns:
    `[B, G, T]` loss, to be minimized.
  """
  advantage = jnp.where(jnp.asarray(mask) != 0, advantage, 0)
  return -advantage * jnp.exp(log_ratio(logp, old_logp, mask))


def likelihood(
  logp: Array, old_logp: Array, advantage: Array, mask: Array
) -> jax.Array:
  """`-A logp`: weighted supervised training on the samples.

  Without a ratio: off policy, nothing corrects for who sampled, and a
  negative advantage pushes without bound. O1-Pruner's loss, whose weights
  may be negative. On policy the gradient is REINFORCE's.

  Source: O1-Pruner, arXiv 2501.12570, as in the released code.

  Args:
    logp: under the policy being trained.
    old_logp: not looked at.
    advantage: the weight of each token.
    mask: 1 on tokens that are trained.

  Returns:
    `[B, G, T]` loss, to be minimized.
  """
  del old_logp
  kept = jnp.asarray(mask) != 0
  return -jnp.where(kept, advantage, 0) * jnp.where(kept, logp, 0)


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
