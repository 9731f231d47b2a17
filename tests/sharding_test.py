"""Which device holds what, literally; and that it changes no number."""

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from lrm_jax import mesh as mesh_lib
from lrm_jax import optim, packing, sharding
from lrm_jax.checkpoints import huggingface, key_maps
from lrm_jax.errors import UserError
from lrm_jax.models import lora, output_head, transformer
from lrm_jax.models.config import Experts
from lrm_jax.structs import TrainState
from tests import eight_devices
from tests.models import tiny

ROOT = pathlib.Path(__file__).parents[1]
DENSE = tiny.make_config(
  qkv_bias=True, qk_norm=True, tie_embeddings=False, vocab_size=38
)
# 8 devices each.
MESHES = (
  {'fsdp': 2, 'expert': 4},
  {'tensor': 2, 'fsdp': -1},
  {'data': 4, 'expert': 2},
)
EXPERTS = tiny.make_config(
  family='lrm',
  experts=Experts(8, 2, 12),
  vocab_size=40,
  tie_embeddings=False,
)


def fake_mesh(**sizes):
  """A mesh of abstract devices; only its shape is looked at."""
  shape = [sizes[name] if name in sizes else 1 for name in mesh_lib.AXES]
  return jax.sharding.AbstractMesh(tuple(shape), mesh_lib.AXES)


def specs(config, **sizes):
  found = sharding.parameter_specs(config, fake_mesh(**sizes))
  return {'/'.join(path): spec for path, spec in found.items()}


def test_a_dense_model():
  found = specs(DENSE, fsdp=2, tensor=2)
  projection = P(None, 'fsdp', 'tensor')
  back = P(None, 'tensor', 'fsdp')
  assert found == {
    'embedding': P('tensor', 'fsdp'),
    'head': P('fsdp', 'tensor'),
    'final_norm/scale': P(None),
    'layers/attention_norm/scale': P(None, None),
    'layers/mlp_norm/scale': P(None, None),
    'layers/attention/q_norm/scale': P(None, None),
    'layers/attention/k_norm/scale': P(None, None),
    'layers/attention/q/kernel': projection,
    'layers/attention/k/kernel': projection,
    'layers/attention/v/kernel': projection,
    'layers/attention/q/bias': P(None, 'tensor'),
    'layers/attention/k/bias': P(None, 'tensor'),
    'layers/attention/v/bias': P(None, 'tensor'),
    'layers/attention/o/kernel': back,
    'layers/mlp/gate/kernel': projection,
    'layers/mlp/up/kernel': projection,
    'layers/mlp/down/kernel': back,
  }


def test_experts_are_on_an_axis_of_their_own():
  found = specs(EXPERTS, expert=4)
  assert found['layers/experts/gate'] == P(None, 'expert', 'fsdp', 'tensor')
  assert found['layers/experts/up'] == P(None, 'expert', 'fsdp', 'tensor')
  assert found['layers/experts/down'] == P(None, 'expert', 'tensor', 'fsdp')
  # Every token asks the whole router.
  assert found['layers/experts/router/kernel'] == P(None, 'fsdp', None)


def optimizer(name):
  """One as a run has it."""
  settings = ml_collections.ConfigDict(
    {
      'name': name,
      'clip_norm': 1.0,
      'spike_factor': 0.0,
      'spike_reset': False,
      'learning_rate': 1.0,
      'warmup_steps': 0,
      'schedule': 'constant',
      'b1': 0.9,
      'b2': 0.95,
      'eps': 1e-8,
      'weight_decay': 0.0,
      'muon_factor': 8.0,
      'spam_threshold': 5000.0,
      'spam_interval': 500,
      'spam_warmup': 150,
    }
  )
  return optim.make_optimizer(settings, 1)


def state_specs(name, params, **sizes):
  """{path: spec} of what an optimizer keeps, and of what it changes."""
  state = TrainState(
    jax.ShapeDtypeStruct((), np.int32),
    params,
    jax.eval_shape(optimizer(name).init, params),
  )
  found = sharding.state_specs(state, fake_mesh(**sizes))
  leaves = jax.tree_util.tree_leaves_with_path(
    found, is_leaf=lambda x: isinstance(x, P)
  )
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): spec
    for path, spec in leaves
  }


@pytest.mark.parametrize('name', ['adamw', 'muon', 'spam'])
def test_what_an_optimizer_keeps_is_divided_further(name):
  """Parameters are whole on the data axis; its moments have no need to be."""
  found = state_specs(name, key_maps.shapes(DENSE), data=2, fsdp=2, tensor=2)
  assert found['params/layers/mlp/gate/kernel'] == P(None, 'fsdp', 'tensor')
  moments = {
    path: spec
    for path, spec in found.items()
    if path.startswith('opt_state') and path.endswith('mlp/gate/kernel')
  }
  # Adam and SPAM have two, Muon one.
  assert len(moments) == {'adamw': 2, 'muon': 1, 'spam': 2}[name]
  assert set(moments.values()) == {P(None, ('fsdp', 'data'), 'tensor')}
  counts = [spec for path, spec in found.items() if path.endswith('count')]
  assert counts and set(counts) == {P()}
  assert found['step'] == P()


def test_an_axis_that_data_does_not_divide_further():
  """Width 16 among 4 x 8 devices: then as the parameter is."""
  found = state_specs('adamw', key_maps.shapes(DENSE), data=8, fsdp=4)
  specs = {s for path, s in found.items() if path.endswith('mlp/gate/kernel')}
  assert specs == {P(None, 'fsdp', 'tensor')}


def test_adapters_are_divided_as_their_kernels_are():
  shapes = key_maps.shapes(DENSE)
  adapters = jax.eval_shape(
    lambda: lora.init(
      lora.Lora(2, 4.0, ('q', 'down')), shapes, jax.random.key(0)
    )
  )
  found = state_specs('adamw', adapters, fsdp=2, tensor=2)
  ends = {
    'params/layers/attention/q/kernel/lora_a': P(None, 'fsdp', None),
    'params/layers/attention/q/kernel/lora_b': P(None, None, 'tensor'),
    'params/layers/mlp/down/kernel/lora_a': P(None, 'tensor', None),
    'params/layers/mlp/down/kernel/lora_b': P(None, None, 'fsdp'),
  }
  params = {p: s for p, s in found.items() if p.startswith('params')}
  assert params == ends


def test_two_axes_on_one_axis_of_the_mesh(monkeypatch):
  monkeypatch.setitem(mesh_lib.RULES, 'model', ('tensor',))
  with pytest.raises(UserError, match='embedding: tensor would divide vocab'):
    specs(DENSE, tensor=2)


def test_rows_and_places_of_a_batch():
  packed = packing.empty_batch(4, 2, 8, 16, 2, shared=True)
  found = sharding.batch_specs(packed)
  rows = P(None, ('data', 'fsdp', 'expert'), 'context')
  assert set(jax.tree.leaves(found.rows, is_leaf=is_spec)) == {rows}
  assert found.groups == found.offsets == found.count == P()


def is_spec(x):
  return isinstance(x, P)


def test_without_a_mesh_nothing_is_divided():
  x = jnp.ones((3, 5))
  assert mesh_lib.constrain(x, 'rows', 'vocab') is x
  function = lambda x: x
  assert mesh_lib.per_device(function, (('rows',),), ('rows',)) is function
  assert mesh_lib.platform() == jax.default_backend()
  one = mesh_lib.make({}, jax.devices()[:1])
  assert mesh_lib.divided(one, lambda: mesh_lib.current())() is None
  assert sharding.parameter_shardings(DENSE, None) is None


def test_the_rest_of_the_devices():
  (device,) = jax.devices()[:1]
  mesh = mesh_lib.make({'tensor': 2, 'fsdp': -1}, [device] * 8)
  assert mesh.axis_names == ('data', 'fsdp', 'tensor', 'context', 'expert')
  assert mesh.devices.shape == (1, 4, 2, 1, 1)
  assert mesh_lib.make({}, [device]).devices.size == 1


@pytest.mark.parametrize(
  ('sizes', 'words'),
  [
    ({'model': 2}, ("'model'", 'data, fsdp')),
    ({'data': -1, 'fsdp': -1}, ('data=-1, fsdp=-1', 'one of them')),
    ({'data': 0}, ('data=0', 'at least 1')),
    ({'data': 3}, ('data=3', '8 devices')),
    ({'data': 3, 'fsdp': -1}, ('data=3, fsdp=-1', '8 devices')),
  ],
)
def test_meshes_that_cannot_be(sizes, words):
  with pytest.raises(UserError) as error:
    mesh_lib.make(sizes, jax.devices()[:1] * 8)
  assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
  ('sizes', 'words'),
  [
    ({'expert': 3}, ('layers/experts/', '8 experts', 'expert=3')),
    ({'fsdp': 3}, ('embedding: 16 model', 'fsdp=3')),
    ({'tensor': 4}, ('n_kv_heads=2', 'tensor=4')),
  ],
)
def test_axes_that_do_not_divide(sizes, words):
  with pytest.raises(UserError) as error:
    specs(EXPERTS, **sizes)
  assert all(word in str(error.value) for word in words), error.value


def loss_and_gradient(params):
  rows = np.random.default_rng(0).integers(0, 40, (8, 12)).astype(np.int32)
  at = np.broadcast_to(np.arange(12, dtype=np.int32), rows.shape)

  @jax.jit
  @jax.value_and_grad
  def loss(params):
    hidden, _ = transformer.apply(EXPERTS, params, rows, at, np.ones_like(rows))
    targets = jnp.roll(rows, -1, axis=-1)
    return -output_head.token_logp(EXPERTS, params, hidden, targets)[0].mean()

  return loss(params)


def check(directory):
  """On 8 devices: what each mesh holds and computes, as JSON."""
  _, whole = huggingface.load(directory)
  expected, slopes = loss_and_gradient(whole)
  for sizes in MESHES:
    mesh = mesh_lib.make(sizes)
    _, params = huggingface.load(
      directory, sharding=sharding.parameter_shardings(EXPERTS, mesh)
    )
    found, gradient = loss_and_gradient(params)
    errors = jax.tree.map(
      lambda a, b: np.abs(np.asarray(a) - b).max() / np.abs(b).max(),
      gradient,
      slopes,
    )
    gate = params['layers']['experts']['gate'].addressable_shards
    yield {
      'sizes': sizes,
      'parts': [list(part.data.shape) for part in gate],
      'loss': abs(float(found - expected)),
      'gradient': float(max(jax.tree.leaves(errors))),
    }


@pytest.mark.slow
def test_divided_parameters_give_the_same_loss_and_gradient(tmp_path):
  huggingface.save(tmp_path / 'model', EXPERTS, tiny.make_params(EXPERTS))
  done = eight_devices.run('tests.sharding_test', tmp_path / 'model')
  found = [json.loads(line) for line in done.stdout.splitlines()]
  # Of [2 layers, 8 experts, 16, 12].
  parts = ([2, 2, 8, 12], [2, 8, 4, 6], [2, 4, 16, 12])
  for row, sizes, part in zip(found, MESHES, parts, strict=True):
    assert row['sizes'] == sizes
    assert row['parts'] == [part] * 8
    assert row['loss'] <= 1e-6 and row['gradient'] <= 1e-5, row


if __name__ == '__main__':
  for line in check(pathlib.Path(sys.argv[1])):
    print(json.dumps(line))
