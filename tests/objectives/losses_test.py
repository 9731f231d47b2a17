"""Policy losses: each branch by hand, gradients, garbage."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lrm_jax.errors import UserError
from lrm_jax.objectives import aggregate, losses
from tests.objectives import reference
from tests.objectives.reference import losses as expected_losses

DLER = {'low': 0.2, 'high': 0.28, 'dual': 10.0}
PARTS = {
  'ppo_clip': losses.ppo_clip,
  'gspo': losses.gspo,
  'cispo': losses.cispo,
  'policy_ratio': losses.policy_ratio,
  'likelihood': losses.likelihood,
}
# Every part under some keywords; the first one stands for the part.
CASES = {
  'ppo_clip': [
    {'low': 0.2, 'high': 0.2, 'dual': math.inf},
    DLER,
    {'low': 0.2, 'high': 0.28, 'dual': 1.5},
  ],
  # Wide enough for sequences on both sides of both bounds.
  'gspo': [{'low': 0.1, 'high': 0.1}, {'low': 3e-4, 'high': 4e-4}],
  'cispo': [{'lower': 0.8, 'upper': 1.28}, {'lower': 0.0, 'upper': 5.0}],
  'policy_ratio': [{}],
  'likelihood': [{}],
}
EVERY = [(name, kw) for name, cases in CASES.items() for kw in cases]
ONE_EACH = [(name, cases[0]) for name, cases in CASES.items()]


@functools.cache
def _jitted(name, keywords):
  return jax.jit(functools.partial(PARTS[name], **dict(keywords)))


def apply(name, *arrays, **keywords):
  """The jitted loss."""
  return _jitted(name, tuple(keywords.items()))(*arrays)


def loss_and_slope(name, ratio, advantage, **keywords):
  """Loss of one token and its gradient by `logp`, at a given ratio."""
  one = jnp.ones((1, 1, 1))

  def loss(logp):
    values = apply(name, logp, 0 * one, advantage * one, one, **keywords)
    return values[0, 0, 0]

  value, slope = jax.value_and_grad(loss)(jnp.log(jnp.float32(ratio)) * one)
  return float(value), float(slope[0, 0, 0])


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
def test_every_branch_of_ppo_clip(ratio, advantage, value, slope):
  result = loss_and_slope('ppo_clip', ratio, advantage, **DLER)
  np.testing.assert_allclose(result, (value, slope), rtol=1e-6, atol=1e-7)


# A sequence of one token has the ratio of its token. log(1.2) = .1823216.
@pytest.mark.parametrize(
  ('name', 'keywords', 'ratio', 'advantage', 'value', 'slope'),
  [
    ('gspo', {}, 1.0003, 2.0, -2.0006, -2.0006),  # inside 4e-4
    ('gspo', {}, 1.0005, 2.0, -2.0008, 0.0),
    ('gspo', {}, 0.9, 2.0, -1.8, -1.8),
    ('gspo', {}, 0.9998, -2.0, 1.9996, 1.9996),  # inside 3e-4
    ('gspo', {}, 0.9996, -2.0, 1.9994, 0.0),
    ('gspo', {}, 50.0, -2.0, 100.0, 100.0),  # no dual clip
    ('cispo', CASES['cispo'][0], 1.2, 2.0, -2.4 * 0.1823216, -2.4),
    ('cispo', CASES['cispo'][0], 1.5, 2.0, -2.56 * 0.4054651, -2.56),
    ('cispo', CASES['cispo'][0], 0.5, -2.0, 1.6 * -0.6931472, 1.6),
    ('cispo', CASES['cispo'][1], 0.5, -2.0, 1.0 * -0.6931472, 1.0),
    ('cispo', CASES['cispo'][1], 9.0, 2.0, -10 * 2.1972246, -10.0),
    ('policy_ratio', {}, 1.5, 2.0, -3.0, -3.0),
    ('policy_ratio', {}, 50.0, -2.0, 100.0, 100.0),
    ('likelihood', {}, 1.5, 2.0, -2 * 0.4054651, -2.0),
    ('likelihood', {}, 0.5, -2.0, 2 * -0.6931472, 2.0),
  ],
)
def test_literals(name, keywords, ratio, advantage, value, slope):
  result = loss_and_slope(name, ratio, advantage, **keywords)
  np.testing.assert_allclose(result, (value, slope), rtol=2e-6, atol=1e-7)


def test_dual_is_off_by_default():
  result = loss_and_slope('ppo_clip', 1000.0, -2.0)
  np.testing.assert_allclose(result, (2000.0, 2000.0), rtol=1e-5)


# A range of width 0 puts the ratio of 1 exactly on both bounds.
@pytest.mark.parametrize(
  ('name', 'keywords'),
  [
    ('ppo_clip', {'low': 0.0, 'high': 0.0}),
    ('gspo', {'low': 0.0, 'high': 0.0}),
    ('cispo', {'lower': 1.0, 'upper': 1.0}),
  ],
)
@pytest.mark.parametrize('advantage', [2.0, -2.0])
def test_the_whole_gradient_passes_at_the_bound(name, keywords, advantage):
  _, slope = loss_and_slope(name, 1.0, advantage, **keywords)
  assert slope == -advantage


def test_the_whole_gradient_passes_at_the_dual_bound():
  ratio = float(jnp.exp(jnp.log(jnp.float32(3.0))))  # as the loss computes it
  value, slope = loss_and_slope('ppo_clip', 3.0, -2.0, dual=ratio)
  assert value == slope == 2 * ratio
  just_below = float(np.nextafter(np.float32(ratio), np.float32(0)))
  assert loss_and_slope('ppo_clip', 3.0, -2.0, dual=just_below)[1] == 0


@pytest.mark.parametrize(('name', 'keywords'), EVERY)
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_equals_the_loops(name, keywords, seed):
  logp, old_logp, _, advantage, mask = reference.batch(seed)
  arrays = (logp, old_logp, advantage, mask)
  np.testing.assert_allclose(
    apply(name, *arrays, **keywords),
    getattr(expected_losses, name)(*arrays, **keywords),
    rtol=1e-6,
    atol=1e-6,
  )


@pytest.mark.parametrize('name', ['ppo_clip', 'policy_ratio', 'likelihood'])
def test_gradient_where_smooth(name):
  _, old_logp, _, advantage, mask = reference.batch(0)
  rng = np.random.default_rng(0)
  # Ratios within [.85, 1.17]: no bound is near.
  logp = (old_logp + rng.uniform(-0.16, 0.16, mask.shape)).astype(np.float32)
  keywords = DLER if name == 'ppo_clip' else {}

  def loss(x):
    return jnp.sum(apply(name, x, old_logp, advantage, mask, **keywords))

  check_grads(loss, (logp,), order=1, modes=('rev',), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize('keywords', CASES['ppo_clip'])
def test_ppo_clip_has_no_gradient_where_clipped(keywords):
  logp, old_logp, _, advantage, mask = reference.batch(3)
  ratio = np.exp(logp - old_logp)
  is_clipped = np.where(
    advantage < 0,
    (ratio < 1 - keywords['low']) | (ratio > keywords['dual']),
    ratio > 1 + keywords['high'],
  )

  def loss(x):
    values = apply('ppo_clip', x, old_logp, advantage, mask, **keywords)
    return jnp.sum(values)

  gradient = np.asarray(jax.grad(loss)(logp))
  trained = (mask > 0) & ~is_clipped
  assert trained.any() and ((mask > 0) & is_clipped).any()
  np.testing.assert_allclose(
    gradient, np.where(trained, -advantage * ratio, 0), rtol=1e-5
  )


def test_gspo_clips_whole_sequences_with_the_gradient_of_their_ratio():
  logp, old_logp, _, advantage, mask = reference.batch(5)
  advantage = np.broadcast_to(advantage[..., :1], mask.shape)

  def by_token(x):
    values = apply('gspo', x, old_logp, advantage, mask, low=0.1, high=0.1)
    return jnp.sum(values * aggregate.sequence_mean(mask))

  def by_sequence(x):
    gap = jnp.sum((x - old_logp) * mask, -1) / np.maximum(mask.sum(-1), 1)
    ratio, a = jnp.exp(gap), advantage[..., 0]
    worse = jnp.maximum(-a * ratio, -a * jnp.clip(ratio, 0.9, 1.1))
    return jnp.sum(worse * mask.any(-1)) / mask.any(-1).sum()

  value, gradient = jax.value_and_grad(by_token)(logp)
  expected, expected_gradient = jax.value_and_grad(by_sequence)(logp)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-8)
  # Some are taken whole, some left whole.
  taken = np.asarray(gradient)[mask.any(-1)] != 0
  trained = mask[mask.any(-1)] > 0
  whole = [row[kept].all() for row, kept in zip(taken, trained, strict=True)]
  left = [not row.any() for row in taken]
  assert sum(whole) >= 3 and sum(left) >= 3
  assert all(np.logical_or(whole, left))


@pytest.mark.parametrize('keywords', CASES['cispo'])
def test_cispo_trains_every_token(keywords):
  logp, old_logp, _, advantage, mask = reference.batch(3)
  bounds = (keywords['lower'], keywords['upper'])

  def loss(x):
    return jnp.sum(apply('cispo', x, old_logp, advantage, mask, **keywords))

  weight = np.clip(np.exp(logp - old_logp), *bounds)
  gradient = np.asarray(jax.grad(loss)(logp))
  assert (gradient[mask > 0] != 0).all()
  np.testing.assert_allclose(gradient, -weight * advantage * mask, rtol=1e-5)


@pytest.mark.parametrize(('name', 'keywords'), EVERY)
def test_on_policy_gradient_is_reinforce(name, keywords):
  logp, _, _, advantage, mask = reference.batch(0)
  weights = mask / mask.sum()

  def loss(parameter):
    # d logp / d parameter = logp, so grad logp is known for every token.
    new = parameter * logp
    return jnp.sum(
      apply(name, new, logp, advantage, mask, **keywords) * weights
    )

  expected = np.sum(-advantage * weights * logp, dtype=np.float64)
  np.testing.assert_allclose(jax.grad(loss)(1.0), expected, rtol=1e-5)


def test_without_bounds_they_are_all_importance_weighted():
  logp, old_logp, _, advantage, mask = reference.batch(1)
  arrays = (logp, old_logp, advantage, mask)
  expected = apply('policy_ratio', *arrays)
  loss = apply('ppo_clip', *arrays, low=math.inf, high=math.inf)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  loss = apply('cispo', *arrays, lower=0.0, upper=math.inf)
  np.testing.assert_allclose(loss, expected * logp, rtol=1e-6)


@pytest.mark.parametrize(('name', 'keywords'), EVERY)
@pytest.mark.parametrize('garbage', [np.nan, np.inf, -np.inf, -1e30])
def test_garbage_outside_the_mask(name, keywords, garbage):
  arrays = reference.batch(0)
  mask = arrays[-1]
  logp, old_logp, _, advantage = arrays[:-1]
  dirty = [
    np.where(mask > 0, array, garbage).astype(np.float32)
    for array in (logp, old_logp, advantage)
  ]
  both = _total_and_gradients(name, tuple(keywords.items()))
  expected, gradients = both(logp, old_logp, advantage, mask)
  result, dirty_gradients = both(*dirty, mask)
  assert result == expected
  for gradient, dirty_gradient in zip(gradients, dirty_gradients, strict=True):
    np.testing.assert_array_equal(dirty_gradient, gradient)
    assert not np.asarray(gradient)[mask == 0].any()


@functools.cache
def _total_and_gradients(name, keywords):
  def total(*arrays):
    return jnp.sum(apply(name, *arrays, **dict(keywords)))

  return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))


@pytest.mark.parametrize(('name', 'keywords'), EVERY)
@pytest.mark.parametrize('advantage', [1.0, -1.0])
@pytest.mark.parametrize('gap', [-1e4, -100.0, 100.0, 1e4])
def test_huge_gaps_stay_finite(name, keywords, advantage, gap):
  one = np.ones((1, 1, 1), np.float32)
  both = _total_and_gradients(name, tuple(keywords.items()))
  value, (slope, *_) = both(gap * one, 0 * one, advantage * one, one)
  assert np.isfinite(value) and np.isfinite(slope)
  if name not in ('cispo', 'likelihood'):
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


@pytest.mark.parametrize(('name', 'keywords'), ONE_EACH)
def test_unmasked_nan_stays_visible(name, keywords):
  logp, old_logp, _, advantage, mask = reference.batch(0)
  assert mask[1, 1, 0] == 1
  logp[1, 1, 0] = np.nan
  loss = apply(name, logp, old_logp, advantage, mask, **keywords)
  assert np.isnan(np.asarray(loss)[1, 1, 0])


@pytest.mark.parametrize(('name', 'keywords'), ONE_EACH)
def test_masked_equals_sliced(name, keywords):
  # The first 3 tokens of the second and third sample, alone.
  logp, old_logp, _, advantage, mask = reference.batch(0)
  mask = np.zeros_like(mask)
  kept = (slice(None), slice(1, 3), slice(0, 3))
  mask[kept] = 1
  arrays = (logp, old_logp, advantage, mask)
  loss = np.asarray(apply(name, *arrays, **keywords))
  sliced = apply(name, *(array[kept] for array in arrays), **keywords)
  np.testing.assert_allclose(loss[kept], sliced, rtol=1e-6)
  assert not loss[mask == 0].any()


@pytest.mark.parametrize(('name', 'keywords'), ONE_EACH)
def test_groups_do_not_see_each_other(name, keywords):
  logp, old_logp, _, advantage, mask = reference.batch(0)
  arrays = (logp, old_logp, advantage, mask)
  alone = [
    np.asarray(apply(name, *(a[b : b + 1] for a in arrays), **keywords))[0]
    for b in range(3)
  ]
  np.testing.assert_array_equal(apply(name, *arrays, **keywords), alone)


@pytest.mark.parametrize(('name', 'keywords'), ONE_EACH)
def test_jit_equals_eager(name, keywords):
  logp, old_logp, _, advantage, mask = reference.batch(0)
  arguments = (logp, old_logp, advantage, mask)
  np.testing.assert_allclose(
    apply(name, *arguments, **keywords),
    PARTS[name](*arguments, **keywords),
    rtol=1e-6,
  )


@pytest.mark.parametrize(('name', 'keywords'), ONE_EACH)
def test_empty_mask(name, keywords):
  logp, old_logp, _, advantage, mask = reference.batch(0)
  loss = apply(name, logp, old_logp, advantage, 0 * mask, **keywords)
  assert not loss.any()


@pytest.mark.parametrize(
  ('name', 'keywords', 'message'),
  [
    ('ppo_clip', {'low': -0.1}, 'low = -0.1'),
    ('ppo_clip', {'high': -0.1}, 'high = -0.1'),
    ('ppo_clip', {'dual': 1.0}, 'and a dual above 1'),
    ('ppo_clip', {'dual': 0.0}, 'or no token would be trained$'),
    ('gspo', {'low': -0.1}, 'give ranges of at least 0$'),
    ('gspo', {'high': -0.1}, 'high = -0.1'),
    ('cispo', {'lower': -0.1, 'upper': 1.0}, '0 <= lower <= upper'),
    ('cispo', {'lower': 2.0, 'upper': 1.0}, 'lower = 2.0, upper = 1.0'),
    ('cispo', {'lower': 0.0, 'upper': 0.0}, 'upper above 0$'),
  ],
)
def test_bounds_that_train_nothing_are_refused(name, keywords, message):
  logp, old_logp, _, advantage, mask = reference.batch(0)
  with pytest.raises(UserError, match=f'^{name}: .*{message}'):
    PARTS[name](logp, old_logp, advantage, mask, **keywords)
