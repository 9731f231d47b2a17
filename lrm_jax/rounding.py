"""Updates of bfloat16 parameters that are right on average.

A step of training is smaller than the spacing of bfloat16 (1/256 of a number),
so rounded to the nearest it would be lost. Rounded up with the probability of
the part that is cut off, it is there in the mean.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrm_jax import rng
from lrm_jax.structs import Array


class RoundingState(NamedTuple):
  """How many updates have been rounded."""

  count: Array


def stochastic(seed: int) -> optax.GradientTransformation:
  """The last transformation of a chain, for parameters in bfloat16.

  It makes updates that bring a parameter exactly to a number of bfloat16, one
  of the two beside the sum, so that `optax.apply_updates` rounds nothing.
  Parameters of other dtypes are left to it.

  Args:
    seed: of the run.
  """

  def init(params: Any) -> RoundingState:
    del params
    return RoundingState(jnp.zeros((), jnp.int32))

  def update(updates: Any, state: RoundingState, params: Any):
    key = jax.random.fold_in(rng.stream(seed, 'rounding'), state.count)
    leaves, structure = jax.tree.flatten(updates)
    keys = jax.random.split(key, len(leaves))
    found = [
      _step(x, p, k) if p.dtype == jnp.bfloat16 else x
      for x, p, k in zip(leaves, jax.tree.leaves(params), keys, strict=True)
    ]
    return jax.tree.unflatten(structure, found), RoundingState(state.count + 1)

  return optax.GradientTransformation(init, update)


def _step(change: Array, param: Array, key: Array) -> Array:
  start = param.astype(jnp.float32)
  return to_bfloat16(start + change, key).astype(jnp.float32) - start


def to_bfloat16(x: Array, key: Array) -> Array:
  """One of the two neighbours of each number, `x` on average.

  The lower 16 bits of a float32 are what bfloat16 has no room for: a random
  number of 16 bits is added, and they are cut off. What is not finite stays.

  Args:
    x: float32.
    key: of the random bits.
  """
  noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + noise
  cut = jax.lax.bitcast_convert_type(
    (bits >> 16).astype(jnp.uint16), jnp.bfloat16
  )
  return jnp.where(jnp.isfinite(x), cut, x.astype(jnp.bfloat16))
