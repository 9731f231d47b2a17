"""Targets: what a prompt asks for, put into `data.instruction`.

`f(keys [B], cap, **keywords) -> [B]` int32; the keys are JAX random keys, one
per problem and step. `{target}` in the instruction is replaced by the number.
"""

import jax
import jax.numpy as jnp

from lrm_jax.structs import Array


def no_target(keys: Array, cap: Array | int) -> jax.Array:
  """0: the prompt asks for nothing."""
  del cap
  return jnp.zeros(jnp.shape(keys), jnp.int32)
