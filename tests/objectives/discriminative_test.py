"""Discriminative losses: by hand, by loops, and by the shares they push."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lrm_jax.errors import UserError
from lrm_jax.objectives import advantages, aggregate, discriminative
from tests.objectives import reference
from tests.objectives.reference import discriminative as expected_losses

PARTS = {
  'discriminative_likelihood': discriminative.discriminative_likelihood,
  'discriminative_ratio': discriminative.discriminative_ratio,
}
CASES = [
  ('discriminative_likelihood', 10.0),
  ('discriminative_likelihood', 0.3),
  ('discriminative_ratio', 1.0),
]


@functools.cache
def _jitted(name, temperature):
  return jax.jit(functools.partial(PARTS[name], temperature=temperature))


def apply(name, temperature, *arrays):
  return _jitted(name, temperature)(*arrays)


@functools.cache
def _scalar_and_gradient(name, temperature):
  """The scalar of a mini-batch, and its gradient by `logp`."""

  def scalar(logp, old_logp, advantage, mask):
    loss = apply(name, temperature, logp, old_logp, advantage, mask)
    return jnp.sum(loss * aggregate.question_mean(mask))

  return jax.jit(jax.value_and_grad(scalar))


def batch(seed=0):
  """Mixed groups, by `class_share`: `logp, old_logp, advantage, mask`."""
  logp, old_logp, _, _, mask = reference.batch(seed)
  reward = np.float32([[1, 1, 0, 0], [2, 0, 0, 0.5], [0, 1, 3, 0]])
  advantage = advantages.class_share(reward, mask)
  advantage = np.array(advantages.per_token(advantage, mask))
  return logp, old_logp, advantage, mask


def one_token(logp, reward):
  """`[1, G, 1]` arrays of samples of one token, sampled at 0."""
  logp = jnp.float32(logp)[None, :, None]
  mask = jnp.ones_like(logp)
  advantage = advantages.class_share(jnp.float32(reward)[None], mask)
  return logp, 0 * logp, advantages.per_token(advantage, mask), mask


def test_likelihood_literal():
  # Temperature 1; right -1 with share 1/4 and -2 with 3/4; wrong log(1/2) and
  # log(1/4). J = -1/4 - 3/2 - log((1/2 + 1/4) / 2) = -1.75 - log(3/8). The
  # wrong ones are pushed by 2/3 and 1/3.
  logp = [-1.0, -2.0, math.log(0.5), math.log(0.25)]
  value, gradient = _scalar_and_gradient('discriminative_likelihood', 1.0)(
    *one_token(logp, [1, 3, 0, 0])
  )
  np.testing.assert_allclose(value, 1.75 + math.log(3 / 8), rtol=1e-6)
  np.testing.assert_allclose(
    gradient[0, :, 0], [-1 / 4, -3 / 4, 2 / 3, 1 / 3], rtol=1e-6
  )


def test_ratio_literal():
  # Temperature 1; right 1/2; wrong 1 and 2: J = 1/2 - log((e + e^2) / 2). The
  # slopes are those of the score times the ratio: 1/2, e / (e + e^2) =
  # .2689414, 2 * .7310586.
  logp = [math.log(0.5), 0.0, math.log(2.0)]
  value, gradient = _scalar_and_gradient('discriminative_ratio', 1.0)(
    *one_token(logp, [1, 0, 0])
  )
  np.testing.assert_allclose(value, -0.5 + 1.6201145, rtol=1e-6)
  np.testing.assert_allclose(
    gradient[0, :, 0], [-0.5, 0.2689414, 1.4621172], rtol=1e-6
  )


@pytest.mark.parametrize(('name', 'temperature'), CASES)
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_equals_the_loops(name, temperature, seed):
  arrays = batch(seed)
  expected = getattr(expected_losses, name)(*arrays, temperature)
  assert np.abs(expected).max() > 0.05
  np.testing.assert_allclose(
    apply(name, temperature, *arrays), expected, rtol=2e-6, atol=2e-6
  )


@pytest.mark.parametrize(('name', 'temperature'), CASES)
def test_the_scalar_is_the_mean_over_all_groups(name, temperature):
  # One group turns all right: it is counted, and adds nothing.
  logp, old_logp, advantage, mask = batch(1)
  advantage[1] = 0
  value, gradient = _scalar_and_gradient(name, temperature)(
    logp, old_logp, advantage, mask
  )
  total = 0.0
  for b in range(3):
    counted = [g for g in range(4) if mask[b, g].any()]
    token = logp if name.endswith('likelihood') else np.exp(logp - old_logp)
    score = [token[b, g][mask[b, g] > 0].mean() for g in counted]
    share = [advantage[b, g, 0] for g in counted]
    total += expected_losses.objective(score, share, temperature)
  np.testing.assert_allclose(value, -total / 3, rtol=1e-5)
  assert not np.asarray(gradient)[1].any()
  assert np.asarray(gradient)[[0, 2]].any()


@pytest.mark.parametrize(('name', 'temperature'), CASES)
def test_gradient(name, temperature):
  logp, *constants = batch()
  function = lambda x: _scalar_and_gradient(name, temperature)(x, *constants)
  _, gradient = function(logp)
  advantage, mask = constants[1:]
  # Right samples are pulled up, wrong ones pushed down, nothing else moves.
  np.testing.assert_array_equal(np.sign(gradient), -np.sign(advantage * mask))
  scalar = lambda x: function(x)[0]
  check_grads(scalar, (logp,), 1, modes=('rev',), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize(('name', 'temperature'), CASES)
def test_tokens_of_a_sample_share_its_part(name, temperature):
  # By likelihood the gradient is one number over the length; shares sum to 0.
  logp, old_logp, advantage, mask = batch()
  _, gradient = _scalar_and_gradient(name, temperature)(
    logp, old_logp, advantage, mask
  )
  if name == 'discriminative_ratio':
    gradient = gradient / np.exp(logp - old_logp)  # d rho / d logp = rho
  by_sample = np.sum(gradient, -1)
  np.testing.assert_allclose(by_sample.sum(-1), 0, atol=1e-6)
  length = np.maximum(mask.sum(-1, keepdims=True), 1)
  np.testing.assert_allclose(
    gradient, by_sample[..., None] / length * mask, rtol=1e-5, atol=1e-7
  )


@pytest.mark.parametrize(('name', 'temperature'), CASES)
@pytest.mark.parametrize(
  'reward',
  [
    [[1, 1, 1, 1]] * 3,
    [[0, 0, 0, 0]] * 3,
    [[1, 0, 0, 0]] * 3,  # the only right one dropped
  ],
)
def test_without_both_classes_exactly_0(name, temperature, reward):
  logp, old_logp, _, mask = batch()
  mask = mask.copy()
  mask[:, 0] = 0
  advantage = advantages.class_share(np.float32(reward), mask)
  # The advantage of `class_share` is 0, and signs alone would do as well.
  for a in (advantage, np.float32(reward) - 0.5):
    value, gradient = _scalar_and_gradient(name, temperature)(
      logp, old_logp, advantages.per_token(a, mask), mask
    )
    assert value == 0
    assert not np.asarray(gradient).any()


@pytest.mark.parametrize(('name', 'temperature'), CASES)
def test_one_sample_and_empty_mask(name, temperature):
  logp, old_logp, advantage, mask = batch()
  one = np.zeros_like(mask)
  one[:, 1] = mask[:, 1]
  for few in (one, 0 * mask):
    value, gradient = _scalar_and_gradient(name, temperature)(
      logp, old_logp, advantage, few
    )
    assert value == 0
    assert not np.asarray(gradient).any()


@pytest.mark.parametrize(('name', 'temperature'), CASES)
def test_groups_may_be_cut_into_micro_batches(name, temperature):
  logp, old_logp, advantage, mask = batch()
  arrays = (logp, old_logp, advantage, mask)
  whole = apply(name, temperature, *arrays)
  alone = [
    np.asarray(apply(name, temperature, *(a[b : b + 1] for a in arrays)))[0]
    for b in range(3)
  ]
  np.testing.assert_allclose(whole, alone, rtol=1e-6)
  # A micro-batch is filled with groups that are zero throughout.
  filled = [np.concatenate([a[:2], 0 * a[:1]]) for a in arrays]
  part = np.asarray(apply(name, temperature, *filled))
  np.testing.assert_allclose(part[:2], whole[:2], rtol=1e-6)
  assert not part[2].any()


@pytest.mark.parametrize(('name', 'temperature'), CASES)
def test_dropped_samples_and_padding_change_nothing(name, temperature):
  logp, old_logp, advantage, mask = batch(1)
  kept = np.ix_([0, 1, 2], [1, 2, 3])
  mask[:, 0] = 0
  reward = np.float32([[9, 1, 0, 0], [9, 0, 0, 0.5], [9, 1, 3, 0]])
  advantage = advantages.class_share(reward, mask)
  advantage = np.asarray(advantages.per_token(advantage, mask))
  arrays = (logp, old_logp, advantage, mask)
  result = np.asarray(apply(name, temperature, *arrays))
  sliced = apply(name, temperature, *(a[kept] for a in arrays))
  np.testing.assert_allclose(result[kept], sliced, rtol=1e-6)
  assert not result[:, 0].any()


@pytest.mark.parametrize(('name', 'temperature'), CASES)
@pytest.mark.parametrize('garbage', [np.nan, np.inf, -np.inf, -1e30])
def test_garbage_outside_the_mask(name, temperature, garbage):
  *arrays, mask = batch()
  dirty = [np.where(mask > 0, a, np.float32(garbage)) for a in arrays]
  both = _scalar_and_gradient(name, temperature)
  expected, gradient = both(*arrays, mask)
  result, dirty_gradient = both(*dirty, mask)
  assert result == expected
  np.testing.assert_array_equal(dirty_gradient, gradient)
  assert not np.asarray(gradient)[mask == 0].any()


@pytest.mark.parametrize(('name', 'temperature'), CASES)
def test_unmasked_nan_stays_visible(name, temperature):
  logp, old_logp, advantage, mask = batch()
  assert mask[1, 1, 0] == 1
  logp[1, 1, 0] = np.nan
  loss = apply(name, temperature, logp, old_logp, advantage, mask)
  assert np.isnan(np.asarray(loss)[1, 1, 0])


@pytest.mark.parametrize(('name', 'temperature'), CASES)
@pytest.mark.parametrize('gap', [-1e4, 1e4])
def test_far_scores_stay_finite(name, temperature, gap):
  # exp(1e4) is not formed: the farthest wrong sample takes the whole push.
  arrays = one_token([0.0, gap, 0.0], [1, 0, 0])
  value, gradient = _scalar_and_gradient(name, temperature)(*arrays)
  assert np.isfinite(value) and np.isfinite(gradient).all()
  if name == 'discriminative_likelihood':
    pushed = [1, 0] if gap > 0 else [0, 1]
    np.testing.assert_allclose(gradient[0, :, 0], [-1, *pushed])


def test_temperature_runs_from_the_mean_to_the_largest():
  logp = [-1.0, -0.5, -2.0]
  for temperature, expected in [(1e4, [0.5, 0.5]), (1e-3, [1.0, 0.0])]:
    _, gradient = _scalar_and_gradient(
      'discriminative_likelihood', temperature
    )(*one_token(logp, [1, 0, 0]))
    np.testing.assert_allclose(gradient[0, 1:, 0], expected, atol=1e-3)


@pytest.mark.parametrize(('name', 'temperature'), CASES)
def test_jit_equals_eager(name, temperature):
  np.testing.assert_allclose(
    apply(name, temperature, *batch()),
    PARTS[name](*batch(), temperature=temperature),
    rtol=1e-5,
    atol=1e-6,
  )


@pytest.mark.parametrize('name', PARTS)
def test_temperature_is_positive(name):
  message = f'^{name}: temperature = 0.0; give one above 0$'
  with pytest.raises(UserError, match=message):
    PARTS[name](*batch(), temperature=0.0)
