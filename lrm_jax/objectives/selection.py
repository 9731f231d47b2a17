"""Selection: which samples are trained on.

`f(rollouts, reward, **keywords) -> keep`, `[B, G]` bool. The reward is the
shaped one; a rule that wants the verdict finds it in `rollouts.correct`. The
trainer multiplies `keep` into the response mask, so every later part sees a
dropped sample as one without tokens.
"""

import jax
import jax.numpy as jnp

from lrm_jax.structs import Array, Rollouts


def all_groups(rollouts: Rollouts, reward: Array) -> jax.Array:
  """Keeps everything: `[B, G]` of True."""
  del rollouts
  return jnp.ones(jnp.shape(reward), bool)


def dynamic_sampling(rollouts: Rollouts, reward: Array) -> jax.Array:
  """Keeps the groups whose rewards differ: `std_g(r_bg) > 0`.

  A group of equal rewards has no advantage and so no gradient. It is tested
  as `max > min`, which is the same statement without rounding: there is no
  tolerance, and rewards that differ in the last bit are kept. A group of one
  sample is always dropped.

  Source: DAPO, arXiv 2503.14476, section 3.2 (there on the accuracy); DLER,
  arXiv 2510.15110, applies it to the truncation reward, as here.

  Args:
    rollouts: not used.
    reward: `[B, G]` shaped reward.

  Returns:
    `[B, G]` bool, equal within each group.
  """
  del rollouts
  reward = jnp.asarray(reward)
  differs = jnp.max(reward, axis=1) > jnp.min(reward, axis=1)
  return jnp.broadcast_to(differs[:, None], reward.shape)


def dynamic_sampling_accuracy(rollouts: Rollouts, reward: Array) -> jax.Array:
  """Keeps the groups with both verdicts: `0 < sum_g c_bg < G`.

  As `dynamic_sampling`, but on the verifier's verdict, whatever a response
  earns: a group of right answers is dropped even if their lengths are paid
  differently, and one with both verdicts is kept even if all rewards are
  equal. A group of one sample is always dropped.

  Source: DAPO, arXiv 2503.14476, section 3.2.

  Args:
    rollouts: `correct` is used.
    reward: not used.

  Returns:
    `[B, G]` bool, equal within each group.
  """
  del reward
  right = rollouts.right
  mixed = jnp.any(right, axis=1) & ~jnp.all(right, axis=1)
  return jnp.broadcast_to(mixed[:, None], right.shape)
