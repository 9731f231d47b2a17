"""Masked reductions: the only copy, because each has an edge case.

A mask has the shape of the values (or broadcasts to it) and holds 0 or 1; an
entry counts where the mask is not 0. What lies under a 0 never matters: it may
be NaN or infinite, and it receives a gradient of exactly 0. Sums run in
float32 or wider. A reduction over nothing is 0, for every function here.
"""

import jax
import jax.numpy as jnp

from lrm_jax.structs import Array

Axis = int | tuple[int, ...] | None


def sum(
  values: Array, mask: Array, *, axis: Axis = None, keepdims: bool = False
) -> jax.Array:
  """`sum_i m_i x_i`; 0 for an empty mask."""
  return jnp.sum(_masked(values, mask), axis=axis, keepdims=keepdims)


def mean(
  values: Array, mask: Array, *, axis: Axis = None, keepdims: bool = False
) -> jax.Array:
  """`sum_i m_i x_i / sum_i m_i`; 0 for an empty mask."""
  count = _count(values, mask, axis, keepdims)
  total = sum(values, mask, axis=axis, keepdims=keepdims)
  return total / jnp.maximum(count, 1)


def center(values: Array, mask: Array, *, axis: Axis = None) -> jax.Array:
  """`m_i (x_i - mean)`, in the shape of the values.

  The largest value is subtracted before the mean is taken. That changes
  nothing on paper; in float32 it makes equal values give exactly 0 (the mean
  of eight 0.1s is not 0.1) and keeps the digits of small differences
  between large values.

  Args:
    values: of any shape.
    mask: 0 or 1 per value.
    axis: the axes that share one mean; all by default.

  Returns:
    Centred values, 0 where the mask is 0.
  """
  values = _masked(values, mask)
  kept = jnp.broadcast_to(jnp.asarray(mask) != 0, values.shape)
  largest = jnp.max(
    values, axis=axis, keepdims=True, initial=-jnp.inf, where=kept
  )
  # The result does not depend on the shift, so neither does the gradient.
  shifted = values - jax.lax.stop_gradient(largest)
  return _masked(shifted - mean(shifted, mask, axis=axis, keepdims=True), mask)


def var(
  values: Array,
  mask: Array,
  *,
  axis: Axis = None,
  ddof: int = 0,
  keepdims: bool = False,
) -> jax.Array:
  """`sum_i m_i (x_i - mean)^2 / max(n - ddof, 1)` with `n = sum_i m_i`.

  So one value has variance 0 under either `ddof`, and so has an empty mask.
  """
  squares = jnp.square(center(values, mask, axis=axis))
  count = _count(values, mask, axis, keepdims)
  total = sum(squares, mask, axis=axis, keepdims=keepdims)
  return total / jnp.maximum(count - ddof, 1)


def std(
  values: Array,
  mask: Array,
  *,
  axis: Axis = None,
  ddof: int = 0,
  keepdims: bool = False,
) -> jax.Array:
  """`sqrt(var)`; where the variance is 0 so are the value and the gradient."""
  variance = var(values, mask, axis=axis, ddof=ddof, keepdims=keepdims)
  # Double where: sqrt has an infinite slope at 0, and 0 * inf is NaN.
  is_zero = variance == 0
  return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, variance)))


def whiten(
  values: Array,
  mask: Array,
  *,
  axis: Axis = None,
  ddof: int = 1,
  eps: float = 1e-8,
) -> jax.Array:
  """`m_i (x_i - mean) / sqrt(var + eps)`, in the shape of the values.

  Args:
    values: of any shape.
    mask: 0 or 1 per value.
    axis: the axes that share one mean and variance; all by default.
    ddof: 1 for the unbiased variance.
    eps: added to the variance; equal values give 0, at `eps=0` too.

  Returns:
    Whitened values, 0 where the mask is 0.
  """
  variance = var(values, mask, axis=axis, ddof=ddof, keepdims=True)
  variance = variance + eps
  # 0 only where every centred value is 0.
  scale = jnp.sqrt(jnp.where(variance > 0, variance, 1))
  return center(values, mask, axis=axis) / scale


def _masked(values: Array, mask: Array) -> jax.Array:
  """The values, at least float32, with 0 selected where the mask is 0."""
  values = jnp.asarray(values)
  values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
  # A select, not a product: 0 * NaN is NaN.
  return jnp.where(jnp.asarray(mask) != 0, values, 0)


def _count(values: Array, mask: Array, axis: Axis, keepdims: bool) -> jax.Array:
  """How many values count, int32: float32 cannot count beyond 2^24."""
  kept = jnp.broadcast_to(jnp.asarray(mask) != 0, jnp.shape(values))
  return jnp.sum(kept, axis=axis, keepdims=keepdims, dtype=jnp.int32)
