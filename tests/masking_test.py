"""Masked reductions against slices, literals and their edge cases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lrm_jax import masking

SCALARS = {
  'sum': (masking.sum, np.sum),
  'mean': (masking.mean, np.mean),
  'var': (masking.var, np.var),
  'var_unbiased': (
    functools.partial(masking.var, ddof=1),
    functools.partial(np.var, ddof=1),
  ),
  'std': (masking.std, np.std),
  'std_unbiased': (
    functools.partial(masking.std, ddof=1),
    functools.partial(np.std, ddof=1),
  ),
}
EAGER = {name: masked for name, (masked, _) in SCALARS.items()} | {
  'center': masking.center,
  'whiten': masking.whiten,
}
EVERY = {name: jax.jit(function) for name, function in EAGER.items()}


def random(seed=0):
  rng = np.random.default_rng(seed)
  values = rng.normal(3, 2, (4, 7)).astype(np.float32)
  mask = rng.random((4, 7)) < 0.6
  mask[:, 0], mask[:, 1] = True, True
  return values, mask.astype(np.float32)


def test_literals():
  # Kept: 1, 2, 6. Sum 9, mean 3, deviations -2, -1, 3, squares 14 in all.
  values = np.array([1.0, 2.0, 100.0, 6.0])
  mask = np.array([1.0, 1.0, 0.0, 1.0])
  assert masking.sum(values, mask) == 9
  assert masking.mean(values, mask) == 3
  np.testing.assert_array_equal(masking.center(values, mask), [-2, -1, 0, 3])
  np.testing.assert_allclose(masking.var(values, mask), 14 / 3, rtol=1e-6)
  np.testing.assert_allclose(masking.var(values, mask, ddof=1), 7, rtol=1e-6)
  # sqrt(7) = 2.6457513
  np.testing.assert_allclose(
    masking.std(values, mask, ddof=1), 2.6457513, rtol=1e-6
  )
  # eps = 2 makes the divisor sqrt(7 + 2) = 3.
  np.testing.assert_allclose(
    masking.whiten(values, mask, eps=2.0), [-2 / 3, -1 / 3, 0, 1], rtol=1e-6
  )


@pytest.mark.parametrize('name', SCALARS)
def test_masked_equals_sliced(name):
  masked, plain = SCALARS[name]
  values, mask = random()
  expected = plain(values[mask > 0].astype(np.float64))
  np.testing.assert_allclose(masked(values, mask), expected, rtol=1e-6)
  rows = [
    plain(row[m > 0].astype(np.float64))
    for row, m in zip(values, mask, strict=True)
  ]
  by_row = np.asarray(masked(values, mask, axis=1))
  np.testing.assert_allclose(by_row, rows, rtol=1e-5)
  kept = masked(values, mask, axis=1, keepdims=True)
  np.testing.assert_array_equal(kept, by_row[:, None])


@pytest.mark.parametrize('ddof', [0, 1])
def test_whiten_gives_mean_0_and_variance_1(ddof):
  values, mask = random()
  white = masking.whiten(values, mask, axis=1, ddof=ddof)
  for row, m in zip(np.asarray(white, np.float64), mask, strict=True):
    assert row[m > 0].mean() == pytest.approx(0, abs=1e-6)
    assert row[m > 0].var(ddof=ddof) == pytest.approx(1, rel=1e-5)
    assert not row[m == 0].any()


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('shape', [(3,), (2, 0)])
def test_nothing_gives_0(name, shape):
  function = EVERY[name]
  values = jnp.full(shape, 7.0)
  result, gradient = jax.value_and_grad(
    lambda v: jnp.sum(function(v, jnp.zeros(shape)))
  )(values)
  assert result == 0
  np.testing.assert_array_equal(gradient, np.zeros(shape))


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('garbage', [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_masked_does_not_matter(name, garbage):
  values, mask = random()
  dirty = np.where(mask > 0, values, garbage).astype(np.float32)

  def total(v):
    return jnp.sum(jnp.square(EVERY[name](v, mask)))

  expected, gradient = jax.value_and_grad(total)(values)
  result, dirty_gradient = jax.value_and_grad(total)(dirty)
  assert result == expected
  np.testing.assert_array_equal(dirty_gradient, gradient)
  assert not np.asarray(gradient)[mask == 0].any()


@pytest.mark.parametrize('name', EVERY)
def test_unmasked_nan_stays_visible(name):
  values, mask = random()
  values[0, 0] = np.nan
  assert np.isnan(np.sum(np.asarray(EVERY[name](values, mask))))


@pytest.mark.parametrize('name', EVERY)
def test_gradient(name):
  values, mask = random()
  function = functools.partial(EVERY[name], mask=mask)
  check_grads(function, (values,), order=1, modes=('rev',), atol=2e-2)


@pytest.mark.parametrize('name', EVERY)
def test_jit_equals_eager(name):
  values, mask = random()
  np.testing.assert_allclose(
    EVERY[name](values, mask), EAGER[name](values, mask), rtol=1e-5
  )


@pytest.mark.parametrize('name', EVERY)
def test_a_mask_may_broadcast(name):
  values, _ = random()
  row = np.array([1, 0, 1, 1, 0, 0, 1], np.float32)
  np.testing.assert_allclose(
    EVERY[name](values, row),
    EVERY[name](values, np.broadcast_to(row, values.shape)),
  )


@pytest.mark.parametrize('name', EVERY)
def test_a_mask_may_be_bool(name):
  values, mask = random()
  np.testing.assert_array_equal(
    EVERY[name](values, mask > 0), EVERY[name](values, mask)
  )


@pytest.mark.parametrize('ddof', [0, 1])
def test_one_value_has_no_variance(ddof):
  values, mask = jnp.array([5.0, 9.0]), jnp.array([0.0, 1.0])
  deviation, gradient = jax.value_and_grad(
    functools.partial(masking.std, ddof=ddof)
  )(values, mask)
  assert masking.var(values, mask, ddof=ddof) == 0
  assert deviation == 0
  np.testing.assert_array_equal(gradient, [0, 0])


@pytest.mark.parametrize('value', [0.1, -0.1])
def test_equal_values_are_centred_to_exactly_0(value):
  values = jnp.full(8, value)
  assert jnp.any(values - jnp.mean(values) != 0)  # what this guards against
  values = jnp.append(values, 100.0)
  mask = jnp.append(jnp.ones(8), 0)
  assert not masking.center(values, mask).any()
  assert masking.var(values, mask) == 0


def test_small_differences_between_large_values_survive():
  values = np.float32(1000) + np.arange(8, dtype=np.float32) / 4096
  exact = values.astype(np.float64) - values.astype(np.float64).mean()
  centred = masking.center(values, np.ones(8))
  np.testing.assert_allclose(centred, exact, rtol=1e-6)
  np.testing.assert_allclose(
    masking.var(values, np.ones(8)), exact.var(), rtol=1e-6
  )


def test_sums_run_in_float32():
  # bfloat16 has 8 bits: counting by ones, 256 + 1 is 256.
  values = jnp.ones(5000, jnp.bfloat16)
  total = masking.sum(values, values)
  assert total.dtype == jnp.float32
  assert total == 5000
  mean = masking.mean(values, values)
  assert mean.dtype == jnp.float32
  assert mean == 1


def test_equal_values_whiten_to_zero_without_eps():
  values = jnp.full((2, 3), 0.1)
  whiten = lambda x: masking.whiten(x, jnp.ones((2, 3)), eps=0.0)
  np.testing.assert_array_equal(whiten(values), np.zeros((2, 3)))
  slope = jax.grad(lambda x: jnp.sum(whiten(x) ** 2))(values)
  assert np.isfinite(slope).all()
