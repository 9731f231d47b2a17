"""The bound on spikes: by hand, against NumPy, and in an optimizer."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from lrm_jax import optim, spikes
from lrm_jax.errors import UserError
from tests import bits, optim_test

ZERO = {'w': jnp.zeros(2)}


def gradient(size):
  """Of this norm: a triangle of 3, 4, 5."""
  return {'w': jnp.array([3.0, 4.0]) * size / 5}


def sizes(factor, norms):
  """Norms that are let through, and spikes so far."""
  rule = spikes.bound(factor)
  state, found = rule.init(ZERO), []
  for norm in norms:
    grads, state = rule.update(gradient(norm), state)
    found.append((float(optax.tree.norm(grads)), int(state.spikes)))
  return found


def test_bound_by_hand():
  """Norms 1, 1, 100, 1, 100 at three times the usual one.

  The mean before the third is 1, so 3 is let through. Behind it, it is
  0.01 (0.9801 + 0.99 + 3) ... over 1 - 0.99^3 = 0.029701: 0.049701 in all, as
  0.01 * (0.99^2 + 0.99 + 3) = 0.049701, and 0.049701 / 0.029701 = 1.673378.
  One more of 1: 0.99 * 0.049701 + 0.01 = 0.05920399; over 1 - 0.99^4 =
  0.03940399 that is 1.502487, and three times as much is let through.
  """
  found = sizes(3.0, [1, 1, 100, 1, 100])
  np.testing.assert_allclose(
    [size for size, _ in found], [1, 1, 3, 1, 3 * 1.5024872], rtol=1e-5
  )
  assert [count for _, count in found] == [0, 0, 1, 1, 2]


def test_the_first_gradient_and_what_follows_zeros_is_not_bounded():
  assert sizes(2.0, [500])[0] == (pytest.approx(500), 0)
  found = sizes(2.0, [0, 0, 500, 500])
  # The mean behind it is 5 / (1 - 0.99^3) = 168.3445.
  assert [count for _, count in found] == [0, 0, 0, 1]
  assert [size for size, _ in found[2:]] == pytest.approx([500, 336.689])


def test_direction_is_kept():
  rule = spikes.bound(2.0)
  _, state = rule.update(gradient(1.0), rule.init(ZERO))
  grads, _ = rule.update(gradient(50.0), state)
  np.testing.assert_allclose(grads['w'], [1.2, 1.6], rtol=1e-6)


def reference(factor, grads, *, reset, b1=0.9, b2=0.95, rate=0.01):
  """Parameters after each update of Adam, in float64."""
  place, mu, nu, count = np.zeros(3), np.zeros(3), np.zeros(3), 0
  norm, found = 0.0, []
  for t, g in enumerate(grads):
    size = np.sqrt((g**2).sum())
    limit = factor * norm / (1 - 0.99**t) if t else np.inf
    if size > limit:
      g = g * limit / size
      if reset:
        mu, nu, count = np.zeros(3), np.zeros(3), 0
    norm = 0.99 * norm + 0.01 * min(size, limit)
    count += 1
    mu, nu = b1 * mu + (1 - b1) * g, b2 * nu + (1 - b2) * g**2
    step = mu / (1 - b1**count) / (np.sqrt(nu / (1 - b2**count)) + 1e-8)
    place = place - rate * step
    found.append(place)
  return np.array(found)


def gradients():
  """Twelve, of which the fifth and the ninth are spikes."""
  grads = np.random.default_rng(0).normal(size=(12, 3))
  grads[4] *= 300
  grads[8] *= 40
  return grads


def adam(factor, reset):
  return optim.make_optimizer(
    ml_collections.ConfigDict(
      optim_test.KEYS
      | {
        'spike_factor': factor,
        'spike_reset': reset,
        'clip_norm': np.inf,
        'weight_decay': 0.0,
        'warmup_steps': 0,
      }
    ),
    12,
  )


@pytest.mark.parametrize('reset', [False, True])
def test_against_numpy(reset):
  """With a reset, and without; and what a spike leaves without a bound."""
  grads = gradients()
  optimizer = adam(4.0, reset)
  params = {'w': jnp.zeros(3)}
  state, found = optimizer.init(params), []
  for g in grads:
    updates, state = optimizer.update({'w': jnp.float32(g)}, state, params)
    params = optax.apply_updates(params, updates)
    found.append(params['w'])
  expected = reference(4.0, grads, reset=reset)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
  assert int(optax.tree.get(state, 'spikes')) == 2
  other = reference(4.0, grads, reset=not reset)
  assert np.abs(found - other)[8:].max() > 1e-3
  unbounded = reference(np.inf, grads, reset=False)
  assert np.abs(found - unbounded)[4:].max() > 1e-3


def test_a_schedule_goes_on_where_moments_begin_anew():
  optimizer = adam(4.0, reset=True)
  params = {'w': jnp.zeros(3)}
  state = optimizer.init(params)
  for size in (1.0, 1.0, 900.0):
    grads = {'w': jnp.full(3, size)}
    _, state = optimizer.update(grads, state, params)
  kinds = optax.ScaleByAdamState, optax.ScaleByScheduleState
  inner = jax.tree.leaves(state.inner, is_leaf=lambda x: type(x) in kinds)
  counts = {type(x): int(x.count) for x in inner if type(x) in kinds}
  assert counts == {kinds[0]: 1, kinds[1]: 3}


def test_momentum_of_muon_is_forgotten_too():
  params = optim_test._params()
  optimizer = optim.make_optimizer(
    ml_collections.ConfigDict(
      optim_test.KEYS
      | {'name': 'muon', 'spike_factor': 5.0, 'spike_reset': True}
    ),
    9,
  )
  usual = jax.tree.map(jnp.ones_like, params)
  other = jax.tree.map(
    lambda x: jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape),
    params,
  )
  spike = jax.tree.map(lambda x: 1e4 * x, other)
  state = optimizer.init(params)
  for _ in range(3):
    _, state = optimizer.update(usual, state, params)
  updates, state = optimizer.update(spike, state, params)
  # As the first update would be: the clip of the norm takes the scale away.
  fresh, _ = optimizer.update(other, optimizer.init(params), params)
  rate = lambda tree, step: jax.tree.map(lambda x: x / step, tree)
  for x, y in zip(
    jax.tree.leaves(rate(updates, 4)),
    jax.tree.leaves(rate(fresh, 1)),
    strict=True,
  ):
    # Rates of the warm-up: 4/5 and 1/5 of the peak. Weight decay is alike.
    np.testing.assert_allclose(x, y, atol=2e-5)


def test_without_a_factor_nothing_is_added():
  config = ml_collections.ConfigDict(optim_test.KEYS)
  plain = optim.make_optimizer(config, 9).init(optim_test._params())
  assert optax.tree.get(plain, 'spikes') is None
  assert len(plain) == 2


def test_it_goes_on_exactly():
  """A state that was written down and read goes on as the other does."""
  grads, optimizer = gradients(), adam(4.0, reset=True)
  params = {'w': jnp.zeros(3)}

  def advance(state, some):
    for g in some:
      _, state = optimizer.update({'w': jnp.float32(g)}, state, params)
    return state

  half = advance(optimizer.init(params), grads[:7])
  leaves, structure = jax.tree.flatten(half)
  read = jax.tree.unflatten(structure, [jnp.array(np.array(x)) for x in leaves])
  bits.assert_same(advance(read, grads[7:]), advance(half, grads[7:]))


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'spike_factor': 0.5}, 'spike_factor=0.5 must be above 1'),
    ({'spike_factor': np.inf}, 'spike_factor=inf'),
    ({'spike_reset': True}, 'spike_reset=True .* nothing is a spike'),
  ],
)
def test_settings_that_cannot_be(changes, words):
  config = ml_collections.ConfigDict(optim_test.KEYS | changes)
  with pytest.raises(UserError, match=words):
    optim.make_optimizer(config, 9)
