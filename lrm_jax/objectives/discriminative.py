"""Discriminative losses: right samples against the wrong ones of a group.

Losses as in `losses.py`, but of a group as a whole. Every sample has a score
`S`, its mean over trained tokens, and with the advantage `A` of a sample

    J_b = sum_{g: A_bg > 0} A_bg S_bg
          - temperature log mean_{g: A_bg < 0} exp(S_bg / temperature)

The loss `-J_b` stands on every trained token of the group. With the aggregate
`question_mean`, with which these losses are defined, the scalar is
`-(sum_b J_b) / Q`, where `Q` counts all groups with trained tokens, all right
and all wrong ones too: those of the mini-batch, where the released code takes
those of a micro-batch.

Right samples pull in proportion to `A`, whose sum over them should be 1
(`advantages.class_share`); of a negative advantage only the sign is read, and
a sample with advantage 0 takes no part. The wrong samples are pushed down by
their softmax shares: a low temperature finds the likeliest one, a high one
treats all alike. A group without both classes has a loss and a gradient of
exactly 0. Samples without trained tokens do not count.
"""

import jax
import jax.numpy as jnp

from lrm_jax import masking
from lrm_jax.errors import UserError
from lrm_jax.objectives import losses
from lrm_jax.structs import Array


def discriminative_likelihood(
  logp: Array,
  old_logp: Array,
  advantage: Array,
  mask: Array,
  *,
  temperature: float = 10.0,
) -> jax.Array:
  """DisCO's log-likelihood score, and DRPO's: `S = mean_t logp`.

  DRPO is this loss with rewards that share the positives by their length
  (`shaping.relative.decoupled_length`); for equal rewards it is DisCO. Both
  hold the policy with the regularizer `kl_hinge`. Neither clips, nor weighs by
  a ratio.

  The released code divides the negative term by a constant of its own value;
  the gradient is the same, and here the value is the objective's too.

  Source: DisCO, arXiv 2505.12366, and DRPO, arXiv 2510.04474, as in the
  released code.

  Args:
    logp: under the policy being trained.
    old_logp: not looked at.
    advantage: of each token, the same for those of a sample.
    mask: 1 on tokens that are trained.
    temperature: in nats per token.

  Returns:
    `[B, G, T]` loss, to be minimized.

  Raises:
    UserError: the temperature is not positive.
  """
  del old_logp
  _check_temperature('discriminative_likelihood', temperature)
  score = masking.mean(logp, mask, axis=-1)
  return _group_loss(score, advantage, mask, temperature)


def discriminative_ratio(
  logp: Array,
  old_logp: Array,
  advantage: Array,
  mask: Array,
  *,
  temperature: float = 1.0,
) -> jax.Array:
  """DisCO's likelihood-ratio score: `S = mean_t exp(logp - old_logp)`.

  On policy every score is 1, and the wrong samples are pushed down alike. The
  log-ratios are held within +-20 nats, beyond which there is no gradient.

  Source: DisCO, arXiv 2505.12366, as in the released code.

  Args:
    logp: under the policy being trained.
    old_logp: under the policy that sampled.
    advantage: of each token, the same for those of a sample.
    mask: 1 on tokens that are trained.
    temperature: in units of the ratio.

  Returns:
    `[B, G, T]` loss, to be minimized.

  Raises:
    UserError: the temperature is not positive.
  """
  _check_temperature('discriminative_ratio', temperature)
  ratio = jnp.exp(losses.log_ratio(logp, old_logp, mask))
  return _group_loss(
    masking.mean(ratio, mask, axis=-1), advantage, mask, temperature
  )


def _check_temperature(name: str, temperature: float) -> None:
  if not temperature > 0:
    raise UserError(f'{name}: temperature = {temperature}; give one above 0')


def _group_loss(
  score: jax.Array, advantage: Array, mask: Array, temperature: float
) -> jax.Array:
  """`-J_b` on every trained token; score `[B, G]`, the others `[B, G, T]`."""
  kept = jnp.asarray(mask) != 0
  weight = masking.mean(advantage, mask, axis=-1)
  positive, negative = weight > 0, weight < 0
  has_both = jnp.any(positive, axis=1) & jnp.any(negative, axis=1)
  pull = jnp.sum(jnp.where(positive, weight * score, 0), axis=1)
  # Selected before the logarithm, which has no gradient for an empty sum.
  entry = jnp.where(negative, score / temperature, -jnp.inf)
  entry = jnp.where(has_both[:, None], entry, 0)
  number = jnp.maximum(jnp.sum(negative, axis=1), 1)
  push = jax.nn.logsumexp(entry, axis=1) - jnp.log(number)
  objective = jnp.where(has_both, pull - temperature * push, 0)
  return jnp.where(kept, -objective[:, None, None], 0)
