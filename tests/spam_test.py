"""SPAM: by hand, against NumPy, in an optimizer and through a checkpoint."""

import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from configs import tiny_lrm
from lrm_jax import optim, sft_step, spam, spikes
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.errors import UserError
from lrm_jax.structs import TrainState
from tests import bits, optim_test
from tests.models import tiny
from tests.sft_test import AS_THEY_ARE, PAIRS, pack_pairs

KEYS = optim_test.KEYS | {
  'name': 'spam',
  'spam_threshold': 5000.0,
  'spam_interval': 500,
  'spam_warmup': 150,
}
# A short life: two beginnings in 30 updates, the first at update 12.
SHORT = {
  'b1': 0.9,
  'b2': 0.95,
  'eps': 1e-6,
  'threshold': 30.0,
  'interval': 12,
  'warmup': 5,
  'settling': 4,
}


def advance(rule, grads, state=None):
  """(updates `[n, width]`, the last state)."""
  state = rule.init({'w': jnp.zeros(len(grads[0]))}) if state is None else state
  found, update = [], jax.jit(rule.update)
  for g in grads:
    out, state = update({'w': jnp.float32(g)}, state)
    found.append(out['w'])
  return np.array(found), state


def reference(
  grads, *, b1, b2, eps, threshold, interval, warmup, settling, is_cut=True
):
  """(updates, numbers that were cut) in float64, one number at a time."""
  found, cut = np.zeros(np.shape(grads)), []
  for i in range(len(grads[0])):
    m = v = 0.0
    since = None  # Updates since moments began anew.
    for t, g in enumerate((float(row[i]) for row in grads), start=1):
      since = None if since is None else since + 1
      if t % interval == 0:
        m, v, since = 0.0, 0.0, 0
      age = t if since is None else since
      if is_cut and age >= settling and v > 0 and g * g > threshold * v:
        g = math.copysign(math.sqrt(threshold * v), g)
        cut.append((t, i))
      m = b1 * m + (1 - b1) * g
      v = b2 * v + (1 - b2) * g * g
      scale = 1.0
      if since is not None and since < warmup:
        scale = 1 - 0.99 * (1 + math.cos(math.pi * since / (warmup + 1))) / 2
      step = m / (1 - b1**t) / (math.sqrt(v / (1 - b2**t)) + eps)
      found[t - 1, i] = scale * step
  return found, sorted(cut)


def gradients():
  """Thirty of four numbers; four spikes, one of them while moments settle.

  The last number has no gradient for longer than moments settle.
  """
  grads = np.random.default_rng(0).uniform(0.5, 1.5, (30, 4))
  grads *= np.random.default_rng(1).choice([-1, 1], grads.shape)
  grads[:9, 3] = 0
  grads[6, 0] *= 400
  grads[9, 1] *= -90
  grads[13, 2] *= 300  # Update 14, two behind a beginning.
  grads[19, 0] *= 250
  return grads


def test_by_hand():
  """Gradients 1, 1, 100, 1 with b1 = b2 = 1/2, a threshold of 4, no eps.

  v is 1/2, then 3/4, and the bound sqrt(4 * 3/4) = sqrt 3 in place of 100: v =
  3/8 + 3/2 = 15/8, m = 3/8 + sqrt 3 / 2. Corrected by 1 - 1/8 = 7/8 both. The
  fourth begins anew: m = v = 1/2, corrected by 1 - 1/16, times 1 - 0.99 = 0.01.
  """
  rule = spam.scale_by_spam(
    b1=0.5, b2=0.5, eps=0.0, threshold=4.0, interval=4, warmup=2, settling=2
  )
  found, state = advance(rule, [[1.0], [1.0], [100.0], [1.0]])
  third = (3 / 8 + math.sqrt(3) / 2) / (7 / 8) / math.sqrt(15 / 8 / (7 / 8))
  fourth = 0.01 * (8 / 15) / math.sqrt(8 / 15)
  np.testing.assert_allclose(found[:, 0], [1, 1, third, fourth], rtol=1e-5)
  assert int(state.spikes) == 1 and int(state.count) == 4


def test_against_numpy():
  """With spikes, beginnings and warm-ups; and each of them is seen."""
  grads = gradients()
  found, state = advance(spam.scale_by_spam(**SHORT), grads)
  expected, cut = reference(grads, **SHORT)
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)
  # That of update 14 is not: no bound is known yet.
  assert cut == [(7, 0), (10, 1), (20, 0)]
  assert int(state.spikes) == len(cut)
  for other in (
    {'is_cut': False},
    {'interval': 13},
    {'warmup': 0},
    {'settling': 1},
  ):
    apart = np.abs(found - reference(grads, **SHORT | other)[0]).max()
    assert apart > 0.05, other


def test_the_warm_up_rises_from_a_hundredth():
  """With equal gradients m / sqrt v says the rest of an update."""
  keys = SHORT | {'b1': 0.0, 'b2': 0.0, 'warmup': 3}
  found, _ = advance(spam.scale_by_spam(**keys), [[1.0]] * 17)
  half = 0.99 * math.sqrt(0.5) / 2
  expected = [1] * 11 + [0.01, 0.505 - half, 0.505, 1, 1, 1]
  np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)


def test_a_number_without_a_gradient_so_far_is_not_held_at_zero():
  grads = np.zeros((9, 2))
  grads[:, 0], grads[8] = 1, 3
  found, state = advance(spam.scale_by_spam(**SHORT), grads)
  assert found[8, 1] > 0.1 and int(state.spikes) == 0


def test_without_spikes_it_is_adam_until_moments_begin_anew():
  params = {'kernel': jnp.ones((3, 2))}
  keys = {'warmup_steps': 0, 'b2': 0.99}
  rules = [
    optim.make_optimizer(ml_collections.ConfigDict(KEYS | keys | change), 9)
    for change in ({'name': 'spam'}, {'name': 'adamw'})
  ]
  rng = np.random.default_rng(3)
  states = [rule.init(params) for rule in rules]
  for _ in range(30):
    grads = {'kernel': jnp.float32(rng.normal(size=(3, 2)))}
    made = []
    for i, rule in enumerate(rules):
      updates, states[i] = rule.update(grads, states[i], params)
      made.append(updates['kernel'])
    np.testing.assert_allclose(*made, rtol=1e-5, atol=1e-8)


def test_it_goes_on_exactly_behind_a_checkpoint(tmp_path):
  rule, grads = spam.scale_by_spam(**SHORT), gradients()
  expected, whole = advance(rule, grads)
  _, half = advance(rule, grads[:18])
  params = {'w': jnp.zeros(4)}
  checkpoints = RunCheckpoints(tmp_path, keep=1)
  checkpoints.save(18, TrainState(jnp.int32(18), params, half), {})
  checkpoints.close()
  checkpoints = RunCheckpoints(tmp_path, keep=1)
  like = TrainState(jnp.int32(0), params, rule.init(params))
  read = checkpoints.restore_state(18, like).opt_state
  checkpoints.close()
  found, state = advance(rule, grads[18:], read)
  bits.assert_same(found, expected[18:])
  bits.assert_same(state, whole)


def test_a_step_counts_what_was_cut():
  """The metric of an update, and not of all of them; a bad one counts none."""
  config = tiny.make_config()
  rule = optax.chain(
    spam.scale_by_spam(threshold=1e-3, warmup=0, settling=2),
    optax.scale_by_learning_rate(1e-3),
  )
  params = jax.tree.map(jnp.array, tiny.make_params(config))
  state = TrainState(jnp.int32(0), params, rule.init(params))
  step = sft_step.make_step(config, rule, AS_THEY_ARE)
  rows, mask, _ = pack_pairs(PAIRS, rows=2, row_length=16)
  found = []
  for weights in (mask, mask, mask, np.zeros_like(mask)):
    state, numbers = step(state, rows, weights)
    found.append((float(numbers['spikes']), float(numbers['skipped'])))
  size = sum(x.size for x in jax.tree.leaves(params))
  assert found[0] == (0, 0) and found[3] == (0, 1)
  assert 0.5 * size < found[1][0] <= size and found[1][1] == 0
  total = int(optax.tree.get(state.opt_state, 'spikes'))
  assert total == found[1][0] + found[2][0]
  assert spikes.counted(state, state) == {'spikes': 0}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'spam_threshold': 0.0},
      'optimizer.name=spam: spam_threshold = 0.0; give a finite one above 0',
    ),
    (
      {'spam_threshold': math.inf},
      'optimizer.name=spam: spam_threshold = inf; give a finite one above 0',
    ),
    (
      {'spam_interval': 20},
      'optimizer.name=spam: spam_interval = 20; give more than 20',
    ),
    (
      {'spam_warmup': 501},
      'optimizer.name=spam: spam_warmup = 501; give 0 to 500',
    ),
    (
      {'spike_factor': 4.0},
      'optimizer.spike_factor=4.0 with optimizer.name=spam, which has a bound '
      'of its own; give spike_factor=0, or another optimizer',
    ),
  ],
)
def test_settings_that_cannot_be(changes, message):
  config = ml_collections.ConfigDict(KEYS | changes)
  with pytest.raises(UserError) as error:
    optim.make_optimizer(config, 9)
  assert str(error.value) == message


def test_a_config_of_a_run_has_its_keys():
  config = tiny_lrm.get_config()
  config.optimizer.name = 'spam'
  rule = optim.make_optimizer(config.optimizer, 9)
  params = {'kernel': jnp.ones((3, 2))}
  state = rule.init(params)
  assert optax.tree.get(state, 'mu')['kernel'].shape == (3, 2)
  assert int(optax.tree.get(state, 'spikes')) == 0
