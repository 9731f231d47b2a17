"""Bonuses: advantages of single tokens, beside that of the response.

`f(rollouts, mask [B, G, T], **keywords) -> [B, G, T]` float32, added to the
advantage after its normalisation, 0 outside the mask.
"""

import jax
import jax.numpy as jnp

from lrm_jax.errors import UserError
from lrm_jax.objectives import measures
from lrm_jax.objectives.repetition import repeated_tokens
from lrm_jax.structs import Array, Rollouts


def repetition(
  rollouts: Rollouts,
  mask: Array,
  *,
  n: int = 40,
  penalty: float = -0.05,
  discount: float = 0.99,
) -> jax.Array:
  """The dense n-gram penalty, with a discount of its own.

      p_t     = penalty if token t is in a repeated n-gram else 0
      bonus_t = sum_{s >= t} discount^(s - t) p_s

  `repetition.repeated_tokens` says what is repeated: response tokens, thinking
  and answer alike, in right, wrong and truncated responses. The tokens that
  lead into a repetition share the blame, fading with distance, while the
  advantage of the verdict reaches every token undiminished. The sum is at
  most `penalty / (1 - discount)`, -5 by default: far more than an advantage
  of normalised rewards.

  Source: arXiv 2502.03373; n, penalty and discount are those of its released
  scripts. There the discounted sum, with a critic subtracted, enters PPO's
  advantages, and rewards are normalised. To add it as it is to an advantage
  relative to the group is a reconstruction.

  Args:
    rollouts: `response_ids` is used.
    mask: 1 on tokens that are trained; a dropped sample gets 0.
    n: tokens per n-gram, at least 1; a shorter response gets 0.
    penalty: of one token, below 0 to discourage repetition.
    discount: per token, 0 to 1; 0 penalises the repeated tokens alone.

  Returns:
    `[B, G, T]`, 0 outside the mask.

  Raises:
    UserError: `n` below 1, or a discount outside 0 to 1.
  """
  if not 0 <= discount <= 1:
    raise UserError(f'repetition: discount = {discount}; give 0 to 1')
  repeated = repeated_tokens(rollouts.response_ids, mask, n=n)
  returns = _to_go(jnp.where(repeated, jnp.float32(penalty), 0), discount)
  return jnp.where(jnp.asarray(mask) != 0, returns, 0)


def close_thinking(rollouts: Rollouts, mask: Array) -> jax.Array:
  """LC-R1's reward of the one token that ends thinking.

      bonus = 1 - L_prefix / L_think   where the answer was reached
              -1                       where the thinking never reached it

  on the first token of `</think>` of right responses that closed; every other
  token, and every token of a wrong or unclosed response, gets 0. `L_think` are
  the thinking tokens as sampled and `L_prefix` those up to the answer, which
  the revision `compress_thinking` left; so with `removed` tokens taken out
  the first line is `removed / (thinking_length + removed)`. It is 0 where the
  answer came at the very end and nothing was removed, and everywhere without
  that revision. An answer that is right after empty thinking gets -1: the
  thinking did not reach it.

  Source: LC-R1, arXiv 2506.14755.

  Args:
    rollouts: `correct`, `think_closed`, `thinking_length` and `removed`, as
      the revision left them, and the measure `answer_prefix`.
    mask: 1 on tokens that are trained; a dropped sample gets 0.

  Returns:
    `[B, G, T]`, 0 outside the mask.

  Raises:
    UserError: the measure `answer_prefix` was not taken.
  """
  prefix = measures.find(rollouts, 'answer_prefix', 'bonuses.close_thinking')
  thinking = jnp.asarray(rollouts.thinking_length)
  removed = jnp.asarray(rollouts.removed)
  saved = removed / jnp.maximum(thinking + removed, 1)
  bonus = jnp.where(prefix < 0, -1, saved).astype(jnp.float32)
  counts = rollouts.right & rollouts.think_closed
  is_close = jnp.arange(mask.shape[-1]) == thinking[..., None]
  is_close = is_close & counts[..., None] & (jnp.asarray(mask) != 0)
  return jnp.where(is_close, bonus[..., None], 0)


def _to_go(rewards: jax.Array, discount: float) -> jax.Array:
  """`sum_{s >= t} discount^(s - t) rewards[s]` along the last axis."""

  def join(later, earlier):
    decay, value = later
    own_decay, own_value = earlier
    return decay * own_decay, own_value + own_decay * value

  decay = jnp.full_like(rewards, discount)
  axis = rewards.ndim - 1
  scan = jax.lax.associative_scan
  return scan(join, (decay, rewards), reverse=True, axis=axis)[1]
