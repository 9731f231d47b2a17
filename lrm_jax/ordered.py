"""Sums whose order of additions depends on nothing but their length."""

import jax
import jax.numpy as jnp

from lrm_jax.structs import Array


def total(x: Array) -> Array:
  """The sum over the last axis, `[..., n]` -> `[...]`, in float32.

  As a product with ones. XLA's own sum adds up small arrays and large ones in
  different orders on a CPU, so that the last bits of a row's sum depend on how
  many rows there are, and a sample on the number of slots.
  """
  flat = x.astype(jnp.float32).reshape(-1, x.shape[-1])
  rows = len(flat)
  # Rows behind the last multiple of 8 would take another path.
  flat = jnp.pad(flat, ((0, -rows % 8), (0, 0)))
  ones = jnp.ones((x.shape[-1], 1), jnp.float32)
  summed = jnp.matmul(flat, ones, precision=jax.lax.Precision.HIGHEST)
  return summed[:rows].reshape(x.shape[:-1])
