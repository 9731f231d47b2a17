"""Copies of one array on several devices: whether they are the same bits.

  sums(arrays, mesh)      [devices, arrays, 2], those of `checksum.py`
  differing(tree, mesh)   names of arrays whose copies are not all alike

Devices that hold the same part of an array hold copies; what one alone holds is
compared with nothing, and not read. No array leaves its device, only two
numbers for each. The place of an element enters the sums, so that neither two
elements that are exchanged nor two bits that turn opposite ways go unseen.

What lies in the memory of the host comes to the devices one array at a time.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from lrm_jax import checksum, distributed


def sums(arrays: Sequence[jax.Array], mesh: Mesh) -> np.ndarray:
  """`checksum.pair` of what each device holds, `[devices, arrays, 2]` uint32.

  Args:
    arrays: on the mesh, at least one.
    mesh: devices are in its order.
  """
  if any(checksum.is_off_device(x) for x in arrays):
    return np.concatenate(
      [_table([checksum.on_device(x)], mesh) for x in arrays], axis=1
    )
  return _table(arrays, mesh)


def differing(tree: Any, mesh: Mesh) -> list[str]:
  """Names of the arrays that are not the same on devices that should agree."""
  copied = [
    (path, x)
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
    if len(set(_places(x).values())) < mesh.size
  ]
  if not copied:
    return []
  table, found = sums([x for _, x in copied], mesh), []
  for column, (path, x) in enumerate(copied):
    places, held = _places(x), {}
    for row, device in enumerate(mesh.devices.flat):
      part = held.setdefault(places[device], set())
      part.add(tuple(table[row, column].tolist()))
    if any(len(values) > 1 for values in held.values()):
      found.append(jax.tree_util.keystr(path, simple=True, separator='/'))
  return found


def _places(x: jax.Array) -> dict[jax.Device, str]:
  """Which part of an array each device holds."""
  places = x.sharding.devices_indices_map(x.shape)
  return {device: str(index) for device, index in places.items()}


def _table(arrays: Sequence[jax.Array], mesh: Mesh) -> np.ndarray:
  specs = tuple(x.sharding.spec for x in arrays)
  return np.asarray(distributed.whole(_program(mesh, specs)(*arrays)))


@functools.cache
def _program(mesh: Mesh, specs: tuple[PartitionSpec, ...]) -> Any:
  """Kept, so that a second look compiles nothing."""
  table = jax.shard_map(
    lambda *parts: jnp.stack([checksum.pair(x) for x in parts])[None],
    mesh=mesh,
    in_specs=specs,
    out_specs=PartitionSpec(mesh.axis_names),
    check_vma=False,
  )
  return jax.jit(table)
