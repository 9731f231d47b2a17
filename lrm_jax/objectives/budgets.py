"""Budgets: how many tokens a response may have at each step.

`f(step, **keywords) -> cap`, an int32 scalar in response tokens, the
end-of-sequence token included. The cap is a traced value downstream: a
schedule recompiles nothing.
"""

import jax
import jax.numpy as jnp

from lrm_jax.errors import UserError
from lrm_jax.structs import Array


def constant(step: Array | int, *, cap: int) -> jax.Array:
  """`L_max(step) = cap`.

  Args:
    step: RL steps completed; not used.
    cap: response tokens, at least 1.

  Returns:
    The cap, an int32 scalar.

  Raises:
    UserError: the cap leaves no room for a token.
  """
  del step
  if cap < 1:
    raise UserError(
      f'constant budget: cap = {cap} response tokens; give at least 1'
    )
  return jnp.asarray(cap, jnp.int32)
