"""What a training run is made of: model, data, recipe, state.

`build` reads the config and everything it points to; a mistake in either
shows here, before anything is written.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh

from lrm_jax import (
  assets,
  checks,
  choosing,
  collecting,
  errors,
  off_policy,
  optim,
  policy,
  rollout,
  sharding,
)
from lrm_jax import mesh as mesh_lib
from lrm_jax import programs as programs_lib
from lrm_jax.alarms import Alarms
from lrm_jax.checkpoints import huggingface
from lrm_jax.data import demonstrated, fingerprints, pipeline, sources
from lrm_jax.flights import Flight
from lrm_jax.models import presets
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import Params
from lrm_jax.objectives import recipe as recipe_lib
from lrm_jax.objectives.memory import MemoryStore
from lrm_jax.rewards import guards
from lrm_jax.rewards.pool import Grader
from lrm_jax.structs import Problem, TrainState
from lrm_jax.tokenization import base as tokenization


@dataclasses.dataclass
class Experiment:
  """Everything a run holds.

  Only `state`, `params`, `memory`, `stream`, `flights`, `waiting` (a batch
  ahead, see `lookahead.py`), `seconds`, `productive_seconds` (see
  `goodput.py`), `sampled_tokens` (all of the steps so far) and `alarms` change.
  `sampler_mesh` is of the sampler's own devices, None where it has none.
  `params` is the policy that `state` and `frozen` make: what samples, is
  evaluated and is exported. `weights` is the checksum of what never changes,
  once `resuming.weights` was asked for it; `contents` are the digests of data
  and tokenizer, see `fingerprints.of_run`.
  """

  config: ml_collections.ConfigDict
  model: ModelConfig
  tokenizer: tokenization.Tokenizer
  recipe: recipe_lib.Recipe
  collector: rollout.Collector
  eval_collector: rollout.Collector
  eval_problems: Sequence[Problem]
  stream: pipeline.ProblemStream
  curriculum: choosing.Curriculum
  monitor_problems: Sequence[Problem]
  demonstrations: demonstrated.Demonstrations | None
  programs: programs_lib.Programs
  mesh: Mesh | None
  sampler_mesh: Mesh | None
  state: TrainState
  frozen: Any
  params: Any
  ref_params: Any
  memory: MemoryStore
  flights: list[Flight] = dataclasses.field(default_factory=list)
  waiting: Any = None
  seconds: float = 0.0
  productive_seconds: float = 0.0
  sampled_tokens: int = 0
  weights: str | None = None
  alarms: Alarms = dataclasses.field(default_factory=Alarms)
  contents: dict[str, str] = dataclasses.field(default_factory=dict)


def build(config: ml_collections.ConfigDict, grader: Grader) -> Experiment:
  """Loads model, data and recipe; writes nothing."""
  recipe = recipe_lib.build(config)
  mesh, sampler_mesh = make_meshes(config)
  model, params, tokenizer = load_model(config, mesh)
  checks.check_sizes(config, model)
  checks.check_recipe(config, recipe)
  given = load_demonstrations(config, recipe, tokenizer)
  whole, held_out = load_data(config, tokenizer)
  train_problems, monitor_problems = split_monitor(config, recipe, whole)
  where = mesh if sampler_mesh is None else sampler_mesh
  curriculum = choosing.make(config, recipe, train_problems, model.d_model)
  collector, eval_collector = collecting.make_collectors(
    config, model, tokenizer, grader, where
  )
  optimizer = optim.of_run(config)
  parts = policy.divide(
    config,
    model,
    params,
    needs_reference=recipe.needs_reference,
    offload=config.train.offload,
  )
  state = policy.start_state(
    optimizer, parts.trained, mesh, config.train.offload
  )
  return Experiment(
    config=config,
    model=model,
    tokenizer=tokenizer,
    recipe=recipe,
    collector=reading(collector, config, recipe),
    eval_collector=eval_collector,
    eval_problems=held_out,
    stream=choosing.make_stream(config, recipe, train_problems),
    curriculum=curriculum,
    monitor_problems=monitor_problems,
    demonstrations=given,
    programs=programs_lib.make_programs(
      model,
      recipe,
      optimizer,
      temperature=config.train.temperature,
      chunk=config.train.logit_chunk,
      load_balance=config.train.load_balance,
      combine=parts.combine,
      mesh=mesh,
    ),
    mesh=mesh,
    sampler_mesh=sampler_mesh,
    state=state,
    frozen=parts.frozen,
    params=parts.combine(state.params, parts.frozen),
    ref_params=parts.reference,
    memory=MemoryStore(recipe.start_memory() | curriculum.start_memory()),
    contents=fingerprints.of_run(tokenizer, whole, held_out)
    | ({} if given is None else {fingerprints.GIVEN: given.digest}),
  )


def reading(
  collector: rollout.Collector,
  config: ml_collections.ConfigDict,
  recipe: recipe_lib.Recipe,
) -> rollout.Collector:
  """The collector with what training reads off responses."""
  return dataclasses.replace(
    collector,
    measures={part.name: part.function for part in recipe.measures},
    guards=guards.check(config.train.guards),
  )


def make_meshes(
  config: ml_collections.ConfigDict,
) -> tuple[Mesh | None, Mesh | None]:
  """Meshes of training, as `config.mesh` has it, and of the sampler's devices.

  None for the first if it is one device, for the second if the sampler has none
  of its own: `train.sampler_devices`, the last ones there are.

  Raises:
    UserError: there are not as many devices, or a batch is cut unevenly.
  """
  devices, own = jax.devices(), config.train.sampler_devices
  off_policy.check_sampler_devices(own, len(devices), jax.process_count())
  mesh = mesh_lib.make(config.mesh, devices[: len(devices) - own])
  checks.check_mesh('train', config.train, mesh)
  return (
    mesh if mesh.size > 1 else None,
    mesh_lib.make({'data': own}, devices[-own:]) if own else None,
  )


def for_sampler(experiment: Experiment) -> Params:
  """The policy where the sampler has it; brought there, if that is elsewhere.

  Whole on each of its devices.
  """
  if experiment.sampler_mesh is None:
    return experiment.params
  shardings = sharding.parameter_shardings(
    experiment.model, experiment.sampler_mesh
  )
  return jax.device_put(experiment.params, shardings)


def load_model(
  config: ml_collections.ConfigDict, mesh: Mesh | None = None
) -> tuple[ModelConfig, Params, tokenization.Tokenizer]:
  """The model that training starts from, with what the config says of it."""
  directory = assets.resolve(config.model.path)
  stored = huggingface.read_config(directory)
  loaded, params = huggingface.load(
    directory,
    param_dtype=config.model.param_dtype,
    sharding=sharding.parameter_shardings(stored, mesh),
  )
  model = presets.change(
    loaded, **{k: v for k, v in config.model.items() if k != 'path'}
  )
  tokenizer = tokenization.load(directory)
  model = huggingface.fit_vocabulary(model, tokenizer)
  response = max(config.train.max_tokens, config.eval.max_tokens)
  model = model.for_length(config.data.max_prompt_tokens + response)
  return model, params, tokenizer


def load_data(
  config: ml_collections.ConfigDict, tokenizer: tokenization.Tokenizer
) -> tuple[sources.ProblemSource, sources.ProblemSource]:
  """(to train on, to evaluate on), of prompts that fit; a limit of 0: all."""
  train = sources.load_problems(
    config.data.train,
    split=config.data.train_split,
    limit=config.data.train_problems if config.data.train_problems else None,
    data_dir=config.data.dir,
  )
  held_out = sources.load_problems(
    config.data.eval,
    split=config.data.eval_split,
    limit=config.eval.problems if config.eval.problems else None,
    data_dir=config.data.dir,
  )
  for problems in (train, held_out):
    checks.check_prompts(config, tokenizer, problems)
  return train, held_out


def load_demonstrations(
  config: ml_collections.ConfigDict,
  recipe: recipe_lib.Recipe,
  tokenizer: tokenization.Tokenizer,
) -> demonstrated.Demonstrations | None:
  """Those that the recipe may want; None for one that demonstrates nothing.

  Raises:
    UserError: one without the other, or a file that cannot be read.
  """
  path = config.data.demonstrations
  if (path is not None) != recipe.demonstrates:
    name = config.objective.demonstration.name
    raise errors.UserError(
      f'data.demonstrations={path!r} and objective.demonstration.name='
      f'{name!r}: one is nothing without the other; give both or neither'
    )
  if path is None:
    return None
  return demonstrated.load(path, tokenizer, config.train.max_tokens)


def split_monitor(
  config: ml_collections.ConfigDict,
  recipe: recipe_lib.Recipe,
  problems: Sequence[Problem],
) -> tuple[Sequence[Problem], list[Problem]]:
  """(to train on, to observe): the last ones are the monitor's."""
  if not recipe.observes:
    return problems, []
  count, rest = (
    config.train.monitor_problems,
    len(problems) - config.train.monitor_problems,
  )
  if config.train.monitor_every < 1 or not 0 < count < len(problems):
    raise errors.UserError(
      f'train.monitor_every={config.train.monitor_every} and '
      f'train.monitor_problems={count} of {len(problems)}: the recipe observes '
      'a monitor; give both, and leave problems to train on'
    )
  monitor = [problems[i] for i in range(rest, len(problems))]
  return dataclasses.replace(problems, length=rest), monitor


def is_budget_spent(experiment: Experiment) -> bool:
  """Whether `train.token_budget` response tokens have been sampled."""
  budget = experiment.config.train.token_budget
  return budget > 0 and experiment.sampled_tokens >= budget


def set_state(experiment: Experiment, state: TrainState) -> None:
  """Takes over a state and the policy that it makes."""
  experiment.state = state
  experiment.params = experiment.programs.combine(
    state.params, experiment.frozen
  )
