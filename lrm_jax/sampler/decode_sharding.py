"""The decode layout: which part of weights, keys and values a device holds.

  lanes_of(devices, tensor)      -> a mesh of lanes, a row of devices each
  stacked_specs(config, mesh)    -> of parameters as they are
  turned_specs(config, mesh)     -> of what `transformer.turn` makes of them
  state_specs(config, layout)    -> of a `state.State`, lanes first

The devices of a lane share its heads, inner widths and vocabulary, by the same
table as in training, `sharding.PARAMETERS`; all else is whole on each of them.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from lrm_jax import mesh as mesh_lib
from lrm_jax import sharding
from lrm_jax.checkpoints import key_maps
from lrm_jax.errors import UserError
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import Params, Turned
from lrm_jax.sampler import state as state_lib
from lrm_jax.sampler.state import Layout, State

LANES = PartitionSpec('lanes')


def lanes_of(devices: Sequence[jax.Device], tensor: int) -> Mesh:
  """A mesh of LANE_AXES: `tensor` devices in a row share a lane.

  Args:
    devices: in the order of the mesh of training, of all processes or of one.
    tensor: devices of a lane.

  Raises:
    UserError: they do not come out even, or a lane would be in two processes.
  """
  if len(devices) % tensor:
    raise UserError(
      f'sampler.tensor={tensor} does not divide {len(devices)} devices; choose '
      f'a divisor of {len(devices)}'
    )
  lanes = np.asarray(devices).reshape(-1, tensor)
  for row in lanes:
    if len({device.process_index for device in row}) > 1:
      raise UserError(
        f'sampler.tensor={tensor} devices would share a lane of two processes; '
        'choose a divisor of the number of devices of a process'
      )
  return Mesh(lanes, mesh_lib.LANE_AXES)


def of_process(mesh: Mesh, process: int) -> Mesh:
  """The lanes of one process, in their order."""
  mine = [row[0].process_index == process for row in mesh.devices]
  return Mesh(mesh.devices[mine], mesh.axis_names)


def stacked_specs(config: ModelConfig, mesh: Mesh) -> Params:
  """How a mesh, of lanes or of training, divides the parameters.

  Raises:
    UserError: heads, an inner width or the vocabulary cannot be divided.
  """
  try:
    return key_maps.nest(sharding.parameter_specs(config, mesh))
  except UserError as error:
    tensor = mesh.shape['tensor']
    raise UserError(f'sampler.tensor={tensor}: {error}') from error


def turned_specs(config: ModelConfig, mesh: Mesh) -> Turned:
  """And what `transformer.turn` makes of them; raises as `stacked_specs`."""
  whole = stacked_specs(config, mesh)
  is_swapped = mesh_lib.platform_of(mesh) == 'cpu'

  def of_layer(path, spec):
    axes = spec[1:]
    if is_swapped and path[-1].key == 'kernel':
      axes = *axes[:-2], axes[-1], axes[-2]
    return PartitionSpec(*axes)

  layer = jax.tree_util.tree_map_with_path(
    of_layer, whole['layers'], is_leaf=_is_spec
  )
  names = [name for name in whole if name not in ('layers', 'head')]
  return Turned(
    layers=(layer,) * config.n_layers,
    head=mesh_lib.spec('vocab', 'model', mesh=mesh),
    others={name: whole[name] for name in names},
  )


def state_specs(config: ModelConfig, layout: Layout) -> State:
  """How the states of all lanes are divided; lanes are their first axis.

  The second axis of a pool, and of the scratch, is its key/value heads.
  """
  lane = jax.eval_shape(functools.partial(state_lib.empty, config, layout))
  by_head = PartitionSpec('lanes', None, 'tensor')
  names = ('prompt_pools', 'response_pools', 'scratch')
  return dataclasses.replace(
    jax.tree.map(lambda _: LANES, lane),
    **{
      name: jax.tree.map(lambda _: by_head, getattr(lane, name))
      for name in names
    },
  )


def _is_spec(x: Any) -> bool:
  return isinstance(x, PartitionSpec)
