"""Parts of a run that lie in the memory of the host between updates.

  check(config, recipe)       refuses what cannot be
  shardings(tree, divided)    where the arrays of a part lie there
  fetch(tree), store(tree)    in programs: to the device, and back

The update brings a part to the device when it needs it, and not before: a
program is told by its arguments what lies where.
"""

import functools
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh

from lrm_jax import mesh as mesh_lib
from lrm_jax.errors import UserError
from lrm_jax.objectives.recipe import Recipe

PARTS = ('optimizer', 'reference')
# The kind of memory, as backends call it.
HOST = 'pinned_host'


def check(
  config: ml_collections.ConfigDict,
  recipe: Recipe,
  device: jax.Device | None = None,
) -> None:
  """Refuses parts that there are not, and devices without such a memory.

  Args:
    config: `train.offload` and `lora.rank` are read.
    recipe: may need no reference.
    device: one of those of the run; None: of this process.

  Raises:
    UserError: it cannot be.
  """
  parts = config.train.offload
  stated = f'train.offload={tuple(parts)}'
  for part in parts:
    if part not in PARTS:
      raise UserError(f'{stated}: {part!r} is not one of {", ".join(PARTS)}')
  if 'reference' in parts and config.lora.rank:
    raise UserError(
      f'{stated} with lora.rank={config.lora.rank}: the reference is the '
      "policy's own base, which sampling needs; leave 'reference' out"
    )
  if 'reference' in parts and not recipe.needs_reference:
    raise UserError(
      f"{stated}: the recipe looks at no reference; leave 'reference' out"
    )
  if not parts:
    return
  if device is None:
    device = jax.local_devices()[0]
  kinds = [memory.kind for memory in device.addressable_memories()]
  if HOST not in kinds:
    raise UserError(
      f'{stated}: {device.device_kind} has no memory {HOST!r} (it has '
      f'{", ".join(kinds)}); set train.offload=()'
    )


def shardings(tree: Any, divided: Any) -> Any:
  """Where the arrays of a part lie in the memory of the host.

  Args:
    tree: arrays or their shapes; numbers, such as counts, stay on the device.
    divided: a tree like it, of shardings on a mesh.
  """
  return jax.tree.map(
    lambda x, where: where.with_memory_kind(HOST) if x.ndim else where,
    tree,
    divided,
  )


@functools.cache
def one_device() -> Mesh:
  """The default device as a mesh.

  Of shapes with a `SingleDeviceSharding` jax does not look at the memory.
  """
  return mesh_lib.make({}, jax.devices()[:1])


def is_host(x: Any) -> bool:
  """Whether an array, or one that is traced, is in the memory of the host."""
  return jax.typeof(x).memory_space == jax.memory.Space.Host


def fetch(tree: Any) -> Any:
  """All of it on the device; for programs that are traced."""
  return jax.tree.map(
    lambda x: jax.device_put(x, jax.memory.Space.Device) if is_host(x) else x,
    tree,
  )


def store(tree: Any, like: Any) -> Any:
  """Each array where that of `like` is; for programs that are traced."""
  return jax.tree.map(
    lambda x, other: (
      jax.device_put(x, jax.memory.Space.Host) if is_host(other) else x
    ),
    tree,
    like,
  )
