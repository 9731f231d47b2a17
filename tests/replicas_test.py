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
  'whole': (np.arange(15, dtype=np.float32).reshape(3, 5), ()),
}
CASES = {'none': [], 'one': ['whole'], 'two': ['divided', 'small']}
DAMAGES = ('turn', 'exchange', 'cancel')


def turn(part):
  """One other bit."""
  part[-1] ^= 1


def exchange(part):
  """Two elements have changed places."""
  part[[0, 1]] = part[[1, 0]]


def cancel(part):
  """Two bits turn opposite ways: the sum of all patterns is what it was."""
  total = part.sum(dtype=np.uint64)
  part[0] += 1
  part[1] -= 1
  assert part.sum(dtype=np.uint64) == total


def place(name, mesh, damage):
  """An array on the mesh; the copy on the last device may be damaged."""
  values, spec = ARRAYS[name]
  where = NamedSharding(mesh, PartitionSpec(*spec))
  parts = []
  for device, index in where.addressable_devices_indices_map(
    values.shape
  ).items():
    part = np.array(values[index])
    if damage is not None and device == mesh.devices.flat[-1]:
      damage(part.view(f'uint{8 * part.itemsize}').reshape(-1))
    parts.append(jax.device_put(part, device))
  return jax.make_array_from_single_device_arrays(values.shape, where, parts)


def find() -> dict[str, list[str]]:
  """Names of the arrays that differ, by case; the devices are a 2 x 4 mesh."""
  mesh = mesh_lib.make({'data': 2, 'fsdp': 4})
  alone = mesh_lib.make({'fsdp': 8})
  return {
    f'{case}, {name}': replicas.differing(
      {
        each: place(each, mesh, globals()[name] if each in broken else None)
        for each in ARRAYS
      },
      mesh,
    )
    for case, broken in CASES.items()
    for name in DAMAGES
  } | {
    # Nobody has a copy of it, so nobody can tell.
    'alone': replicas.differing(
      {'divided': place('divided', alone, turn)}, alone
    )
  }


EXPECTED = {
  f'{case}, {name}': broken
  for case, broken in CASES.items()
  for name in DAMAGES
} | {'alone': []}


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
    assert json.loads(out.splitlines()[-1]) == EXPECTED


class Built:
  """What a look at the weights reads of an experiment."""

  mesh, frozen, ref_params = 'a mesh', 'base', 'reference'
  state = type('State', (), {'params': 'policy', 'opt_state': 'slots'})


def test_all_that_a_run_holds_is_compared(monkeypatch):
  seen = []
  monkeypatch.setattr(
    replicas, 'differing', lambda tree, _: seen.append(tree) or []
  )
  sentinels.check_weights(Built, 4)
  whole = {'trained': 'policy', 'optimizer': 'slots', 'frozen': 'base'}
  assert seen == [whole | {'reference': 'reference'}]
  # Adapters stand on the reference: it is looked at once.
  adapters = type('Adapters', (Built,), {'ref_params': Built.frozen})
  sentinels.check_weights(adapters, 4)
  assert seen[1] == whole


def test_what_a_run_says(monkeypatch):
  monkeypatch.setattr(replicas, 'differing', lambda *_: ['trained/head'])
  with pytest.raises(errors.CheckFailed) as failed:
    sentinels.check_weights(Built, 4)
  message = str(failed.value)
  assert message.startswith('step 4: copies of trained/head (1 arrays)')
  assert 'differ between devices; a device or a link is broken' in message


if __name__ == '__main__':
  distributed.initialize()
  print(json.dumps(find()))
