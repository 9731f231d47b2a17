"""The mesh of devices, and which axes of arrays it divides.

  make({'fsdp': -1, 'tensor': 2})    -> a mesh of AXES
  with over(mesh): ...               programs traced here are divided by it
  constrain(x, 'rows', 'places', None)
  per_device(function, inputs, outputs)

Axes of arrays have names, and RULES gives a name the axes of the mesh that
divide it. Without a mesh, or on a mesh of one device, nothing here does
anything, and programs are what they are without it.

Lanes of a sampler have a mesh of their own, of LANE_AXES: `decode_sharding`
has what is whose there, and `collectives` what they tell each other.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from lrm_jax import errors
from lrm_jax.structs import Array

AXES = ('data', 'fsdp', 'tensor', 'context', 'expert')
LANE_AXES = ('lanes', 'tensor')

RULES: dict[str, tuple[str, ...]] = {
  # Of activations: rows of tokens and places in them.
  'rows': ('data', 'fsdp', 'expert'),
  'places': ('context',),
  # Of parameters, and of what is multiplied with them: they are divided over
  # fsdp, products with them over tensor; each expert is on the devices of one
  # index of the expert axis.
  'vocab': ('tensor',),
  'model': ('fsdp',),
  'heads': ('tensor',),
  'inner': ('tensor',),
  'experts': ('expert',),
  # Of what an optimizer keeps of a parameter: where that is whole on several
  # devices, each has a part of this.
  'model slots': ('fsdp', 'data'),
}

# Those that `per_device` cuts by hand; products over tensor are left to XLA.
BY_HAND = ('data', 'fsdp', 'context', 'expert')


def make(
  sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """A mesh over all devices.

  Args:
    sizes: devices along each of AXES, 1 where absent; one may be -1, which
      takes what the others leave.
    devices: None: all there are, of all processes.

  Raises:
    UserError: an unknown axis, a size that cannot be, or a product that is not
      the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  # Those of a process side by side: the last axes of the mesh stay within it.
  devices = sorted(devices, key=lambda each: (each.process_index, each.id))
  stated = ', '.join(f'{name}={size}' for name, size in sizes.items())
  unknown = [name for name in sizes if name not in AXES]
  if unknown:
    raise errors.UserError(
      f'mesh: {unknown[0]!r} is not one of {", ".join(AXES)}'
    )
  shape = [sizes[name] if name in sizes else 1 for name in AXES]
  if shape.count(-1) > 1 or any(n < 1 and n != -1 for n in shape):
    raise errors.UserError(
      f'mesh: {stated}; sizes are at least 1, and one of them may be -1'
    )
  known = math.prod(n for n in shape if n != -1)
  shape = [len(devices) // known if n == -1 else n for n in shape]
  if math.prod(shape) != len(devices):
    raise errors.UserError(
      f'mesh: {stated} is not for {len(devices)} devices; their product must '
      'be that number'
    )
  return Mesh(np.asarray(devices).reshape(shape), AXES)


@contextlib.contextmanager
def over(mesh: Mesh | None) -> Iterator[None]:
  """Programs that are traced inside are divided by the mesh.

  For the body of a jitted function: what it is compiled for is then a part of
  it, whatever thread or setting it is called from.
  """
  if mesh is None:
    yield
  else:
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      yield


def divided(
  mesh: Mesh | None, function: Callable[..., Any]
) -> Callable[..., Any]:
  """`function`, traced `over` the mesh."""

  @functools.wraps(function)
  def run(*args, **options):
    with over(mesh):
      return function(*args, **options)

  return run


def current() -> AbstractMesh | None:
  """The mesh that divides the program that is traced now, if one does."""
  mesh = jax.sharding.get_abstract_mesh()
  is_ours = mesh.axis_names == AXES
  return mesh if is_ours and mesh.size > 1 else None


def platform() -> str:
  """What the program that is traced now is for: 'cpu', 'gpu' or 'tpu'."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.abstract_device is None:
    return jax.default_backend()
  return _platform(mesh.abstract_device)


def platform_of(mesh: Mesh | None) -> str:
  """What programs on the mesh are for; without one, on the default device."""
  if mesh is None:
    return jax.default_backend()
  return _platform(mesh.devices.flat[0])


def _platform(device: Any) -> str:
  return 'gpu' if device.platform in ('cuda', 'rocm') else device.platform


def ways(name: str, mesh: Mesh | AbstractMesh) -> int:
  """In how many parts the mesh divides an axis of this name."""
  return math.prod(
    mesh.shape[axis] for axis in RULES[name] if axis in mesh.shape
  )


def spec(
  *names: str | None, mesh: Mesh | AbstractMesh | None = None
) -> PartitionSpec:
  """How axes of these names are divided; None is whole, as is no rule.

  Args:
    *names: of the axes of an array.
    mesh: for one that lacks some of AXES.
  """
  known = AXES if mesh is None else mesh.axis_names
  return PartitionSpec(*(_axes(name, known) for name in names))


def constrain(x: Array, *names: str | None) -> Array:
  """`x`, divided as its axes' names say, if there is a mesh.

  Raises:
    ValueError: an axis that is not a multiple of its parts.
  """
  mesh = current()
  if mesh is None:
    return x
  by_hand = set(mesh.manual_axes)
  kept = (
    name if name is None or not by_hand & set(RULES[name]) else None
    for name in names
  )
  return jax.lax.with_sharding_constraint(x, spec(*kept))


def per_device(
  function: Callable[..., Any],
  inputs: Sequence[tuple[str | None, ...]],
  outputs: Any,
) -> Callable[..., Any]:
  """`function`, on what each device has of its arguments.

  Arguments are cut along the axes of BY_HAND only; what is not cut is brought
  together first, and the gradient of that is summed up once, behind the
  function. Without a mesh it is the function itself.

  Args:
    function: of arrays or trees; it must not need what others have.
    inputs: names of the axes of each argument, `()` for one that is whole.
    outputs: likewise, a tree of them.
  """
  if current() is None:
    return function
  is_names = lambda x: (
    isinstance(x, tuple)
    and all(name is None or isinstance(name, str) for name in x)
  )
  cut = lambda tree: jax.tree.map(
    lambda names: spec(*map(_by_hand, names)), tree, is_leaf=is_names
  )
  return jax.shard_map(
    function,
    in_specs=tuple(cut(names) for names in inputs),
    out_specs=cut(outputs),
    axis_names=set(BY_HAND),
    check_vma=False,
  )


def whole(x: Array, *names: str | None) -> Array:
  """An argument of `per_device` that it has cut, brought together inside it.

  The gradient is summed up where it is cut again, so that no device adds up
  all of it.

  Args:
    x: what a device has of it.
    names: of its axes, as `per_device` was told them.
  """
  if current() is None:
    return x
  for axis, name in enumerate(names):
    if _by_hand(name) is not None:
      x = jax.lax.all_gather(x, RULES[name], axis=axis, tiled=True)
  return x


def hands() -> int:
  """On how many parts of the work `per_device` is at work, from inside it."""
  mesh = current()
  if mesh is None:
    return 1
  return math.prod(mesh.shape[name] for name in mesh.manual_axes)


def _by_hand(name: str | None) -> str | None:
  is_cut = name is not None and set(RULES[name]) <= set(BY_HAND)
  return name if is_cut else None


def _axes(
  name: str | None, known: Sequence[str]
) -> str | tuple[str, ...] | None:
  if name is None or name not in RULES:
    return None
  axes = tuple(axis for axis in RULES[name] if axis in known)
  if not axes:
    return None
  return axes[0] if len(axes) == 1 else axes
