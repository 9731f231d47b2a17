"""Rotary position embedding (RoPE), half-split as in the Hugging Face layout.

Su et al. 2021, section 3.4.2. Angles and rotation are float32 whatever the
compute dtype: at position 30,000 a bfloat16 angle is off by whole turns.
"""

import jax.numpy as jnp

from lrm_jax.structs import Array


def rope_angles(
  positions: Array, head_dim: int, theta: float
) -> tuple[Array, Array]:
  """Cos and sin of position * theta^(-2i / head_dim), i < head_dim / 2.

  Args:
    positions: integers of any shape `[...]`.
    head_dim: width of a head.
    theta: base of the frequencies.

  Returns:
    (cos, sin), each `[..., head_dim / 2]` float32.
  """
  exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
  inverse_frequency = 1.0 / theta**exponents
  angles = positions.astype(jnp.float32)[..., None] * inverse_frequency
  return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Array, cos: Array, sin: Array) -> Array:
  """Turns the pairs (x[i], x[i + head_dim / 2]) by their angles.

  Args:
    x: `[..., heads, head_dim]`.
    cos: `[..., head_dim / 2]`, without the heads axis.
    sin: like `cos`.

  Returns:
    Like `x`, in the dtype of `x`.
  """
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  cos, sin = cos[..., None, :], sin[..., None, :]
  turned = (first * cos - second * sin, second * cos + first * sin)
  return jnp.concatenate(turned, axis=-1).astype(x.dtype)
