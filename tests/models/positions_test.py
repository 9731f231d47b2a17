"""Rotary positions: literals, invariances, and float32 at long range."""

import jax.numpy as jnp
import numpy as np

from lrm_jax.models import positions


def test_angles_by_hand():
  """head_dim 4, theta 100: frequencies 100^0 = 1 and 100^(-2/4) = 0.1."""
  cos, sin = positions.rope_angles(np.array([0, 1, 3]), 4, 100.0)
  np.testing.assert_allclose(
    cos,
    [[1.0, 1.0], [0.54030231, 0.99500417], [-0.98999250, 0.95533649]],
    atol=1e-6,
  )
  np.testing.assert_allclose(
    sin,
    [[0.0, 0.0], [0.84147098, 0.09983342], [0.14112001, 0.29552021]],
    atol=1e-6,
  )


def test_rotation_pairs_the_two_halves():
  """A quarter turn of the first pair, (x0, x2); the second stays."""
  cos, sin = np.array([0.0, 1.0]), np.array([1.0, 0.0])
  turned = positions.rotate(jnp.array([[1.0, 2.0, 3.0, 4.0]]), cos, sin)
  np.testing.assert_allclose(turned, [[-3.0, 2.0, 1.0, 4.0]])


def test_every_head_turns_by_the_same_angle():
  x = np.arange(24.0).reshape(3, 2, 4)  # [S, heads, head_dim]
  angles = positions.rope_angles(np.arange(3), 4, 10.0)
  whole = positions.rotate(jnp.asarray(x), *angles)
  for head in range(2):
    alone = positions.rotate(jnp.asarray(x[:, head : head + 1]), *angles)
    np.testing.assert_array_equal(whole[:, head : head + 1], alone)


def test_products_depend_on_the_distance_only():
  q, k = np.random.default_rng(0).standard_normal((2, 1, 8))
  at = lambda x, p: positions.rotate(
    jnp.asarray(x), *positions.rope_angles(np.array(p), 8, 1000.0)
  )
  near = jnp.vdot(at(q, 7), at(k, 3))
  np.testing.assert_allclose(jnp.vdot(at(q, 104), at(k, 100)), near, rtol=1e-4)
  assert abs(jnp.vdot(at(q, 8), at(k, 3)) - near) > 1e-2


def test_half_precision_keeps_exact_angles():
  """At position 30,000 the angle is right although x is bfloat16."""
  angles = positions.rope_angles(np.array(30_000), 2, 1e6)
  assert angles[0].dtype == jnp.float32
  turned = positions.rotate(jnp.ones((1, 2), jnp.bfloat16), *angles)
  assert turned.dtype == jnp.bfloat16
  # cos 30000 = 0.59841, sin 30000 = -0.80119 (NumPy, float64).
  cos, sin = np.cos(30_000.0), np.sin(30_000.0)
  np.testing.assert_allclose(
    turned.astype(np.float32), [[cos - sin, cos + sin]], rtol=2**-8
  )
