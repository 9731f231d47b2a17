"""Schedules at literal steps, and one step of the optimizer."""

import jax
import ml_collections
import numpy as np
import optax
import pytest

from lrm_jax import optim
from lrm_jax.errors import UserError
from lrm_jax.models import transformer
from lrm_jax.models.config import Experts
from tests.models import tiny

KEYS = {
  'name': 'adamw',
  'learning_rate': 0.01,
  'schedule': 'constant',
  'warmup_steps': 5,
  'final_fraction': 0.1,
  'b1': 0.9,
  'b2': 0.95,
  'eps': 1e-8,
  'weight_decay': 0.1,
  'clip_norm': 1.0,
  'spike_factor': 0.0,
  'spike_reset': False,
  'muon_factor': 4.0,
}


def _config(**changes):
  return ml_collections.ConfigDict(KEYS | changes)


def _params():
  """The tree of `transformer.init_params`, with nothing in it zero."""
  return tiny.make_params(tiny.make_config(tie_embeddings=False))


@pytest.mark.parametrize('schedule', optim.SCHEDULES)
def test_warm_up_is_linear_and_its_first_update_moves(schedule):
  rate = optim.learning_rate(_config(schedule=schedule), 105)
  np.testing.assert_allclose(
    [rate(step) for step in range(6)],
    [0.002, 0.004, 0.006, 0.008, 0.01, 0.01],
    rtol=1e-6,
  )


@pytest.mark.parametrize(
  ('schedule', 'steps', 'expected'),
  [
    # Half way a cosine is half way between the peak and its tenth.
    ('constant', (55, 105, 1000), (0.01, 0.01, 0.01)),
    ('cosine', (30, 55, 105, 1000), (0.0086819805, 0.0055, 0.001, 0.001)),
    ('linear', (30, 55, 105, 1000), (0.00775, 0.0055, 0.001, 0.001)),
  ],
)
def test_decay(schedule, steps, expected):
  rate = optim.learning_rate(_config(schedule=schedule), 105)
  np.testing.assert_allclose([rate(s) for s in steps], expected, rtol=1e-6)


@pytest.mark.parametrize('schedule', optim.SCHEDULES)
def test_without_warm_up_the_first_update_is_at_the_peak(schedule):
  rate = optim.learning_rate(_config(schedule=schedule, warmup_steps=0), 100)
  np.testing.assert_allclose(rate(0), 0.01, rtol=1e-6)


@pytest.mark.parametrize('schedule', optim.SCHEDULES)
def test_a_run_shorter_than_its_warm_up(schedule):
  rate = optim.learning_rate(_config(schedule=schedule), 3)
  np.testing.assert_allclose(
    [rate(step) for step in range(3)], [0.002, 0.004, 0.006], rtol=1e-6
  )


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'schedule': 'cosin'},
      "optimizer.schedule='cosin' is not one of constant, cosine, linear",
    ),
    ({'name': 'adam'}, "optimizer.name='adam' is not one of adamw, muon, spam"),
    (
      {'name': 'momo'},
      "optimizer.name='momo': its step size is (loss - lower bound) / "
      '|gradient|^2, and the signed losses of policies have no lower bound; '
      'choose from adamw, muon, spam',
    ),
  ],
)
def test_unknown_names(changes, message):
  with pytest.raises(UserError) as info:
    optim.make_optimizer(_config(**changes), 10)
  assert str(info.value) == message


def _first_update(config, params, gradients):
  optimizer = optim.make_optimizer(config, 10)
  update = jax.jit(optimizer.update)
  return update(gradients, optimizer.init(params), params)[0]


@pytest.mark.parametrize(
  ('name', 'rate', 'decayed'),
  [
    ('adamw', 0.01, {'kernel', 'embedding', 'head'}),
    ('muon', 4 * 0.01, {'kernel'}),
  ],
)
def test_weight_decay_touches_matrices_only(name, rate, decayed):
  params = _params()
  zeros = jax.tree.map(np.zeros_like, params)
  updates = _first_update(_config(name=name, warmup_steps=0), params, zeros)
  seen = set()

  def check(path, update, leaf):
    kind = path[-1].key
    seen.add(kind)
    expected = -rate * 0.1 * leaf if kind in decayed else np.zeros_like(leaf)
    np.testing.assert_allclose(update, expected, rtol=1e-5, atol=0)

  jax.tree_util.tree_map_with_path(check, updates, params)
  assert seen == {'kernel', 'embedding', 'head', 'bias', 'scale'}


def test_muon_turns_each_projection_and_adam_the_rest():
  """Of a projection's gradient only the directions stay, layer by layer."""
  params = _params()
  rng = np.random.default_rng(0)
  gradients = jax.tree.map(
    # Away from 0, where Adam's eps would show.
    lambda leaf: (
      rng.choice([-1, 1], leaf.shape)
      * rng.uniform(0.5, 2, leaf.shape).astype(np.float32)
    ),
    params,
  )
  config = _config(name='muon', warmup_steps=0, weight_decay=0.0)
  updates = _first_update(config, params, gradients)
  matrices = []

  def check(path, update, gradient):
    if path[-1].key == 'kernel':
      matrices.extend(zip(update, gradient, strict=True))
    else:
      # Nesterov: (b1 (1 - b1) / (1 - b1^2) + 1) g / |g| = (9 / 19 + 1) sign.
      expected = -0.01 * 28 / 19 * np.sign(gradient)
      np.testing.assert_allclose(update, expected, rtol=1e-4)

  jax.tree_util.tree_map_with_path(check, updates, gradients)
  assert len(matrices) == 2 * 7
  for update, gradient in matrices:
    rows, columns = update.shape
    values = np.linalg.svd(update, compute_uv=False)
    # Five Newton-Schulz iterations bring every singular value near 1.
    values = values / (4 * 0.01 * np.sqrt(max(1, columns / rows)))
    assert 0.5 < values.min() and values.max() < 1.3
    assert np.sum(update * gradient) < 0


def test_adapters_are_projections():
  """Decayed by AdamW, turned by Muon; A's first gradient is 0, B being 0."""
  shapes = {'lora_a': (2, 3, 8, 4), 'lora_b': (2, 3, 4, 6)}
  rng = np.random.default_rng(0)
  draw = lambda shape: rng.standard_normal(shape).astype(np.float32)
  params = {'experts': {'up': {k: draw(v) for k, v in shapes.items()}}}
  assert all(jax.tree.leaves(optim.is_matrix(params)))
  gradients = jax.tree.map(np.copy, params)
  gradients['experts']['up']['lora_a'][:] = 0
  config = _config(name='muon', warmup_steps=0, weight_decay=0.0)
  updates = _first_update(config, params, gradients)['experts']['up']
  assert not np.any(updates['lora_a'])
  for matrix in np.reshape(updates['lora_b'], (6, 4, 6)):
    values = np.linalg.svd(matrix, compute_uv=False)
    values = values / (4 * 0.01 * np.sqrt(6 / 4))
    assert 0.5 < values.min() and values.max() < 1.3


@pytest.mark.slow
def test_experts_are_projections():
  """As a model has them: decayed by AdamW, turned by Muon, one by one."""
  model = tiny.make_config(experts=Experts(3, 2, 8))
  params = transformer.init_params(model, jax.random.key(0))
  kept = {'scale', 'bias'}
  for path, decayed in jax.tree.leaves_with_path(optim.is_matrix(params)):
    assert decayed == (path[-1].key not in kept), path
  config = _config(name='muon', warmup_steps=0, weight_decay=0.0)
  gradients = jax.tree.map(
    lambda x: np.random.default_rng(0).standard_normal(x.shape, np.float32),
    params,
  )
  updates = _first_update(config, params, gradients)['layers']['experts']
  for name, (rows, columns) in {'gate': (16, 8), 'down': (8, 16)}.items():
    for matrix in np.reshape(updates[name], (2 * 3, rows, columns)):
      values = np.linalg.svd(matrix, compute_uv=False)
      values = values / (4 * 0.01 * np.sqrt(max(1, columns / rows)))
      assert 0.5 < values.min() and values.max() < 1.3


def test_the_first_step_is_adams():
  """Gradients 3 and -4 have norm 5: clipped to 0.6 and -0.8.

  At its first step Adam's two corrections cancel: -lr * g / (|g| + eps). With
  eps = 0.2 the clipped size shows: 0.6 / 0.8 and -0.8 / 1.0.
  """
  params = {'bias': np.zeros(2, np.float32)}
  gradient = {'bias': np.array([3, -4], np.float32)}

  def step(**changes):
    optimizer = optim.make_optimizer(_config(warmup_steps=0, **changes), 10)
    update, _ = optimizer.update(gradient, optimizer.init(params), params)
    return update['bias']

  np.testing.assert_allclose(
    step(eps=0.2), [-0.01 * 0.75, 0.01 * 0.8], rtol=1e-5
  )
  np.testing.assert_allclose(
    step(eps=0.2, clip_norm=np.inf),
    [-0.01 * 3 / 3.2, 0.01 * 4 / 4.2],
    rtol=1e-5,
  )


def test_betas_and_the_schedule_reach_the_optimizer():
  """Two steps with gradients 1 and -1, no clip, no warm-up, by hand.

  m = b1 (1 - b1) - (1 - b1), over 1 - b1^2; v stays 1 after correction.
  """
  config = _config(
    warmup_steps=0,
    schedule='linear',
    final_fraction=0.0,
    b1=0.5,
    clip_norm=np.inf,
  )
  optimizer = optim.make_optimizer(config, 10)
  params = {'bias': np.zeros(1, np.float32)}
  state = optimizer.init(params)
  one = np.ones(1, np.float32)
  first, state = optimizer.update({'bias': one}, state, params)
  params = optax.apply_updates(params, first)
  second, _ = optimizer.update({'bias': -one}, state, params)
  np.testing.assert_allclose(first['bias'], -0.01, rtol=1e-5)
  # m = 0.5 * 0.5 - 0.5 = -0.25, / 0.75 = -1/3; the rate has fallen by a tenth.
  np.testing.assert_allclose(second['bias'], 0.009 / 3, rtol=1e-5)
