"""Rewards of one response by itself: its verdict, length and cap."""

import jax
import jax.numpy as jnp

from lrm_jax.structs import Rollouts


def outcome(
  rollouts: Rollouts, *, right: float = 1.0, wrong: float = 0.0
) -> jax.Array:
  """`R = right if c else wrong`: the verifier's verdict alone.

  A truncated response gets whatever the verifier said: `wrong` where the
  thinking never closed, since there is no answer to read, but `right` where
  the right answer was given before the cap was hit.

  Args:
    rollouts: `correct` is used.
    right: of a right answer.
    wrong: of any other; -1 in DAPO's scorer.

  Returns:
    The reward `[B, G]`.
  """
  correct = jnp.asarray(rollouts.correct) > 0
  return jnp.where(correct, jnp.float32(right), jnp.float32(wrong))


def truncation(
  rollouts: Rollouts, *, stop_properly: float = 0.0
) -> jax.Array:
  """DLER's truncation reward: 1 if correct within the cap.

      R' = c * [L <= cap] * (stop_properly if truncated else 1)

  Wrong responses get 0, and so does a right one longer than the cap of its
  problem. A right answer whose response hit the cap without an
  end-of-sequence token gets `stop_properly`.

  Source: DLER, arXiv 2510.15110, where `stop_properly` is 0. The released
  trainer has 0.1: for a truncated response that already holds its answer.

  Args:
    rollouts: `correct`, `length`, `cap` (response tokens) and `truncated`.
    stop_properly: reward of a truncated but correct response.

  Returns:
    The reward `[B, G]`.
  """
  within = jnp.asarray(rollouts.length) <= jnp.asarray(rollouts.cap)[:, None]
  finished = jnp.where(jnp.asarray(rollouts.truncated), stop_properly, 1.0)
  reward = jnp.asarray(rollouts.correct) * within * finished
  return reward.astype(jnp.float32)
