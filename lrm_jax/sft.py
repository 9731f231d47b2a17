"""The supervised loop: demonstrations in stages, token-mean cross-entropy.

Trains a new model (sizes in the config, with a vocabulary trained on the
data) or an existing one, evaluates it and writes it out with a model card.
"""

import dataclasses
import functools
import pathlib
import random
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from lrm_jax import (
  assets,
  checks,
  compilation,
  errors,
  interrupts,
  jsonl,
  metrics,
  optim,
  packing,
  policy,
  rng,
  rollout,
)
from lrm_jax import workdir as run_folder
from lrm_jax.checkpoints import config_json, huggingface
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.data import demonstrations, prompts, sources
from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.evaluation import evaluator, scores
from lrm_jax.models import feed_forward, positions, presets, transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.reporting import model_card, tables
from lrm_jax.rewards.pool import Grader
from lrm_jax.sampler.engine import Sampler
from lrm_jax.structs import Array, TrainState
from lrm_jax.tokenization import base as tokenization
from lrm_jax.tokenization import training


@dataclasses.dataclass(frozen=True)
class Stage:
  """Some steps on one kind of demonstrations, in rows of one shape."""

  steps: int
  rows: int
  row_length: int
  source: demonstrations.Source


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """`lrm sft`: trains, evaluates, writes `model/` with its card.

  Args:
    config: see `configs/tiny_lrm.py`.
    workdir: the run's folder. The same config continues where it stopped.
  """
  watch = compilation.CompileWatch()
  check(config)
  is_resumed = run_folder.open_run(workdir, config, 'sft', mutable=())
  model, params, tokenizer = open_model(config, workdir)
  model = model.for_length(longest_sequence(config))
  stages = make_stages(config, tokenizer)
  steps = sum(stage.steps for stage in stages)
  optimizer = optim.make_optimizer(config.optimizer, steps)
  parts = policy.divide(config, model, params, needs_reference=False)
  state = TrainState(jnp.int32(0), parts.trained, optimizer.init(parts.trained))
  host = {'cursors': [0] * len(stages), 'seconds': 0.0, 'tokens': 0}
  checkpoints = RunCheckpoints(workdir, keep=1)
  if is_resumed and checkpoints.latest_step() is not None:
    step = checkpoints.latest_step()
    host = checkpoints.restore_host(step)
    state = checkpoints.restore_state(step, state)
  state = train(
    functools.partial(
      make_step(
        model,
        optimizer,
        make_places(config),
        parts.combine,
        config.load_balance,
      ),
      frozen=parts.frozen,
    ),
    state,
    stages,
    host,
    config,
    workdir,
    checkpoints,
  )
  checkpoints.close()
  summary = {
    'verb': 'sft',
    'config': config.to_dict(),
    'steps': steps,
    'seconds': host['seconds'],
    'tokens_per_second': host['tokens'] / host['seconds'],
    'compile_seconds': watch.seconds,
    'device': jax.devices()[0].device_kind,
  }
  params = parts.combine(state.params, parts.frozen)
  policy.export(
    workdir, config, model, tokenizer, trained=state.params, params=params
  )
  finish(config, workdir, model, params, tokenizer, summary)


def check(config: ml_collections.ConfigDict) -> None:
  """Opens everything the config points to; its errors come before writing."""
  optim.make_optimizer(config.optimizer, 1)
  for stage in stage_configs(config):
    chain_arithmetic.Style(**stage.style)
  if config.model.path is None:
    model = new_model(config)
  else:
    directory = assets.resolve(config.model.path)
    model = huggingface.read_config(directory)
    tokenization.load(directory)
  config_json.render(model, model.param_dtype)  # Not at the end first.
  policy.start(config, model)
  checks.check_load_balance('load_balance', config.load_balance, model)
  rows = max(stage.row_length for stage in stage_configs(config))
  if config.position_limit and not rows <= config.position_limit:
    raise errors.UserError(
      f'position_limit={config.position_limit}: rows reach {rows} tokens; '
      'give at least as many positions, or 0 for those of the tokens'
    )
  longest = longest_sequence(config)
  if longest > model.max_positions:
    raise errors.UserError(
      f'stages and eval reach {longest} tokens; the window of the model, '
      f'max_positions, is {model.max_positions}; lower row_length or max_tokens'
    )
  if config.data.train != 'chain_arithmetic':
    jsonl.read_rows(config.data.train)
  if config.eval.problems:
    sources.load_problems(config.data.eval, split='heldout', limit=1)


def longest_sequence(config: ml_collections.ConfigDict) -> int:
  """Positions that training or evaluation may reach."""
  rows = max(stage.row_length for stage in stage_configs(config))
  longest = max(rows, config.position_limit)
  if config.eval.problems:
    sequence = config.data.max_prompt_tokens + config.eval.max_tokens
    longest = max(longest, sequence)
  return longest


def new_model(config: ml_collections.ConfigDict) -> ModelConfig:
  """The architecture of a new model."""
  return presets.build(**config.model.new)


def open_model(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> tuple[ModelConfig, Any, tokenization.Tokenizer]:
  """An existing model, or a new one with a vocabulary of its own."""
  if config.model.path is not None:
    directory = assets.resolve(config.model.path)
    model, params = huggingface.load(directory)
    tokenizer = tokenization.load(directory)
    return huggingface.fit_vocabulary(model, tokenizer), params, tokenizer
  model = new_model(config)
  directory = workdir / 'tokenizer'
  # Its last file: a start that was killed before is made again.
  if not (directory / 'tokenizer_config.json').exists():
    train_vocabulary(config, directory)
  tokenizer = tokenization.load(directory)
  model = huggingface.fit_vocabulary(model, tokenizer)
  params = transformer.init_params(model, rng.stream(config.seed, 'init'))
  return model, params, tokenizer


def train_vocabulary(
  config: ml_collections.ConfigDict, directory: pathlib.Path
) -> None:
  """A SentencePiece vocabulary over traces of the last stage's style."""
  stage = stage_configs(config)[-1]
  style = chain_arithmetic.Style(**stage.style)

  def texts():
    for index in range(config.tokenizer.examples):
      problem = chain_arithmetic.make_problem(
        index, 'train', tuple(range(1, chain_arithmetic.MAX_LEVEL + 1))
      )
      trace = chain_arithmetic.trace(problem, style, random.Random(index))
      yield f'{problem.question}{prompts.THINK_OPEN}{trace}'

  training.train(
    texts(),
    directory,
    vocab_size=config.tokenizer.vocab_size,
    symbols=chain_arithmetic.SYMBOLS,
  )


def stage_configs(
  config: ml_collections.ConfigDict,
) -> list[ml_collections.ConfigDict]:
  """The stages in the order of their names."""
  return [config.stages[name] for name in sorted(config.stages)]


def make_stages(
  config: ml_collections.ConfigDict, tokenizer: tokenization.Tokenizer
) -> list[Stage]:
  """Every stage with its source of demonstrations."""

  def source(stage: ml_collections.ConfigDict) -> demonstrations.Source:
    if config.data.train != 'chain_arithmetic':
      return demonstrations.from_jsonl(
        tokenizer, config.data.train, config.seed
      )
    return demonstrations.chain_traces(
      tokenizer,
      chain_arithmetic.Style(**stage.style),
      levels=tuple(stage.levels),
      max_tokens=stage.max_tokens,
      seed=config.seed,
    )

  return [
    Stage(stage.steps, stage.rows, stage.row_length, source(stage))
    for stage in stage_configs(config)
  ]


def make_places(
  config: ml_collections.ConfigDict,
) -> Callable[[packing.Rows, Array], Array]:
  """`places(rows, step) -> [R, S]`: the positions that rows are trained at.

  Those of their tokens or, with a `position_limit`, a random subset of 0 ..
  limit - 1 for each sequence, so that the model meets positions beyond them.
  """
  limit = config.position_limit
  if not limit:
    return lambda rows, step: rows.positions

  def places(rows: packing.Rows, step: Array) -> Array:
    key = jax.random.fold_in(rng.stream(config.seed, 'positions'), step)
    return positions.randomised(key, rows.segment_ids, limit)

  return places


def make_step(
  model: ModelConfig,
  optimizer: optax.GradientTransformation,
  places: Callable[[packing.Rows, Array], Array],
  combine: Callable[..., Any] = policy.whole,
  load_balance: float = 0.0,
):
  """Builds `step(state, rows, mask, frozen=None) -> state, loss`.

  The state is donated; see `policy.Parts` for `frozen` and `combine`.
  loss = sum of -log p(token) over response tokens / their number, in nats,
  plus `load_balance` times `feed_forward.load_balance` of all tokens.
  """

  def loss_of(trained, frozen, rows: packing.Rows, at: Array, mask: Array):
    params = combine(trained, frozen)
    hidden, kept = transformer.apply(
      model, params, rows.tokens, at, rows.segment_ids
    )
    # Position i predicts token i + 1. The last column's target would be the
    # row's own first token, a prompt token, whose mask is 0.
    targets = jnp.roll(rows.tokens, -1, axis=-1)
    weights = jnp.roll(mask, -1, axis=-1)
    logp, _ = transformer.token_logp(model, params, hidden, targets, chunk=4096)
    loss = -jnp.sum(logp * weights) / jnp.sum(weights)
    if load_balance:
      loads = feed_forward.loads(kept.routing, model.experts.used)
      loss += load_balance * feed_forward.load_balance(loads, kept.routing)
    return loss

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state: TrainState, rows: packing.Rows, mask: Array, frozen=None):
    at = places(rows, state.step)
    loss, grads = jax.value_and_grad(loss_of)(
      state.params, frozen, rows, at, mask
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), loss

  return step


def train(
  step_function, state, stages, host, config, workdir, checkpoints
) -> TrainState:
  """Runs the remaining steps; Ctrl-C saves a checkpoint, then raises.

  `host` is changed in place: the next demonstration of each stage, and the
  seconds spent on steps by all starts of the run.
  """
  first = int(state.step)
  ends = np.cumsum([stage.steps for stage in stages])
  writer = metrics.MetricsWriter(workdir, first)
  progress = metrics.Progress(int(ends[-1]), 'sft', start=first)
  with interrupts.Interrupts() as stop, progress:
    for step in range(first + 1, int(ends[-1]) + 1):
      began = time.time()
      index = int(np.searchsorted(ends, step))
      stage = stages[index]
      rows, mask, host['cursors'][index] = packing.pack_demonstrations(
        stage.source,
        host['cursors'][index],
        rows=stage.rows,
        row_length=stage.row_length,
      )
      state, loss = step_function(state, rows, mask)
      loss, tokens = float(loss), int((rows.segment_ids > 0).sum())
      if not np.isfinite(loss):
        raise FloatingPointError(f'loss is {loss} at step {step}')
      seconds = time.time() - began
      host['seconds'] += seconds
      host['tokens'] += tokens
      speed = tokens / seconds
      values = {'loss': loss, 'tokens': tokens, 'tokens_per_second': speed}
      writer.write(step, values | {'stage': index})
      progress.update(step, {'loss': loss, 'tokens/s': speed})
      is_due = step % config.checkpoint_every == 0 or step == ends[-1]
      if is_due or stop.requested:
        checkpoints.save(step, state, host)
      if stop.requested:
        checkpoints.close()
        raise KeyboardInterrupt(f'saved step {step}; run again to continue')
  writer.close()
  return state


def finish(config, workdir, model, params, tokenizer, summary) -> None:
  """Evaluates, adds its card to the model, prints the table, sums up."""
  summary |= {'parameters': sum(x.size for x in jax.tree.leaves(params))}
  if config.eval.problems:
    summary |= evaluate(config, model, params, tokenizer)
    print(tables.by_level(summary['by_level']))
    card = model_card.write(summary, workdir / 'model' / 'README.md')
    print(f'{workdir / "model"}: {card}')
  run_folder.write_summary(workdir, summary)


def evaluate(config, model, params, tokenizer) -> dict[str, Any]:
  """Scores of the trained model on `config.data.eval`, overall and by level.

  For chain arithmetic each level also states the tokens of its shortest
  correct trace.
  """
  settings = config.eval
  problems = sources.load_problems(
    config.data.eval, split='heldout', limit=settings.problems
  )
  with Grader() as grader:
    collector = rollout.Collector(
      tokenizer=tokenizer,
      sampler=Sampler(
        model,
        samples=settings.samples,
        slots=settings.slots,
        max_prompt_tokens=config.data.max_prompt_tokens,
        max_tokens=settings.max_tokens,
        eos_ids=tokenizer.eos_ids,
        pad_id=tokenizer.pad_id,
        think_close_ids=tokenization.think_close_ids(tokenizer),
      ),
      grader=grader,
      max_prompt_tokens=config.data.max_prompt_tokens,
    )
    found = evaluator.evaluate(
      collector,
      params,
      problems,
      cap=settings.max_tokens,
      seed=config.seed,
      temperature=settings.temperature,
    )
  by_level = scores.by_level(problems, found)
  if config.data.eval == 'chain_arithmetic':
    shortest = demonstrations.shortest_tokens(tokenizer)
    for row in by_level:
      row['shortest_tokens'] = shortest(row['level'])
  return scores.summarize(found) | {'by_level': by_level}
