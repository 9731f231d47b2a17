"""What is looked after while a run goes on, and what ends it.

  inspect(experiment)      every so many steps: a replay, and the weights
  note_gap(experiment, ...)  at every step: sampler against trainer
  judge(experiment, ...)   why the run ends after a step, if it does

The limits are in `alarms.py`, and `train.logp_gap_limit`. Beside these every
update has its guard (`guard.py`, `incidents.py`).

The replay samples one fixed problem, as training does, and scores the response
with the trainer's graph: nothing that training draws from moves on. The look at
the weights compares copies of them, on all devices of all processes.
"""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import PartitionSpec

from lrm_jax import alarms as alarms_lib
from lrm_jax import errors, replicas, rng, sharding, updating
from lrm_jax import experiment as experiment_lib
from lrm_jax import rounds as rounds_lib
from lrm_jax.experiment import Experiment


def judge(
  experiment: Experiment, step: int, row: Mapping[str, float | None]
) -> str | None:
  """Why the run ends after this step; None where it goes on.

  All processes have the same numbers, and so the same answer.

  Args:
    experiment: its alarms change.
    step: counted from 1.
    row: its numbers.
  """
  limits, alarms = experiment.config.sentinels, experiment.alarms
  alarms.beyond = alarms_lib.count(alarms.beyond, row, limits)
  for name, steps in alarms.beyond.items():
    column, cause = alarms_lib.ALARMS[name]
    if steps >= limits.patience and alarms_lib.reading(row, column) is not None:
      sign = '<' if name.endswith('_min') else '>'
      alarms.reasons.append(
        errors.CheckFailed(
          f'{column} {row[column]:.4g} {sign} '
          f'sentinels.{name}={limits[name]:g} for {steps} steps, at step '
          f'{step}; look at {cause}'
        )
      )
  return alarms_lib.joined(alarms)


def inspect(experiment: Experiment, step: int) -> dict[str, float]:
  """`look`, if it is due before this step; else nothing.

  Before: whoever is told to stop meanwhile has the last step whole.
  """
  every = experiment.config.sentinels.every
  return look(experiment, step) if every and step % every == 0 else {}


def note_gap(
  experiment: Experiment, step: int, each: Sequence[Mapping[str, float]]
) -> None:
  """Tells the alarms if sampler and trainer disagreed in a step.

  Args:
    experiment: its alarms change.
    step: counted from 1.
    each: numbers of its updates, from `updating.wait`.
  """
  limit = experiment.config.train.logp_gap_limit
  if not updating.is_gap_within(each, limit):
    experiment.alarms.reasons.append(
      errors.CheckFailed(
        f'logp_gap_max {updating.first_gap(each):.1e} > '
        f'train.logp_gap_limit={limit:g} at step {step}: sampler and trainer '
        'differ on what was sampled; look at what changed in model, sampler or '
        'devices'
      )
    )


def at_start(experiment: Experiment) -> None:
  """`look` before the first step of a start, if there are sentinels.

  Raises:
    CheckFailed: something is not as it must be.
  """
  if not experiment.config.sentinels.every:
    return
  look(experiment, int(experiment.state.step))
  reasons = alarms_lib.joined(experiment.alarms)
  if reasons is not None:
    raise errors.CheckFailed(reasons)


def look(experiment: Experiment, step: int) -> dict[str, float]:
  """Compares the weights, replays; what is wrong is told to the alarms.

  Args:
    experiment: only its alarms change.
    step: completed ones.

  Returns:
    For the metrics: `replay_gap`, nats.

  Raises:
    CheckFailed: copies of the weights differ. Nothing is saved then.
  """
  check_weights(experiment, step)
  gap = replay(experiment)
  limit = experiment.config.train.logp_gap_limit
  if not gap <= limit:
    experiment.alarms.reasons.append(
      errors.CheckFailed(
        f'replay_gap {gap:.1e} > train.logp_gap_limit={limit:g} at step '
        f'{step}: sampler and trainer differ on a fixed problem; look at what '
        'changed in model, sampler or devices'
      )
    )
  return {'replay_gap': gap}


def check_weights(experiment: Experiment, step: int) -> None:
  """Compares what several devices hold copies of.

  Every copied array is read once, the optimizer's and the reference's too.

  Raises:
    CheckFailed: it is not the same.
  """
  if experiment.mesh is None:
    return
  tree = {
    'trained': experiment.state.params,
    'optimizer': experiment.state.opt_state,
    'frozen': experiment.frozen,
  }
  # Under adapters the reference is what they stand on.
  if experiment.ref_params is not experiment.frozen:
    tree['reference'] = experiment.ref_params
  differing = replicas.differing(tree, experiment.mesh)
  if differing:
    raise errors.CheckFailed(
      f'step {step}: copies of {", ".join(differing[:3])} ({len(differing)} '
      'arrays) differ between devices; a device or a link is broken, and the '
      'last checkpoint is what to go on from, without it'
    )


def replay(experiment: Experiment) -> float:
  """The largest |log-probability of the sampler - the trainer's|, in nats.

  Of all samples of the first evaluation problem, at a key of their own.
  """
  config, problems = experiment.config, [experiment.eval_problems[0]]
  rollouts = experiment.collector.collect(
    experiment_lib.for_sampler(experiment),
    problems,
    key=rng.stream(config.seed, 'replay'),
    temperature=config.train.temperature,
    **rounds_lib.how(
      experiment, problems, int(experiment.recipe.budget(1)), step=0
    ),
  )
  keep = np.ones(rollouts.length.shape, bool)
  packed = updating.divide(
    experiment, updating.pack(experiment, rollouts, keep)
  )
  mask, kept_ids = sharding.put(
    (rollouts.mask, rollouts.kept_ids), experiment.mesh, PartitionSpec()
  )
  scored, _ = jax.device_get(
    experiment.programs.score(experiment.params, packed, mask, kept_ids)
  )
  gap = np.abs(scored - rollouts.sampler_logp)[rollouts.mask > 0]
  return float(gap.max(initial=0.0))
