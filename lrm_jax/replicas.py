"""Copies of one array on several devices: whether they are the same bits.

  sums(tree, mesh)        [devices, arrays] of sums over bit patterns
  differing(tree, mesh)   names of arrays whose copies are not all alike

Devices that hold the same part of an array hold copies; what one alone holds is
compared with nothing. No array leaves its device, only a number for each.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from lrm_jax import distributed
from lrm_jax.structs import Array


def bit_sum(x: Array) -> Array:
  """The sum of all bit patterns, modulo 2^32; in any order the same."""
  if x.dtype == jnp.bool_:
    x = x.astype(jnp.uint8)
  unsigned = jnp.dtype(f'uint{8 * x.dtype.itemsize}')
  words = jax.lax.bitcast_convert_type(x, unsigned)
  return jnp.sum(words.astype(jnp.uint32), dtype=jnp.uint32)


def sums(tree: Any, mesh: Mesh) -> np.ndarray:
  """`bit_sum` of what each device holds, `[devices, arrays]` uint32.

  Args:
    tree: arrays on the mesh.
    mesh: devices are in its order.
  """
  leaves = jax.tree.leaves(tree)
  table = jax.shard_map(
    lambda *parts: jnp.stack([bit_sum(x) for x in parts])[None],
    mesh=mesh,
    in_specs=tuple(x.sharding.spec for x in leaves),
    out_specs=PartitionSpec(mesh.axis_names),
    check_vma=False,
  )
  return np.asarray(distributed.whole(jax.jit(table)(*leaves)))


def differing(tree: Any, mesh: Mesh) -> list[str]:
  """Names of the arrays that are not the same on devices that should agree."""
  table, found = sums(tree, mesh), []
  paths = jax.tree_util.tree_leaves_with_path(tree)
  for column, (path, x) in enumerate(paths):
    held: dict[str, set[int]] = {}
    places = x.sharding.devices_indices_map(x.shape)
    for row, device in enumerate(mesh.devices.flat):
      part = held.setdefault(str(places[device]), set())
      part.add(int(table[row, column]))
    if any(len(values) > 1 for values in held.values()):
      found.append(jax.tree_util.keystr(path, simple=True, separator='/'))
  return found
