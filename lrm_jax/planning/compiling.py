"""The programs of a run, compiled for devices that are not there.

Everything is a shape: no weights are read, and nothing is run. The update is
the one that `lrm train` runs; prefill and decoding are those of its sampler, on
all lanes, and `gather` brings the weights from the one to the others.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lrm_jax import (
  assets,
  checks,
  collecting,
  offloading,
  optim,
  packing,
  policy,
  sharding,
  train_step,
  updating,
)
from lrm_jax import mesh as mesh_lib
from lrm_jax.checkpoints import huggingface, key_maps
from lrm_jax.models import lora as lora_lib
from lrm_jax.models import presets
from lrm_jax.models.config import ModelConfig
from lrm_jax.objectives import recipe as recipe_lib
from lrm_jax.sampler import decode_sharding, programs
from lrm_jax.sampler.state import Layout
from lrm_jax.structs import TrainState
from lrm_jax.tokenization import base as tokenization


@dataclasses.dataclass(frozen=True)
class Run:
  """What a config makes of some devices.

  Attributes:
    config: of `lrm train`.
    model: the architecture.
    recipe: the objective.
    mesh: all devices.
    layout: of the sampler's lane on each.
    state: shapes of what is trained, divided.
    frozen: of the base under adapters, divided; None without.
    reference: of the reference policy; None if nobody looks at it.
    lanes: the mesh of the sampler.
  """

  config: ml_collections.ConfigDict
  model: ModelConfig
  recipe: recipe_lib.Recipe
  mesh: Mesh
  layout: Layout
  state: TrainState
  frozen: Any
  reference: Any
  lanes: Mesh


class Program(NamedTuple):
  """A compiled program.

  Attributes:
    name: of the phase.
    compiled: by XLA.
    devices: that it runs on.
    inputs: shapes of its arguments, by what they are.
  """

  name: str
  compiled: Any
  devices: int
  inputs: dict[str, Any]


def describe(
  config: ml_collections.ConfigDict, devices: Sequence[jax.Device]
) -> Run:
  """Shapes of everything, divided among the devices.

  Raises:
    UserError: as `lrm train` would refuse the config; it looks at data and
      tokenizer too.
  """
  recipe = recipe_lib.build(config)
  mesh = mesh_lib.make(config.mesh, devices)
  checks.check_mesh('train', config.train, mesh)
  offloading.check(config, recipe, mesh.devices.flat[0])
  directory = assets.architecture(config.model.path)
  stored = huggingface.read_config(directory)
  fields = {k: v for k, v in config.model.items() if k != 'path'}
  model = presets.change(stored, **fields)
  longest = max(config.train.max_tokens, config.eval.max_tokens)
  model = model.for_length(config.data.max_prompt_tokens + longest)
  checks.check_sizes(config, model)
  checks.check_recipe(config, recipe)

  params = _divided(
    key_maps.shapes(model), sharding.parameter_shardings(model, mesh)
  )
  trained, frozen, reference = params, None, None
  if config.lora.rank:
    adapters = functools.partial(lora_lib.init, policy.read(config))
    key = jax.eval_shape(jax.random.key, 0)
    trained = jax.eval_shape(adapters, params, key)
    frozen = params
  if recipe.needs_reference:
    reference = params
    if 'reference' in config.train.offload:
      reference = _offloaded(reference)
  slots = functools.partial(policy.start_slots, optim.of_run(config))
  step = jax.ShapeDtypeStruct((), np.int32)
  state = TrainState(step, trained, jax.eval_shape(slots, trained))
  state = _divided(
    state, sharding.shardings(mesh, sharding.state_specs(state, mesh))
  )
  if 'optimizer' in config.train.offload:
    slots = _offloaded(state.opt_state)
    state = dataclasses.replace(state, opt_state=slots)
  return Run(
    config=config,
    model=model,
    recipe=recipe,
    mesh=mesh,
    layout=_layout(config, model, mesh),
    state=state,
    frozen=frozen,
    reference=reference,
    lanes=decode_sharding.lanes_of(mesh.devices.flat, config.sampler.tensor),
  )


def _layout(
  config: ml_collections.ConfigDict, model: ModelConfig, mesh: Mesh
) -> Layout:
  """Of the sampler that `lrm train` would make."""
  # Neither the words of a tokenizer nor its ids change a shape.
  tokenizer = tokenization.load(assets.resolve('tiny_lrm'))
  collector, _ = collecting.make_collectors(
    config, model, tokenizer, grader=None, mesh=mesh
  )
  return collector.sampler.layout


def update(run: Run) -> Program:
  """Phase 7: one optimizer step on a mini-batch."""
  config = run.config.train
  combine = policy.whole
  if run.frozen is not None:
    adapters = policy.read(run.config)
    combine = lambda trained, frozen: lora_lib.merge(frozen, trained, adapters)
  program = train_step.make_update(
    run.model,
    run.recipe,
    optim.of_run(run.config),
    temperature=config.temperature,
    chunk=config.logit_chunk,
    load_balance=config.load_balance,
    combine=combine,
    mesh=run.mesh,
  )
  batch = config.problems // config.mini_batches
  packed = jax.eval_shape(
    lambda: packing.empty_batch(
      batch,
      config.samples,
      config.rows,
      config.row_length,
      config.groups,
      shared=updating.shares_prompts(run.config),
    )
  )
  packed = _divided(
    packed, sharding.shardings(run.mesh, sharding.batch_specs(packed))
  )
  stale = jax.ShapeDtypeStruct((batch, config.samples), np.int32)
  number = jax.ShapeDtypeStruct((*stale.shape, config.max_tokens), np.float32)
  advantages = (number,) * run.recipe.advantages
  kept_ids, most = None, run.layout.kept
  if most:
    kept_ids = jax.ShapeDtypeStruct((*number.shape, most), np.int32)
  targets = train_step.Targets(
    number, advantages, number, stale, stale, kept_ids
  )
  whole = NamedSharding(run.mesh, PartitionSpec())
  targets = jax.tree.map(lambda x: _shape(x, whole), targets)
  lowered = program.lower(run.state, run.reference, packed, targets, run.frozen)
  inputs = {
    'parameters': (run.state.params, run.frozen),
    'optimizer': run.state.opt_state,
    'reference': run.reference,
    'batch': (packed, targets),
  }
  return Program('update', _compile(lowered), run.mesh.size, inputs)


def prefill(run: Run) -> Program:
  """Phase 2: the longest prompts, a batch for each lane."""
  weights, state = _of_lanes(run)
  program = programs.prefill(run.model, run.layout, run.lanes)
  batches = programs.batch_shapes(run.layout, run.lanes)
  args = weights.of_prompts, state, batches[max(batches)]
  return _sampling(run, 'prefill', program, *args)


def decode(run: Run) -> Program:
  """Phase 2: rounds of tokens."""
  weights, state = _of_lanes(run)
  program = programs.chunk(run.model, run.layout, run.lanes)
  requests = programs.request_shapes(run.layout, run.lanes)
  return _sampling(run, 'decode', program, weights.turned, state, requests)


def gather(run: Run) -> Program:
  """Between the two: the policy, on its way to the lanes."""
  params = run.state.params if run.frozen is None else run.frozen
  program = programs.gather(run.model, run.mesh, run.lanes)
  inputs = {'weights': programs.weight_shapes(run.model, run.lanes)}
  lowered = program.lower(params)
  return Program('gather', _compile(lowered), run.mesh.size, inputs)


UPDATE = (('update', update),)
ALL = (*UPDATE, ('prefill', prefill), ('decode', decode), ('gather', gather))


def _of_lanes(run: Run) -> tuple[programs.Weights, Any]:
  return (
    programs.weight_shapes(run.model, run.lanes),
    programs.state_shapes(run.model, run.layout, run.lanes),
  )


def _sampling(run: Run, name: str, program: Any, *args: Any) -> Program:
  weights, state, *_ = args
  pools = state.prompt_pools, state.response_pools
  inputs = {'weights': weights, 'keys and values': pools}
  compiled = _compile(program.lower(*args))
  return Program(name, compiled, run.lanes.size, inputs)


def _compile(lowered: Any) -> Any:
  """Nothing is kept for another time: it could not be read without a chip."""
  name = 'jax_enable_compilation_cache'
  before = getattr(jax.config, name)
  jax.config.update(name, False)
  try:
    return lowered.compile()
  finally:
    jax.config.update(name, before)


def _divided(shapes: Any, shardings: Any) -> Any:
  return jax.tree.map(_shape, shapes, shardings)


def _offloaded(shapes: Any) -> Any:
  divided = jax.tree.map(lambda x: x.sharding, shapes)
  return _divided(shapes, offloading.shardings(shapes, divided))


def _shape(x: Any, where: NamedSharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
