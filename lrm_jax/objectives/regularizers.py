"""Regularizers: terms added to the loss of each token.

`f(tokens: TokenTerms, **keywords) -> [B, G, T]`, in nats, 0 outside the mask;
the recipe multiplies by the coefficient. The three estimators of
`KL(policy || reference)` follow http://joschu.net/blog/kl-approx.html; as a
loss term they differ by their gradients, which are what counts here.

A term that depends on the whole mini-batch has a companion `NAME_focus(logp,
old_logp, advantage, mask, **keywords) -> [B, G, T]`, called on all of it
before its gradient is taken, with the keywords that the two share by name; the
result, a constant, is the field `focus`. So micro-batches cannot change it.
"""

import math

import jax
import jax.numpy as jnp

from lrm_jax import masking
from lrm_jax.errors import UserError
from lrm_jax.objectives import losses, ranges
from lrm_jax.structs import Array, TokenTerms

MAX_K3 = 10.0


def kl_k1(tokens: TokenTerms) -> jax.Array:
  """`k1 = d` with `d = logp - ref_logp`.

  Unbiased as a value, but its gradient `grad logp` averages to 0 on policy: as
  a loss term it adds noise and pulls nowhere. For measuring, not for training.
  """
  return _difference(tokens)


def kl_k2(tokens: TokenTerms) -> jax.Array:
  """`k2 = d^2 / 2` with `d = logp - ref_logp`; verl's "mse".

  Its gradient `d grad logp` is, on policy, an unbiased estimate of the
  gradient of `KL(policy || reference)`. DLER's choice.
  """
  return jnp.square(_difference(tokens)) / 2


def kl_k3(tokens: TokenTerms) -> jax.Array:
  """`k3 = exp(-d) + d - 1 >= 0` with `d = logp - ref_logp`; GRPO's choice.

  Unbiased as a value. Its gradient `(1 - exp(-d)) grad logp` is on policy that
  of `KL(reference || policy)`, and bounded where the policy has moved up.

  As in verl's "low_var_kl", `d` is held within +-20 nats and the result at 10
  or below, beyond which the gradient is 0: at `d < -2.61` and `d > 11`.
  """
  d = losses.log_ratio(tokens.logp, tokens.ref_logp, tokens.mask)
  # expm1, since exp(-d) - 1 rounds the answer away at small d.
  return losses.clamp(jnp.expm1(-d) + d, -MAX_K3, MAX_K3)


def entropy(tokens: TokenTerms) -> jax.Array:
  """`-H`: a positive coefficient rewards the entropy of the policy."""
  return jnp.where(jnp.asarray(tokens.mask) != 0, -tokens.entropy, 0)


def adaptive_entropy(
  tokens: TokenTerms, *, scale: float = 10.0, most: float = 5.0
) -> jax.Array:
  """Light-IF's bonus: `-focus H`, more where the entropy is about to fall.

  `focus`, a constant, is the weight of `adaptive_entropy_focus`: within a
  response the tokens weigh most whose log-probability covaries most with the
  advantage. `H`, the entropy of the policy, keeps its gradient.

  The paper's coefficient is 1, and its code divides by the number of all
  response tokens: the key `aggregate` of the regularizer, `token_mean`.

  Source: TEA-RL of Light-IF, arXiv 2508.03178, and its released code.
  Deviations: there the means are of a micro-batch, here of the mini-batch; in
  the code a gradient flows through the log-probability in the weights too
  (not through its mean), here the weights are constant.

  Args:
    tokens: `entropy`, `mask` and `focus`.
    scale: read by `adaptive_entropy_focus`.
    most: read by `adaptive_entropy_focus`.

  Returns:
    `[B, G, T]`, at most 0.
  """
  del scale, most
  return entropy(tokens) * _focus(tokens)


def adaptive_entropy_focus(
  logp: Array,
  old_logp: Array,
  advantage: Array,
  mask: Array,
  *,
  scale: float,
  most: float,
) -> jax.Array:
  """`clip(scale softmax_t(cov_t), 0, most)`, a softmax for each response.

      cov_t = (A_t - mean A) (logp_t - mean logp)

  with means over the trained tokens of the mini-batch, so a long response
  counts more in them. Where all tokens of a response have one advantage, the
  mean of `logp` drops out. A response at the mean advantage, as all are without
  any signal, has the weight `scale / L` on each of its `L` tokens: the bonus is
  not off. The weights of a response sum to `scale` at most, however long it
  is, and a single token has the weight `min(scale, most)`.

  Args:
    logp: `[B, G, T]` under the policy being trained.
    old_logp: not looked at.
    advantage: of each token.
    mask: 1 on tokens that are trained.
    scale: the sum of a response's weights; 10 in Light-IF.
    most: the largest weight; 5 in Light-IF.

  Returns:
    `[B, G, T]` float32, 0 outside the mask.

  Raises:
    UserError: a negative `scale` or `most`.
  """
  del old_logp
  ranges.NOT_NEGATIVE.check('adaptive_entropy', scale=scale, most=most)
  kept = jnp.asarray(mask) != 0
  covariance = masking.center(advantage, mask) * masking.center(logp, mask)
  largest = jnp.max(
    covariance, axis=-1, keepdims=True, initial=-jnp.inf, where=kept
  )
  # Selected before it is raised: without a token `largest` is infinite.
  weight = jnp.exp(jnp.where(kept, covariance - largest, -jnp.inf))
  # The largest adds 1 to the sum, so this is the sum of any tokens.
  total = jnp.maximum(jnp.sum(weight, axis=-1, keepdims=True), 1)
  return jnp.clip(scale * weight / total, 0, most)


def kl_cov(tokens: TokenTerms, *, fraction: float = 0.002) -> jax.Array:
  """KL-Cov: `focus |logp - old_logp|`, on the few tokens in focus.

  `kl_cov_focus` puts the tokens in focus whose log-probability covaries most
  with the advantage: those that make the entropy collapse. The slope of `|x|`
  at 0 is 0, as in Torch, so the term does nothing exactly on policy, in the
  first mini-batch of a step; after that a token in focus is pulled back with
  slope 1, however far it has gone.

  DOT has the coefficient 1.

  Source: DOT, arXiv 2601.03969, after verl's `kl_cov`. Deviation: there
  the tokens are ranked within a micro-batch, here within the mini-batch.

  Args:
    tokens: `logp`, `old_logp`, `mask` and `focus`.
    fraction: read by `kl_cov_focus`.

  Returns:
    `[B, G, T]`.
  """
  del fraction
  change = _change(tokens)
  # Not jnp.abs, which has the slope 1 at 0.
  size = change * jax.lax.stop_gradient(jnp.sign(change))
  return size * _focus(tokens)


def kl_cov_focus(
  logp: Array,
  old_logp: Array,
  advantage: Array,
  mask: Array,
  *,
  fraction: float,
) -> jax.Array:
  """1 on the top tokens of a mini-batch by covariance, 0 elsewhere.

      cov_i = (A_i - mean A) (logp_i - mean logp)

  over its `n` trained tokens; the number of those in focus is exactly
  `max(1, floor(fraction n))`, or 0 for `n = 0`. Ties go to the tokens that
  come first.

  Args:
    logp: `[B, G, T]` under the policy being trained.
    old_logp: not looked at.
    advantage: of each token.
    mask: 1 on tokens that are trained.
    fraction: above 0, up to 1; 0.002 in DOT.

  Returns:
    `[B, G, T]` float32.

  Raises:
    UserError: the fraction is not above 0 and up to 1.
  """
  del old_logp
  if not 0 < fraction <= 1:
    raise UserError(f'kl_cov: fraction = {fraction}; give one above 0, up to 1')
  kept = (jnp.asarray(mask) != 0).ravel()
  covariance = masking.center(advantage, mask) * masking.center(logp, mask)
  # No more can be chosen than of a mask that is full; a whole sort would cost
  # a hundred times as much. Of equal values the first counts, as in a sort.
  most = max(1, math.floor(kept.size * fraction))
  _, order = jax.lax.top_k(jnp.where(kept, covariance.ravel(), -jnp.inf), most)
  n = jnp.sum(kept, dtype=jnp.int32)
  number = jnp.maximum(jnp.floor(n * fraction).astype(jnp.int32), 1)
  focus = jnp.zeros(kept.shape, bool)
  focus = focus.at[order].set(jnp.arange(most) < number) & kept
  return focus.reshape(jnp.shape(mask)).astype(jnp.float32)


def kl_hinge(
  tokens: TokenTerms, *, beta: float = 1e3, delta: float = 1e-4
) -> jax.Array:
  """The constraint `KL <= delta` of DisCO and DRPO, as a penalty.

  The paper's term is `beta / 2 max(0, KL - delta)^2` for the mini-batch's

      KL = mean_i (old_logp_i - logp_i)

  over its trained tokens, an estimate of `KL(old || policy)`. Here it is
  `focus (old_logp - logp)` per token, where `focus` is
  `beta max(0, KL - delta)`: with the coefficient 1 and the aggregate
  `token_mean` (the key `aggregate` of the regularizer) that has the same
  gradient, `beta max(0, KL - delta) grad KL`, and the value is without
  meaning. On policy, and while `KL` is below `delta`, the gradient is 0.

  Source: DRPO, arXiv 2510.04474, as in the released code (where the paper's
  `beta_0` is `beta / 2`). Deviation: there KL is the mean of a micro-batch,
  here that of the mini-batch.

  Args:
    tokens: `logp`, `old_logp`, `mask` and `focus`.
    beta: read by `kl_hinge_focus`.
    delta: read by `kl_hinge_focus`.

  Returns:
    `[B, G, T]`.
  """
  del beta, delta
  return -_change(tokens) * _focus(tokens)


def kl_hinge_focus(
  logp: Array,
  old_logp: Array,
  advantage: Array,
  mask: Array,
  *,
  beta: float,
  delta: float,
) -> jax.Array:
  """`beta max(0, KL - delta)` on every trained token of a mini-batch.

  Args:
    logp: `[B, G, T]` under the policy being trained.
    old_logp: under the policy that sampled.
    advantage: not looked at.
    mask: 1 on tokens that are trained.
    beta: slope of the penalty's gradient in the excess.
    delta: nats per token that are free.

  Returns:
    `[B, G, T]` float32, 0 outside the mask.

  Raises:
    UserError: a negative `beta` or `delta`.
  """
  del advantage
  if beta < 0 or delta < 0:
    raise UserError(
      f'kl_hinge: beta = {beta}, delta = {delta}; give at least 0'
    )
  kept = jnp.asarray(mask) != 0
  kl = masking.mean(old_logp - logp, mask)
  return jnp.where(kept, beta * jnp.maximum(kl - delta, 0), 0)


def llds(tokens: TokenTerms, *, tolerance: float = 0.0) -> jax.Array:
  """LLDS: what good responses have lost in likelihood is pulled back.

      d_t  = old_logp_t - logp_t
      gate = [A >= 0] [sum_t d_t > 0]       of a response, a constant
      l_t  = gate max(0, d_t)

  over the trained tokens of a response; `A` is the mean of its advantages, so
  groups without a signal (0) are kept too. On the tokens that have lost, of
  responses that have lost as a whole, the slope in `logp` is -1; elsewhere,
  and exactly on policy, it is 0. So nothing happens in a step's only
  mini-batch, nor for an empty mask.

  The paper's coefficient, lambda, is 0.2, and its denominator is the number of
  all response tokens, not of those that the gate lets through: the key
  `aggregate` of the regularizer, `token_mean`.

  `old_logp` is of another program than the update, the sampler's or that which
  scores (`train.old_logp`), and rounds otherwise: without a tolerance some
  tokens have "lost" 1e-6 nats on policy already, and are pulled with the full
  slope. All configs set one.

  Source: LLDS, arXiv 2512.04220, for search in turns. There a gate is of an
  action, what stands between two outputs of a tool; a response of one turn is
  one action, so this is also its variant LLDS-R, with a gate per response. Its
  LLDS-MA is `llds_ma`. The tolerance is ours.

  Args:
    tokens: `logp`, `old_logp`, `advantage` and `mask`, `[B, G, T]`.
    tolerance: nats; a `d` within plus or minus that counts as 0, in the sum
      too. 0 in the paper.

  Returns:
    `[B, G, T]`, at least 0.

  Raises:
    UserError: a negative `tolerance`.
  """
  ranges.NOT_NEGATIVE.check('llds', tolerance=tolerance)
  loss = -_change(tokens)
  lost = jax.lax.stop_gradient(jnp.where(jnp.abs(loss) > tolerance, loss, 0))
  total = jnp.sum(lost, axis=-1, keepdims=True)
  advantage = masking.sum(tokens.advantage, tokens.mask, axis=-1, keepdims=True)
  # A comparison, not jnp.maximum, whose slope at 0 is 1/2.
  gate = (advantage >= 0) & (total > 0) & (lost > 0)
  return jnp.where(gate, loss, 0)


def llds_ma(
  tokens: TokenTerms, *, answer_weight: float = 0.2, tolerance: float = 0.0
) -> jax.Array:
  """LLDS-MA: `llds` that holds on to the answer less than to the thinking.

      l_t = w_t gate max(0, d_t),    w_t = answer_weight from `</think>` on
                                           1 before it

  with the gate of `llds`, whose sum runs over all trained tokens. Where
  thinking never closes there is no answer.

  Source: LLDS, arXiv 2512.04220, and its released script, which has a weight of
  0.2 for what stands between the tags of an answer; here that is what follows
  the thinking, its closing tag included.

  Args:
    tokens: as for `llds`, and `answer`.
    answer_weight: 0 to leave the answer free, 1 for `llds`.
    tolerance: as for `llds`.

  Returns:
    `[B, G, T]`, at least 0.

  Raises:
    UserError: a weight outside 0 to 1, or a negative `tolerance`.
  """
  ranges.SHARE.check('llds_ma', answer_weight=answer_weight)
  is_answer = jnp.asarray(tokens.answer) != 0
  weight = jnp.where(is_answer, answer_weight, 1.0)
  return weight * llds(tokens, tolerance=tolerance)


# A recipe without any of these needs no reference policy.
REFERENCE_TERMS = (kl_k1, kl_k2, kl_k3)


def _difference(tokens: TokenTerms) -> jax.Array:
  """`logp - ref_logp`, 0 outside the mask, whatever lies there."""
  difference = tokens.logp - tokens.ref_logp
  return jnp.where(jnp.asarray(tokens.mask) != 0, difference, 0)


def _change(tokens: TokenTerms) -> jax.Array:
  """`logp - old_logp`, 0 outside the mask, whatever lies there."""
  change = tokens.logp - tokens.old_logp
  return jnp.where(jnp.asarray(tokens.mask) != 0, change, 0)


def _focus(tokens: TokenTerms) -> jax.Array:
  return jnp.where(jnp.asarray(tokens.mask) != 0, tokens.focus, 0)
