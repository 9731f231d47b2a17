"""Groups of a batch that learn from a demonstration; see HPT.

`put` comes before the credit: what it puts into a batch was sampled by nobody,
and gets its log-probabilities from the trainer's graph, as spliced responses
do. A problem without a demonstration keeps its samples.
"""

import dataclasses

import jax
import numpy as np

from lrm_jax.experiment import Experiment
from lrm_jax.gathering import Batch
from lrm_jax.sampler.samples import find_first


def put(experiment: Experiment, batch: Batch) -> Batch:
  """The batch with demonstrations where the recipe wants them.

  Args:
    experiment: whose recipe and demonstrations they are.
    batch: as gathered.

  Returns:
    The same object for a recipe that demonstrates nothing.
  """
  if experiment.demonstrations is None:
    return batch
  wanted = jax.device_get(experiment.programs.demonstrate(batch.rollouts))
  given = {
    row: experiment.demonstrations.of(batch.problems[row])
    for row in np.flatnonzero(wanted > 0)
  }
  rows = [row for row, ids in given.items() if ids is not None]
  coefficient = np.zeros_like(wanted)
  coefficient[rows] = wanted[rows]
  keep, fields = batch.keep.copy(), _fields(batch)
  for row in rows:
    _write(experiment, fields, row, given[row])
    keep[row] = np.arange(keep.shape[1]) == 0
  share = len(rows) / len(batch.problems)
  return dataclasses.replace(
    batch,
    rollouts=dataclasses.replace(batch.rollouts, **fields),
    keep=keep,
    demonstrated=coefficient,
    stats=batch.stats | {'demonstrated': share},
  )


def _fields(batch: Batch) -> dict[str, np.ndarray]:
  """Copies of what a demonstration changes."""
  names = ('response_ids', 'length', 'thinking_length', 'sampler_logp')
  flags = ('forced', 'truncated', 'think_closed', 'answered', 'verified')
  numbers = ('correct', 'removed', 'stale')
  return {
    name: getattr(batch.rollouts, name).copy()
    for name in names + flags + numbers
  }


def _write(
  experiment: Experiment,
  fields: dict[str, np.ndarray],
  row: int,
  ids: list[int],
) -> None:
  """Puts a response in the place of a group's first sample."""
  at, length = (row, 0), len(ids)
  room = fields['response_ids'].shape[-1]
  pad = experiment.tokenizer.pad_id
  fields['response_ids'][at] = ids + [pad] * (room - length)
  fields['length'][at] = fields['stale'][at] = length
  fields['sampler_logp'][at] = np.where(np.arange(room) < length, np.nan, 0)
  fields['forced'][at] = False
  close = experiment.collector.sampler.think_close_ids
  closed, thinking = find_first(
    fields['response_ids'][at], fields['length'][at], close
  )
  fields['think_closed'][at], fields['thinking_length'][at] = closed, thinking
  fields['truncated'][at], fields['removed'][at] = False, 0
  for name in ('correct', 'answered', 'verified'):
    fields[name][at] = True
