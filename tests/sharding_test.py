"""Which device holds what, literally; and that it changes no number."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from lrm_jax import sharding
from lrm_jax.checkpoints import huggingface, key_maps
from lrm_jax.errors import UserError
from lrm_jax.models import transformer
from lrm_jax.models.config import Experts
from tests.checkpoints import family_models
from tests.models import tiny

ROOT = pathlib.Path(__file__).parents[1]
DENSE = tiny.make_config(qkv_bias=True, qk_norm=True, tie_embeddings=False)
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
  shape = [sizes[name] if name in sizes else 1 for name in sharding.AXES]
  return jax.sharding.AbstractMesh(tuple(shape), sharding.AXES)


def specs(config, **sizes):
  found = sharding.parameter_specs(config, fake_mesh(**sizes))
  return {'/'.join(path): spec for path, spec in found.items()}


def test_a_dense_model():
  found = specs(dataclasses.replace(DENSE, vocab_size=38), fsdp=2, tensor=2)
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


@pytest.mark.parametrize('family', sorted(key_maps.TABLES))
def test_every_parameter_of_every_family_has_a_rule(family):
  config = family_models.config(family)
  assert len(specs(config)) == len(key_maps.leaf_shapes(config))


def test_the_rest_of_the_devices():
  (device,) = jax.devices()[:1]
  mesh = sharding.make_mesh({'tensor': 2, 'fsdp': -1}, [device] * 8)
  assert mesh.axis_names == ('data', 'fsdp', 'tensor', 'context', 'expert')
  assert mesh.devices.shape == (1, 4, 2, 1, 1)
  assert sharding.make_mesh({}, [device]).devices.size == 1


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
    sharding.make_mesh(sizes, jax.devices()[:1] * 8)
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
    return -transformer.token_logp(EXPERTS, params, hidden, targets)[0].mean()

  return loss(params)


def check(directory):
  """On 8 devices: what each mesh holds and computes, as JSON."""
  _, whole = huggingface.load(directory)
  expected, slopes = loss_and_gradient(whole)
  for sizes in MESHES:
    mesh = sharding.make_mesh(sizes)
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
  done = subprocess.run(
    [sys.executable, '-m', 'tests.sharding_test', tmp_path / 'model'],
    cwd=ROOT,
    env=os.environ
    | {
      'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
      'JAX_PLATFORMS': 'cpu',
    },
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
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
