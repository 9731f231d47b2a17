"""The load-balance loss of an update is that of its whole mini-batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrm_jax import packing, train_step
from lrm_jax.models import transformer
from lrm_jax.models.config import Experts
from lrm_jax.structs import TrainState
from tests import train_step_test
from tests.train_step_test import MODEL, B, G

EXPERTS = dataclasses.replace(MODEL, experts=Experts(4, 2, 8))
PARAMS = transformer.init_params(EXPERTS, jax.random.key(0))
# Of its start the router's probabilities are all but equal.
PARAMS['layers']['experts']['router']['kernel'] *= 50


def run(load_balance, *, rows=16, row_length=32, groups=4, keep=None):
  """(gradient, metrics, packed rows) of one update of zero advantage."""
  rollouts = train_step_test.make_rollouts()
  optimizer = optax.sgd(1.0)
  update = train_step.make_update(
    EXPERTS,
    train_step_test.make_recipe('grpo'),
    optimizer,
    temperature=1.0,
    chunk=16,
    load_balance=load_balance,
  )
  packed = packing.pack_groups(
    rollouts,
    np.ones((B, G), bool) if keep is None else keep,
    rows=rows,
    row_length=row_length,
    groups_per_micro_batch=groups,
  )
  mask = np.asarray(rollouts.mask, np.float32)
  if keep is not None:
    mask = mask * keep[..., None]
  targets = train_step.Targets(
    rollouts.sampler_logp,
    (np.zeros_like(mask),),
    mask,
    rollouts.stale,
    rollouts.thinking_length,
  )
  params = jax.tree.map(jnp.copy, PARAMS)
  state = TrainState(jnp.int32(0), params, optimizer.init(params))
  new, metrics = update(state, PARAMS, packed, targets)
  grads = jax.tree.map(jnp.subtract, PARAMS, new.params)
  return grads, {k: float(v) for k, v in metrics.items()}, packed


def whole_batch(params, packed):
  """E sum_e f_e P_e over all tokens that were packed, in one pass."""
  flat = jax.tree.map(
    lambda x: x[: packed.count].reshape(-1, x.shape[-1]), packed.rows
  )
  _, kept = transformer.apply(
    EXPERTS, params, flat.tokens, flat.positions, flat.segment_ids
  )
  count = float((flat.segment_ids > 0).sum()) * EXPERTS.n_layers
  share = kept.routing.chosen.sum(axis=0) / count
  law = kept.routing.probability.sum(axis=0) / count
  return 4 * jnp.sum(jax.lax.stop_gradient(share) * law)


def test_the_update_adds_its_gradient():
  """The advantage is zero, so the objective's own gradient is none."""
  grads, metrics, packed = run(0.3)
  expected, slopes = jax.value_and_grad(whole_batch)(PARAMS, packed)
  assert 2.001 < float(expected) < 4  # Not balanced.
  assert metrics['load_balance'] == pytest.approx(float(expected), rel=1e-6)
  assert metrics['loss'] == pytest.approx(0.3 * float(expected), rel=1e-6)
  for path, leaf in jax.tree.leaves_with_path(slopes):
    found = grads
    for key in path:
      found = found[key.key]
    # A gradient is the difference of two parameters here.
    np.testing.assert_allclose(found, 0.3 * leaf, atol=5e-7, err_msg=str(path))
  router = grads['layers']['experts']['router']['kernel']
  assert np.abs(router).max() > 1e-3


def test_micro_batches_do_not_change_it():
  whole, metrics, packed = run(0.3)
  assert packed.count == 1
  for rows, row_length, groups in ((16, 32, 1), (3, 13, 4)):
    grads, other, packed = run(
      0.3, rows=rows, row_length=row_length, groups=groups
    )
    assert packed.count == 4
    train_step_test.assert_same(grads, whole)
    assert other == pytest.approx(metrics, rel=2e-6, abs=2e-6)


def test_dropped_samples_are_no_tokens():
  keep = np.ones((B, G), bool)
  keep[1], keep[2, 1] = False, False
  _, metrics, packed = run(0.3, keep=keep)
  expected = float(whole_batch(PARAMS, packed))
  assert metrics['load_balance'] == pytest.approx(expected, rel=1e-6)


def test_without_a_coefficient_nothing_is_added():
  grads, metrics, _ = run(0.0)
  assert 'load_balance' not in metrics
  # Rounding of the terms against the reference, which is the policy.
  assert abs(metrics['loss']) < 1e-6
  assert all(np.abs(leaf).max() < 1e-7 for leaf in jax.tree.leaves(grads))


def test_following_it_spreads_the_load():
  params = PARAMS
  _, _, packed = run(0.0)
  slope = jax.jit(jax.grad(lambda params: whole_batch(params, packed)))
  for _ in range(60):
    params = jax.tree.map(lambda p, g: p - 0.05 * g, params, slope(params))
  before, after = (float(whole_batch(p, packed)) for p in (PARAMS, params))
  # Two experts each, so 2 is even.
  assert before - 2 > 0.1 and after - 2 < 0.2 * (before - 2)
