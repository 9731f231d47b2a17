"""The clipped surrogate: each branch by hand, gradients, garbage."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lrm_jax.errors import UserError
from lrm_jax.objectives import losses
from tests.objectives import reference
from tests.objectives.reference import losses as expected_losses

DLER = {'low': 0.2, 'high': 0.28, 'dual': 10.0}
EVERY = [{}, DLER, {'low': 0.2, 'high': 0.28, 'dual': 1.5}]
ppo_clip = jax.jit(losses.ppo_clip, static_argnames=('low', 'high', 'dual'))


def loss_and_slope(ratio, advantage, **keywords):
  """Loss of one token and its gradient by `logp`, at a given ratio."""

  def loss(logp):
    return ppo_clip(logp, 0.0, advantage, 1.0, **keywords)

  value, slope = jax.value_and_grad(loss)(jnp.log(jnp.float32(ratio)))
  return float(value), float(slope)


# With .2, .28 and 10. d rho / d logp = rho, so the slope is -A rho or 0.
@pytest.mark.parametrize(
  ('ratio', 'advantage', 'value', 'slope'),
  [
    (1.0, 2.0, -2.0, -2.0),  # on policy: REINFORCE
    (1.0, -2.0, 2.0, 2.0),
    (1.2, 2.0, -2.4, -2.4),  # inside the range
    (1.5, 2.0, -2.56, 0.0),  # above: -2 * 1.28 is the larger
    (0.5, 2.0, -1.0, -1.0),  # below, but A > 0 keeps pushing up
    (0.5, -2.0, 1.6, 0.0),  # below: 2 * .8 is the larger
    (1.5, -2.0, 3.0, 3.0),  # above, but A < 0 keeps pushing down
    (9.5, -2.0, 19.0, 19.0),  # just short of the dual bound
    (12.0, -2.0, 20.0, 0.0),  # dual: 2 * 10
    (12.0, 2.0, -2.56, 0.0),  # dual is for A < 0 only
    (1.5, 0.0, 0.0, 0.0),
  ],
)
def test_every_branch(ratio, advantage, value, slope):
  result = loss_and_slope(ratio, advantage, **DLER)
  np.testing.assert_allclose(result, (value, slope), rtol=1e-6, atol=1e-7)


def test_dual_is_off_by_default():
  result = loss_and_slope(1000.0, -2.0)
  np.testing.assert_allclose(result, (2000.0, 2000.0), rtol=1e-5)


@pytest.mark.parametrize('advantage', [2.0, -2.0])
def test_the_whole_gradient_passes_at_the_bound(advantage):
  # A range of width 0 puts the ratio of 1 exactly on both bounds.
  result = loss_and_slope(1.0, advantage, low=0.0, high=0.0)
  assert result == (-advantage, -advantage)


def test_the_whole_gradient_passes_at_the_dual_bound():
  ratio = float(jnp.exp(jnp.log(jnp.float32(3.0))))  # as the loss computes it
  value, slope = loss_and_slope(3.0, -2.0, dual=ratio)
  assert value == slope == 2 * ratio
  just_below = float(np.nextafter(np.float32(ratio), np.float32(0)))
  assert loss_and_slope(3.0, -2.0, dual=just_below)[1] == 0


@pytest.mark.parametrize('keywords', EVERY)
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_equals_the_loops(keywords, seed):
  logp, old_logp, _, advantage, mask = reference.batch(seed)
  convention = {'low': 0.2, 'high': 0.2, 'dual': math.inf} | keywords
  np.testing.assert_allclose(
    ppo_clip(logp, old_logp, advantage, mask, **keywords),
    expected_losses.ppo_clip(logp, old_logp, advantage, mask, **convention),
    rtol=1e-6,
    atol=1e-6,
  )


def test_gradient_where_smooth():
  _, old_logp, _, advantage, mask = reference.batch(0)
  rng = np.random.default_rng(0)
  # Ratios within [.85, 1.17]: no bound is near.
  logp = (old_logp + rng.uniform(-0.16, 0.16, mask.shape)).astype(np.float32)

  def loss(x):
    return jnp.sum(ppo_clip(x, old_logp, advantage, mask, **DLER))

  check_grads(loss, (logp,), order=1, modes=('rev',), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize('keywords', EVERY)
def test_gradient_is_zero_where_clipped_and_outside_the_mask(keywords):
  logp, old_logp, _, advantage, mask = reference.batch(3)
  bounds = {'low': 0.2, 'high': 0.2, 'dual': math.inf} | keywords
  ratio = np.exp(logp - old_logp)
  is_clipped = np.where(
    advantage < 0,
    (ratio < 1 - bounds['low']) | (ratio > bounds['dual']),
    ratio > 1 + bounds['high'],
  )

  def loss(x):
    return jnp.sum(ppo_clip(x, old_logp, advantage, mask, **keywords))

  gradient = np.asarray(jax.grad(loss)(logp))
  trained = (mask > 0) & ~is_clipped
  assert trained.any() and ((mask > 0) & is_clipped).any()
  np.testing.assert_allclose(
    gradient, np.where(trained, -advantage * ratio, 0), rtol=1e-5
  )


def test_on_policy_gradient_is_reinforce():
  logp, _, _, advantage, mask = reference.batch(0)
  weights = mask / mask.sum()

  def loss(parameter):
    # d logp / d parameter = logp, so grad logp is known for every token.
    new = parameter * logp
    return jnp.sum(ppo_clip(new, logp, advantage, mask) * weights)

  expected = np.sum(-advantage * weights * logp, dtype=np.float64)
  np.testing.assert_allclose(jax.grad(loss)(1.0), expected, rtol=1e-5)


def test_without_bounds_it_is_importance_weighted_reinforce():
  logp, old_logp, _, advantage, mask = reference.batch(1)
  loss = ppo_clip(logp, old_logp, advantage, mask, low=math.inf, high=math.inf)
  expected = -advantage * np.exp(logp - old_logp) * mask
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize('keywords', EVERY)
@pytest.mark.parametrize('garbage', [np.nan, np.inf, -np.inf, -1e30])
def test_garbage_outside_the_mask(keywords, garbage):
  arrays = reference.batch(0)
  mask = arrays[-1]
  logp, old_logp, _, advantage = arrays[:-1]
  dirty = [
    np.where(mask > 0, array, garbage).astype(np.float32)
    for array in (logp, old_logp, advantage)
  ]

  def total(logp, old_logp, advantage):
    return jnp.sum(ppo_clip(logp, old_logp, advantage, mask, **keywords))

  both = jax.value_and_grad(total, argnums=(0, 1, 2))
  expected, gradients = both(logp, old_logp, advantage)
  result, dirty_gradients = both(*dirty)
  assert result == expected
  for gradient, dirty_gradient in zip(gradients, dirty_gradients, strict=True):
    np.testing.assert_array_equal(dirty_gradient, gradient)
    assert not np.asarray(gradient)[mask == 0].any()


@pytest.mark.parametrize('keywords', EVERY)
@pytest.mark.parametrize('advantage', [1.0, -1.0])
@pytest.mark.parametrize('gap', [-1e4, -100.0, 100.0, 1e4])
def test_huge_gaps_stay_finite(keywords, advantage, gap):

  def loss(logp):
    return ppo_clip(logp, 0.0, advantage, 1.0, **keywords)

  value, slope = jax.value_and_grad(loss)(jnp.float32(gap))
  assert np.isfinite(value)
  assert slope == 0  # beyond 20 nats


def test_log_ratio_is_held_within_20_nats():
  gaps = jnp.array([-1e4, -20.0, -19.0, 3.0, 20.0, 1e4, 7.0])
  mask = jnp.array([1, 1, 1, 1, 1, 1, 0])

  def total(gaps):
    ratio = losses.log_ratio(gaps, jnp.zeros(7), mask)
    return jnp.sum(ratio), ratio

  gradient, ratio = jax.grad(total, has_aux=True)(gaps)
  np.testing.assert_array_equal(ratio, [-20, -20, -19, 3, 20, 20, 0])
  np.testing.assert_array_equal(gradient, [0, 1, 1, 1, 1, 0, 0])


def test_unmasked_nan_stays_visible():
  logp, old_logp, _, advantage, mask = reference.batch(0)
  assert mask[1, 1, 0] == 1
  logp[1, 1, 0] = np.nan
  loss = ppo_clip(logp, old_logp, advantage, mask, **DLER)
  assert np.isnan(np.asarray(loss)[1, 1, 0])


def test_masked_equals_sliced():
  logp, old_logp, _, advantage, mask = reference.batch(0)
  loss = ppo_clip(logp, old_logp, advantage, mask, **DLER)
  kept = mask > 0
  sliced = ppo_clip(
    logp[kept], old_logp[kept], advantage[kept], mask[kept], **DLER
  )
  np.testing.assert_array_equal(np.asarray(loss)[kept], sliced)


@pytest.mark.parametrize('keywords', EVERY)
def test_jit_equals_eager(keywords):
  logp, old_logp, _, advantage, mask = reference.batch(0)
  arguments = (logp, old_logp, advantage, mask)
  np.testing.assert_allclose(
    ppo_clip(*arguments, **keywords),
    losses.ppo_clip(*arguments, **keywords),
    rtol=1e-6,
  )


def test_empty_mask():
  logp, old_logp, _, advantage, mask = reference.batch(0)
  assert not ppo_clip(logp, old_logp, advantage, 0 * mask).any()


@pytest.mark.parametrize(
  'keywords', [{'low': -0.1}, {'high': -0.1}, {'dual': 1.0}, {'dual': 0.0}]
)
def test_bounds_that_train_nothing_are_refused(keywords):
  arguments = [jnp.zeros((1, 1, 1))] * 4
  with pytest.raises(UserError) as error:
    ppo_clip(*arguments, **keywords)
  values = {'low': 0.2, 'high': 0.2, 'dual': math.inf} | keywords
  received = ', '.join(f'{key} = {value}' for key, value in values.items())
  assert str(error.value) == (
    f'ppo_clip: {received}; give low and high of at least 0 and a dual above '
    '1, or no token would be trained'
  )
