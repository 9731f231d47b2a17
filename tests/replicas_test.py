"""Copies on several devices and processes: one other bit is found.

python -m tests.replicas_test     what it finds, as JSON
"""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lrm_jax import distributed, errors, replicas, sentinels
from lrm_jax import mesh as mesh_lib
from tests import mesh_run

ROOT = pathlib.Path(__file__).parents[1]
# {name: (values, how they are divided)}
ARRAYS = {
  'divided': (np.arange(32, dtype=np.float32).reshape(8, 4), ('fsdp', None)),
  'small': (np.linspace(-1, 1, 8, dtype=np.float32).astype(jnp.bfloat16), ()),
  'whole': (np.ones((3, 5), np.float32), ()),
}
CASES = {'none': [], 'one': ['whole'], 'two': ['divided', 'small']}


def place(name, mesh, is_broken):
  """An array on the mesh; one bit of the copy on the last device may differ."""
  values, spec = ARRAYS[name]
  where = NamedSharding(mesh, PartitionSpec(*spec))
  parts = []
  for device, index in where.addressable_devices_indices_map(
    values.shape
  ).items():
    part = np.array(values[index])
    if is_broken and device == mesh.devices.flat[-1]:
      bits = part.view(f'uint{8 * part.itemsize}').reshape(-1)
      bits[-1] ^= 1
    parts.append(jax.device_put(part, device))
  return jax.make_array_from_single_device_arrays(values.shape, where, parts)


def find() -> dict[str, list[str]]:
  """Names of the arrays that differ, by case; the devices are a 2 x 4 mesh."""
  mesh = mesh_lib.make({'data': 2, 'fsdp': 4})
  return {
    case: replicas.differing(
      {name: place(name, mesh, name in broken) for name in ARRAYS}, mesh
    )
    for case, broken in CASES.items()
  }


@pytest.mark.parametrize('processes', [1, 2])
def test_one_bit_of_one_copy(processes):
  """Each process finds the same, wherever the bad copy is."""
  environment = os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': f'--xla_force_host_platform_device_count={8 // processes}',
  }
  if processes > 1:
    environment |= {
      distributed.COORDINATOR: mesh_run.free_address(),
      distributed.COUNT: str(processes),
      distributed.START_TIMEOUT: '60',
    }
  running = [
    subprocess.Popen(
      [sys.executable, '-m', 'tests.replicas_test'],
      cwd=ROOT,
      env=environment
      | ({distributed.INDEX: str(index)} if processes > 1 else {}),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(processes)
  ]
  said = [each.communicate() for each in running]
  for each, (out, error) in zip(running, said, strict=True):
    assert each.returncode == 0, error
    assert json.loads(out.splitlines()[-1]) == CASES


def test_bit_sums_by_hand():
  assert int(replicas.bit_sum(jnp.float32([1.0, 2.0]))) == (
    0x3F800000 + 0x40000000
  )
  assert int(replicas.bit_sum(jnp.bfloat16([1.0, -1.0]))) == 0x3F80 + 0xBF80
  assert int(replicas.bit_sum(jnp.array([True, False, True]))) == 2
  assert int(replicas.bit_sum(jnp.full(2, -1, jnp.int32))) == 0xFFFFFFFE


def test_what_a_run_says(monkeypatch):
  monkeypatch.setattr(replicas, 'differing', lambda *_: ['trained/head'])

  class Built:
    mesh, frozen = 'a mesh', None
    state = type('State', (), {'params': {}})

  with pytest.raises(errors.CheckFailed) as failed:
    sentinels.check_weights(Built, 4)
  message = str(failed.value)
  assert message.startswith('step 4: copies of trained/head (1 arrays)')
  assert 'differ between devices; a device or a link is broken' in message


if __name__ == '__main__':
  distributed.initialize()
  print(json.dumps(find()))
