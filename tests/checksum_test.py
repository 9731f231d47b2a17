"""The checksum of parameters: no bit is missed, no mesh is seen."""

import hashlib
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lrm_jax import checksum
from tests import eight_devices


def mix(x):
  """MurmurHash3's end, in Python's integers."""
  x ^= x >> 16
  x = x * 0x85EBCA6B % 2**32
  x ^= x >> 13
  x = x * 0xC2B2AE35 % 2**32
  return x ^ (x >> 16)


def draw(dtype, *shape):
  return np.random.default_rng(0).normal(size=shape).astype(dtype)


def test_as_the_formula_says():
  # 1.0 is 0x3F800000 and -2.0 is 0xC0000000; places 0 and 1.
  words = [0x3F800000, (0xC0000000 + 0x9E3779B9) % 2**32]
  pair = [sum(mix((w + k) % 2**32) for w in words) % 2**32 for k in (0, 1)]
  row = ['a/b', [1, 2], 'float32', pair]
  expected = hashlib.sha256(json.dumps([row]).encode()).hexdigest()
  tree = {'a': {'b': jnp.array([[1.0, -2.0]])}}
  assert checksum.of_params(tree) == expected


@pytest.mark.parametrize('dtype', ['float32', 'float16', 'bfloat16', 'int8'])
def test_any_single_bit_shows(dtype):
  kind = {'bfloat16': ml_dtypes.bfloat16}.get(dtype, dtype)
  leaf = (3 * draw(np.float32, 2, 3)).astype(kind)
  seen = {checksum.of_params({'x': leaf})}
  for bit in range(8 * leaf.nbytes):
    raw = bytearray(leaf.tobytes())
    raw[bit // 8] ^= 1 << bit % 8
    changed = np.frombuffer(bytes(raw), kind).reshape(leaf.shape)
    seen.add(checksum.of_params({'x': changed}))
  assert len(seen) == 1 + 8 * leaf.nbytes


def test_order_names_shapes_and_types_show():
  x = draw(np.float32, 4, 2)
  trees = [
    {'x': x},
    {'y': x},
    {'x': x[::-1]},
    {'x': x.T},
    {'x': x.reshape(2, 4)},
    {'x': x.view(np.int32)},
    {'x': x, 'y': x},
    {'x': x, 'z': x},
    {},
  ]
  assert len({checksum.of_params(tree) for tree in trees}) == len(trees)


def test_zero_and_its_negative_differ_and_nan_is_itself():
  found = [checksum.of_params({'x': np.float32([v])}) for v in (0.0, -0.0)]
  assert found[0] != found[1]
  nan = {'x': np.float32([np.nan])}
  assert checksum.of_params(nan) == checksum.of_params(nan)


# --- A mesh; here in a process of its own ---


def tree():
  return {'a': draw(np.float32, 8, 4), 'b': draw(np.float32, 16)}


def test_a_mesh_does_not_show():
  done = eight_devices.run('tests.checksum_test')
  expected = checksum.of_params(tree())
  assert checksum.of_params(jax.tree.map(jnp.asarray, tree())) == expected
  assert done.stdout.split() == [expected] * 3


if __name__ == '__main__':
  mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ('x', 'y'))
  for spec in (('x',), ('y',), (('y', 'x'),)):
    where = NamedSharding(mesh, PartitionSpec(*spec))
    print(checksum.of_params(jax.device_put(tree(), where)))
