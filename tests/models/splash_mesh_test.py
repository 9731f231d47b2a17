"""Splash attention whose rows, heads and places are on different devices."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from lrm_jax import mesh as mesh_lib
from lrm_jax.models import kernels
from tests import eight_devices

ROOT = pathlib.Path(__file__).parents[2]
# Of 8 devices.
MESHES = (
  {'fsdp': 2, 'tensor': 2, 'context': 2},
  {'data': 2, 'context': 4},
)


def check():
  """For each mesh the largest difference of the output and each gradient."""
  rng = np.random.default_rng(0)
  given = [rng.standard_normal((2, 512, n, 64), np.float32) for n in (4, 2, 2)]
  ids = np.sort(rng.integers(1, 4, (2, 512)).astype(np.int32), axis=1)

  def loss(*qkv):
    out = kernels.splash(*qkv, ids, scale=0.125, window=0, softcap=0.0)
    return jnp.sum(jnp.sin(out)), out

  def run(mesh, inputs):
    slopes = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    (_, out), found = jax.jit(mesh_lib.divided(mesh, slopes))(*inputs)
    return [np.asarray(x) for x in (out, *found)]

  expected = run(None, given)
  for sizes in MESHES:
    mesh = mesh_lib.make(sizes)
    rows = NamedSharding(mesh, mesh_lib.spec('rows'))
    found = run(mesh, jax.device_put(given, rows))
    pairs = zip(found, expected, strict=True)
    yield [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs]


def test_a_mesh_changes_nothing():
  done = eight_devices.run('tests.models.splash_mesh_test')
  found = [json.loads(line) for line in done.stdout.splitlines()]
  assert np.shape(found) == (len(MESHES), 4)
  assert np.max(found) <= 1e-5, found


if __name__ == '__main__':
  for errors in check():
    print(json.dumps(errors))
