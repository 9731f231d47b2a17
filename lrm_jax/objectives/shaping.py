"""Shaping: what a response earns.

`f(rollouts, memory, **keywords) -> (reward, memory)` with the reward `[B, G]`
float32. A recipe adds the rewards of its list and passes the memory, a dict of
arrays that is checkpointed, from one to the next. Each docstring says what
wrong and truncated responses get.
"""

from typing import Any

import jax
import jax.numpy as jnp

from lrm_jax.structs import Rollouts

Memory = dict[str, Any]


def outcome(rollouts: Rollouts, memory: Memory) -> tuple[jax.Array, Memory]:
  """`R = c`: the verifier's verdict alone.

  Wrong responses get 0. A truncated response gets whatever the verifier said:
  0 where the thinking never closed, since there is no answer to read, but 1
  where the right answer was given before the cap was hit.

  Args:
    rollouts: `correct` is used.
    memory: passed on unchanged.

  Returns:
    The reward `[B, G]` in {0, 1}, and the memory.
  """
  return jnp.asarray(rollouts.correct, jnp.float32), memory


def truncation(
  rollouts: Rollouts, memory: Memory, *, stop_properly: float = 0.0
) -> tuple[jax.Array, Memory]:
  """DLER's truncation reward: 1 if correct within the cap.

      R' = c * [L <= cap] * (stop_properly if truncated else 1)

  Wrong responses get 0, and so does a right one longer than the cap of its
  problem. A right answer whose response hit the cap without an
  end-of-sequence token gets `stop_properly`.

  Source: DLER, arXiv 2510.15110, where `stop_properly` is 0. The released
  trainer has 0.1: for a truncated response that already holds its answer.

  Args:
    rollouts: `correct`, `length`, `cap` (response tokens) and `truncated`.
    memory: passed on unchanged.
    stop_properly: reward of a truncated but correct response.

  Returns:
    The reward `[B, G]`, and the memory.
  """
  within = jnp.asarray(rollouts.length) <= jnp.asarray(rollouts.cap)[:, None]
  finished = jnp.where(jnp.asarray(rollouts.truncated), stop_properly, 1.0)
  reward = jnp.asarray(rollouts.correct) * within * finished
  return reward.astype(jnp.float32), memory
