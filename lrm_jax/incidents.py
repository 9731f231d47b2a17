"""Updates that were skipped: counted, and what they were made of is kept.

WORKDIR/incidents/step_NNNNNN.json       what was not finite, and all numbers
WORKDIR/incidents/step_NNNNNN.jsonl.gz   the samples, or the rows of `lrm sft`

A step that is done again and fails again leaves step_NNNNNN_2, and so on.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax import (
  distributed,
  errors,
  jsonl,
  packing,
  records,
  storage,
  updating,
)
from lrm_jax.experiment import Experiment
from lrm_jax.gathering import Batch

FOLDER = 'incidents'


def in_row(skipped: Iterable[bool], before: int) -> tuple[int, int]:
  """Skipped updates since the last good one: (at the end, at the worst).

  Args:
    skipped: of each update, in order.
    before: skipped ones that stand right before them.
  """
  now = worst = before
  for is_skipped in skipped:
    now = now + 1 if is_skipped else 0
    worst = max(worst, now)
  return now, worst


def note(
  experiment: Experiment,
  workdir: storage.Path,
  step: int,
  batch: Batch,
  advantage: np.ndarray,
  each: Sequence[Mapping[str, float]],
) -> None:
  """Counts the skipped updates of a step, and writes what they trained on.

  If they are `train.max_skipped` in a row, the experiment's alarms have a
  reason to stop. All processes call it, with the same numbers.

  Args:
    experiment: its alarms change.
    workdir: the run's folder.
    step: counted from 1.
    batch: of the step.
    advantage: `[B, G, T]`.
    each: from `updating.wait`.
  """
  config, alarms = experiment.config.train, experiment.alarms
  skipped = [update['skipped'] > 0 for update in each]
  if not any(skipped):
    alarms.skipped_in_row = 0 if each else alarms.skipped_in_row
    return
  alarms.skipped_in_row, worst = in_row(skipped, alarms.skipped_in_row)
  parts = updating.parts(batch.keep, config)
  bad = [part for part, is_bad in zip(parts, skipped, strict=True) if is_bad]
  header = {
    'step': step,
    'mini_batches': bad,
    'skipped_in_row': alarms.skipped_in_row,
    'updates': [_told(update) for update in each],
    'parameters_not_finite': not_finite(experiment.state.params),
  }

  def write() -> str:
    rows = sample_rows(experiment, batch, advantage, step, bad)
    return str(write_incident(workdir, step, header, rows))

  path = distributed.from_main(write)
  if worst >= config.max_skipped:
    alarms.reasons.append(stop_line(each, worst, 'train.', config, step, path))


def note_sft(
  state: Any,
  config: Any,
  host: dict[str, Any],
  workdir: storage.Path,
  step: int,
  numbers: Mapping[str, float],
  rows: packing.Rows,
  mask: np.ndarray,
) -> str | None:
  """The same of a supervised step.

  Args:
    state: its parameters are looked at.
    config: of the run; `max_skipped` is read.
    host: `skipped_in_row` changes.
    workdir: the run's folder.
    step: counted from 1.
    numbers: of the step.
    rows: NumPy arrays, `[R, S]`.
    mask: 1 on tokens that are trained, `[R, S]`.

  Returns:
    Why the run ends, if it does.
  """
  is_skipped = numbers['skipped'] > 0
  host['skipped_in_row'], worst = in_row([is_skipped], host['skipped_in_row'])
  if not is_skipped:
    return None
  header = {
    'step': step,
    'skipped_in_row': worst,
    'updates': [_told(numbers)],
    'parameters_not_finite': not_finite(state.params),
  }
  found = [
    {
      'step': step,
      'row': row,
      'token_ids': tokens.tolist(),
      'segment_ids': rows.segment_ids[row].tolist(),
      'trained': np.flatnonzero(mask[row]).tolist(),
    }
    for row, tokens in enumerate(rows.tokens)
  ]
  path = distributed.from_main(
    lambda: str(write_incident(workdir, step, header, found))
  )
  if worst < config.max_skipped:
    return None
  return str(stop_line([numbers], worst, '', config, step, path))


def stop_line(
  each: Sequence[Mapping[str, float]],
  worst: int,
  section: str,
  config: Any,
  step: int,
  path: str,
) -> errors.CheckFailed:
  """What the user is told of a run that makes no progress."""
  last = [update for update in each if update['skipped'] > 0][-1]
  result = ''
  if is_of_the_result(last):
    result = ', and what the optimizer makes of them is not finite'
  return errors.CheckFailed(
    f'{worst} updates in a row skipped, the last at step {step}: loss '
    f'{last["loss"]}, grad_norm {last["grad_norm"]}{result}; {section}'
    f'max_skipped is {config.max_skipped}; what they trained on is in {path}'
  )


def is_of_the_result(numbers: Mapping[str, float]) -> bool:
  """Whether an update was skipped for the state that it would have made."""
  seen = (numbers['loss'], numbers['grad_norm'])
  return numbers['skipped'] > 0 and all(map(math.isfinite, seen))


def sample_rows(
  experiment: Experiment,
  batch: Batch,
  advantage: np.ndarray,
  step: int,
  parts: Sequence[int],
) -> list[dict[str, Any]]:
  """The rows of rollouts of some mini-batches, and what in each is not finite.

  JSON has no word for a number that is not finite: null.
  """
  count = experiment.config.train.mini_batches
  rows = records.step_rows(experiment.tokenizer, batch, advantage, step)
  mask = batch.rollouts.mask > 0
  found = []
  # A row each of what is there.
  at = np.argwhere(batch.rollouts.there)
  for row, (b, g) in zip(rows, at, strict=True):
    if b % count not in parts:
      continue
    values = {
      'reward': batch.reward[b, g],
      'advantage': advantage[b, g],
      'logp': batch.rollouts.sampler_logp[b, g][mask[b, g]],
    }
    bad = [n for n, x in values.items() if not np.isfinite(x).all()]
    row |= {'mini_batch': int(b % count), 'not_finite': bad}
    numbers = {n: row[n] for n in ('reward', 'advantage')}
    row['logp'] = [None if x is None else _number(x) for x in row['logp']]
    found.append(
      row | {n: None if x is None else _number(x) for n, x in numbers.items()}
    )
  return found


def write_incident(
  workdir: storage.Path,
  step: int,
  header: dict[str, Any],
  rows: list[dict[str, Any]],
) -> storage.Path:
  """Writes both files under a name nobody has; the path of the rows."""
  storage.make_folder(workdir / FOLDER)
  name, number = f'step_{step:06d}', 1
  while (workdir / FOLDER / f'{name}.json').exists():
    number += 1
    name = f'step_{step:06d}_{number}'
  path = workdir / FOLDER / f'{name}.jsonl.gz'
  jsonl.write_rows(path, rows)
  # Last: where it is, the incident is complete.
  jsonl.write_json(workdir / FOLDER / f'{name}.json', header)
  return path


def not_finite(tree: Any) -> list[str]:
  """Names of the arrays in which some number is not finite."""
  flags = jax.jit(
    lambda tree: jax.tree.map(lambda x: jnp.isfinite(x).all(), tree)
  )(tree)
  return [
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, flag in jax.tree_util.tree_leaves_with_path(flags)
    if not bool(flag)
  ]


def _told(numbers: Mapping[str, float]) -> dict[str, Any]:
  """Numbers of an update for JSON, and the names of those not finite.

  `result`: of parameters or slots that the optimizer would have made.
  """
  told = {name: _number(value) for name, value in numbers.items()}
  bad = [name for name, value in told.items() if value is None]
  bad += ['result'] if is_of_the_result(numbers) else []
  return told | {'not_finite': bad}


def _number(value: float) -> float | None:
  return float(value) if math.isfinite(value) else None
