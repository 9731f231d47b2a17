"""Meshes, and the rules that say which part of an array a device holds.

  make_mesh({'fsdp': -1, 'tensor': 2})  -> a mesh of AXES
  parameter_specs(config, mesh)         -> {keys of a leaf: PartitionSpec}
  parameter_shardings(config, mesh)     -> what `huggingface.load` takes

PARAMETERS names the axes of every parameter, RULES gives those names to axes of
the mesh. A name without a rule is not divided.
"""

import fnmatch
import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lrm_jax import errors
from lrm_jax.checkpoints import key_maps
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import Params

AXES = ('data', 'fsdp', 'tensor', 'context', 'expert')

# Parameters are divided over fsdp, and products with them over tensor; each
# expert is on the devices of one index of the expert axis.
RULES: dict[str, str] = {
  'vocab': 'tensor',
  'model': 'fsdp',
  'heads': 'tensor',
  'inner': 'tensor',
  'experts': 'expert',
}

# Patterns of leaves, the first that fits counts. `layers` and what has no rule
# stays whole: norms and biases are small.
PARAMETERS: dict[str, tuple[str, ...]] = {
  'embedding': ('vocab', 'model'),
  'head': ('model', 'vocab'),
  'position_bias': ('buckets', 'heads'),
  'final_norm/scale': ('width',),
  'layers/attention/[qkv]_norm/scale': ('layers', 'width'),
  'layers/*_norm/scale': ('layers', 'width'),
  'layers/attention/[qkv]/kernel': ('layers', 'model', 'heads'),
  'layers/attention/[qkv]/bias': ('layers', 'heads'),
  'layers/attention/o/kernel': ('layers', 'heads', 'model'),
  'layers/mlp/gate/kernel': ('layers', 'model', 'inner'),
  'layers/mlp/up/kernel': ('layers', 'model', 'inner'),
  'layers/mlp/down/kernel': ('layers', 'inner', 'model'),
  'layers/experts/router/kernel': ('layers', 'model', 'choices'),
  'layers/experts/gate': ('layers', 'experts', 'model', 'inner'),
  'layers/experts/up': ('layers', 'experts', 'model', 'inner'),
  'layers/experts/down': ('layers', 'experts', 'inner', 'model'),
}


def make_mesh(
  sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """A mesh over all devices.

  Args:
    sizes: devices along each of AXES, 1 where absent; one may be -1, which
      takes what the others leave.
    devices: None: all there are.

  Raises:
    UserError: an unknown axis, a size that cannot be, or a product that is not
      the number of devices.
  """
  devices = jax.devices() if devices is None else devices
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


def parameter_specs(
  config: ModelConfig, mesh: Mesh
) -> dict[tuple[str, ...], PartitionSpec]:
  """{keys of a leaf: how the mesh divides it}.

  Raises:
    UserError: an axis of a parameter that its axis of the mesh does not divide,
      or heads that would be cut.
  """
  for name, count in (
    ('n_heads', config.n_heads),
    ('n_kv_heads', config.n_kv_heads),
  ):
    _check_divides(f'model: {name}={count}', count, RULES['heads'], mesh)
  return {
    path: _spec('/'.join(path), shape, mesh)
    for path, shape in key_maps.leaf_shapes(config).items()
  }


def parameter_shardings(config: ModelConfig, mesh: Mesh) -> Params:
  """The tree of shardings of the parameters; raises as `parameter_specs`."""
  return key_maps.nest(
    {
      path: NamedSharding(mesh, spec)
      for path, spec in parameter_specs(config, mesh).items()
    }
  )


def _spec(leaf: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
  pattern = next(p for p in PARAMETERS if fnmatch.fnmatchcase(leaf, p))
  names = PARAMETERS[pattern]
  axes = [RULES[name] if name in RULES else None for name in names]
  for size, name, axis in zip(shape, names, axes, strict=True):
    if axis is not None:
      _check_divides(f'{leaf}: {size} {name}', size, axis, mesh)
  return PartitionSpec(*axes)


def _check_divides(what: str, size: int, axis: str, mesh: Mesh) -> None:
  if size % mesh.shape[axis]:
    raise errors.UserError(
      f'{what} cannot be divided among {axis}={mesh.shape[axis]} devices; '
      f'choose a divisor of {size}'
    )
