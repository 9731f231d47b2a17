"""How fast a step was: tokens, model FLOPs, and their share of the peak.

  rows_work, flops.decode     what was asked for, from lengths alone
  of_step, of_devices         numbers for the metrics, given seconds
  summarize                   those of a whole run

MFU, model FLOPs utilization, is FLOPs a second over the peak of all devices in
products of bfloat16, whatever dtype is computed in: Chowdhery et al. 2022
(arXiv 2204.02311), section 4.1. See `flops.py` for what counts.
"""

from typing import Any

import jax
import numpy as np

from lrm_jax import chips, flops, packing, policy
from lrm_jax.chips import Chip
from lrm_jax.experiment import Experiment
from lrm_jax.gathering import Batch
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.lora import Lora

# Until there is a batch. Of the others, `credit` has no forward pass of the
# update, and while `record` writes rollouts the device is still at work on it.
SAMPLING = ('choose', 'sample', 'verify', 'shape', 'select')
UPDATING = ('update', 'record')


def rows_work(
  model: ModelConfig,
  rows: packing.Rows,
  trained: int,
  *,
  lora: Lora | None = None,
  forwards: int = 0,
  balances: bool = False,
) -> int:
  """Model FLOPs of an update over packed rows, those of `flops.update`.

  A prompt that responses share counts once in each row that holds it. Rows
  where nothing is shared hold it more often and count more: that is the work
  which they ask for.

  Args:
    model: the architecture.
    rows: NumPy arrays, `[..., R, S]`.
    trained: tokens whose log-probabilities the loss looks at.
    lora: of the adapters, if they are what is trained.
    forwards: passes beside those of the gradient, with log-probabilities.
    balances: a pass without them comes first, for the loads of experts.
  """
  starts, lengths = packing.segments(rows)
  work = flops.update(
    model, lengths, starts=starts, logits=trained, lora=lora, forwards=forwards
  )
  if balances:
    work += flops.forward(model, lengths, starts=starts, logits=0)
  return work


def update_work(
  experiment: Experiment, packed: packing.PackedBatch, trained: int
) -> int:
  """`rows_work` of a mini-batch with so many trained tokens."""
  config, recipe = experiment.config, experiment.recipe
  return rows_work(
    experiment.model,
    jax.tree.map(lambda x: x[: packed.count], packed.rows),
    trained,
    lora=policy.read(config) if config.lora.rank else None,
    forwards=recipe.needs_reference + recipe.needs_statistics,
    balances=config.train.load_balance > 0,
  )


def utilization(
  work: float, seconds: float, *, devices: int, chip: Chip | None
) -> dict[str, float]:
  """FLOPs per second and device, and `mfu` in [0, 1] if the peak is known.

  Args:
    work: model FLOPs of all devices together.
    seconds: they took.
    devices: how many.
    chip: of them all; None if it is not known.
  """
  rate = work / seconds / devices
  found = {'model_flops_per_second_per_device': rate}
  return found if chip is None else found | {'mfu': rate / chip.flops}


def of_devices(work: float, seconds: float) -> dict[str, float]:
  """`utilization` of the devices of this run."""
  return utilization(
    work,
    seconds,
    devices=jax.device_count(),
    chip=chips.of_device(jax.devices()[0]),
  )


def of_step(
  batch: Batch, seconds: dict[str, float], numbers: dict[str, float]
) -> dict[str, float]:
  """Seconds of the two halves of a step, and the throughput of each.

  Sampling is everything until there is a batch; the update is everything after,
  as far as the device did not hide it. Model FLOPs of the update are over the
  seconds from its dispatch until its numbers are there: without `credit`.

  With batches ahead the two overlap, and what is sampled is another batch: then
  there is the throughput of the whole step alone.

  Args:
    batch: of the step.
    seconds: of each phase.
    numbers: of the updates; without any, as from a batch of which nothing is
      kept, they have no utilization.
  """
  whole = sum(seconds.values())
  sample_seconds = sum(seconds[name] for name in SAMPLING)
  update_seconds = whole - sample_seconds
  lengths = batch.rollouts.length + batch.rollouts.prompt_length[:, None]
  sampled = batch.stats['sampled_tokens']
  found = {
    'sample_seconds': sample_seconds,
    'update_seconds': update_seconds,
    'tokens_per_second_per_device': sampled / whole / jax.device_count(),
  }
  if 'steps_behind' in batch.stats:
    return found
  found |= {
    'tokens_per_second_sample': sampled / sample_seconds,
    'tokens_per_second_update': float(np.sum(lengths * batch.keep))
    / update_seconds,
  }
  sampling = of_devices(batch.stats['model_flops_sample'], sample_seconds)
  found |= {f'{name}_sample': value for name, value in sampling.items()}
  if 'model_flops_update' not in numbers:
    return found
  seconds_updating = sum(seconds[name] for name in UPDATING)
  return found | of_devices(numbers['model_flops_update'], seconds_updating)


def column(rows: list[dict[str, Any]], name: str) -> list[float]:
  """A number of all steps that have it."""
  return [row[name] for row in rows if row.get(name) is not None]


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
  """For the summary: medians of both halves of a step, goodput at the last.

  What no step has is None.

  Args:
    rows: of metrics.jsonl.
  """

  def median(name: str) -> float | None:
    # The first steps compile.
    found = column(rows, name)
    return float(np.median(found)) if found else None

  rate = 'model_flops_per_second_per_device'
  return {
    'tokens_per_second': {
      part: median(f'tokens_per_second_{part}') for part in ('sample', 'update')
    },
    rate: {'sample': median(f'{rate}_sample'), 'update': median(rate)},
    'mfu': {'sample': median('mfu_sample'), 'update': median('mfu')},
    'goodput': next(iter(column(rows, 'goodput')[::-1]), None),
  }
