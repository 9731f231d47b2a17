"""Updates whose numbers are not finite: skipped, to the bit."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrm_jax import guard, optim, packing, sft_step, train_step
from lrm_jax.models import transformer
from lrm_jax.structs import TrainState
from tests import bits, offloading_test, train_step_test
from tests.models import tiny
from tests.sft_test import AS_THEY_ARE, PAIRS, pack_pairs
from tests.train_step_test import MODEL


def optimizer(**changes):
  keys = {f'optimizer.{name}': value for name, value in changes.items()}
  return optim.of_run(offloading_test.load(**keys))


@functools.cache
def make_update(name='adamw'):
  return train_step.make_update(
    MODEL,
    train_step_test.make_recipe('grpo'),
    optimizer(name=name),
    temperature=1.0,
    chunk=16,
  )


def start(name='adamw'):
  params = transformer.init_params(MODEL, jax.random.key(0))
  slots = optimizer(name=name).init(params)
  return TrainState(jnp.int32(0), params, slots)


def batch(seed):
  """(packed rows, targets) of twelve samples."""
  rollouts = train_step_test.make_rollouts(seed)
  packed = packing.pack_groups(
    rollouts,
    rollouts.mask.any(-1),
    rows=16,
    row_length=32,
    groups_per_micro_batch=2,
  )
  noise = np.random.default_rng(seed).normal(size=rollouts.mask.shape)
  targets = train_step.Targets(
    np.array(rollouts.sampler_logp),
    (np.float32(noise * rollouts.mask),),
    rollouts.mask,
    rollouts.stale,
    rollouts.thinking_length,
  )
  return packed, targets


REFERENCE = transformer.init_params(MODEL, jax.random.key(1))


def step(state, packed, targets):
  """(the state after an update, on the host; its metrics)."""
  new, metrics = make_update()(state, REFERENCE, packed, targets)
  return new, {name: float(value) for name, value in metrics.items()}


@pytest.mark.parametrize('what', ['advantages', 'old_logp'])
def test_a_bad_number_skips_the_update_and_nothing_else(what):
  good, bad = batch(0), batch(1)
  at = tuple(np.argwhere(bad[1].mask)[5])
  poisoned = jax.tree.map(np.copy, getattr(bad[1], what))
  jax.tree.leaves(poisoned)[0][at] = np.nan
  bad = bad[0], dataclasses.replace(bad[1], **{what: poisoned})
  # Moments and counts that are not zero.
  before, numbers = step(start(), *good)
  assert numbers['skipped'] == 0
  kept = jax.device_get(before)
  after, numbers = step(before, *bad)
  assert numbers['skipped'] == 1
  assert not np.isfinite(numbers['loss'])
  bits.assert_same(jax.device_get(after), kept)
  # The next one is what it would have been without.
  again, _ = step(after, *good)
  plain, _ = step(jax.tree.map(jnp.array, kept), *good)
  bits.assert_same(jax.device_get(again), jax.device_get(plain))
  with pytest.raises(AssertionError):
    bits.assert_same(jax.device_get(again), kept)


def test_a_weight_that_overflows():
  """Products of it are infinite; the parameters stay as they are."""
  state = start()
  huge = state.params['embedding'].at[3, 4].set(3e38)
  params = state.params | {'embedding': huge}
  state = dataclasses.replace(state, params=params)
  kept = jax.device_get(state)
  after, numbers = step(state, *batch(0))
  assert numbers['skipped'] == 1
  bits.assert_same(jax.device_get(after), kept)


def test_an_infinite_gradient_of_a_finite_loss():
  """Squares that overflow; a loss of 1e25 is a number."""
  packed, targets = batch(0)
  targets = dataclasses.replace(targets, advantages=(targets.advantage * 1e25,))
  state = start()
  kept = jax.device_get(state)
  after, numbers = step(state, packed, targets)
  assert np.isfinite(numbers['loss']) and np.isinf(numbers['grad_norm'])
  assert numbers['skipped'] == 1
  bits.assert_same(jax.device_get(after), kept)


def poisoned(state, name, value):
  """The state with one number of the optimizer's slots replaced."""

  def one(path, x):
    keys = jax.tree_util.keystr(path)
    is_there = f'.{name}' in keys and 'embedding' in keys
    return x.at[3, 4].set(value) if is_there else x

  slots = jax.tree_util.tree_map_with_path(one, state.opt_state)
  return dataclasses.replace(state, opt_state=slots)


# What becomes of a number of float32, and of the root in Adam's rule.
SLOTS = {
  'a moment near the end of float32': ('mu', 3e38),
  'a second moment below zero': ('nu', -1.0),
  'a moment that is no number': ('mu', np.nan),
}


@pytest.mark.parametrize('case', SLOTS)
def test_a_state_that_would_poison_the_parameters(case):
  """Loss and gradient are finite; what the optimizer makes of them is not."""
  before, _ = step(start(), *batch(0))
  # Only the rule itself tells: b1 * 3e38 / (sqrt(0) + eps) is infinite.
  before = poisoned(before, 'nu', 0.0)
  bad = poisoned(before, *SLOTS[case])
  kept = jax.device_get(bad)
  after, numbers = step(bad, *batch(1))
  assert np.isfinite([numbers['loss'], numbers['grad_norm']]).all()
  assert numbers['skipped'] == 1
  bits.assert_same(jax.device_get(after), kept)


def test_a_step_that_leaves_float32(monkeypatch):
  """Gradients of 1e18, and a rate that the clip does not hold."""
  monkeypatch.setitem(
    optim.OPTIMIZERS, 'adamw', lambda config, rate: optax.sgd(1e25)
  )
  rule = optimizer(clip_norm=float('inf'))
  update = train_step.make_update(
    MODEL, train_step_test.make_recipe('grpo'), rule, temperature=1.0, chunk=16
  )
  packed, targets = batch(0)
  targets = dataclasses.replace(targets, advantages=(targets.advantage * 1e18,))
  params = transformer.init_params(MODEL, jax.random.key(0))
  state = TrainState(jnp.int32(0), params, rule.init(params))
  kept = jax.device_get(state)
  after, numbers = update(state, REFERENCE, packed, targets)
  assert 1e15 < numbers['grad_norm'] < 1e19
  assert numbers['skipped'] == 1
  bits.assert_same(jax.device_get(after), kept)


def unguarded(is_good, change, grads, state, *, fetch=None, place=None):
  """In place of `guard.guarded`; nothing is in the memory of the host."""
  return guard.divided(change(grads, state), state), is_good


@pytest.mark.parametrize('name', ['adamw', 'muon', 'spam'])
def test_it_costs_good_updates_nothing(name, monkeypatch):
  """The same bits with and without a guard, and no copy of the state."""

  def run():
    update = make_update.__wrapped__(name)
    state = start(name)
    compiled = update.lower(state, REFERENCE, *batch(0)).compile()
    for seed in (0, 1):
      state, _ = compiled(state, REFERENCE, *batch(seed))
    return jax.device_get(state), compiled.memory_analysis()

  guarded, memory = run()
  monkeypatch.setattr(guard, 'guarded', unguarded)
  plain, bare = run()
  bits.assert_same(guarded, plain)
  held = sum(x.nbytes for x in jax.tree.leaves(plain))
  assert memory.alias_size_in_bytes == bare.alias_size_in_bytes >= held
  more = memory.temp_size_in_bytes - bare.temp_size_in_bytes
  assert more < held / 16, (more, held)


def test_a_supervised_step_of_a_bad_state():
  config = tiny.make_config()
  rule = optimizer()
  params = jax.tree.map(jnp.array, tiny.make_params(config))
  run = sft_step.make_step(config, rule, AS_THEY_ARE)
  rows, mask, _ = pack_pairs(PAIRS, rows=2, row_length=16)
  state = TrainState(jnp.int32(0), params, rule.init(params))
  state = poisoned(state, 'mu', 3e38)
  kept = jax.device_get(state)
  state, numbers = run(state, rows, mask)
  assert np.isfinite([numbers['loss'], numbers['grad_norm']]).all()
  assert numbers['skipped'] == 1
  bits.assert_same(
    jax.device_get((state.params, state.opt_state)),
    (kept.params, kept.opt_state),
  )


def test_a_supervised_step():
  """Without a token to train on the mean is 0 / 0."""
  config = tiny.make_config()
  rule = optimizer()
  params = jax.tree.map(jnp.array, tiny.make_params(config))
  run = sft_step.make_step(config, rule, AS_THEY_ARE)
  rows, mask, _ = pack_pairs(PAIRS, rows=2, row_length=16)
  state, numbers = run(
    TrainState(jnp.int32(0), params, rule.init(params)), rows, mask
  )
  assert numbers['skipped'] == 0 and numbers['grad_norm'] > 0
  kept = jax.device_get(state)
  state, numbers = run(state, rows, np.zeros_like(mask))
  assert numbers['skipped'] == 1 and np.isnan(numbers['loss'])
  # Its demonstrations are over, so the step counts.
  assert int(state.step) == 2
  bits.assert_same(
    jax.device_get((state.params, state.opt_state)),
    (kept.params, kept.opt_state),
  )
