"""Where the programs of lanes run: on one device, or on several side by side.

`One` is a lane on one device. `Spread` has a lane on each of several devices,
or groups of devices, which run the same program at the same time, each on its
own slots: compiled once, started once.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from lrm_jax import sharding
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import Params, Turned
from lrm_jax.sampler import decode, decode_sharding, programs
from lrm_jax.sampler import state as state_lib
from lrm_jax.sampler.decode import Trace
from lrm_jax.sampler.decode_sharding import LANES
from lrm_jax.sampler.state import Layout, Requests, State


class One:
  """The programs of a lane on one device."""

  lanes = 1

  def __init__(
    self, config: ModelConfig, layout: Layout, params: Params, turned: Turned
  ):
    """`turned` is `decode.turn` of the parameters."""
    self._config, self._layout = config, layout
    stacked = params if jax.default_backend() == 'cpu' else None
    self._weights = programs.Weights(turned, stacked)

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
      self._config, self._layout, self._weights.of_prompts, state, *batch
    )

  def chunk(
    self, state: State, requests: Sequence[Requests]
  ) -> tuple[State, Trace]:
    """`decode.chunk` of the only lane's requests; the state is donated."""
    return decode.chunk(
      self._config, self._layout, self._weights.turned, *requests, state
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
    lanes: Mesh,
  ):
    """Brings each device its part of the parameters, however they are divided.

    Args:
      config: the architecture.
      layout: of each lane.
      params: arrays that these devices have a part of; every process that has
        another one has to be here too.
      lanes: see `decode_sharding.lanes_of`; of all processes that are here.
    """
    self._config, self._layout = config, layout
    self._mesh = decode_sharding.of_process(lanes, jax.process_index())
    self.lanes = len(self._mesh.devices)
    self._weights = self._gather(params, lanes)

  def empty(self) -> State:
    """Nobody in any slot."""
    return programs.empty(self._config, self._layout, self._mesh)()

  def vacate(self, state: State) -> State:
    """The same buffers with nobody in them."""
    vacant = state_lib.vacant(state)
    return jax.tree.map(
      lambda x: self._divide(x) if isinstance(x, np.ndarray) else x, vacant
    )

  def prefill(self, state: State, batches: Sequence[tuple]) -> State:
    """`decode.prefill` of every lane's prompts; the state is donated."""
    run = programs.prefill(self._config, self._layout, self._mesh)
    return run(self._weights.of_prompts, state, self._join(batches))

  def chunk(
    self, state: State, requests: Sequence[Requests]
  ) -> tuple[State, Trace]:
    """`decode.chunk` of every lane's requests; the state is donated."""
    run = programs.chunk(self._config, self._layout, self._mesh)
    return run(self._weights.turned, state, self._join(requests))

  def read(self, trace: Trace) -> list[Trace]:
    """What every lane has to tell; waits for it."""
    found = jax.device_get(trace)
    return [
      jax.tree.map(lambda x: x[i], found)  # noqa: B023
      for i in range(self.lanes)
    ]

  def _gather(self, params: Params, lanes: Mesh) -> programs.Weights:
    """From the mesh of training to that of lanes, and what is here of it."""
    found = jax.tree.leaves(params)[0].sharding
    if isinstance(found, NamedSharding):
      source = found.mesh
    else:
      # Of one device.
      source = lanes = self._mesh
      params = jax.device_put(
        params, sharding.parameter_shardings(self._config, lanes)
      )
    weights = programs.gather(self._config, source, lanes)(params)
    if self._config.tie_embeddings:
      # A program cannot give the same array twice.
      turned = weights.turned
      weights = weights._replace(
        turned=turned._replace(head=turned.others['embedding'])
      )

    def own(x: jax.Array) -> jax.Array:
      return jax.make_array_from_single_device_arrays(
        x.shape,
        NamedSharding(self._mesh, x.sharding.spec),
        [shard.data for shard in x.addressable_shards],
      )

    return jax.tree.map(own, weights)

  def _join(self, trees: Sequence[Any]) -> Any:
    return self._divide(jax.tree.map(lambda *leaves: np.stack(leaves), *trees))

  def _divide(self, tree: Any) -> Any:
    return jax.device_put(tree, NamedSharding(self._mesh, LANES))
