"""Where parameters go: each device gets its part, and no host more than that.

  Sharding   None, `keys of a leaf -> jax.sharding.Sharding`, or a tree of them

Without one, parameters are arrays on the default device.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

Path = tuple[str, ...]
# (start, stop) on each axis.
Index = tuple[tuple[int, int], ...]
Sharding = Callable[[Path], jax.sharding.Sharding] | Any

# What XLA asks of memory that it is to use as it is.
_ALIGNMENT = 64


def resolve(
  sharding: Sharding, paths: Iterable[Path]
) -> dict[Path, jax.sharding.Sharding | None]:
  """The sharding of every leaf; None for the default device.

  Raises:
    ValueError: a tree of shardings has other leaves than these.
  """
  paths = tuple(paths)
  if sharding is None:
    return dict.fromkeys(paths)
  if callable(sharding):
    return {path: sharding(path) for path in paths}
  is_sharding = lambda node: isinstance(node, jax.sharding.Sharding)
  leaves = jax.tree_util.tree_leaves_with_path(sharding, is_leaf=is_sharding)
  found = {tuple(str(key.key) for key in path): leaf for path, leaf in leaves}
  for path in sorted(found.keys() ^ set(paths)):
    where = 'is not a leaf' if path in found else 'has no sharding'
    raise ValueError(
      f'{"/".join(path)} {where}; give a tree with one for each parameter'
    )
  return found


def place(
  shape: tuple[int, ...],
  sharding: jax.sharding.Sharding | None,
  read: Callable[[Index], np.ndarray],
) -> jax.Array:
  """An array whose parts are read one by one, each for its devices.

  Args:
    shape: of the whole array.
    sharding: None for the default device.
    read: -> a part of it, in memory of `empty` that nobody touches any more.
  """
  if sharding is None:
    whole = tuple((0, size) for size in shape)
    return jax.block_until_ready(jax.device_put(read(whole)))
  devices = sharding.addressable_devices_indices_map(shape)
  holders: dict[Index, list[jax.Device]] = {}
  for device, index in devices.items():
    bounds = tuple(
      part.indices(size)[:2] for part, size in zip(index, shape, strict=True)
    )
    holders.setdefault(bounds, []).append(device)
  parts = {}
  for index, group in holders.items():
    block = read(index)
    for device in group:
      here = jax.sharding.SingleDeviceSharding(
        device, memory_kind=sharding.memory_kind
      )
      parts[device] = jax.device_put(block, here)
    # Only now may the host forget the block.
    jax.block_until_ready([parts[device] for device in group])
  return jax.make_array_from_single_device_arrays(
    shape, sharding, [parts[device] for device in devices]
  )


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
  """Memory that a CPU device takes over as it is, without a copy."""
  size = math.prod(shape) * np.dtype(dtype).itemsize
  memory = np.empty(size + _ALIGNMENT, np.uint8)
  start = -memory.ctypes.data % _ALIGNMENT
  return memory[start : start + size].view(dtype).reshape(shape)
