"""The RL loop: eight phases a step.

  choose, sample, verify, shape, select     see gathering.py
  credit   rewards become advantages
  update   packed rows go through the model, the optimizer steps
  record   metrics, rollouts and checkpoints are written

The device still works on a step's update while its rollouts are written.
"""

import dataclasses
import math
import pathlib
import time
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import PartitionSpec

from lrm_jax import (
  compilation,
  distributed,
  gathering,
  interrupts,
  jsonl,
  metrics,
  packing,
  phases,
  policy,
  records,
  sharding,
  tracing,
  train_step,
)
from lrm_jax import experiment as experiment_lib
from lrm_jax import workdir as run_folder
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.evaluation import run_evaluation
from lrm_jax.experiment import Experiment
from lrm_jax.gathering import Batch
from lrm_jax.reporting import plots, tables
from lrm_jax.rewards.pool import Grader
from lrm_jax.structs import Rollouts


def run(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  profile: range = range(0),
) -> None:
  """`lrm train`: evaluates, trains, evaluates, writes the results.

  Args:
    config: see `configs/default.py`.
    workdir: the run's folder. The same config continues where it stopped.
    profile: steps that are traced, into WORKDIR/profile.
  """
  distributed.initialize()
  watch = compilation.CompileWatch()
  with Grader() as grader:
    experiment = experiment_lib.build(config, grader)
    mutable = experiment_lib.mutable_keys(config)
    is_resumed = distributed.from_main(
      lambda: run_folder.open_run(workdir, config, 'train', mutable)
    )
    checkpoints = RunCheckpoints(workdir, config.train.keep_checkpoints)
    if is_resumed:
      experiment_lib.restore(experiment, checkpoints)
    before = run_evaluation.evaluate(experiment, workdir, 'before', step=0)
    tracer = tracing.Tracer(workdir, profile)
    train(experiment, workdir, checkpoints, watch, tracer)
    checkpoints.close()
    after = run_evaluation.evaluate(
      experiment, workdir, 'after', int(experiment.state.step)
    )
  finish(experiment, workdir, before, after, watch)


def train(
  experiment: Experiment,
  workdir: pathlib.Path,
  checkpoints: RunCheckpoints,
  watch: compilation.CompileWatch,
  tracer: tracing.Tracer | None = None,
) -> None:
  """Runs the remaining steps; Ctrl-C saves a checkpoint, then raises."""
  if tracer is None:
    tracer = tracing.Tracer(workdir, range(0))
  config = experiment.config.train
  first = int(experiment.state.step)
  if first < config.steps and not is_budget_spent(experiment):
    compile_update(experiment)
  writer = metrics.open_writer(workdir, first)
  progress = metrics.Progress(config.steps, 'train', start=first)
  with interrupts.Interrupts() as stop, progress, tracer:
    for step in range(first + 1, config.steps + 1):
      if is_budget_spent(experiment):
        break
      began = time.time()
      with phases.Clock() as clock, tracer.step(step):
        batch, numbers = take_step(experiment, workdir, step)
      numbers |= speeds(batch, clock.seconds) | clock.numbers()
      experiment.seconds += time.time() - began
      writer.write(step, batch.stats | numbers | {'compilations': watch.count})
      progress.update(step, headline(batch.stats))
      is_last = step == config.steps or is_budget_spent(experiment)
      is_due = step % config.checkpoint_every == 0
      is_stopped = distributed.any_of(stop.requested)
      if is_due or is_last or is_stopped:
        experiment_lib.save(experiment, checkpoints)
      if is_stopped:
        checkpoints.close()
        raise KeyboardInterrupt(f'saved step {step}; run again to continue')
      every = experiment.config.eval.every
      if every and step % every == 0 and not is_last:
        run_evaluation.evaluate(experiment, workdir, f'step_{step:06d}', step)
  writer.close()


def take_step(
  experiment: Experiment, workdir: pathlib.Path, step: int
) -> tuple[Batch, dict[str, float]]:
  """All eight phases of a step; its batch and the numbers of its update."""
  config = experiment.config.train
  with phases.phase('sample'):
    gathering.monitor(experiment, step)
  batch = gathering.gather(experiment, step)
  with phases.phase('credit'):
    batch = score_spliced(experiment, batch)
  device_numbers, advantage = update(experiment, batch)
  is_due = config.rollouts_every and step % config.rollouts_every == 0
  if is_due and distributed.is_main():
    with phases.phase('record'):
      records.write_step(workdir, experiment.tokenizer, batch, advantage, step)
  with phases.phase('update'):
    return batch, read(device_numbers, config, step)


def compile_update(experiment: Experiment) -> None:
  """Starts to compile the update, while the first samples are made."""
  config = experiment.config.train
  batch = config.problems // config.mini_batches
  packed = packing.empty_batch(
    batch,
    config.samples,
    config.rows,
    config.row_length,
    config.groups,
    shared=shares_prompts(experiment.config),
  )
  stale = np.zeros((batch, config.samples), np.int32)
  number = np.zeros((*stale.shape, config.max_tokens), np.float32)
  targets = train_step.Targets(number, number, number, stale)
  experiment.programs.update.start(
    experiment.state,
    experiment.ref_params,
    divide(experiment, packed),
    sharding.put(targets, experiment.mesh, PartitionSpec()),
    experiment.frozen,
  )


def is_budget_spent(experiment: Experiment) -> bool:
  """Whether `train.token_budget` response tokens have been sampled."""
  budget = experiment.config.train.token_budget
  return budget > 0 and experiment.sampled_tokens >= budget


def update(
  experiment: Experiment, batch: Batch
) -> tuple[list[dict[str, jax.Array]], np.ndarray]:
  """Phases 6 and 7: dispatches the step's optimizer updates.

  Mini-batch j of n holds the groups j, j + n, ... so that a batch that is not
  full is spread evenly; an empty mini-batch is no update.

  Returns:
    The metrics of each update, still on the device, and the advantages
    `[B, G, T]`.
  """
  with phases.phase('credit'):
    advantage, mask = jax.device_get(
      experiment.programs.credit(batch.reward, batch.keep, batch.rollouts)
    )
  with phases.phase('update'):
    return dispatch(experiment, batch, advantage, mask), advantage


def dispatch(
  experiment: Experiment, batch: Batch, advantage: np.ndarray, mask: np.ndarray
) -> list[dict[str, jax.Array]]:
  """The updates of a step, on their way; see `update`."""
  config = experiment.config.train
  numbers = []
  state = experiment.state
  # Now, while nothing has to be waited for.
  done = np.int32(int(state.step) + 1)
  if experiment.mesh is None:
    done = jax.device_put(done)
  else:
    done = sharding.put(done, experiment.mesh, PartitionSpec())
  # The update makes it again: with adapters, that is a copy to let go of.
  experiment.params = None
  for part in range(config.mini_batches):
    pick = slice(part, None, config.mini_batches)
    if not batch.keep[pick].any():
      continue
    rollouts = jax.tree.map(lambda x: x[pick], batch.rollouts)  # noqa: B023
    packed = pack(experiment, rollouts, batch.keep[pick])
    targets = train_step.Targets(
      rollouts.sampler_logp, advantage[pick], mask[pick], rollouts.stale
    )
    targets = sharding.put(targets, experiment.mesh, PartitionSpec())
    state, values = experiment.programs.update(
      state, experiment.ref_params, packed, targets, experiment.frozen
    )
    numbers.append(values)
  experiment_lib.set_state(experiment, dataclasses.replace(state, step=done))
  return numbers


def score_spliced(experiment: Experiment, batch: Batch) -> Batch:
  """The batch with every `sampler_logp` of a kept sample known.

  A response with a piece taken out of its middle was never sampled: what
  follows gets its log-probabilities from the trainer's graph. All others keep
  the sampler's, which the gap is measured by.
  """
  rollouts = batch.rollouts
  unknown = np.isnan(rollouts.sampler_logp) & batch.keep[..., None]
  if not unknown.any():
    return batch
  packed = pack(experiment, rollouts, batch.keep)
  mask = sharding.put(
    rollouts.mask * batch.keep[..., None], experiment.mesh, PartitionSpec()
  )
  scored = jax.device_get(
    experiment.programs.score(experiment.params, packed, mask)
  )
  logp = np.where(unknown, scored, rollouts.sampler_logp)
  rollouts = dataclasses.replace(rollouts, sampler_logp=logp)
  return dataclasses.replace(batch, rollouts=rollouts)


def pack(
  experiment: Experiment, rollouts: Rollouts, keep: np.ndarray
) -> packing.PackedBatch:
  """Packed rows of the sizes the config gives."""
  config = experiment.config.train
  packed = packing.pack_groups(
    rollouts,
    keep,
    rows=config.rows,
    row_length=config.row_length,
    groups_per_micro_batch=config.groups,
    shared=shares_prompts(experiment.config),
  )
  return divide(experiment, packed)


def divide(
  experiment: Experiment, packed: packing.PackedBatch
) -> packing.PackedBatch:
  """Packed rows on the devices that each is for, if there are several."""
  return sharding.put(packed, experiment.mesh, sharding.batch_specs(packed))


def shares_prompts(config: ml_collections.ConfigDict) -> bool:
  """Whether samples in one row share their prompt.

  Not where the attention cannot, nor where a loss counts tokens of prompts.
  """
  return config.model.attention != 'splash' and not config.train.load_balance


def read(
  device_numbers: list[dict[str, jax.Array]],
  config: ml_collections.ConfigDict,
  step: int,
) -> dict[str, float]:
  """Waits for the updates; means over them, and the two alarms.

  `logp_gap_max` is the first update's: the parameters are then still those
  that sampled. A step without any update has no numbers.

  Raises:
    FloatingPointError: a loss or gradient is not finite, or sampler and
      trainer disagree on log-probabilities.
  """
  if not device_numbers:
    return {}
  host = [
    {k: float(v) for k, v in d.items()} for d in jax.device_get(device_numbers)
  ]
  numbers = {k: sum(d[k] for d in host) / len(host) for k in host[0]}
  numbers['logp_gap_max'] = host[0]['logp_gap_max']
  for name in ('loss', 'grad_norm'):
    if not math.isfinite(numbers[name]):
      raise FloatingPointError(f'{name} is {numbers[name]} at step {step}')
  if not numbers['logp_gap_max'] <= config.logp_gap_limit:
    raise FloatingPointError(
      f'sampler and trainer differ by {numbers["logp_gap_max"]:.1e} nats at '
      f'step {step}; train.logp_gap_limit is {config.logp_gap_limit:.1e}'
    )
  return numbers


def speeds(batch: Batch, seconds: dict[str, float]) -> dict[str, float]:
  """Seconds of the two halves of a step, and tokens per second of each.

  Sampling is everything until there is a batch; the update is everything after,
  as far as the device did not hide it.
  """
  whole = sum(seconds.values())
  update_seconds = sum(seconds[n] for n in ('credit', 'update', 'record'))
  sample_seconds = whole - update_seconds
  lengths = batch.rollouts.length + batch.rollouts.prompt_length[:, None]
  return {
    'sample_seconds': sample_seconds,
    'update_seconds': update_seconds,
    'tokens_per_second_sample': batch.stats['sampled_tokens'] / sample_seconds,
    'tokens_per_second_update': float((lengths * batch.keep).sum())
    / update_seconds,
    'tokens_per_second_per_device': batch.stats['sampled_tokens']
    / whole
    / jax.device_count(),
  }


def headline(stats: dict[str, float]) -> dict[str, float]:
  """What the progress line shows."""
  names = ('reward', 'accuracy', 'response_tokens', 'kept_groups')
  return {name: stats[name] for name in names}


def finish(
  experiment: Experiment,
  workdir: pathlib.Path,
  before: dict[str, Any],
  after: dict[str, Any],
  watch: compilation.CompileWatch,
) -> None:
  """Exports the model, draws the curves, prints the table, sums up.

  `seconds` is the time of both evaluations and of every step, over all
  starts of the run.
  """
  seconds = before['seconds'] + experiment.seconds + after['seconds']
  trained, params = distributed.whole(
    (experiment.state.params, experiment.params)
  )
  if not distributed.is_main():
    return
  written = policy.export(
    workdir,
    experiment.config,
    experiment.model,
    experiment.tokenizer,
    trained=trained,
    params=params,
  )
  rows = jsonl.read_rows(workdir / 'metrics.jsonl')
  plots.training_curves(rows, workdir / 'curves.png', before, after)

  def column(name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name) is not None]

  def median(name: str) -> float | None:
    # The first steps compile.
    return float(np.median(column(name))) if column(name) else None

  run_folder.write_summary(
    workdir,
    {
      'verb': 'train',
      'config': experiment.config.to_dict(),
      'steps': int(experiment.state.step),
      'sampled_tokens': experiment.sampled_tokens,
      'seconds': seconds,
      'before': before,
      'after': after,
      'tokens_per_second': {
        part: median(f'tokens_per_second_{part}')
        for part in ('sample', 'update')
      },
      'compile_seconds': watch.seconds,
      'logp_gap_max': max(column('logp_gap_max'), default=None),
      'device': jax.devices()[0].device_kind,
    },
  )
  print(tables.before_after(before, after))
  print(f'{workdir}: summary.json, curves.png, {written} ({seconds:.0f} s)')
