"""Targets: what a prompt asks for, put into `data.instruction`.

`f(keys [B], cap, **keywords) -> [B]` int32; the keys are JAX random keys, one
per problem and step. `{target}` in the instruction is replaced by the number,
`{level}` by the word of a level. A target depends on its own key alone, not on
the other problems of the batch. 0 tokens are never asked for: 0 is what
`no_target` gives, or a level.
"""

import jax
import jax.numpy as jnp

from lrm_jax.data import prompts
from lrm_jax.errors import UserError
from lrm_jax.objectives import ranges
from lrm_jax.structs import Array


def no_target(keys: Array, cap: Array | int) -> jax.Array:
  """0: the prompt asks for nothing."""
  del cap
  return jnp.zeros(jnp.shape(keys), jnp.int32)


def uniform_target(
  keys: Array, cap: Array | int, *, low: int, high: int
) -> jax.Array:
  """`n ~ U{low, ..., high}`, both ends included: how long to think.

  Source: L1, arXiv 2503.04697: 100 to 4000 tokens.

  Args:
    keys: `[B]` random keys.
    cap: not used; a target above it cannot be met.
    low: smallest target, tokens, at least 1.
    high: largest target.

  Returns:
    `[B]` int32.

  Raises:
    UserError: nothing to draw from, or a target of 0.
  """
  del cap
  if not 1 <= low <= high:
    raise UserError(
      f'uniform_target: low = {low}, high = {high} tokens; give '
      '1 <= low <= high'
    )
  return _uniform(keys, low, high)


def level_target(keys: Array, cap: Array | int, *, count: int = 3) -> jax.Array:
  """One of the levels 0, ..., count - 1, each equally often.

  Level 0 is the shortest. What a level costs is up to the reward
  (`shaping.capped.tldr`).

  Source: TLDR, arXiv 2505.07961, whose levels are short, medium and long; that
  they are drawn uniformly is a reconstruction.

  Args:
    keys: `[B]` random keys.
    cap: not used.
    count: of levels, 1 to 3: there are no more words in `prompts.LEVELS`.

  Returns:
    `[B]` int32; here 0 is a level.

  Raises:
    UserError: no levels, or more than there are words for.
  """
  del cap
  most = len(prompts.LEVELS)
  if not 1 <= count <= most:
    raise UserError(f'level_target: count = {count} levels; give 1 to {most}')
  return _uniform(keys, 0, count - 1)


def cap_target(keys: Array, cap: Array | int) -> jax.Array:
  """The cap itself: the prompt says when the response will be cut.

  Source: ThinkPrune, arXiv 2504.01296.

  Args:
    keys: `[B]` random keys; only their number is used.
    cap: response tokens.

  Returns:
    `[B]` int32.
  """
  return jnp.broadcast_to(jnp.asarray(cap, jnp.int32), jnp.shape(keys))


def share_of_cap(
  keys: Array, cap: Array | int, *, times: int, room: int
) -> jax.Array:
  """`max(1, floor((cap - room) / times))`: a budget of thinking tokens.

  The inverse of a cap of `times` budgets and `room` tokens for the answer, as
  `budgets.geometric` makes it; a recipe with both has the same numbers in both.

  Source: the prompts of RMT, arXiv 2509.24375, ask for the budget of the step.

  Args:
    keys: `[B]` random keys; only their number is used.
    cap: response tokens.
    times: budgets in a cap, at least 1.
    room: response tokens of the cap beside them.

  Returns:
    `[B]` int32, thinking tokens.

  Raises:
    UserError: `times` below 1, or a negative `room`.
  """
  ranges.COUNT.check('share_of_cap', times=times)
  ranges.NOT_NEGATIVE.check('share_of_cap', room=room)
  budget = jnp.maximum((jnp.asarray(cap, jnp.int32) - room) // times, 1)
  return jnp.broadcast_to(budget, jnp.shape(keys))


def _uniform(keys: Array, low: int, high: int) -> jax.Array:
  draw = lambda key: jax.random.randint(key, (), low, high + 1, jnp.int32)
  return jax.vmap(draw)(keys)
