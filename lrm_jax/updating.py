"""Phases 6 and 7 of a step: a batch becomes optimizer updates.

credit   rewards become advantages: `score`, then `credit`
update   packed rows go through the model, the optimizer steps: `update`
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
from jax.sharding import PartitionSpec

from lrm_jax import experiment as experiment_lib
from lrm_jax import packing, sharding, throughput, train_step
from lrm_jax.evaluation import scores
from lrm_jax.experiment import Experiment
from lrm_jax.gathering import Batch, Scored
from lrm_jax.objectives import credit as credit_parts
from lrm_jax.structs import Rollouts


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
  most = experiment.collector.sampler.layout.kept
  kept_ids = None
  if most:
    kept_ids = np.broadcast_to(np.int32(-1), (*number.shape, most))
  advantages = (number,) * experiment.recipe.advantages
  targets = train_step.Targets(
    number, advantages, number, stale, stale, kept_ids
  )
  experiment.programs.update.start(
    experiment.state,
    experiment.ref_params,
    divide(experiment, packed),
    sharding.put(targets, experiment.mesh, PartitionSpec()),
    experiment.frozen,
  )


class Credit(NamedTuple):
  """What a batch is trained with; `[B, G, T]` each.

  Attributes:
    old_logp: what ratios are taken against; see `train.old_logp`.
    advantages: as the loss has them, corrected; see `Recipe.total`.
    mask: 1 on tokens that are trained.
    recorded: the advantage as the recipe gave it, before any correction.
    numbers: for the metrics, of the step.
    has_fresh: whether any trained token was sampled by the parameters of now;
      without, nobody knows a gap.
  """

  old_logp: np.ndarray
  advantages: tuple[np.ndarray, ...]
  mask: np.ndarray
  recorded: np.ndarray
  numbers: dict[str, float]
  has_fresh: bool


def score(experiment: Experiment, batch: Batch) -> Batch:
  """The batch with what is asked of the policy before the step.

  That is every `sampler_logp` of a kept sample, `Batch.scored` where
  `train.old_logp` or the recipe wants it. A response with a piece taken out of
  its middle was never sampled: what follows gets its log-probabilities from the
  trainer's graph. All others keep the sampler's, which the gap is measured by.
  """
  rollouts = batch.rollouts
  unknown = np.isnan(rollouts.sampler_logp) & batch.keep[..., None]
  is_asked = is_trainers(experiment) or experiment.recipe.needs_entropy
  if not (is_asked or unknown.any()):
    return batch
  mask = rollouts.mask * batch.keep[..., None]
  given = sharding.put(
    (mask, rollouts.kept_ids), experiment.mesh, PartitionSpec()
  )
  logp, entropy = jax.device_get(
    experiment.programs.score(
      experiment.params,
      divide(experiment, pack(experiment, rollouts, batch.keep)),
      *given,
    )
  )
  sampler_logp = np.where(unknown, logp, rollouts.sampler_logp)
  fresh = np.arange(mask.shape[-1]) >= rollouts.stale[..., None]
  gaps = np.abs(logp - sampler_logp)[(mask > 0) & fresh]
  return dataclasses.replace(
    batch,
    rollouts=dataclasses.replace(rollouts, sampler_logp=sampler_logp),
    scored=Scored(logp, entropy, float(gaps.max(initial=0.0)))
    if is_asked
    else None,
  )


def is_trainers(experiment: Experiment) -> bool:
  """Whether ratios are taken against the trainer's own log-probabilities."""
  return experiment.config.train.old_logp == 'trainer'


def credit(experiment: Experiment, batch: Batch) -> tuple[Batch, Credit]:
  """The batch without samples that get no credit, and what the others get.

  Args:
    experiment: whose recipe it is.
    batch: from `score`.
  """
  programs, scored = experiment.programs, batch.scored
  entropy = scored.entropy if experiment.recipe.needs_entropy else None
  advantages, mask = jax.device_get(
    programs.credit(
      batch.reward, batch.keep, batch.rollouts, entropy, batch.demonstrated
    )
  )
  recorded = functools.reduce(operator.add, advantages)
  old_logp, numbers = batch.rollouts.sampler_logp, {}
  if is_trainers(experiment):
    old_logp = scored.logp
    numbers['logp_gap_max'] = scored.gap
  if experiment.recipe.credit.func is not credit_parts.as_it_is:
    is_credited = recorded[mask > 0] != 0
    numbers['credited_tokens'] = scores.mean(is_credited)
  if experiment.recipe.is_corrected:
    advantages, mask, found = jax.device_get(
      programs.correct(old_logp, batch.rollouts.sampler_logp, advantages, mask)
    )
    numbers |= {name: float(value) for name, value in found.items()}
  batch = dataclasses.replace(batch, keep=batch.keep & mask.any(-1))
  fresh = np.arange(mask.shape[-1]) >= batch.rollouts.stale[..., None]
  has_fresh = bool(((mask > 0) & fresh).any())
  return batch, Credit(old_logp, advantages, mask, recorded, numbers, has_fresh)


def tell_curriculum(
  experiment: Experiment, batch: Batch, credit: Credit
) -> None:
  """Shows the curriculum what a step trains on; its memory may move on.

  What was given, not sampled, and what has no verdict is not shown.
  """
  shown = batch.keep & batch.judged
  if batch.demonstrated is not None:
    shown = shown & (batch.demonstrated == 0)[:, None]
  experiment.curriculum.credited(
    experiment.memory,
    batch.problems,
    batch.rollouts.mask * shown[..., None],
    credit.recorded,
  )


def update(
  experiment: Experiment, batch: Batch, credit: Credit
) -> list[dict[str, jax.Array]]:
  """Dispatches the step's optimizer updates.

  Mini-batch j of n holds the groups j, j + n, ... so that a batch that is not
  full is spread evenly; an empty mini-batch is no update. All are gone through
  `train.passes` times.

  Args:
    experiment: its state moves on.
    batch: of the step.
    credit: of the batch.

  Returns:
    The metrics of each update, still on the device.
  """
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
  for part in parts(batch.keep, config):
    pick = slice(part, None, config.mini_batches)
    rollouts, old_logp, advantages, mask = jax.tree.map(
      lambda x: x[pick],  # noqa: B023
      (batch.rollouts, credit.old_logp, credit.advantages, credit.mask),
    )
    packed = pack(experiment, rollouts, batch.keep[pick])
    work = throughput.update_work(experiment, packed, int(mask.sum()))
    targets = train_step.Targets(
      old_logp,
      advantages,
      mask,
      rollouts.stale,
      rollouts.thinking_length,
      rollouts.kept_ids,
    )
    state, values = experiment.programs.update(
      state,
      experiment.ref_params,
      divide(experiment, packed),
      sharding.put(targets, experiment.mesh, PartitionSpec()),
      experiment.frozen,
    )
    values = values | {'model_flops_update': work} | credit.numbers
    if not credit.has_fresh:
      del values['logp_gap_max']
    numbers.append(values)
  experiment_lib.set_state(experiment, dataclasses.replace(state, step=done))
  return numbers


def parts(keep: np.ndarray, config: ml_collections.ConfigDict) -> list[int]:
  """The mini-batches of a step's updates, those with something to train on.

  Args:
    keep: `[B, G]`.
    config: `train` of the run.
  """
  count = config.mini_batches
  filled = [part for part in range(count) if keep[part::count].any()]
  return filled * config.passes


def pack(
  experiment: Experiment, rollouts: Rollouts, keep: np.ndarray
) -> packing.PackedBatch:
  """Packed rows of the sizes the config gives, on the host."""
  config = experiment.config.train
  return packing.pack_groups(
    rollouts,
    keep,
    rows=config.rows,
    row_length=config.row_length,
    groups_per_micro_batch=config.groups,
    shared=shares_prompts(experiment.config),
  )


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


# Numbers of updates that are added up.
COUNTED = ('model_flops_update', 'skipped', 'spikes')


def wait(
  device_numbers: list[dict[str, jax.Array]],
) -> list[dict[str, float]]:
  """The numbers of each update, when the device has them."""
  return [
    {k: float(v) for k, v in d.items()} for d in jax.device_get(device_numbers)
  ]


def read(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
  """Means over the updates of a step, and the sums in COUNTED.

  `logp_gap_max` is that of the first update that was not skipped: until then
  the parameters are those that sampled; NaN where none have sampled anything
  of the step. A step without any update has no numbers. What is not finite in
  an update is not in the step either.

  Args:
    each: from `wait`.
  """
  if not each:
    return {}
  numbers = {k: sum(d[k] for d in each) / len(each) for k in each[0]}
  numbers |= {k: sum(d[k] for d in each) for k in COUNTED if k in each[0]}
  numbers['logp_gap_max'] = first_gap(each)
  return numbers


def is_gap_within(each: Sequence[Mapping[str, float]], limit: float) -> bool:
  """Whether sampler and trainer agree on the log-probabilities of a step.

  Where all updates were skipped, and no gap is a number, nobody knows, and
  the skipped updates have an alarm of their own. Of a step that older
  parameters have sampled nobody knows either: `sentinels.every` looks then.

  Args:
    each: from `wait`.
    limit: `train.logp_gap_limit`, nats.
  """
  if not each or 'logp_gap_max' not in each[0]:
    return True
  gap = first_gap(each)
  is_unknown = math.isnan(gap) and all(d['skipped'] for d in each)
  return gap <= limit or is_unknown


def first_gap(each: Sequence[Mapping[str, float]]) -> float:
  """The gap of a step, while its parameters were those that sampled.

  Skipped updates change none. Theirs count as far as they are numbers; a
  sampler's log-probability that is none is why they were skipped.
  """
  if 'logp_gap_max' not in each[0]:
    return math.nan
  done = next((i for i, d in enumerate(each) if not d['skipped']), len(each))
  gaps = [d['logp_gap_max'] for d in each[: done + 1]]
  known = [
    gap for i, gap in enumerate(gaps) if i == done or not math.isnan(gap)
  ]
  # NumPy's, since a NaN is then the largest.
  return float(np.max(known)) if known else math.nan
