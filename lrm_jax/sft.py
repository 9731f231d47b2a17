"""The supervised loop: demonstrations in stages, a loss of `sft_losses.py`.

Trains a new model (sizes in the config, with a vocabulary trained on the
data) or an existing one, evaluates it and writes it out with a model card.
"""

import dataclasses
import functools
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from lrm_jax import (
  alarms,
  assets,
  checks,
  clock,
  compilation,
  distributed,
  errors,
  goodput,
  incidents,
  interrupts,
  locking,
  metrics,
  optim,
  packing,
  policy,
  rng,
  rollout,
  sft_losses,
  sft_numbers,
  sft_resuming,
  sft_step,
  sharding,
  storage,
  tracing,
)
from lrm_jax import mesh as mesh_lib
from lrm_jax import workdir as run_folder
from lrm_jax.checkpoints import config_json, huggingface
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.data import demonstrations, sources
from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.evaluation import evaluator, scores
from lrm_jax.models import presets, transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.reporting import model_card, tables
from lrm_jax.rewards.pool import Grader
from lrm_jax.sampler.engine import Sampler
from lrm_jax.structs import TrainState
from lrm_jax.tokenization import base as tokenization
from lrm_jax.tokenization import training


@dataclasses.dataclass(frozen=True)
class Stage:
  """Some steps on one kind of demonstrations, in rows of one shape."""

  steps: int
  rows: int
  row_length: int
  source: demonstrations.Source


def run(
  config: ml_collections.ConfigDict,
  workdir: storage.Path,
  profile: range = range(0),
) -> None:
  """`lrm sft`: trains, evaluates, writes `model/` with its card.

  Args:
    config: see `configs/tiny_lrm.py`.
    workdir: here or in a bucket. The same config continues where it stopped.
    profile: steps that are traced, into WORKDIR/profile.
  """
  distributed.initialize()
  began = clock.now()
  watch = compilation.CompileWatch()
  with interrupts.of_run():
    interrupts.check_loading(workdir)
    mesh = check(config)
    distributed.from_main(
      lambda: run_folder.check_run(workdir, config, 'sft', sft_resuming.SAFE)
    )
    with locking.held(workdir):
      _run(config, workdir, profile, mesh, watch, began)


def _run(
  config: ml_collections.ConfigDict,
  workdir: storage.Path,
  profile: range,
  mesh: Mesh | None,
  watch: compilation.CompileWatch,
  began: float,
) -> None:
  distributed.from_main(
    lambda: run_folder.open_run(workdir, config, 'sft', sft_resuming.SAFE)
  )
  started = distributed.from_main(lambda: goodput.first_start(workdir, began))
  model, params, tokenizer = open_model(config, workdir, mesh)
  model = model.for_length(longest_sequence(config))
  rows = read_rows(config)
  stages = make_stages(config, tokenizer, rows)
  steps = sum(stage.steps for stage in stages)
  optimizer = optim.make_optimizer(config.optimizer, steps)
  parts = policy.divide(config, model, params, needs_reference=False)
  state = policy.start_state(optimizer, parts.trained, mesh)
  contents = sft_resuming.contents_of(tokenizer, rows)
  step_function = sft_step.of_run(config, model, optimizer, parts.combine, mesh)
  with RunCheckpoints(workdir, keep=1) as checkpoints:
    state, host = sft_resuming.restore(
      config, checkpoints, state, parts.frozen, contents
    )
    interrupts.check_loading(workdir)
    state = train(
      functools.partial(step_function, frozen=parts.frozen),
      state,
      stages,
      host,
      functools.partial(
        sft_numbers.add_step, config, model, host, watch, started
      ),
      config,
      workdir,
      checkpoints,
      mesh,
      tracing.Tracer(workdir, profile),
    )
  params = parts.combine(state.params, parts.frozen)
  whole = distributed.whole({'trained': state.params, 'params': params})
  if distributed.is_main():
    policy.export(workdir, config, model, tokenizer, **whole)
  summary = sft_numbers.summarize(config, steps, host, watch)
  finish(config, workdir, model, params, tokenizer, summary, mesh)


def check(config: ml_collections.ConfigDict) -> Mesh | None:
  """The mesh of several devices; all that the config points to was opened."""
  optim.make_optimizer(config.optimizer, 1)
  sft_losses.of_run(config)
  checks.check_skipped('max_skipped', config.max_skipped)
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
  mesh = mesh_lib.make(config.mesh)
  for name, stage in config.stages.items():
    checks.check_mesh(f'stages.{name}', stage, mesh)
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
  read_rows(config)
  if config.eval.problems:
    sources.load_problems(config.data.eval, split='heldout', limit=1)
  return mesh if mesh.size > 1 else None


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
  config: ml_collections.ConfigDict, workdir: storage.Path, mesh: Mesh | None
) -> tuple[ModelConfig, Any, tokenization.Tokenizer]:
  """An existing model, or a new one with a vocabulary of its own."""
  if config.model.path is not None:
    directory = assets.resolve(config.model.path)
    stored = huggingface.read_config(directory)
    model, params = huggingface.load(
      directory, sharding=sharding.parameter_shardings(stored, mesh)
    )
    tokenizer = tokenization.load(directory)
    return huggingface.fit_vocabulary(model, tokenizer), params, tokenizer
  model = new_model(config)
  directory = workdir / 'tokenizer'
  distributed.from_main(lambda: make_vocabulary(config, directory))
  with storage.Mirror(directory) as files:
    files.fetch()
    tokenizer = tokenization.load(files.folder)
  model = huggingface.fit_vocabulary(model, tokenizer)
  params = transformer.init_params(model, rng.stream(config.seed, 'init'))
  params = jax.device_put(params, sharding.parameter_shardings(model, mesh))
  return model, params, tokenizer


def make_vocabulary(
  config: ml_collections.ConfigDict, directory: storage.Path
) -> None:
  """A SentencePiece vocabulary over traces of the last stage's style.

  Or over questions and responses of a file, which then has no numbers of its
  own: those of traces are one piece each.
  """
  # Its last file: a start that was killed before is made again.
  if (directory / 'tokenizer_config.json').exists():
    return
  path, count = config.tokenizer.path, config.tokenizer.examples
  if path is not None:
    texts = demonstrations.texts_of_rows(path, count)
  else:
    style = chain_arithmetic.Style(**stage_configs(config)[-1].style)
    texts = demonstrations.texts_of_traces(style, count)
  with storage.Mirror(directory) as files:
    training.train(
      texts,
      files.folder,
      vocab_size=config.tokenizer.vocab_size,
      symbols=chain_arithmetic.SYMBOLS if path is None else (),
    )


def stage_configs(
  config: ml_collections.ConfigDict,
) -> list[ml_collections.ConfigDict]:
  """The stages in the order of their names."""
  return [config.stages[name] for name in sorted(config.stages)]


def read_rows(config: ml_collections.ConfigDict) -> list[dict] | None:
  """The demonstrations of a file; None where they are generated."""
  if config.data.train == 'chain_arithmetic':
    return None
  return demonstrations.read_jsonl(config.data.train)


def make_stages(
  config: ml_collections.ConfigDict,
  tokenizer: tokenization.Tokenizer,
  rows: list[dict] | None,
) -> list[Stage]:
  """Every stage with its source of demonstrations; for `rows` see above."""

  def source(stage: ml_collections.ConfigDict) -> demonstrations.Source:
    if rows is not None:
      return demonstrations.from_rows(tokenizer, rows, config.seed)
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


def train(
  step_function,
  state,
  stages,
  host,
  numbers,
  config,
  workdir,
  checkpoints,
  mesh,
  tracer,
) -> TrainState:
  """Runs the remaining steps; a signal saves a checkpoint, then raises.

  `host` is changed in place: the next demonstration of each stage and, by
  `numbers(rows, mask, began)`, the totals of all starts of the run.
  """
  first = int(state.step)
  ends = np.cumsum([stage.steps for stage in stages])
  writer = metrics.open_writer(workdir, first)
  progress = metrics.Progress(int(ends[-1]), 'sft', start=first)
  with progress, tracer, writer:
    for step in range(first + 1, int(ends[-1]) + 1):
      began = clock.now()
      index = int(np.searchsorted(ends, step))
      stage = stages[index]
      rows, mask, host['cursors'][index] = packing.pack_demonstrations(
        stage.source,
        host['cursors'][index],
        rows=stage.rows,
        row_length=stage.row_length,
      )
      with tracer.step(step):
        state, found = step_function(
          state, *sharding.put((rows, mask), mesh, sharding.ROWS)
        )
        found = {name: float(x) for name, x in jax.device_get(found).items()}
      reason = incidents.note_sft(
        state, config, host, workdir, step, found, rows, mask
      )
      values = found | {'stage': index} | numbers(rows, mask, began)
      writer.write(step, values)
      checkpoints.check()
      speed = values['tokens_per_second']
      progress.update(step, {'loss': found['loss'], 'tokens/s': speed})
      is_due = step % config.checkpoint_every == 0 or step == ends[-1]
      is_stopped = distributed.any_of(interrupts.is_requested())
      if is_due or is_stopped or reason is not None:
        writer.flush()
        sft_resuming.save(checkpoints, state, host, writer.position())
      if reason is not None:
        alarms.end(checkpoints, reason, step)
      if is_stopped:
        checkpoints.close()
        raise errors.Stopped(interrupts.at_step(step))
  return state


def finish(config, workdir, model, params, tokenizer, summary, mesh) -> None:
  """Evaluates, adds its card to the model, prints the table, sums up."""
  summary |= {'parameters': sum(x.size for x in jax.tree.leaves(params))}
  if config.eval.problems:
    summary |= evaluate(config, model, params, tokenizer, mesh)
  if not distributed.is_main():
    return
  if config.eval.problems:
    print(tables.by_level(summary['by_level']))
    card = model_card.write(summary, workdir / 'model' / 'README.md')
    print(f'{workdir / "model"}: {card}')
  run_folder.write_summary(workdir, summary)


def evaluate(config, model, params, tokenizer, mesh) -> dict[str, Any]:
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
        mesh=mesh,
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
