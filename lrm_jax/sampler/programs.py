"""The programs of lanes on a mesh, and the shapes of what they are given.

  gather(config, mesh, lanes)        parameters of training -> Weights
  empty(config, layout, lanes)       -> State
  prefill(config, layout, lanes)     weights, state, batch -> State
  chunk(config, layout, lanes)       weights, state, requests -> State, Trace

All are jitted and can be lowered from shapes alone, for devices that are not
there: `*_shapes` have them, with their shardings. All lanes run a program at
the same time, each on its own slots; states, batches, requests and traces have
an axis of lanes first. See `decode_sharding` for what a device holds of them.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lrm_jax import mesh as mesh_lib
from lrm_jax import sharding
from lrm_jax.checkpoints import key_maps
from lrm_jax.models import transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import Params, Turned
from lrm_jax.sampler import decode, decode_sharding
from lrm_jax.sampler import lane as lane_lib
from lrm_jax.sampler import state as state_lib
from lrm_jax.sampler.decode import Trace
from lrm_jax.sampler.decode_sharding import LANES
from lrm_jax.sampler.state import Layout, Requests, State

Program = Callable[..., Any]


class Weights(NamedTuple):
  """Parameters for sampling.

  Attributes:
    turned: what decodes.
    stacked: what computes prompts; None where `turned` does that too. On a CPU
      the scanned layers, which share one program, compile faster.
  """

  turned: Turned
  stacked: Params | None

  @property
  def of_prompts(self) -> Params | Turned:
    """What `decode.prefill` takes."""
    return self.turned if self.stacked is None else self.stacked


@functools.cache
def gather(config: ModelConfig, mesh: Mesh, lanes: Mesh) -> Program:
  """`params -> Weights`, from one mesh to another of the same devices.

  What is multiplied is sent in the dtype of the products, a layer at a time, so
  that no device ever has the whole model, but where it is a lane by itself.

  Args:
    config: the architecture.
    mesh: that the parameters are divided by, in any way.
    lanes: of the same devices in the same order, those of all processes.

  Raises:
    UserError: see `decode_sharding.stacked_specs`.
  """

  def run(params: Params) -> Weights:
    # As they lie until they are cast and cut into layers: XLA would send all
    # layers at a time, and in the wider dtype.
    found = jax.lax.with_sharding_constraint(
      _weights(config, lanes, params), weight_shardings(config, lanes, mesh)
    )
    if _is_divided_alike(mesh, lanes):
      return found
    # XLA knows no other way from one mesh to another than over a whole layer.
    return jax.lax.with_sharding_constraint(
      found, NamedSharding(mesh, PartitionSpec())
    )

  return jax.jit(
    mesh_lib.divided(mesh, run),
    out_shardings=weight_shardings(config, lanes, lanes),
  )


def _is_divided_alike(mesh: Mesh, lanes: Mesh) -> bool:
  """Whether the devices of a lane are those along the axis of products."""
  if lanes.shape['tensor'] == 1:
    return True
  place = mesh.axis_names.index('tensor')
  behind = mesh.devices.shape[place:]
  return math.prod(behind) == behind[0] == lanes.shape['tensor']


@functools.cache
def empty(config: ModelConfig, layout: Layout, lanes: Mesh) -> Program:
  """`() -> State`, nobody in any slot."""
  share = config.share(lanes.shape['tensor'])
  return _in_lanes(
    functools.partial(state_lib.empty, share, layout),
    lanes,
    (),
    decode_sharding.state_specs(config, layout),
  )


@functools.cache
def prefill(config: ModelConfig, layout: Layout, lanes: Mesh) -> Program:
  """`weights, state, batch -> State`; the state is donated.

  The weights are `Weights.of_prompts`, a batch is what `decode.prefill` takes
  behind the state.
  """
  share = config.share(lanes.shape['tensor'])

  def run(params: Params | Turned, state: State, batch: tuple) -> State:
    return decode.prefill(share, layout, params, state, *batch)

  weights = _weight_specs(config, lanes, lanes).of_prompts
  state = decode_sharding.state_specs(config, layout)
  return _in_lanes(run, lanes, (weights, state, LANES), state)


@functools.cache
def chunk(config: ModelConfig, layout: Layout, lanes: Mesh) -> Program:
  """`weights, state, requests -> State, Trace`; the state is donated.

  The weights are `Weights.turned`.
  """
  share = config.share(lanes.shape['tensor'])

  def run(
    turned: Turned, state: State, requests: Requests
  ) -> tuple[State, Trace]:
    return decode.chunk(share, layout, turned, requests, state)

  weights = _weight_specs(config, lanes, lanes).turned
  state = decode_sharding.state_specs(config, layout)
  return _in_lanes(run, lanes, (weights, state, LANES), (state, LANES))


def _in_lanes(
  run: Program, lanes: Mesh, inputs: tuple[Any, ...], outputs: Any
) -> Program:
  """`run` on every lane of the mesh; a second argument is donated.

  Args:
    run: of what one device has. Its first argument has no axis of lanes; those
      behind it and its results have one first, which it does not see.
    lanes: the mesh.
    inputs: PartitionSpecs.
    outputs: likewise.
  """

  def one(*args):
    own = jax.tree.map(lambda x: x[0], args[1:])
    return jax.tree.map(lambda x: x[None], run(*args[:1], *own))

  spread = jax.shard_map(
    one, mesh=lanes, in_specs=inputs, out_specs=outputs, check_vma=False
  )
  # Stated, so that arrays of the host run the same program as others.
  return jax.jit(
    spread,
    in_shardings=tuple(sharding.shardings(lanes, x) for x in inputs),
    out_shardings=sharding.shardings(lanes, outputs),
    donate_argnums=(1,) if inputs else (),
  )


def weight_shardings(config: ModelConfig, lanes: Mesh, mesh: Mesh) -> Weights:
  """Of the `Weights` of lanes, on their mesh or on that of training."""
  return sharding.shardings(mesh, _weight_specs(config, lanes, mesh))


def weight_shapes(config: ModelConfig, lanes: Mesh) -> Weights:
  """What `gather` gives, of parameters in the dtype of the config."""
  make = mesh_lib.divided(lanes, functools.partial(_weights, config, lanes))
  return _shapes(
    jax.eval_shape(make, key_maps.shapes(config)),
    weight_shardings(config, lanes, lanes),
  )


def state_shapes(config: ModelConfig, layout: Layout, lanes: Mesh) -> State:
  """What `empty` gives."""
  return _shapes(
    jax.eval_shape(empty(config, layout, lanes)),
    sharding.shardings(lanes, decode_sharding.state_specs(config, layout)),
  )


def batch_shapes(
  layout: Layout, lanes: Mesh
) -> dict[int, tuple[jax.ShapeDtypeStruct, ...]]:
  """{tokens that prompts are padded to: what `prefill` is given}."""
  count = len(lanes.devices)
  own = NamedSharding(lanes, LANES)
  shape = lambda *sizes: jax.ShapeDtypeStruct(
    (count, *sizes), np.int32, sharding=own
  )
  found = {}
  for width in lane_lib.prefill_widths(layout.max_prompt):
    size = lane_lib.prefill_size(width)
    found[width] = (
      shape(size, width),
      shape(size),
      shape(size),
      shape(size, layout.pages_of_prompt),
    )
  return found


def request_shapes(layout: Layout, lanes: Mesh) -> Requests:
  """What `chunk` is given."""
  own = NamedSharding(lanes, LANES)
  count = len(lanes.devices)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype, sharding=own),
    state_lib.no_requests(layout),
  )


def _is_stacked(lanes: Mesh) -> bool:
  is_cpu = mesh_lib.platform_of(lanes) == 'cpu'
  return is_cpu and lanes.shape['tensor'] == 1


def _weights(config: ModelConfig, lanes: Mesh, params: Params) -> Weights:
  light = transformer.lighten(config, params)
  turned = transformer.turn(config, light)
  return Weights(turned, light if _is_stacked(lanes) else None)


def _weight_specs(config: ModelConfig, lanes: Mesh, mesh: Mesh) -> Weights:
  stacked = None
  if _is_stacked(lanes):
    stacked = decode_sharding.stacked_specs(config, mesh)
  return Weights(decode_sharding.turned_specs(config, mesh), stacked)


def _shapes(shapes: Any, shardings: Any) -> Any:
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    shardings,
  )
