"""Revisions: tokens that are taken out of responses before they are rewarded.

`f(rollouts, **keywords) -> (start, stop)`, both `[B, G]` int32: the tokens
`start <= t < stop` of a response go, and it is graded again. Equal numbers
leave it as it was sampled.
"""

import jax
import jax.numpy as jnp

from lrm_jax.structs import Rollouts


def unrevised(rollouts: Rollouts) -> tuple[jax.Array, jax.Array]:
  """Leaves every response as it was sampled."""
  nothing = jnp.zeros(jnp.shape(rollouts.length), jnp.int32)
  return nothing, nothing
