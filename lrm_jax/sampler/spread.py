"""Where the programs of lanes run: on one device, or on several side by side.

`One` is a lane on one device. `Spread` has a lane on each of several devices,
which run the same program at the same time, each on its own slots: compiled
once, started once, and nobody waits for anybody else within it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lrm_jax import mesh as mesh_lib
from lrm_jax.models import transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import Params, Turned
from lrm_jax.sampler import decode
from lrm_jax.sampler import state as state_lib
from lrm_jax.sampler.decode import Trace
from lrm_jax.sampler.state import Layout, Requests, State

# The only axis of the mesh of a `Spread`, and the first of all that it keeps.
LANES = 'lanes'


class One:
  """The programs of a lane on one device."""

  lanes = 1

  def __init__(
    self, config: ModelConfig, layout: Layout, params: Params, turned: Turned
  ):
    """`turned` is `decode.turn` of the parameters."""
    self._config, self._layout = config, layout
    self._params, self._turned = _for_prefill(params, turned), turned

  def empty(self) -> State:
    """Nobody in any slot."""
    return state_lib.empty(self._config, self._layout)

  def vacate(self, state: State) -> State:
    """The same buffers with nobody in them."""
    return state_lib.vacant(state)

  def prefill(self, state: State, batches: Sequence[tuple]) -> State:
    """`decode.prefill` of the only lane's prompts; the state is donated."""
    (batch,) = batches
    return decode.prefill(
      self._config, self._layout, self._params, state, *batch
    )

  def chunk(
    self, state: State, requests: Sequence[Requests]
  ) -> tuple[State, Trace]:
    """`decode.chunk` of the only lane's requests; the state is donated."""
    return decode.chunk(
      self._config, self._layout, self._turned, *requests, state
    )

  def read(self, trace: Trace) -> list[Trace]:
    """What every lane has to tell; waits for it."""
    return [jax.device_get(trace)]


class Spread:
  """The programs of lanes on several devices of this process."""

  def __init__(
    self,
    config: ModelConfig,
    layout: Layout,
    params: Params,
    devices: Sequence[jax.Device],
  ):
    """Brings the parameters, however they are divided, to each device whole.

    Args:
      config: the architecture.
      layout: of each lane.
      params: arrays that these devices have a part of; every process that has
        another one has to be here too.
      devices: of this process, in the order of their lanes.
    """
    self.lanes = len(devices)
    self._config, self._layout = config, layout
    self._mesh = Mesh(np.asarray(devices), LANES)
    whole = self._gather(params)
    self._turned = decode.turn(config, whole)
    self._params = _for_prefill(whole, self._turned)

  def empty(self) -> State:
    """Nobody in any slot."""
    return _run(_empty, self._config, self._layout, self._mesh)()

  def vacate(self, state: State) -> State:
    """The same buffers with nobody in them."""
    vacant = state_lib.vacant(state)
    return jax.tree.map(
      lambda x: self._divide(x) if isinstance(x, np.ndarray) else x, vacant
    )

  def prefill(self, state: State, batches: Sequence[tuple]) -> State:
    """`decode.prefill` of every lane's prompts; the state is donated."""
    run = _run(_prefill, self._config, self._layout, self._mesh)
    return run(self._params, state, self._join(batches))

  def chunk(
    self, state: State, requests: Sequence[Requests]
  ) -> tuple[State, Trace]:
    """`decode.chunk` of every lane's requests; the state is donated."""
    run = _run(_chunk, self._config, self._layout, self._mesh)
    return run(self._turned, state, self._join(requests))

  def read(self, trace: Trace) -> list[Trace]:
    """What every lane has to tell; waits for it."""
    found = jax.device_get(trace)
    return [
      jax.tree.map(lambda x: x[i], found)  # noqa: B023
      for i in range(self.lanes)
    ]

  def _gather(self, params: Params) -> Params:
    """From the mesh of training, whole, on each of these devices.

    One program: what is multiplied is sent in the dtype of the products.
    """
    here = NamedSharding(self._mesh, PartitionSpec())
    found = jax.tree.leaves(params)[0].sharding
    if not isinstance(found, NamedSharding):
      params, found = jax.device_put(params, here), here
    whole = _lighten(self._config, found.mesh)(params)

    def own(x: jax.Array) -> jax.Array:
      parts = {shard.device: shard.data for shard in x.addressable_shards}
      return jax.make_array_from_single_device_arrays(
        x.shape, here, [parts[device] for device in self._mesh.devices.flat]
      )

    return jax.tree.map(own, whole)

  def _join(self, trees: Sequence[Any]) -> Any:
    return self._divide(jax.tree.map(lambda *leaves: np.stack(leaves), *trees))

  def _divide(self, tree: Any) -> Any:
    return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec(LANES)))


def _for_prefill(params: Params, turned: Turned) -> Params | Turned:
  """Turned ones where that makes no second copy necessary.

  On a CPU the scanned layers, which share one program, compile faster.
  """
  return params if mesh_lib.platform() == 'cpu' else turned


@functools.cache
def _lighten(config: ModelConfig, mesh: Mesh) -> Callable[[Params], Params]:
  return jax.jit(
    functools.partial(transformer.lighten, config),
    out_shardings=NamedSharding(mesh, PartitionSpec()),
  )


def _empty(config: ModelConfig, layout: Layout) -> State:
  return state_lib.empty(config, layout)


def _prefill(
  config: ModelConfig, layout: Layout, params: Params, state: State, batch
) -> State:
  return decode.prefill(config, layout, params, state, *batch)


def _chunk(
  config: ModelConfig, layout: Layout, turned: Turned, state: State, requests
) -> tuple[State, Trace]:
  return decode.chunk(config, layout, turned, requests, state)


@functools.cache
def _run(
  program: Callable[..., Any], config: ModelConfig, layout: Layout, mesh: Mesh
) -> Callable[..., Any]:
  """The program on every device of the mesh.

  Its first array argument is whole on each of them; the second, which is
  donated, and those behind it have an axis of lanes first, as have its results.
  """

  def one(*args):
    whole, own = args[:1], jax.tree.map(lambda x: x[0], args[1:])
    done = program(config, layout, *whole, *own)
    return jax.tree.map(lambda x: x[None], done)

  whole, lanes = PartitionSpec(), PartitionSpec(LANES)
  inputs = () if program is _empty else (whole, lanes, lanes)
  spread = jax.shard_map(
    one, mesh=mesh, in_specs=inputs, out_specs=lanes, check_vma=False
  )
  # Stated, so that arrays of the host run the same program as others.
  return jax.jit(
    spread,
    in_shardings=tuple(NamedSharding(mesh, spec) for spec in inputs),
    donate_argnums=(1,) if inputs else (),
  )
