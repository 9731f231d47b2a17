"""Hidden states of prompts on meshes of eight fake devices."""

import json

import jax
import numpy as np
from jax.sharding import PartitionSpec

from lrm_jax import mesh, programs, sharding
from lrm_jax.models import transformer
from tests import eight_devices
from tests.models import tiny

# Seven places for two devices, eight rows for four or eight.
MESHES = (
  {'data': 1, 'fsdp': 8},
  {'data': 2, 'fsdp': 1, 'tensor': 2, 'context': 2},
)


def test_features_are_those_of_one_device():
  done = eight_devices.run('tests.choosing_mesh_test')
  for distance in json.loads(done.stdout.splitlines()[-1]):
    assert distance < 1e-6


def main():
  """Prints the largest differences, one of each mesh."""
  config = tiny.make_config(n_heads=4, n_kv_heads=2, vocab_size=64, d_model=32)
  params = transformer.init_params(config, jax.random.key(0))
  ids = np.random.default_rng(0).integers(3, config.vocab_size, (8, 7))
  inputs = ids.astype(np.int32), np.arange(1, 9, dtype=np.int32) % 8
  inputs[1][-1] = 3
  want = np.asarray(programs.make_features(config)(params, *inputs))
  distances = []
  for sizes in MESHES:
    axes = {'data': 1, 'fsdp': 1, 'tensor': 1, 'context': 1, 'expert': 1}
    devices = mesh.make(axes | sizes)
    placed = jax.device_put(
      params, sharding.parameter_shardings(config, devices)
    )
    found = programs.make_features(config, devices)(
      placed, *sharding.put(inputs, devices, PartitionSpec())
    )
    distances.append(float(np.abs(np.asarray(found) - want).max()))
  print(json.dumps(distances))


if __name__ == '__main__':
  main()
