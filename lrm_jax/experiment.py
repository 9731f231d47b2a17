"""What a training run is made of: model, data, recipe, state.

`build` reads the config and everything it points to; a mistake in either
shows here, before anything is written.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from lrm_jax import assets, errors, optim, rollout, train_step
from lrm_jax.checkpoints import huggingface
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.data import pipeline, sources
from lrm_jax.models.config import ModelConfig
from lrm_jax.objectives import recipe as recipe_lib
from lrm_jax.rewards.pool import Grader
from lrm_jax.sampler.engine import Sampler
from lrm_jax.structs import Problem, TokenTerms, TrainState
from lrm_jax.tokenization import base as tokenization

# Longer sets than this are generated, one template for all of them.
CHECKED_PROMPTS = 200_000
GENERATED_PROMPTS = 1000


@dataclasses.dataclass
class Experiment:
  """Everything a run holds.

  Only `state`, `memory`, `stream` and `seconds` (of all steps so far) change.
  """

  config: ml_collections.ConfigDict
  model: ModelConfig
  tokenizer: tokenization.Tokenizer
  recipe: recipe_lib.Recipe
  collector: rollout.Collector
  eval_collector: rollout.Collector
  eval_problems: Sequence[Problem]
  stream: pipeline.ProblemStream
  shape: Callable[..., Any]
  credit: Callable[..., Any]
  update: Callable[..., Any]
  state: TrainState
  ref_params: Any
  memory: dict[str, Any]
  seconds: float = 0.0


def build(config: ml_collections.ConfigDict, grader: Grader) -> Experiment:
  """Loads model, data and recipe; writes nothing."""
  recipe = recipe_lib.build(config)
  directory = assets.resolve(config.model.path)
  loaded, params = huggingface.load(
    directory, param_dtype=config.model.param_dtype
  )
  model = dataclasses.replace(
    loaded, **{k: v for k, v in config.model.items() if k != 'path'}
  )
  tokenizer = tokenization.load(directory)
  huggingface.check_vocabulary(model, tokenizer)
  check_sizes(config, model)
  check_recipe(config, recipe)
  collector = functools.partial(
    make_collector, config, model, tokenizer, grader
  )
  train_problems = sources.load_problems(
    config.data.train, split=config.data.train_split, data_dir=config.data.dir
  )
  eval_problems = sources.load_problems(
    config.data.eval,
    split=config.data.eval_split,
    limit=config.eval.problems if config.eval.problems else None,
    data_dir=config.data.dir,
  )
  for problems in (train_problems, eval_problems):
    check_prompts(config, tokenizer, problems)
  optimizer = optim.make_optimizer(
    config.optimizer, config.train.steps * config.train.mini_batches
  )
  params = jax.tree.map(jnp.asarray, params)
  return Experiment(
    config=config,
    model=model,
    tokenizer=tokenizer,
    recipe=recipe,
    collector=collector(config.train.samples, config.train.max_tokens),
    eval_collector=collector(config.eval.samples, config.eval.max_tokens),
    eval_problems=eval_problems,
    stream=pipeline.ProblemStream(
      train_problems, batch_size=config.train.problems, seed=config.seed
    ),
    shape=train_step.make_shape(recipe),
    credit=train_step.make_credit(recipe),
    update=train_step.make_update(
      model,
      recipe,
      optimizer,
      temperature=config.train.temperature,
      chunk=config.train.logit_chunk,
    ),
    state=TrainState(jnp.int32(0), params, optimizer.init(params)),
    # A copy: the update donates the state's own buffers.
    ref_params=jax.tree.map(jnp.copy, params)
    if recipe.needs_reference
    else None,
    memory={},
  )


def make_collector(
  config, model, tokenizer, grader, samples: int, max_tokens: int
) -> rollout.Collector:
  """A sampler of this shape with the grader behind it."""
  return rollout.Collector(
    tokenizer=tokenizer,
    sampler=Sampler(
      model,
      samples=samples,
      batch=config.sampler.batch,
      max_tokens=max_tokens,
      eos_ids=tokenizer.eos_ids,
      pad_id=tokenizer.pad_id,
      think_close_ids=tokenization.think_close_ids(tokenizer),
      check_every=config.sampler.check_every,
    ),
    grader=grader,
    max_prompt_tokens=config.data.max_prompt_tokens,
    instruction=config.data.instruction,
  )


def mutable_keys(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """What may change between two starts of one run.

  A run can be made longer, unless its learning rate depends on its length.
  """
  return ('train.steps',) if config.optimizer.schedule == 'constant' else ()


def check_prompts(
  config: ml_collections.ConfigDict,
  tokenizer: tokenization.Tokenizer,
  problems: Sequence[Problem],
) -> None:
  """Encodes every prompt once: a too long one must not end a run midway.

  Of a generated set, which is longer than any file, only the start.
  """
  count = len(problems)
  if count > CHECKED_PROMPTS:
    count = GENERATED_PROMPTS
  for i in range(count):
    pipeline.encode_problems(
      tokenizer,
      [problems[i]],
      config.data.max_prompt_tokens,
      config.data.instruction,
    )


def check_recipe(
  config: ml_collections.ConfigDict, recipe: recipe_lib.Recipe
) -> None:
  """Calls every part that can refuse its numbers, on shapes alone."""
  token = jax.ShapeDtypeStruct((1, 1, 1), jnp.float32)
  terms = TokenTerms(*[token] * len(dataclasses.fields(TokenTerms)))
  jax.eval_shape(recipe.token_loss, terms)
  jax.eval_shape(recipe.aggregate, token)
  cap, room = int(recipe.budget(1)), config.train.max_tokens
  if not 1 <= cap <= room:
    raise errors.UserError(
      f'objective.budget.cap gives {cap} tokens; train.max_tokens allows 1 to '
      f'{room}; change one of them'
    )


def check_sizes(config: ml_collections.ConfigDict, model: ModelConfig) -> None:
  """Refuses sizes that cannot work, before anything is written."""
  check_numbers(config)
  sizes = config.train
  prompt = config.data.max_prompt_tokens
  longest = prompt + max(sizes.max_tokens, config.eval.max_tokens)
  if longest > model.max_positions:
    raise errors.UserError(
      f'data.max_prompt_tokens={prompt} and max_tokens make sequences of '
      f'{longest} tokens; the window of {config.model.path} is '
      f'{model.max_positions}; lower one of them'
    )
  if prompt + sizes.max_tokens > sizes.row_length:
    raise errors.UserError(
      f'train.row_length={sizes.row_length} is below data.max_prompt_tokens + '
      f'train.max_tokens = {prompt + sizes.max_tokens}; raise it'
    )
  if sizes.rows < sizes.samples:
    raise errors.UserError(
      f'train.rows={sizes.rows} is below train.samples={sizes.samples}; a '
      'micro-batch must hold a whole group; raise train.rows'
    )
  if sizes.problems % sizes.mini_batches:
    raise errors.UserError(
      f'train.mini_batches={sizes.mini_batches} does not divide '
      f'train.problems={sizes.problems}; change one of them'
    )


def check_numbers(config: ml_collections.ConfigDict) -> None:
  """Refuses numbers out of their range, and parameters too coarse to train."""
  positive = {
    'train': (
      'problems samples max_tokens max_rounds mini_batches temperature rows '
      'row_length groups logit_chunk checkpoint_every keep_checkpoints'
    ),
    'sampler': 'batch check_every',
    'eval': 'samples max_tokens',
  }
  for section, names in positive.items():
    for name in names.split():
      value = config[section][name]
      if not 0 < value < math.inf:
        raise errors.UserError(
          f'{section}.{name}={value} must be positive and finite'
        )
  if not 0 <= config.eval.temperature < math.inf:
    raise errors.UserError(
      f'eval.temperature={config.eval.temperature} must not be negative'
    )
  if config.model.param_dtype != 'float32':
    raise errors.UserError(
      f'model.param_dtype={config.model.param_dtype!r}: the steps of training '
      "are smaller than its spacing; use 'float32', and compute_dtype for speed"
    )


def restore(experiment: Experiment, checkpoints: RunCheckpoints) -> None:
  """Continues from the newest checkpoint, if there is one."""
  step = checkpoints.latest_step()
  if step is None:
    return
  like = {'train': experiment.state, 'memory': experiment.memory}
  state, host = checkpoints.restore(step, like)
  experiment.state, experiment.memory = state['train'], state['memory']
  experiment.stream.set_state(host['stream'])
  experiment.seconds = host['seconds']


def save(experiment: Experiment, checkpoints: RunCheckpoints) -> None:
  """Writes a checkpoint of the steps completed so far."""
  checkpoints.save(
    int(experiment.state.step),
    {'train': experiment.state, 'memory': experiment.memory},
    {
      'stream': experiment.stream.get_state(),
      'seconds': experiment.seconds,
    },
  )
