"""One step off policy: a batch is sampled while the one before it is trained.

With `train.batches_ahead=1` a step goes

  take     the batch that the last step sampled; at first one of its own
  credit   what the policy before the update says of it
  update   dispatched: the devices work on it
  sample   the next batch, by a copy of the parameters before the update

So every batch but the first of a start is a step old when it is trained on:
all of its tokens are `stale`, and `steps_behind` is 1 in the metrics. Ratios
are against the sampler's law, or with `train.old_logp='trainer'` against the
policy before the update and corrected; see `objectives/corrections.py`.

With `train.sampler_devices` the sampler has devices of its own, and both work
at the same time; otherwise one device takes what comes first, and only the
host's work is hidden: grading, shaping and writing.

The batch that waits is part of a checkpoint, so a run resumes exactly. Whoever
is told to stop while it is sampled finishes it first.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax import experiment as experiment_lib
from lrm_jax import gathering, interrupts, phases
from lrm_jax.experiment import Experiment
from lrm_jax.gathering import Batch, Sampled
from lrm_jax.structs import Problem, Rollouts

# Fields of what was sampled that are arrays.
_ARRAYS = ('rollouts', 'reward', 'keep', 'judged', 'rounds', 'chosen')


@dataclasses.dataclass(frozen=True)
class Waiting:
  """A batch that nobody has trained on.

  Attributes:
    batch: as it was gathered.
    tokens: what it cost, those of the monitor included.
    step: for which it was sampled.
  """

  batch: Batch
  tokens: int
  step: int


def take(experiment: Experiment, step: int) -> Batch:
  """The batch of a step: the one that waits, or a new one.

  Raises:
    Stopped: a process of the run was told to stop.
  """
  if not experiment.config.train.batches_ahead:
    return _gather(experiment, step)
  # Nothing else of the step asks.
  with interrupts.agreed():
    pass
  waiting, experiment.waiting = experiment.waiting, None
  if waiting is None:
    batch, behind = _gather(experiment, step), 0
  else:
    experiment.sampled_tokens += waiting.tokens
    batch, behind = _aged(waiting.batch), 1
  stats = batch.stats | {
    'steps_behind': behind,
    'stale_tokens': float(behind),
  }
  return dataclasses.replace(batch, stats=stats)


def copy(experiment: Experiment, step: int) -> Any:
  """Parameters that the next batch is sampled by; None if there is none.

  A copy: the update takes the buffers of the parameters for its own.

  Args:
    experiment: before the update of the step.
    step: counted from 1.
  """
  config = experiment.config.train
  is_last = step == config.steps or experiment_lib.is_budget_spent(experiment)
  if not config.batches_ahead or is_last:
    return None
  if experiment.sampler_mesh is not None:
    return experiment_lib.for_sampler(experiment)
  return jax.tree.map(jnp.copy, experiment.params)


def sample(experiment: Experiment, step: int, params: Any) -> None:
  """Samples the batch of a step ahead of it, while the devices train.

  Args:
    experiment: keeps the batch; its memory and stream move on.
    step: the next one.
    params: from `copy`; None for nothing to do.
  """
  if params is None:
    return
  before = experiment.sampled_tokens
  newest, experiment.params = experiment.params, params
  try:
    with interrupts.deferred():
      batch = _gather(experiment, step)
  finally:
    experiment.params = newest
  # Counted when they are trained on.
  tokens = experiment.sampled_tokens - before
  experiment.sampled_tokens = before
  experiment.waiting = Waiting(batch, tokens, step)


def get_state(
  waiting: Waiting | None,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
  """What a checkpoint holds of it: arrays by name, and plain JSON."""
  if waiting is None:
    return {}, None
  batch, sampled = waiting.batch, waiting.batch.sampled
  return (
    {name: getattr(sampled, name) for name in _ARRAYS},
    {
      'problems': [dataclasses.asdict(p) for p in sampled.problems],
      'chosen': len(sampled.chosen),
      # JSON has no word for NaN.
      'stats': {k: repr(float(v)) for k, v in batch.stats.items()},
      'tokens': waiting.tokens,
      'step': waiting.step,
    },
  )


def like(host: Mapping[str, Any] | None, nothing: Rollouts) -> dict[str, Any]:
  """Arrays of the shapes that `get_state` gave with this JSON.

  Args:
    host: the JSON.
    nothing: one group of the experiment, such as `Collector.begin` makes.
  """
  if host is None:
    return {}
  count = len(host['problems'])
  rollouts = jax.tree.map(lambda x: np.repeat(x, count, axis=0), nothing)
  shape = rollouts.length.shape
  return {
    'rollouts': rollouts,
    'reward': np.zeros(shape, np.float32),
    'keep': np.zeros(shape, bool),
    'judged': np.zeros(shape, bool),
    'rounds': np.zeros(count, np.int64),
    'chosen': np.zeros(host['chosen'], np.int64),
  }


def set_state(
  arrays: Mapping[str, Any], host: Mapping[str, Any] | None
) -> Waiting | None:
  """The batch of which `get_state` made these."""
  if host is None:
    return None
  sampled = Sampled(
    problems=[Problem(**problem) for problem in host['problems']],
    **jax.tree.map(np.asarray, {name: arrays[name] for name in _ARRAYS}),
  )
  stats = {k: float(v) for k, v in host['stats'].items()}
  batch = gathering.batch_of(sampled, stats)
  return Waiting(batch, host['tokens'], host['step'])


def _gather(experiment: Experiment, step: int) -> Batch:
  with phases.phase('sample'):
    gathering.monitor(experiment, step)
  return gathering.gather(experiment, step)


def _aged(batch: Batch) -> Batch:
  """The batch, all of it sampled by parameters that are old now."""
  stale = batch.rollouts.length.copy()
  rollouts = dataclasses.replace(batch.rollouts, stale=stale)
  return dataclasses.replace(batch, rollouts=rollouts)
