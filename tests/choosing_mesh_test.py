"""What curricula ask of the policy, on meshes of eight fake devices."""

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


def test_features_and_gradients_are_those_of_one_device():
  done = eight_devices.run('tests.choosing_mesh_test')
  for distance in json.loads(done.stdout.splitlines()[-1]):
    assert distance < 2e-6


def main():
  """Prints the largest differences, one of each mesh."""
  config = tiny.make_config(
    vocab_size=64, d_model=32, attention='chunked', tie_embeddings=False
  )
  params = transformer.init_params(config, jax.random.key(0))
  ids = np.random.default_rng(0).integers(3, config.vocab_size, (8, 7))
  inputs = ids.astype(np.int32), np.arange(1, 9, dtype=np.int32) % 8
  inputs[1][-1] = 3
  segments = (np.arange(8) < np.arange(3, 11)[:, None]).astype(np.int32)
  rows = np.pad(inputs[0], ((0, 0), (0, 1))), segments, segments > 0
  want = np.asarray(programs.make_features(config)(params, *inputs))
  keys = {'temperature': 1.0, 'chunk': 16}
  norms = np.asarray(programs.make_gradients(config, **keys)(params, *rows))
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
    found = programs.make_gradients(config, mesh=devices, **keys)(
      placed, *sharding.put(rows, devices, PartitionSpec())
    )
    distances.append(float(np.abs(np.asarray(found) / norms - 1).max()))
  print(json.dumps(distances))


if __name__ == '__main__':
  main()
