"""Advantages: how much better a response was than expected.

`f(reward [B, G], mask [B, G, T], **keywords)` gives `[B, G]`, or `[B, G, T]`
where the advantage differs between tokens. The mask is 1 on tokens that are
trained: a sample counts if it has any. Statistics run over the samples that
count, also the mean of a group, and the others get 0. A group of one sample
has nothing to be compared with and gets 0.
"""

import jax
import jax.numpy as jnp

from lrm_jax import masking
from lrm_jax.structs import Array


def group(
  reward: Array, mask: Array, *, ddof: int = 1, eps: float = 1e-6
) -> jax.Array:
  """GRPO: `A_bg = (r_bg - mu_b) / (sd_b + eps)`.

  Projects differ in `ddof` and `eps`, and for reward differences near `eps`
  that decides the size of the update. For rewards (1, 0, 0, 0, 0, 0, 0, 0):
  2.475 and -0.354 with `ddof=1, eps=1e-6` (verl, tunix), 2.646 and -0.378
  with `ddof=0`. A group of equal rewards gets 0, at `eps=0` too. verl instead
  gives the raw reward to a group of one sample.

  Source: DeepSeekMath, arXiv 2402.03300, section 4.1.

  Args:
    reward: `[B, G]`.
    mask: `[B, G, T]`.
    ddof: 1 for the sample standard deviation, 0 for the population's.
    eps: added to the standard deviation, in units of reward.

  Returns:
    `[B, G]`.
  """
  counted = _counted(mask)
  scale = masking.std(reward, counted, axis=1, ddof=ddof, keepdims=True) + eps
  scale = jnp.where(scale > 0, scale, 1)  # 0 only where every advantage is 0
  return masking.center(reward, counted, axis=1) / scale


def group_mean(reward: Array, mask: Array) -> jax.Array:
  """Dr. GRPO: `A_bg = r_bg - mu_b`, not divided by the deviation.

  Source: arXiv 2503.20783.

  Args:
    reward: `[B, G]`.
    mask: `[B, G, T]`.

  Returns:
    `[B, G]`.
  """
  return masking.center(reward, _counted(mask), axis=1)


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
  """
  tokens = per_token(group_mean(reward, mask), mask)
  return masking.whiten(tokens, mask, ddof=1, eps=eps)


def per_token(advantage: Array, mask: Array) -> jax.Array:
  """Gives each token its advantage.

  Args:
    advantage: `[B, G]` or `[B, G, T]`.
    mask: `[B, G, T]`.

  Returns:
    `[B, G, T]`, 0 outside the mask.
  """
  advantage = jnp.asarray(advantage)
  if advantage.ndim == jnp.ndim(mask) - 1:
    advantage = advantage[..., None]
  return jnp.where(jnp.asarray(mask) != 0, advantage, 0)


def _counted(mask: Array) -> jax.Array:
  """`[B, G]` bool: the sample has a trained token."""
  return jnp.any(jnp.asarray(mask) != 0, axis=-1)
