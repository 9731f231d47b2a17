"""What a config is refused for, before anything is written."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from lrm_jax import alarms, off_policy, offloading
from lrm_jax import mesh as mesh_lib
from lrm_jax.checkpoints import config_json
from lrm_jax.data import pipeline, prompts, sources
from lrm_jax.errors import UserError
from lrm_jax.models import cache
from lrm_jax.models.config import ModelConfig
from lrm_jax.objectives import allocation, curricula, revisions, targets
from lrm_jax.objectives import recipe as recipe_lib
from lrm_jax.objectives.measures import Response
from lrm_jax.objectives.memory import MemoryStore
from lrm_jax.rewards import guards
from lrm_jax.sampler import settings
from lrm_jax.sampler.draw import COLDEST, NO_RULES
from lrm_jax.structs import OF_PROBLEMS, Problem, Rollouts, TokenTerms
from lrm_jax.tokenization import base as tokenization

# What a measure makes of no text; its keys are looked at all the same.
_EMPTY = Response('', [], '', 0, '0', False, tokenizer=None)
# Longer sets than this are generated, one template for all of them.
CHECKED_PROMPTS = 200_000
GENERATED_PROMPTS = 1000


def check_prompts(
  config: ml_collections.ConfigDict,
  tokenizer: tokenization.Tokenizer,
  problems: Sequence[Problem],
) -> None:
  """Encodes every prompt once: a too long one must not end a run midway.

  Of a generated set, which is longer than any file, only the start.
  """
  instruction = config.data.instruction
  if prompts.states_target(instruction):
    longest = 1 if '{level}' in instruction else config.train.max_tokens
    instruction = prompts.state_target(instruction, longest)
  count = len(problems)
  if count > CHECKED_PROMPTS:
    count = GENERATED_PROMPTS
  if isinstance(problems, sources.ProblemSource):
    count = problems.first(count)
  for i in range(count):
    pipeline.encode_problems(
      tokenizer,
      [problems[i]],
      config.data.max_prompt_tokens,
      instruction,
    )


def check_recipe(
  config: ml_collections.ConfigDict, recipe: recipe_lib.Recipe
) -> None:
  """Calls every part that can refuse its numbers, on shapes alone."""
  token = jax.ShapeDtypeStruct((1, 2, 1), jnp.float32)
  terms = TokenTerms(*[token] * len(dataclasses.fields(TokenTerms)))
  jax.eval_shape(functools.partial(_loss, recipe), terms)
  rollouts = abstract_rollouts(recipe)
  memory = MemoryStore(recipe.start_memory()).take(['any'])
  jax.eval_shape(recipe.reward, rollouts, memory)
  jax.eval_shape(recipe.revision, rollouts)
  number = jax.ShapeDtypeStruct((1, 2), jnp.float32)
  jax.eval_shape(recipe.advantage, number, token)
  for bonus in recipe.bonuses:
    jax.eval_shape(bonus.function, rollouts, token)
  jax.eval_shape(recipe.demonstration, rollouts)
  jax.eval_shape(recipe.credit, rollouts, token, token, token)
  jax.eval_shape(recipe.correction, token, token, token)
  if recipe.curriculum.func in curricula.OF_PASS_RATES:
    recipe.curriculum(np.zeros(1))
  for measure in recipe.measures:
    measure.function(_EMPTY)
  words = jax.ShapeDtypeStruct((1, 2), jnp.uint32)
  keys = jax.eval_shape(jax.random.wrap_key_data, words)
  jax.eval_shape(recipe.target, keys, 1)
  check_target(config, recipe)
  check_budget(config, recipe)
  check_truncation(config, recipe)
  offloading.check(config, recipe)


def check_budget(
  config: ml_collections.ConfigDict, recipe: recipe_lib.Recipe
) -> None:
  """Refuses a budget that leaves the room for a response at any step."""
  caps = [int(recipe.budget(step)) for step in range(1, config.train.steps + 1)]
  room = config.train.max_tokens
  for cap in (min(caps), max(caps)):
    if not 1 <= cap <= room:
      raise UserError(
        f'objective.budget gives {cap} tokens; train.max_tokens allows 1 to '
        f'{room}; change one of them'
      )


def check_truncation(
  config: ml_collections.ConfigDict, recipe: recipe_lib.Recipe
) -> None:
  """Refuses to truncate what a recipe changes after it was sampled."""
  if settings.law(config.train.truncation, 'train').rules == NO_RULES:
    return
  if recipe.demonstrates:
    raise UserError(
      'objective.demonstration with train.truncation: nobody knows what would '
      "have been kept beside a given response; set it to 'undemonstrated', or "
      'the rules off'
    )
  if recipe.curriculum.func is allocation.gvm:
    raise UserError(
      "objective.curriculum.name='gvm' with train.truncation: its gradients "
      'are of the whole law, not of the one that is sampled; choose another '
      'curriculum, or set the rules off'
    )
  name = recipe.revision.func.__name__
  if recipe.revision.func is not revisions.unrevised:
    raise UserError(
      f'objective.revision.name={name!r} with train.truncation: what follows '
      'a removed piece was drawn behind another text, so nobody knows what '
      "would have been kept there; set the revision to 'unrevised', or the "
      'rules off'
    )


def check_target(
  config: ml_collections.ConfigDict, recipe: recipe_lib.Recipe
) -> None:
  """A target that no prompt states, or a place for one that never comes."""
  function, instruction = recipe.target.func, config.data.instruction
  is_level = function is targets.level_target
  wanted = ['{level}' if is_level else '{target}']
  if function is targets.no_target:
    wanted = []
  if [place for place in prompts.PLACES if place in instruction] != wanted:
    raise UserError(
      f'objective.target.name={function.__name__!r} and data.instruction='
      f'{instruction!r}: of {", ".join(prompts.PLACES)} the instruction must '
      f'have {wanted[0] if wanted else "neither"}; change one of them'
    )
  # Levels are counted from 0, tokens from 1.
  low, high = (0, 2) if is_level else (1, math.inf)
  if wanted and not low <= config.eval.target <= high:
    raise UserError(
      f'eval.target={config.eval.target}: what the prompts of an evaluation '
      f'ask for; give {"a level, 0 to 2" if is_level else "at least 1 token"}'
    )


def abstract_rollouts(recipe: recipe_lib.Recipe) -> Rollouts:
  """The shapes of one group of two one-token responses."""
  shapes = {
    'prompt_ids': (1, 1),
    'response_ids': (1, 2, 1),
    'sampler_logp': (1, 2, 1),
    'forced': (1, 2, 1),
  }
  kinds = {'correct': 'float32', 'sampler_logp': 'float32'}
  kinds |= dict.fromkeys(
    ('truncated', 'think_closed', 'answered', 'verified', 'forced'), 'bool'
  )
  fields = {'kept_ids': None}
  for field in dataclasses.fields(Rollouts):
    if field.name in fields:
      continue
    name = field.name
    shape = (1,) if name in OF_PROBLEMS else (1, 2)
    fields[name] = jax.ShapeDtypeStruct(
      shapes[name] if name in shapes else shape,
      kinds[name] if name in kinds else 'int32',
    )
  number = jax.ShapeDtypeStruct((1, 2), 'float32')
  measures = {part.name: number for part in recipe.measures}
  hits = dict.fromkeys(guards.GUARDS, jax.ShapeDtypeStruct((1, 2), 'bool'))
  return Rollouts(**fields | {'measures': measures, 'guards': hits})


def _loss(recipe: recipe_lib.Recipe, terms: TokenTerms) -> jax.Array:
  focus = recipe.focus(terms.logp, terms.old_logp, terms.advantage, terms.mask)
  advantages = (terms.advantage,) * recipe.advantages
  weights = recipe.weights(terms.mask)
  return recipe.total(terms, advantages, weights, focus)


def check_sizes(config: ml_collections.ConfigDict, model: ModelConfig) -> None:
  """Refuses sizes that cannot work, before anything is written."""
  check_numbers(config)
  # A model that cannot be exported must not be found out at the end.
  config_json.render(model, model.param_dtype)
  sizes = config.train
  prompt = config.data.max_prompt_tokens
  longest = prompt + max(sizes.max_tokens, config.eval.max_tokens)
  if longest > model.max_positions:
    raise UserError(
      f'data.max_prompt_tokens={prompt} and max_tokens make sequences of '
      f'{longest} tokens; the window of {config.model.path} is '
      f'{model.max_positions}; lower one of them'
    )
  if prompt + sizes.max_tokens > sizes.row_length:
    raise UserError(
      f'train.row_length={sizes.row_length} is below data.max_prompt_tokens + '
      f'train.max_tokens = {prompt + sizes.max_tokens}; raise it'
    )
  if sizes.rows < sizes.samples:
    raise UserError(
      f'train.rows={sizes.rows} is below train.samples={sizes.samples}; a '
      'micro-batch must hold a whole group; raise train.rows'
    )
  check_load_balance('train.load_balance', sizes.load_balance, model)
  off_policy.check(config)
  if sizes.problems % sizes.mini_batches:
    raise UserError(
      f'train.mini_batches={sizes.mini_batches} does not divide '
      f'train.problems={sizes.problems}; change one of them'
    )


def check_mesh(
  section: str, sizes: ml_collections.ConfigDict, mesh: Mesh
) -> None:
  """Refuses rows that the devices of a mesh cannot share evenly."""
  for key, name in (('rows', 'rows'), ('row_length', 'places')):
    parts, value = mesh_lib.ways(name, mesh), sizes[key]
    if value % parts:
      axes = ' x '.join(f'{a}={mesh.shape[a]}' for a in mesh_lib.RULES[name])
      raise UserError(
        f'{section}.{key}={value} cannot be divided among {axes} devices; '
        f'choose a multiple of {parts}'
      )


def check_load_balance(key: str, value: float, model: ModelConfig) -> None:
  """Refuses a coefficient that cannot be, or one for no experts."""
  if not 0 <= value < math.inf:
    raise UserError(f'{key}={value} must be at least 0 (0: none) and finite')
  if value and model.experts is None:
    raise UserError(
      f'{key}={value} is for a mixture of experts and the model has none; set '
      'it to 0'
    )


def check_skipped(key: str, value: int) -> None:
  """Refuses a run that would end before its first update."""
  if value < 1:
    raise UserError(f'{key}={value} must be at least 1 update')


def check_sampler(settings: ml_collections.ConfigDict) -> None:
  """Refuses what no engine can be made of."""
  if settings.kv_dtype not in cache.DTYPES:
    raise UserError(
      f'sampler.kv_dtype={settings.kv_dtype!r} is not one of '
      f'{", ".join(cache.DTYPES)}'
    )
  if settings.round_tokens not in (1, 2, 4, 8, 16, 32):
    raise UserError(
      f'sampler.round_tokens={settings.round_tokens} must be a power of two, '
      f'at most {cache.PAGE}'
    )
  for name in ('kv_tokens', 'lanes'):
    if settings[name] < 0:
      raise UserError(
        f'sampler.{name}={settings[name]} must not be negative (0: as many as '
        'there can be)'
      )


def check_numbers(config: ml_collections.ConfigDict) -> None:
  """Refuses numbers out of their range, and parameters too coarse to train."""
  positive = {
    'train': (
      'problems samples max_tokens max_rounds mini_batches passes rows '
      'row_length groups logit_chunk checkpoint_every keep_checkpoints'
    ),
    'sampler': 'slots round_tokens tensor',
    'eval': 'samples max_tokens',
  }
  for section, names in positive.items():
    for name in names.split():
      value = config[section][name]
      if not 0 < value < math.inf:
        raise UserError(f'{section}.{name}={value} must be positive and finite')
  check_sampler(config.sampler)
  check_skipped('train.max_skipped', config.train.max_skipped)
  alarms.check(config.sentinels)
  for name in (
    'token_budget',
    'monitor_every',
    'monitor_problems',
    'rounds_ahead',
    'partial_tokens',
    'in_flight',
    'keep_best',
  ):
    if config.train[name] < 0:
      raise UserError(
        f'train.{name}={config.train[name]} must not be negative (0: none)'
      )
  if config.eval.responses < 0:
    raise UserError(
      f'eval.responses={config.eval.responses} must not be negative (0: no '
      'texts)'
    )
  for section, zero in (('train', False), ('eval', True)):
    value = config[section].temperature
    if not (COLDEST <= value < math.inf or (zero and value == 0)):
      raise UserError(
        f'{section}.temperature={value} must be finite and at least {COLDEST}'
        + (', or 0 for the most likely token' if zero else '')
      )
  # Adapters are float32 on whatever they stand.
  dtype = config.model.param_dtype
  if config.lora.rank == 0 and dtype not in ('float32', 'bfloat16'):
    raise UserError(
      f'model.param_dtype={dtype!r}: the steps of training are smaller than '
      "its spacing; use 'float32', and compute_dtype for speed, or 'bfloat16', "
      'which is rounded at random'
    )
