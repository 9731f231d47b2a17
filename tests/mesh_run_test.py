"""Three RL steps on meshes: the same samples, losses and parameters."""

import json
import pathlib

import numpy as np
import pytest

from lrm_jax import jsonl
from lrm_jax.checkpoints import huggingface, key_maps
from tests import mesh_run

# The loss of each is of another kind; what is divided is the same.
METHODS = (
  'dler',
  pytest.param('grpo', marks=pytest.mark.long),
  pytest.param('drpo', marks=pytest.mark.long),
)
# Metrics of every step, none of them near 0.
EQUAL = (
  'grad_norm',
  'entropy',
  'reward',
  'accuracy',
  'response_tokens',
  'trained_tokens',
  'sampled_tokens',
)
# Of 8 devices.
MESHES = {
  'data': {'data': 8, 'fsdp': 1},
  'fsdp': {'fsdp': 8},
  'zero': {'data': 2, 'fsdp': 4},
  'tensor': {'fsdp': 4, 'tensor': 2},
  'context': {'data': 2, 'fsdp': 1, 'tensor': 2, 'context': 2},
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('meshes')
  mesh_run.write_model(path / 'model')
  return path


@pytest.fixture(scope='module', params=METHODS)
def method(request):
  return request.param


def job(folder: pathlib.Path, method: str, name: str, **changes) -> dict:
  return {
    'method': method,
    'mesh': {},
    'tensor': 1,
    'steps': 3,
    'model': str(folder / 'model'),
    'changes': {},
    'workdir': str(folder / method / name),
  } | changes


@pytest.fixture(scope='module')
def alone(folder, method):
  """On one device."""
  mesh_run.run([job(folder, method, 'alone')], folder, devices=1)
  return found(folder / method / 'alone')


def found(workdir: pathlib.Path) -> tuple[dict, list, list]:
  """Parameters, metrics and samples of a run."""
  with np.load(workdir / 'params.npz') as stored:
    params = dict(stored)
  samples = [
    jsonl.read_rows(path)
    for path in sorted((workdir / 'rollouts').glob('*.jsonl.gz'))
  ]
  return params, jsonl.read_rows(workdir / 'metrics.jsonl'), samples


def starting_params(folder: pathlib.Path) -> dict:
  _, tree = huggingface.load(folder / 'model')
  return {
    '/'.join(path): np.asarray(leaf) for path, leaf in key_maps.flatten(tree)
  }


def assert_same(workdir, expected):
  params, rows, samples = found(workdir)
  own_params, own_rows, own_samples = expected
  assert len(samples) == len(own_samples) == 3
  for mine, other in zip(sum(samples, []), sum(own_samples, []), strict=True):
    for name in ('id', 'sample', 'response_ids', 'correct', 'reward'):
      assert mine[name] == other[name]
    np.testing.assert_allclose(mine['logp'], other['logp'], atol=1e-5)
  for row, other in zip(rows, own_rows, strict=True):
    # On policy the loss of a method with centred advantages is rounding, and
    # equal to anything: its gradient is what shows a mistake.
    assert row['loss'] == pytest.approx(other['loss'], rel=1e-5, abs=1e-6)
    for name in EQUAL:
      assert other[name] > 0, name
      assert row[name] == pytest.approx(other[name], rel=1e-5), name
    # Means of differences of 1e-4 and more, where there are any.
    assert row['kl'] == pytest.approx(other['kl'], rel=1e-5, abs=2e-7)
  assert params.keys() == own_params.keys()
  before = starting_params(workdir.parents[1])
  for name, leaf in own_params.items():
    gap = np.linalg.norm(params[name] - leaf) / np.linalg.norm(leaf)
    moved = np.linalg.norm(leaf - before[name]) / np.linalg.norm(leaf)
    assert gap <= 1e-5 < 1e-4 < moved, (name, gap, moved)


@pytest.fixture(scope='module')
def divided(folder, method, alone):
  jobs = [job(folder, method, name, mesh=mesh) for name, mesh in MESHES.items()]
  # Lanes of two devices.
  jobs.append(job(folder, method, 'shared', mesh=MESHES['tensor'], tensor=2))
  mesh_run.run(jobs, folder, devices=8)


@pytest.mark.slow
@pytest.mark.parametrize('mesh', MESHES)
def test_five_meshes(mesh, folder, method, divided, alone):
  assert_same(folder / method / mesh, alone)


@pytest.mark.slow
def test_devices_that_share_a_lane(folder, method, divided, alone):
  assert_same(folder / method / 'shared', alone)


@pytest.mark.slow
def test_two_processes(folder, method, alone):
  """Real ones, that meet over a port of this machine; four devices each."""
  mesh = {'data': 2, 'fsdp': 2, 'tensor': 2}
  # Of one method the devices share lanes, each process its own.
  tensor = 1 + (method == 'dler')
  mesh_run.run(
    [job(folder, method, 'two', mesh=mesh, tensor=tensor)],
    folder,
    devices=4,
    processes=2,
  )
  assert_same(folder / method / 'two', alone)


@pytest.mark.slow
def test_saved_on_one_mesh_and_resumed_on_another(folder, method, alone):
  before = job(folder, method, 'moved', mesh=MESHES['tensor'], steps=2)
  mesh_run.run(
    [before, before | {'mesh': MESHES['zero'], 'steps': 3}], folder, devices=8
  )
  workdir = folder / method / 'moved'
  assert_same(workdir, alone)
  config = json.loads((workdir / 'config.json').read_text())['config']
  assert config['mesh']['data'] == 2


def test_the_model_of_these_runs_is_the_tiny_lrm(folder):
  """Its second key/value head changes nothing."""
  config = json.loads((folder / 'model' / 'config.json').read_text())
  assert config['num_key_value_heads'] == 2
