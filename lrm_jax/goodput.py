"""Goodput: the share of a run's time that went into steps that count.

    goodput = productive seconds / (now - first start of the run)

As in Google's ML Goodput Measurement (github.com/google/cloud_tpu_goodput):
productive is the time of steps whose results the run still has. Everything else
is in the denominator alone: loading, compilation, checkpoints, evaluation,
export, waiting for a machine between two starts, and steps that were lost
because the run stopped before the next checkpoint.

In a step, all time in which some program was being compiled is taken off, also
where it was compiled beside work that went on; so goodput is a lower bound in
the few steps that compile. Waiting for data or for the grader is part of a
step.

Within a start time is steady (`clock.py`). Between two starts only the clocks
of their machines tell it: one that was set forward meanwhile makes the share
too small, one that was set back too large, but at most 1 and never less than 0.
No number but this one depends on them.

WORKDIR/start.json    {"started": ...}, Unix time of the first start in seconds
"""

import json
import pathlib
from collections.abc import Iterable

from lrm_jax import jsonl
from lrm_jax.compilation import CompileWatch
from lrm_jax.errors import UserError
from lrm_jax.experiment import Experiment


def first_start(workdir: pathlib.Path, now: float) -> float:
  """When the run was started first, in Unix seconds; now, if it never was.

  Raises:
    UserError: the file that says it is damaged.
  """
  path = workdir / 'start.json'
  if not path.exists():
    jsonl.write_json(path, {'started': now})
  try:
    record = json.loads(path.read_text('utf-8'))
  except (OSError, ValueError, RecursionError):
    record = None
  started = None
  if isinstance(record, dict) and 'started' in record:
    started = record['started']
  # Clocks of two machines differ: it may lie a little ahead.
  if type(started) not in (int, float) or not 0 <= started < 1e11:
    raise UserError(
      f'{path}: does not say when the run was started; remove it, and its '
      'goodput counts from now on'
    )
  return started


def productive(
  began: float, ended: float, compiling: Iterable[tuple[float, float]]
) -> float:
  """Seconds from `began` to `ended` in which nothing was being compiled.

  Args:
    began: of a step.
    ended: of the same.
    compiling: when each program was, (began, ended); they may overlap, and
      reach out of the step.
  """
  left, at = 0.0, began
  for first, last in sorted(compiling):
    left += max(0.0, min(first, ended) - at)
    at = max(at, last)
  return left + max(0.0, ended - at)


def share(productive_seconds: float, started: float, now: float) -> float:
  """Goodput in [0, 1].

  Args:
    productive_seconds: of all steps that count, whichever start they belong to.
    started: from `first_start`.
    now: Unix seconds. If a clock says that less time went by since than was
      productive, it is wrong, and nothing else is known to have been.
  """
  elapsed = max(now - started, productive_seconds)
  return productive_seconds / elapsed if elapsed > 0 else 0.0


def count_step(
  experiment: Experiment,
  began: float,
  ended: float,
  started: float,
  watch: CompileWatch,
) -> float:
  """Adds the time of a step to the experiment's; the goodput at its end."""
  experiment.seconds += ended - began
  experiment.productive_seconds += productive(began, ended, watch.spans)
  return share(experiment.productive_seconds, started, ended)
