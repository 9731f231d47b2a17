"""Every device gets its part of the parameters, and the host no more."""

import json
import math
import pathlib
import sys

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from lrm_jax.checkpoints import huggingface, placing
from tests import eight_devices
from tests.checkpoints import family_models

ROOT = pathlib.Path(__file__).parents[2]
FAMILIES = ('phi3', 'qwen3_moe', 'gemma3')


def spec(path):
  """Cuts of every kind: layers, experts, their rows, their columns."""
  if path[-1] == 'scale' or path[-1] == 'bias':
    return P() if path[0] == 'final_norm' else P('a')
  if path[-1] in ('embedding', 'head'):
    return P('a', 'b')
  if path[1] == 'experts':
    return P(None, 'b', 'a') if path[2] != 'router' else P()
  if path[-2] == 'down':
    return P('a', 'b')
  return P(None, 'a', 'b')


def check(directory):
  """Loads with shardings on 8 devices; returns what was seen, as JSON."""
  devices = np.array(jax.devices()).reshape(4, 2)
  mesh = jax.sharding.Mesh(devices, ('a', 'b'))
  sharding = lambda path: jax.sharding.NamedSharding(mesh, spec(path))
  config, whole = huggingface.load(directory)
  shapes, empty = [], placing.empty

  def recording(shape, dtype):
    shapes.append(tuple(shape))
    return empty(shape, dtype)

  placing.empty = recording
  _, found = huggingface.load(directory, sharding=sharding)
  tree = jax.tree.map(lambda leaf: leaf.sharding, found)
  _, again = huggingface.load(directory, sharding=tree)
  largest_cut = 0
  for (path, leaf), other, expected in zip(
    jax.tree.leaves_with_path(found),
    jax.tree.leaves(again),
    jax.tree.leaves(whole),
    strict=True,
  ):
    wanted = sharding(tuple(key.key for key in path))
    assert leaf.sharding == other.sharding == wanted
    assert {s.device for s in leaf.addressable_shards} == set(jax.devices())
    part = wanted.shard_shape(leaf.shape)
    largest_cut = max(largest_cut, math.prod(part))
    for array in (leaf, other):
      for shard in array.addressable_shards:
        assert shard.data.shape == part
        np.testing.assert_array_equal(shard.data, expected[shard.index])
  copy = directory.with_name(f'{directory.name}-copy')
  huggingface.save(copy, config, found, shard_bytes=20_000)
  for path in directory.iterdir():
    assert (copy / path.name).read_bytes() == path.read_bytes(), path.name
  return {
    'devices': len(jax.devices()),
    'largest_read': max(map(math.prod, shapes)),
    'largest_part': largest_cut,
    'largest_leaf': max(leaf.size for leaf in jax.tree.leaves(whole)),
    # Replicated: read once for all eight.
    'final_norm_reads': shapes.count(found['final_norm']['scale'].shape),
  }


@pytest.fixture(scope='module')
def directories(tmp_path_factory):
  folder = tmp_path_factory.mktemp('models')
  for family in FAMILIES:
    config = family_models.config(family)
    params = family_models.params(config)
    huggingface.save(folder / family, config, params, shard_bytes=20_000)
  return folder


def test_eight_devices_hold_their_parts_only(directories):
  done = eight_devices.run('tests.checkpoints.placing_test', directories)
  for line in done.stdout.splitlines():
    found = json.loads(line)
    assert found['devices'] == 8
    assert found['largest_read'] == found['largest_part']
    assert found['largest_read'] <= found['largest_leaf'] / 4
    # By each of the two loads.
    assert found['final_norm_reads'] == 2
  assert len(done.stdout.splitlines()) == len(FAMILIES)


def test_a_function_for_one_device(directories):
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  _, params = huggingface.load(directories / 'phi3', sharding=lambda path: here)
  assert all(leaf.sharding == here for leaf in jax.tree.leaves(params))


def test_trees_of_other_leaves_are_refused():
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  paths = [('a', 'b'), ('c',)]
  with pytest.raises(ValueError, match='c has no sharding'):
    placing.resolve({'a': {'b': here}}, paths)
  with pytest.raises(ValueError, match='a/d is not a leaf'):
    placing.resolve({'a': {'b': here, 'd': here}, 'c': here}, paths)
  assert placing.resolve({'a': {'b': here}, 'c': here}, paths) == dict.fromkeys(
    paths, here
  )


@pytest.mark.parametrize('shape', [(), (3,), (5, 7), (2, 3, 1)])
def test_memory_that_a_cpu_takes_over(shape):
  memory = placing.empty(shape, 'bfloat16')
  assert (memory.shape, str(memory.dtype)) == (shape, 'bfloat16')
  assert memory.ctypes.data % 64 == 0
  assert memory.flags.c_contiguous


if __name__ == '__main__':
  for family in FAMILIES:
    print(json.dumps(check(pathlib.Path(sys.argv[1]) / family)))
