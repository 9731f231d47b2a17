"""Regularizers: terms added to the loss of each token.

`f(tokens: TokenTerms, **keywords) -> [B, G, T]`, in nats, 0 outside the mask;
the recipe multiplies by the coefficient. The three estimators of
`KL(policy || reference)` follow http://joschu.net/blog/kl-approx.html; as a
loss term they differ by their gradients, which are what counts here.
"""

import jax
import jax.numpy as jnp

from lrm_jax.objectives import losses
from lrm_jax.structs import TokenTerms

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


# A recipe without any of these needs no reference policy.
REFERENCE_TERMS = (kl_k1, kl_k2, kl_k3)


def _difference(tokens: TokenTerms) -> jax.Array:
  """`logp - ref_logp`, 0 outside the mask, whatever lies there."""
  difference = tokens.logp - tokens.ref_logp
  return jnp.where(jnp.asarray(tokens.mask) != 0, difference, 0)
