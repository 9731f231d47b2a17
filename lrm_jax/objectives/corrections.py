"""Corrections: samples of another policy, weighed by importance.

`f(old_logp, sampler_logp, mask, **keywords) -> weight, mask`, all `[B, G, T]`.
`old_logp` are log-probabilities (nats) of the trainer's graph under the
parameters before the step, `sampler_logp` what the sampler reports: the same
but for rounding where the same parameters sampled, and off where older ones
did. The loss compares the trained policy with the first (`train.old_logp=
'trainer'`), the weight the first with the second:

    rho_t = exp(old_logp_t - sampler_logp_t)

The weight multiplies the advantage and is a constant; as it is not negative it
multiplies the clipped loss. Regularizers are not weighed. What a correction
masks out is gone from every denominator too.
"""

import jax
import jax.numpy as jnp

from lrm_jax import masking
from lrm_jax.objectives import ranges
from lrm_jax.objectives.losses import log_ratio
from lrm_jax.structs import Array

Correction = tuple[jax.Array, jax.Array]


def uncorrected(
  old_logp: Array, sampler_logp: Array, mask: Array
) -> Correction:
  """A weight of 1."""
  del old_logp, sampler_logp
  return jnp.ones_like(mask), mask


def token_truncated(
  old_logp: Array, sampler_logp: Array, mask: Array, *, cap: float = 2.0
) -> Correction:
  """`min(rho_t, cap)` for each token.

  Biased where the cap acts, and of small variance; there is no lower bound.

  Source: truncated importance sampling as verl and TRL have it; the cap is
  their default.

  Args:
    old_logp: of the trainer's graph, before the step.
    sampler_logp: of the sampler.
    mask: 1 on tokens that are trained.
    cap: largest weight, at least 1.

  Returns:
    The weight, 1 outside the mask, and the mask as it was.

  Raises:
    UserError: a cap below 1, which would scale all of the loss.
  """
  ranges.COUNT.check('token_truncated', cap=cap)
  ratio = jnp.exp(log_ratio(old_logp, sampler_logp, mask))
  return jnp.minimum(ratio, cap), mask


def sequence_truncated(
  old_logp: Array, sampler_logp: Array, mask: Array, *, cap: float = 2.0
) -> Correction:
  """`min(prod_t rho_t, cap)` for all tokens of a response.

  Unbiased but for the cap, where tokens of their own are not; the product of a
  long response is far from 1 for little reason. Its logarithm is held within
  +-20.

  Source: as `token_truncated`; the product is over the trained tokens.

  Args:
    old_logp: of the trainer's graph, before the step.
    sampler_logp: of the sampler.
    mask: 1 on tokens that are trained.
    cap: largest weight, at least 1.

  Returns:
    The weight, and the mask as it was.

  Raises:
    UserError: a cap below 1.
  """
  ranges.COUNT.check('sequence_truncated', cap=cap)
  weight = jnp.minimum(_product(old_logp, sampler_logp, mask), cap)
  return jnp.broadcast_to(weight, jnp.shape(mask)), mask


def token_masked(
  old_logp: Array,
  sampler_logp: Array,
  mask: Array,
  *,
  low: float = 0.5,
  high: float = 5.0,
) -> Correction:
  """`rho_t` within `[low, high]`; tokens outside are not trained.

  Source: IcePop, whose bounds these are.

  Args:
    old_logp: of the trainer's graph, before the step.
    sampler_logp: of the sampler.
    mask: 1 on tokens that are trained.
    low: least ratio, 0 to 1.
    high: largest, at least 1.

  Returns:
    The weight, and the mask without those tokens.

  Raises:
    UserError: bounds that leave out a ratio of 1.
  """
  ranges.SHARE.check('token_masked', low=low)
  ranges.COUNT.check('token_masked', high=high)
  ratio = jnp.exp(log_ratio(old_logp, sampler_logp, mask))
  is_within = (ratio >= low) & (ratio <= high)
  return ratio, jnp.where(is_within, mask, 0)


def sequence_masked(
  old_logp: Array, sampler_logp: Array, mask: Array, *, cap: float = 2.0
) -> Correction:
  """`prod_t rho_t` up to the cap; responses beyond it are not trained.

  Source: masked importance sampling, as in verl's sequence-level rejection;
  a response that the old policy finds far likelier than the sampler did is
  one that the sampler got wrong.

  Args:
    old_logp: of the trainer's graph, before the step.
    sampler_logp: of the sampler.
    mask: 1 on tokens that are trained.
    cap: largest product, at least 1.

  Returns:
    The weight, and the mask without those responses.

  Raises:
    UserError: a cap below 1.
  """
  ranges.COUNT.check('sequence_masked', cap=cap)
  weight = _product(old_logp, sampler_logp, mask)
  mask = jnp.where(weight <= cap, mask, 0)
  return jnp.broadcast_to(weight, mask.shape), mask


def _product(old_logp: Array, sampler_logp: Array, mask: Array) -> jax.Array:
  """`[B, G, 1]`: the product of the ratios of the trained tokens."""
  # Tokens are not held within bounds on their own: their sum is.
  change = masking.sum(
    jnp.asarray(old_logp) - sampler_logp, mask, axis=-1, keepdims=True
  )
  return jnp.exp(log_ratio(change, 0.0, jnp.ones_like(change)))
