"""What a run keeps between two starts: everything that its steps change.

A checkpoint holds the parameters and the optimizer, the memory of the recipe,
the groups in flight, a batch ahead, the place in the data, counters, and how
long metrics.jsonl was. It also names what it does not hold and goes on with:
the config, the problems and the tokenizer, and the weights of the model that
the run started from where they are looked at.

Random streams have no state: they are folded from the seed, a name and the
step. A step is done whole or, after a crash, again.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from lrm_jax import (
  checksum,
  configuration,
  distributed,
  errors,
  flights,
  identity,
  interrupts,
  lookahead,
  metrics,
  rewinding,
  storage,
)
from lrm_jax.checkpoints.state import NO_METRICS, RunCheckpoints
from lrm_jax.experiment import Experiment, set_state
from lrm_jax.structs import Problem

# Fields of the experiment that steps replace, and never change in place.
OF_THE_HOST = (
  *('flights', 'waiting', 'seconds', 'productive_seconds'),
  'sampled_tokens',
)
# For the shapes of a group.
_NOBODYS = Problem('', '', '')

# Keys of `lrm train` that may change between two starts, and why they may.
SAFE = {
  'mesh': 'other devices divide the same sums',
  'sampler.tensor': 'likewise, for the sampler',
  'train.sampler_devices': 'likewise',
  'train.offload': 'where arrays are kept, not what they are',
  'train.checkpoint_every': 'when the state is written',
  'train.checkpoint_minutes': 'likewise',
  'train.keep_checkpoints': 'how long it is kept',
  'train.keep_best': 'likewise',
  'train.best_metric': 'likewise',
  'train.rollouts_every': 'which steps leave a record of their samples',
  'train.logp_gap_limit': 'when an alarm ends the run, and nothing else',
  'train.max_skipped': 'likewise',
  'sentinels': 'likewise',
  'eval.every': 'evaluations draw from streams of their own',
  'eval.responses': 'which of their samples leave a record with text',
}


def mutable_keys(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """What may change between two starts of one run.

  Those in `SAFE`; and a run can be made longer, unless its learning rate
  depends on its length, or its last step samples no batch ahead.
  """
  is_free = (
    config.optimizer.schedule == 'constant' and not config.train.batches_ahead
  )
  return (*SAFE, 'train.steps') if is_free else tuple(SAFE)


def open_checkpoints(
  workdir: storage.Path, config: ml_collections.ConfigDict
) -> RunCheckpoints:
  """The checkpoints of a run, which keep what `config.train` says."""
  return RunCheckpoints(
    workdir,
    keep=config.train.keep_checkpoints,
    best=config.train.keep_best,
    best_metric=config.train.best_metric,
  )


def restore(experiment: Experiment, checkpoints: RunCheckpoints) -> None:
  """Continues from the newest checkpoint, if there is one.

  What the folder holds of later steps is taken back.

  Raises:
    UserError: the checkpoint is of another config, or the data, the tokenizer
      or the model that the run started from has changed, or metrics.jsonl has.
  """
  step = checkpoints.latest_step()
  if step is None:
    # Now: it is compiled, and in the steps nothing should be.
    weights(experiment)
    distributed.from_main(
      lambda: rewinding.rewind(checkpoints.workdir, 0, metrics.START)
    )
    return
  host = checkpoints.restore_host(step)
  check_version(host, step)
  mutable = mutable_keys(experiment.config)
  identity.check_config(experiment.config, mutable, host, step)
  identity.check_contents(experiment.config, experiment.contents, host, step)
  state = checkpoints.restore_state(step, like(experiment, host))
  identity.check_weights(experiment.config, weights(experiment), host, step)
  position = host['metrics'] if 'metrics' in host else None
  # One process: they share the folder.
  distributed.from_main(
    lambda: rewinding.rewind(checkpoints.workdir, step, position)
  )
  set_state(experiment, state['train'])
  experiment.memory.set_state(state['memory'], host['problem_ids'])
  experiment.stream.set_state(host['stream'])
  experiment.flights = flights.set_state(state['flights'], host['flights'])
  if 'waiting' in host:
    experiment.waiting = lookahead.set_state(state['waiting'], host['waiting'])
  experiment.seconds = host['seconds']
  # Earlier versions did not count them, nor the time since the first start.
  if 'productive_seconds' in host:
    experiment.productive_seconds = host['productive_seconds']
  experiment.sampled_tokens = host['sampled_tokens']
  # Earlier versions had none.
  if 'alarms' in host:
    experiment.alarms.set_state(host['alarms'])


def like(experiment: Experiment, host: Mapping[str, Any]) -> dict[str, Any]:
  """The shapes of a checkpoint's arrays, where this experiment wants them."""
  nothing = experiment.collector.begin([_NOBODYS], cap=0)
  wanted = {
    'train': experiment.state,
    'memory': experiment.memory.like(len(host['problem_ids'])),
    'flights': flights.like(host['flights'], nothing),
  }
  if 'waiting' in host:
    wanted['waiting'] = lookahead.like(host['waiting'], nothing)
  return wanted


def save(
  experiment: Experiment,
  checkpoints: RunCheckpoints,
  position: Mapping[str, int] = metrics.START,
  row: Mapping[str, float | None] = NO_METRICS,
) -> None:
  """Writes a checkpoint of the steps completed so far.

  Args:
    experiment: its state.
    checkpoints: of the run.
    position: of metrics.jsonl, see `MetricsWriter.position`.
    row: metrics of the last step.
  """
  memory, ids = experiment.memory.get_state()
  arrays, begun = flights.get_state(experiment.flights)
  waiting, told = lookahead.get_state(experiment.waiting)
  config = experiment.config
  mine = identity.of_run(
    config, mutable_keys(config), weights(experiment), experiment.contents
  )
  checkpoints.save(
    int(experiment.state.step),
    {
      'train': experiment.state,
      'memory': memory,
      'flights': arrays,
      'waiting': waiting,
    },
    mine
    | {
      'flights': begun,
      'waiting': told,
      'problem_ids': ids,
      'stream': experiment.stream.get_state(),
      'seconds': experiment.seconds,
      'productive_seconds': experiment.productive_seconds,
      'sampled_tokens': experiment.sampled_tokens,
      'metrics': dict(position),
      'alarms': experiment.alarms.get_state(),
    },
    row,
  )


@contextlib.contextmanager
def whole_step(experiment: Experiment) -> Iterator[None]:
  """A step that is either taken or, if it is stopped, was never begun.

  Parameters and optimizer change at its end only, when nothing stops it any
  more; what the host remembers moves on all the time.
  """
  memory, stream = experiment.memory.get_state(), experiment.stream.get_state()
  fields = {name: getattr(experiment, name) for name in OF_THE_HOST}
  try:
    yield
  except errors.Stopped:
    experiment.memory.set_state(*memory)
    experiment.stream.set_state(stream)
    for name, value in fields.items():
      setattr(experiment, name, value)
    raise


@contextlib.contextmanager
def saved_when_stopped(
  experiment: Experiment,
  checkpoints: RunCheckpoints,
  writer: metrics.MetricsWriter | metrics.NoWriter,
) -> Iterator[None]:
  """Whoever is told to stop inside saves the last complete step first."""
  try:
    yield
  except errors.Stopped:
    if int(experiment.state.step):
      writer.flush()
      save(experiment, checkpoints, writer.position(), writer.last)
    raise


@contextlib.contextmanager
def stopping(
  experiment: Experiment, checkpoints: RunCheckpoints
) -> Iterator[None]:
  """Whoever is told to stop inside waits for what is being saved.

  Raises:
    Stopped: with the line for the user.
  """
  try:
    yield
  except errors.Stopped:
    checkpoints.close()
    step = int(experiment.state.step)
    raise errors.Stopped(interrupts.at_step(step)) from None


def check(
  experiment: Experiment,
  checkpoints: RunCheckpoints,
  row: Mapping[str, float | None],
) -> None:
  """After every step: what happened to a save, and whether it can be rated.

  Args:
    experiment: its config.
    checkpoints: of the run.
    row: the step's metrics; {} where nobody keeps them.

  Raises:
    UserError: a checkpoint could not be written, or `train.best_metric` is no
      number of a step.
  """
  checkpoints.check()
  config = experiment.config.train
  if config.keep_best and row and config.best_metric not in row:
    near = configuration.nearest(config.best_metric, row)
    raise errors.UserError(
      f'train.best_metric={config.best_metric!r} is no number of a step{near}; '
      'give a name that the rows of metrics.jsonl have, or train.keep_best=0'
    )


def weights(experiment: Experiment) -> str | None:
  """Checksum of the weights that are looked at and never change.

  Those under adapters, or of the reference; None where there are none. No
  checkpoint holds them: they are read from `model.path` at every start.
  """
  if experiment.weights is None:
    held = experiment.frozen
    if held is None:
      held = experiment.ref_params
    if held is not None:
      experiment.weights = checksum.of_params(held)
  return experiment.weights


def check_version(host: Mapping[str, Any], step: int) -> None:
  """Raises for checkpoints that are too old to go on from."""
  if 'flights' not in host:
    raise errors.UserError(
      f'checkpoint of step {step}: written before there were responses in '
      'flight; go on with that version, or begin again in another workdir'
    )
