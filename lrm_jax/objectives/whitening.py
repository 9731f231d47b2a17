"""Advantages that differ between tokens: whitened over those of the batch.

`f(reward [B, G], mask [B, G, T], **keywords) -> [B, G, T]`, as in
`advantages.py`. Every trained token weighs alike, so long responses weigh
more.
"""

import jax
import jax.numpy as jnp

from lrm_jax import masking
from lrm_jax.objectives import ranges
from lrm_jax.objectives.advantages import group_mean, per_token
from lrm_jax.structs import Array


def batch_token_whiten(
  reward: Array, mask: Array, *, eps: float = 1e-8
) -> jax.Array:
  """REINFORCE++ with a group baseline, as DLER uses it.

      a_bg  = r_bg - mu_b                     (repeated over the tokens)
      A_bgt = (a_bg - mean) / sqrt(var + eps)

  Mean and unbiased variance run over every trained *token* of the batch. So
  long responses weigh more in both; and since the mean is subtracted a second
  time, small advantages can change sign, and a group of equal rewards gets
  `-mean / sqrt(var + eps)`, not 0, unless the selection drops it.

  Source: REINFORCE++, arXiv 2501.03262; DLER, arXiv 2510.15110; the
  token statistics as in verl's `masked_whiten`.

  Args:
    reward: `[B, G]`.
    mask: `[B, G, T]`.
    eps: added to the variance, in units of squared reward.

  Returns:
    `[B, G, T]`, 0 outside the mask.

  Raises:
    UserError: a negative `eps`.
  """
  ranges.NOT_NEGATIVE.check('batch_token_whiten', eps=eps)
  tokens = per_token(group_mean(reward, mask), mask)
  return masking.whiten(tokens, mask, ddof=1, eps=eps)


def return_whiten(
  reward: Array, mask: Array, *, gamma: float = 1.0, eps: float = 1e-8
) -> jax.Array:
  """REINFORCE++: whitened returns, without a group baseline.

      R_bgt = gamma^(L_bg - 1 - t) r_bg
      A_bgt = (R_bgt - mean) / sqrt(var + eps)

  `t` counts the trained tokens of the sample from 0 and `L_bg` is their
  number, so the last one sees the whole reward. Mean and unbiased variance
  run over every trained token of the batch: long responses weigh more. Groups
  play no part: one sample alone is compared with the batch, and a group of
  equal rewards gets 0 only where the whole batch is equal (and `gamma` 1).

  Source: REINFORCE++, arXiv 2501.03262, as in verl; the penalty on the KL
  that the paper puts into the reward is left to a regularizer.

  Args:
    reward: `[B, G]`.
    mask: `[B, G, T]`.
    gamma: discount per token, from 0 to 1.
    eps: added to the variance, in units of squared reward.

  Returns:
    `[B, G, T]`, 0 outside the mask.

  Raises:
    UserError: `gamma` is not from 0 to 1, or `eps` negative.
  """
  ranges.SHARE.check('return_whiten', gamma=gamma)
  ranges.NOT_NEGATIVE.check('return_whiten', eps=eps)
  kept = jnp.asarray(mask) != 0
  # How many trained tokens come after this one.
  after = jnp.cumsum(kept[..., ::-1], axis=-1)[..., ::-1] - kept
  discount = jnp.power(jnp.float32(gamma), after.astype(jnp.float32))
  returns = per_token(reward, mask) * discount
  return masking.whiten(returns, mask, ddof=1, eps=eps)
