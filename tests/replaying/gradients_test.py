"""Gradients of several recipes: those that an update of each would take."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrm_jax import assets, packing, rollout, train_step
from lrm_jax.checkpoints import huggingface
from lrm_jax.errors import UserError
from lrm_jax.models import transformer
from lrm_jax.replaying import gradients, sessions, stored
from lrm_jax.structs import Problem, TrainState
from tests import train_step_test
from tests.train_step_test import MODEL, B, G, T

NAMES = ('dler', 'drpo', 'gspo', 'grpo')


@pytest.fixture(scope='module')
def case():
  """(rollouts, advantage of each recipe, mask, parameters, reference)."""
  keys = jax.random.split(jax.random.key(0), 2)
  params, reference = (transformer.init_params(MODEL, key) for key in keys)
  rollouts = train_step_test.make_rollouts()
  noise = np.random.default_rng(1).normal(0, 0.3, (B, G, T))
  logp = train_step_test.dense_logp(params, rollouts) + noise * rollouts.mask
  rollouts = dataclasses.replace(
    rollouts, sampler_logp=np.asarray(logp, np.float32)
  )
  advantage = np.random.default_rng(2).normal(size=(len(NAMES), B, G, 1))
  mask = rollouts.mask.copy()
  mask[1] = 0  # a group that was dropped
  return (
    rollouts,
    (advantage * mask).astype(np.float32),
    mask,
    params,
    reference,
  )


def step_of(rollouts):
  problems = [Problem(str(b), '', '') for b in range(B)]
  rollouts = dataclasses.replace(
    rollouts, problem_index=rollout.first_rows(problems)
  )
  shape, nothing = (B, G), np.zeros((B, G, T), np.float32)
  return stored.Step(
    number=1,
    problems=problems,
    rollouts=rollouts,
    texts=[[''] * G] * B,
    rounds=np.zeros(B, int),
    batch=B,
    reward=np.zeros(shape),
    advantage=np.zeros(shape),
    kept=np.ones(shape, bool),
    whole_law=True,
    is_scored=np.zeros(shape, bool),
    old_logp=nothing,
    entropy=nothing,
  )


def of_update(case, k):
  """(loss, gradient): parameters move by minus that at a rate of 1."""
  rollouts, advantage, mask, params, reference = case
  optimizer = optax.sgd(1.0)
  update = train_step.make_update(
    MODEL,
    train_step_test.make_recipe(NAMES[k]),
    optimizer,
    temperature=1.0,
    chunk=16,
  )
  packed = packing.pack_groups(
    rollouts, mask.any(-1), rows=16, row_length=32, groups_per_micro_batch=4
  )
  targets = train_step.Targets(
    rollouts.sampler_logp,
    (advantage[k],),
    mask,
    rollouts.stale,
    rollouts.thinking_length,
  )
  copy = jax.tree.map(jnp.copy, params)
  state = TrainState(jnp.int32(0), copy, optimizer.init(copy))
  new, numbers = update(state, reference, packed, targets)
  grads = jax.tree.map(lambda a, b: a - b, params, new.params)
  return float(numbers['loss']), grads


def norm(tree):
  return float(optax.tree.norm(tree))


@pytest.mark.parametrize('at_once', [2, 1 << 28])
def test_gradients_are_those_of_the_update(case, monkeypatch, at_once):
  """Four recipes together, and one after the other in the host's memory."""
  monkeypatch.setattr(gradients, '_MOST_AT_ONCE', at_once)
  rollouts, advantage, mask, params, reference = case
  step, everything = step_of(rollouts), np.ones((B, G), bool)
  # Three rows: several micro-batches, not all of them full.
  model = gradients.Model(MODEL, params, reference, temperature=1.0, rows=3)
  logp, entropy = model.score(step, params, everything)
  dense = np.asarray(train_step_test.dense_logp(params, rollouts))
  np.testing.assert_allclose(logp, dense, atol=2e-6)
  ref_logp, _ = model.score(step, reference, everything)
  found = [
    gradients.make_cotangents(train_step_test.make_recipe(name))(
      logp,
      entropy,
      ref_logp,
      rollouts.sampler_logp,
      (advantage[k],),
      mask,
      rollouts.thinking_length,
    )
    for k, name in enumerate(NAMES)
  ]
  sums = gradients.Sums(model, len(NAMES))
  assert len(sums._cuts) == (4 if at_once == 2 else 1)
  pairs = tuple(
    np.stack([np.asarray(getattr(x, name)) for x in found])
    for name in ('logp', 'entropy')
  )
  sums.add(step, pairs)
  trees = [
    jax.tree.map(lambda x: np.asarray(x)[k - cut.start], tree)  # noqa: B023
    for cut, tree in zip(sums._cuts, sums._sums, strict=True)
    for k in range(cut.start, cut.stop)
  ]
  gram = sum(sums.gram().values())
  for k in range(len(NAMES)):
    loss, expected = of_update(case, k)
    assert float(found[k].loss) == pytest.approx(loss, abs=1e-6)
    train_step_test.assert_same(trees[k], expected)
    assert norm(expected) > 1e-3
    assert np.sqrt(gram[k, k]) == pytest.approx(norm(expected), rel=1e-4)
  inner = sum(
    float(jnp.vdot(a, b))
    for a, b in zip(*map(jax.tree.leaves, trees[:2]), strict=True)
  )
  assert gram[0, 1] == pytest.approx(inner, rel=1e-4)
  # A second time, and everything counts twice.
  sums.add(step, pairs)
  np.testing.assert_allclose(sum(sums.gram().values()), 4 * gram, rtol=1e-4)


def test_recipes_do_not_get_into_each_other(case):
  """On the embedded model: a small one does not show it."""
  rollouts, advantage, mask, *_ = case
  config, params = huggingface.load(assets.resolve('tiny_lrm'))
  params = jax.device_put(params)
  model = gradients.Model(config, params, params, temperature=1.0, rows=32)
  step, nothing = step_of(rollouts), np.zeros((3, B, G, T), np.float32)
  factors = np.array([1, 2, 0], np.float32)[:, None, None, None]
  sums = gradients.Sums(model, 3)
  sums.add(step, (factors * advantage[0] * mask, nothing))
  (tree,) = sums._sums
  for leaf in map(np.asarray, jax.tree.leaves(tree)):
    np.testing.assert_allclose(leaf[1], 2 * leaf[0], atol=1e-4)
    assert not leaf[2].any()


def test_groups_of_layers():
  params = transformer.init_params(MODEL, jax.random.key(0))
  model = gradients.Model(MODEL, params, params, temperature=1.0, rows=4)
  gram = gradients.Sums(model, 1).gram()
  layers = [
    f'layer_{layer}/{part}'
    for layer in range(2)
    for part in ('attention', 'feed_forward')
  ]
  head = ['head'] if 'head' in params else []
  assert list(gram) == ['embedding', *layers, 'norms', *head]


def test_what_is_not_of_the_model_is_refused(case):
  rollouts, *_, params, reference = case
  model = gradients.Model(MODEL, params, reference, temperature=1.0, rows=4)
  step = step_of(rollouts)
  model.check(step, 'here')
  ids = rollouts.response_ids.copy()
  ids[0, 0, 0] = MODEL.vocab_size
  bad = step_of(dataclasses.replace(rollouts, response_ids=ids))
  with pytest.raises(
    ValueError, match='31 token ids, and the rollouts of step'
  ):
    model.check(bad, 'here')
  short = gradients.Model(
    dataclasses.replace(MODEL, max_positions=5),
    params,
    reference,
    temperature=1.0,
    rows=4,
  )
  with pytest.raises(ValueError, match='has a window of 5 positions, and the'):
    short.check(step, 'here')


def test_gradients_of_a_truncated_law_are_refused(case):
  rollouts, *_, params, reference = case
  model = gradients.Model(MODEL, params, reference, temperature=1.0, rows=4)
  step = dataclasses.replace(step_of(rollouts), whole_law=False)
  with pytest.raises(UserError) as error:
    sessions.Session([], model).show(step)
  assert str(error.value) == (
    'the rollouts of step 1 were sampled with train.truncation, and the kept '
    'sets are not stored: gradients would be of another law; leave out --model'
  )
