"""Rounding to bfloat16 that is right on average."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrm_jax import rounding

KEY = jax.random.key(0)


@pytest.mark.parametrize(
  ('value', 'low', 'high'),
  [
    (1 + 1 / 512, 1.0, 1 + 1 / 128),  # a quarter of the way
    (-3.3, -3.3125, -3.296875),
    (1e-5, 9.95397567749e-06, 1.00135803223e-05),
  ],
)
def test_neighbours_in_the_right_shares(value, low, high):
  count = 100_000
  found = rounding.to_bfloat16(jnp.full(count, value, jnp.float32), KEY)
  found = np.asarray(found, np.float64)
  neighbours = np.asarray(jnp.array([low, high], jnp.bfloat16), np.float64)
  assert set(found) == set(neighbours)
  share = (np.float32(value) - neighbours[0]) / np.diff(neighbours)[0]
  error = (share * (1 - share) / count) ** 0.5
  assert abs((found == neighbours[1]).mean() - share) < 4 * error


def test_what_bfloat16_has_stays():
  exact = jnp.array([0.0, -1.5, 2.0**-120, 3e38, np.inf, -np.inf], jnp.bfloat16)
  wide = exact.astype(jnp.float32)
  for seed in range(20):
    found = rounding.to_bfloat16(wide, jax.random.key(seed))
    np.testing.assert_array_equal(found, exact)
  assert jnp.isnan(rounding.to_bfloat16(jnp.float32([np.nan]), KEY)).all()


def test_small_steps_are_not_lost():
  """Each a hundredth of the spacing, which the nearest number never sees."""
  params = {
    'coarse': jnp.ones(4000, jnp.bfloat16),
    'fine': jnp.ones(3, jnp.float32),
  }
  change = 2.0**-7 / 100
  updates = {k: jnp.full(v.shape, change) for k, v in params.items()}
  transformation = rounding.stochastic(seed=0)

  @jax.jit
  def one(carry):
    params, state = carry
    step, state = transformation.update(updates, state, params)
    return optax.apply_updates(params, step), state

  carry = params, transformation.init(params)
  for _ in range(100):
    carry = one(carry)
  found, state = carry
  assert state.count == 100
  assert found['coarse'].dtype == jnp.bfloat16
  mean = np.asarray(found['coarse'], np.float64).mean()
  assert abs(mean - (1 + 100 * change)) < 0.1 * 100 * change
  np.testing.assert_allclose(found['fine'], 1 + 100 * change, rtol=1e-5)
  # Rounded to the nearest, nothing would have happened.
  assert jnp.bfloat16(1 + change) == 1


def test_steps_do_not_share_their_noise():
  params = {
    'a': jnp.ones(1000, jnp.bfloat16),
    'b': jnp.ones(1000, jnp.bfloat16),
  }
  updates = {name: jnp.full(1000, 2.0**-8) for name in params}
  transformation = rounding.stochastic(seed=0)
  state = transformation.init(params)
  first, state = transformation.update(updates, state, params)
  second, _ = transformation.update(updates, state, params)
  drawn = [first['a'], first['b'], second['a']]
  for i in range(3):
    assert (drawn[i] != drawn[i - 1]).any()
