"""What a training run is made of: model, data, recipe, state.

`build` reads the config and everything it points to; a mistake in either
shows here, before anything is written.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import ml_collections
from jax.sharding import Mesh

from lrm_jax import (
  assets,
  checks,
  choosing,
  errors,
  optim,
  policy,
  rollout,
  sharding,
)
from lrm_jax import mesh as mesh_lib
from lrm_jax import programs as programs_lib
from lrm_jax.alarms import Alarms
from lrm_jax.checkpoints import huggingface
from lrm_jax.data import fingerprints, pipeline, sources
from lrm_jax.flights import Flight
from lrm_jax.models import presets
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import Params
from lrm_jax.objectives import recipe as recipe_lib
from lrm_jax.objectives.memory import MemoryStore
from lrm_jax.rewards import guards
from lrm_jax.rewards.pool import Grader
from lrm_jax.sampler import closing, settings
from lrm_jax.sampler.engine import Sampler
from lrm_jax.structs import Problem, TrainState
from lrm_jax.tokenization import base as tokenization


@dataclasses.dataclass
class Experiment:
  """Everything a run holds.

  Only `state`, `params`, `memory`, `stream`, `flights`, `seconds`,
  `productive_seconds` (see `goodput.py`), `sampled_tokens` (all of the steps
  so far) and `alarms` change. `params` is the policy that `state` and `frozen`
  make: what samples, is evaluated and is exported. `weights` is the checksum of
  what never changes, once `resuming.weights` was asked for it; `contents` are
  the digests of data and tokenizer, see `fingerprints.of_run`.
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
  programs: programs_lib.Programs
  mesh: Mesh | None
  state: TrainState
  frozen: Any
  params: Any
  ref_params: Any
  memory: MemoryStore
  flights: list[Flight] = dataclasses.field(default_factory=list)
  seconds: float = 0.0
  productive_seconds: float = 0.0
  sampled_tokens: int = 0
  weights: str | None = None
  alarms: Alarms = dataclasses.field(default_factory=Alarms)
  contents: dict[str, str] = dataclasses.field(default_factory=dict)


def build(config: ml_collections.ConfigDict, grader: Grader) -> Experiment:
  """Loads model, data and recipe; writes nothing."""
  recipe = recipe_lib.build(config)
  mesh = make_mesh(config)
  model, params, tokenizer = load_model(config, mesh)
  checks.check_sizes(config, model)
  checks.check_recipe(config, recipe)
  data = load_data(config)
  for problems in data:
    checks.check_prompts(config, tokenizer, problems)
  train_problems, monitor_problems = split_monitor(config, recipe, data[0])
  curriculum = choosing.make(config, recipe, train_problems, model.d_model)
  collector, eval_collector = make_collectors(
    config, model, tokenizer, grader, mesh
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
    collector=dataclasses.replace(
      collector,
      measures={part.name: part.function for part in recipe.measures},
      guards=guards.check(config.train.guards),
    ),
    eval_collector=eval_collector,
    eval_problems=data[1],
    stream=choosing.make_stream(config, recipe, train_problems),
    curriculum=curriculum,
    monitor_problems=monitor_problems,
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
    state=state,
    frozen=parts.frozen,
    params=parts.combine(state.params, parts.frozen),
    ref_params=parts.reference,
    memory=MemoryStore(recipe.start_memory() | curriculum.start_memory()),
    contents=fingerprints.of_run(tokenizer, *data),
  )


def make_mesh(config: ml_collections.ConfigDict) -> Mesh | None:
  """The mesh that `config.mesh` describes; None if that is one device.

  Raises:
    UserError: it is not one of these devices, or cuts a batch unevenly.
  """
  mesh = mesh_lib.make(config.mesh)
  checks.check_mesh('train', config.train, mesh)
  return mesh if mesh.size > 1 else None


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
  config: ml_collections.ConfigDict,
) -> tuple[sources.ProblemSource, sources.ProblemSource]:
  """(to train on, to evaluate on); a limit of 0 means all."""
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
  return train, held_out


def make_collectors(
  config: ml_collections.ConfigDict,
  model: ModelConfig,
  tokenizer: tokenization.Tokenizer,
  grader: Grader,
  mesh: Mesh | None = None,
) -> tuple[rollout.Collector, rollout.Collector]:
  """(to train, to evaluate), with samplers as `config` wants them.

  Both run one sampler's programs in one set of buffers, unless evaluation
  truncates the law: which rules are on is compiled in.
  """
  options = {
    section: settings.options(
      tokenizer,
      section,
      # An update would have to renormalise on the set of every token.
      truncation=config[section].truncation if section == 'eval' else {},
      thinking_budget=config[section].thinking_budget,
      **config.stopping,
    )
    for section in ('train', 'eval')
  }
  train, evaluation = options.values()
  if train['rules'] == evaluation['rules']:
    # () without a budget; samples that have none are not forced to anything.
    ending = max(train['ending_ids'], evaluation['ending_ids'])
    whole = make_sampler(
      config,
      model,
      tokenizer,
      ('train', 'eval'),
      train | {'ending_ids': ending, 'mesh': mesh},
    )
    samplers = dict.fromkeys(options, whole)
  else:
    samplers = {
      section: make_sampler(
        config, model, tokenizer, (section,), mine | {'mesh': mesh}
      )
      for section, mine in options.items()
    }
  return tuple(
    make_collector(config, tokenizer, grader, section, samplers[section])
    for section in options
  )


def make_sampler(
  config: ml_collections.ConfigDict,
  model: ModelConfig,
  tokenizer: tokenization.Tokenizer,
  sections: Sequence[str],
  options: dict[str, Any],
) -> Sampler:
  """A sampler with room for what these sections of the config ask for."""
  samples = [config[section].samples for section in sections]
  at_once = config.train.partial_tokens if 'train' in sections else 0
  if at_once and 'eval' in sections:
    at_once = max(at_once, config.eval.max_tokens)
  return Sampler(
    model,
    samples=max(samples),
    fewest_samples=min(samples),
    max_prompt_tokens=config.data.max_prompt_tokens,
    max_tokens=max(config[section].max_tokens for section in sections),
    at_once=at_once,
    eos_ids=tokenizer.eos_ids,
    pad_id=tokenizer.pad_id,
    think_close_ids=tokenization.think_close_ids(tokenizer),
    **config.sampler,
    **options,
  )


def make_collector(
  config: ml_collections.ConfigDict,
  tokenizer: tokenization.Tokenizer,
  grader: Grader,
  section: str,
  sampler: Sampler,
) -> rollout.Collector:
  """What `config[section]` asks of a sampler, with the grader behind it."""
  phase = config[section]
  budget = phase.thinking_budget
  return rollout.Collector(
    tokenizer=tokenizer,
    sampler=sampler.part(samples=phase.samples, max_tokens=phase.max_tokens),
    grader=grader,
    max_prompt_tokens=config.data.max_prompt_tokens,
    instruction=config.data.instruction,
    thinking_budget=budget if budget else closing.ENDLESS,
  )


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


def set_state(experiment: Experiment, state: TrainState) -> None:
  """Takes over a state and the policy that it makes."""
  experiment.state = state
  experiment.params = experiment.programs.combine(
    state.params, experiment.frozen
  )
