"""The embedding on a mesh: what is looked up stays divided by rows."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax import mesh as mesh_lib
from lrm_jax import sharding
from lrm_jax.models import output_head, transformer
from tests import eight_devices
from tests.models import tiny

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = tiny.make_config(vocab_size=40, d_model=32, tie_embeddings=False)
# Of 8 devices.
MESHES = ({'fsdp': 4, 'tensor': 2}, {'data': 2, 'fsdp': 2, 'tensor': 2})


def loss_and_gradient(mesh, params, rows):
  at = np.broadcast_to(np.arange(rows.shape[1], dtype=np.int32), rows.shape)

  def loss(params, rows):
    hidden, _ = transformer.apply(CONFIG, params, rows, at, np.ones_like(at))
    targets = jnp.roll(rows, -1, axis=-1)
    return -output_head.token_logp(CONFIG, params, hidden, targets)[0].mean()

  def run(params, rows):
    value, slopes = jax.value_and_grad(loss)(params, rows)
    return value, sharding.constrain(slopes)

  return jax.jit(mesh_lib.divided(mesh, run))(params, rows)


def check():
  """For each mesh, gaps of the loss and of the gradient to one device."""
  params = tiny.make_params(CONFIG)
  rows = np.random.default_rng(0).integers(0, 40, (8, 12)).astype(np.int32)
  expected, slopes = loss_and_gradient(None, params, rows)
  for sizes in MESHES:
    mesh = mesh_lib.make(sizes)
    found, gradient = loss_and_gradient(
      mesh,
      jax.device_put(params, sharding.parameter_shardings(CONFIG, mesh)),
      sharding.put(rows, mesh, sharding.ROWS),
    )
    gaps = jax.tree.map(
      lambda a, b: np.abs(np.asarray(a) - b).max() / np.abs(b).max(),
      gradient,
      slopes,
    )
    yield [abs(float(found - expected)), float(max(jax.tree.leaves(gaps)))]


def test_nothing_is_brought_together_in_vain():
  """XLA says so where it finds no better way than to make an array whole."""
  done = eight_devices.run(
    'tests.models.embedding_mesh_test',
    # What is found there is not compiled, and nothing is said.
    JAX_ENABLE_COMPILATION_CACHE='false',
  )
  found = [json.loads(line) for line in done.stdout.splitlines()]
  assert np.shape(found) == (len(MESHES), 2)
  assert np.max(found) <= 1e-5, found
  assert 'rematerialization' not in done.stderr


if __name__ == '__main__':
  for gaps in check():
    print(json.dumps(gaps))
