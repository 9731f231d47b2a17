"""The samplers and graders of a run, as its config wants them."""

from collections.abc import Sequence
from typing import Any

import ml_collections
from jax.sharding import Mesh

from lrm_jax import rollout
from lrm_jax.models.config import ModelConfig
from lrm_jax.rewards.pool import Grader
from lrm_jax.sampler import closing, settings
from lrm_jax.sampler.draw import NO_RULES
from lrm_jax.sampler.engine import Sampler
from lrm_jax.tokenization import base as tokenization


def make_collectors(
  config: ml_collections.ConfigDict,
  model: ModelConfig,
  tokenizer: tokenization.Tokenizer,
  grader: Grader,
  mesh: Mesh | None = None,
) -> tuple[rollout.Collector, rollout.Collector]:
  """(to train, to evaluate), with samplers as `config` wants them.

  Both run one sampler's programs in one set of buffers, unless one of them
  truncates the law: which rules are on is compiled in, and nobody wants the
  kept sets of an evaluation.
  """
  options = {
    section: settings.options(
      tokenizer,
      section,
      truncation=config[section].truncation,
      is_trained=section == 'train',
      thinking_budget=config[section].thinking_budget,
      **config.stopping,
    )
    for section in ('train', 'eval')
  }
  train, evaluation = options.values()
  if train['rules'] == evaluation['rules'] == NO_RULES:
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
