"""The RL loop: eight phases a step.

  choose, sample, verify, shape, select     see gathering.py
  credit   rewards become advantages
  update   packed rows go through the model, the optimizer steps
  record   metrics, rollouts and checkpoints are written

The device still works on a step's update while its rollouts are written, and
the next batch is sampled if `train.batches_ahead` says so: see `lookahead.py`.
"""

from typing import Any

import jax
import ml_collections

from lrm_jax import (
  alarms,
  compilation,
  demonstrating,
  distributed,
  forking,
  goodput,
  incidents,
  interrupts,
  jsonl,
  locking,
  lookahead,
  metrics,
  phases,
  policy,
  provenance,
  records,
  resuming,
  sentinels,
  storage,
  throughput,
  tracing,
  updating,
)
from lrm_jax import clock as clock_lib
from lrm_jax import experiment as experiment_lib
from lrm_jax import workdir as run_folder
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.evaluation import run_evaluation
from lrm_jax.experiment import Experiment
from lrm_jax.gathering import Batch
from lrm_jax.reporting import plots, tables
from lrm_jax.rewards.pool import Grader


def run(
  config: ml_collections.ConfigDict,
  workdir: storage.Path,
  profile: range = range(0),
  fork_from: str | None = None,
) -> None:
  """`lrm train`: evaluates, trains, evaluates, writes the results.

  Args:
    config: see `configs/default.py`.
    workdir: the run's folder, here or in a bucket. The same config continues
      where it stopped.
    profile: steps that are traced, into WORKDIR/profile.
    fork_from: the run, or its checkpoint, that a new run starts from.
  """
  distributed.initialize()
  began = clock_lib.now()
  watch = compilation.CompileWatch()
  with interrupts.of_run(), Grader() as grader:
    interrupts.check_loading(workdir)
    experiment = experiment_lib.build(config, grader)
    interrupts.check_loading(workdir)
    mutable = resuming.mutable_keys(config)
    origin = distributed.from_main(
      lambda: forking.origin(workdir, fork_from, config)
    )
    distributed.from_main(
      lambda: run_folder.check_run(workdir, config, 'train', mutable)
    )
    with locking.held(workdir):
      distributed.from_main(
        lambda: run_folder.open_run(workdir, config, 'train', mutable, origin)
      )
      distributed.from_main(lambda: goodput.first_start(workdir, began))
      tracer = tracing.Tracer(workdir, profile)
      before, after = run_steps(experiment, workdir, origin, watch, tracer)
      finish(experiment, workdir, before, after, watch)


def run_steps(
  experiment: Experiment,
  workdir: storage.Path,
  origin: dict[str, Any] | None,
  watch: compilation.CompileWatch,
  tracer: tracing.Tracer,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Goes on from the newest checkpoint; both evaluations, see `run`.

  Args:
    experiment: as built.
    workdir: of the run.
    origin: of a fork, see `forking.origin`.
    watch: of this start.
    tracer: likewise.
  """
  config = experiment.config
  with resuming.open_checkpoints(workdir, config) as checkpoints:
    forking.begin(experiment, checkpoints, origin)
    resuming.restore(experiment, checkpoints)
    interrupts.check_loading(workdir)
    first = 0 if origin is None else origin['step']
    with resuming.stopping(experiment, checkpoints):
      before = run_evaluation.evaluate(experiment, workdir, 'before', first)
      train(experiment, workdir, checkpoints, watch, tracer)
      checkpoints.close()
      after = run_evaluation.evaluate(
        experiment, workdir, 'after', int(experiment.state.step)
      )
  return before, after


def train(
  experiment: Experiment,
  workdir: storage.Path,
  checkpoints: RunCheckpoints,
  watch: compilation.CompileWatch,
  tracer: tracing.Tracer | None = None,
) -> None:
  """Runs the remaining steps.

  Raises:
    CheckFailed: something is not as it must be; see `sentinels.py`.
    Stopped: a process of the run was told to stop; the experiment is as it was
      after the last complete step.
  """
  if tracer is None:
    tracer = tracing.Tracer(workdir, range(0))
  config = experiment.config.train
  first = int(experiment.state.step)
  started = distributed.from_main(
    lambda: goodput.first_start(workdir, clock_lib.now())
  )
  if first < config.steps and not experiment_lib.is_budget_spent(experiment):
    updating.compile_update(experiment)
    sentinels.at_start(experiment)
  writer = metrics.open_writer(workdir, first)
  progress = metrics.Progress(config.steps, 'train', start=first)
  saved_at = clock_lib.now()
  stopping = resuming.saved_when_stopped(experiment, checkpoints, writer)
  with progress, tracer, writer, stopping:
    for step in range(first + 1, config.steps + 1):
      if experiment_lib.is_budget_spent(experiment):
        break
      evaluate(experiment, workdir, step - 1)
      began = clock_lib.now()
      with resuming.whole_step(experiment):
        checked = sentinels.inspect(experiment, step)
        with phases.Clock() as clock, tracer.step(step):
          batch, numbers = take_step(experiment, workdir, step)
      spent = goodput.count_step(
        experiment, began, clock_lib.now(), started, watch
      )
      numbers = batch.stats | checked | numbers | timed(batch, clock, numbers)
      numbers['goodput'] = spent
      reason = sentinels.judge(experiment, step, numbers)
      writer.write(step, numbers | {'compilations': watch.count})
      resuming.check(experiment, checkpoints, writer.last)
      progress.update(step, headline(batch.stats))
      is_last = step == config.steps or experiment_lib.is_budget_spent(
        experiment
      )
      is_due = step % config.checkpoint_every == 0
      is_late = distributed.any_of(is_overdue(saved_at, config))
      if is_due or is_last or is_late or reason is not None:
        writer.flush()
        resuming.save(experiment, checkpoints, writer.position(), writer.last)
        saved_at = clock_lib.now()
      if reason is not None:
        alarms.end(checkpoints, reason, step)


def evaluate(experiment: Experiment, workdir: storage.Path, step: int) -> None:
  """Evaluates the policy of a step on the way, if it is due.

  When the next step begins: so a start that goes on from this step makes up for
  what an earlier one did not come to, or reads what it wrote.
  """
  every = experiment.config.eval.every
  if every and step and step % every == 0:
    run_evaluation.evaluate(experiment, workdir, f'step_{step:06d}', step)


def take_step(
  experiment: Experiment, workdir: storage.Path, step: int
) -> tuple[Batch, dict[str, float]]:
  """All eight phases of a step; its batch and the numbers of its update."""
  config = experiment.config.train
  batch = lookahead.take(experiment, step)
  with phases.phase('select'):
    batch = demonstrating.put(experiment, batch)
  with phases.phase('credit'):
    batch, credit = updating.credit(
      experiment, updating.score(experiment, batch)
    )
  with phases.phase('choose'):
    updating.tell_curriculum(experiment, batch, credit)
  with phases.phase('update'):
    sampling = lookahead.copy(experiment, step)
    device_numbers = updating.update(experiment, batch, credit)
  is_due = config.rollouts_every and step % config.rollouts_every == 0
  if is_due and distributed.is_main():
    with phases.phase('record'):
      records.write_step(
        workdir, experiment.tokenizer, batch, credit.recorded, step
      )
  lookahead.sample(experiment, step + 1, sampling)
  with phases.phase('update'):
    each = updating.wait(device_numbers)
    incidents.note(experiment, workdir, step, batch, credit.recorded, each)
    sentinels.note_gap(experiment, step, each)
    return batch, updating.read(each)


def timed(
  batch: Batch, clock: phases.Clock, numbers: dict[str, float]
) -> dict[str, float]:
  """Speeds of a step, and seconds of its phases."""
  return throughput.of_step(batch, clock.seconds, numbers) | clock.numbers()


def is_overdue(saved_at: float, config: ml_collections.ConfigDict) -> bool:
  """Whether the last checkpoint, by `clock.now`, is too old."""
  minutes = config.checkpoint_minutes
  return 0 < minutes <= (clock_lib.now() - saved_at) / 60


def headline(stats: dict[str, float]) -> dict[str, float]:
  """What the progress line shows."""
  names = ('reward', 'accuracy', 'response_tokens', 'kept_groups')
  return {name: stats[name] for name in names}


def finish(
  experiment: Experiment,
  workdir: storage.Path,
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

  gaps = throughput.column(rows, 'logp_gap_max')
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
      'compile_seconds': watch.seconds,
      'logp_gap_max': max(gaps, default=None),
      'device': jax.devices()[0].device_kind,
      'made_with': provenance.describe(),
    }
    | throughput.summarize(rows),
  )
  print(tables.before_after(before, after))
  print(f'{workdir}: summary.json, curves.png, {written} ({seconds:.0f} s)')
