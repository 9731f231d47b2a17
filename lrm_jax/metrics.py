"""Numbers of a run: metrics.jsonl, TensorBoard events, a progress line.

Data flow: {name: float} of one step -> `MetricsWriter.write` -> one line of
WORKDIR/metrics.jsonl and one scalar each in WORKDIR/tensorboard; the few that
matter while waiting -> `Progress.update` -> stderr.
"""

import collections
import json
import math
import pathlib
import sys
import time
from collections.abc import Mapping

import rich.console
import rich.progress
import tensorboardX

from lrm_jax import distributed, jsonl

# A plain progress line appears at most this often (seconds).
PLAIN_INTERVAL = 10.0
# The ETA looks back over this many updates.
ETA_WINDOW = 20


class MetricsWriter:
  """Writes the metrics of each step once, across restarts.

  metrics.jsonl is the record (`{"step": n, name: float, ...}` a line, flushed
  at once; a float that is not finite is null); the TensorBoard events mirror
  it without the values that are not finite.

  Args:
    workdir: existing folder of the run.
    resume_step: last step whose lines stay; later ones, left by work that is
      about to be done again, are dropped. -1 starts afresh.
  """

  def __init__(self, workdir: str | pathlib.Path, resume_step: int):
    workdir = pathlib.Path(workdir)
    path = workdir / 'metrics.jsonl'
    if path.exists():
      _drop_after(path, resume_step)
    self._file = path.open('a', encoding='utf-8')
    self._events = tensorboardX.SummaryWriter(
      str(workdir / 'tensorboard'),
      purge_step=resume_step + 1,
      flush_secs=10,
      # Two starts within one second must not share a file.
      filename_suffix=f'.{resume_step + 1}',
    )

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Records scalars of one step (Python, NumPy or JAX numbers)."""
    row = {'step': int(step)}
    for name, value in values.items():
      number = float(value)
      row[name] = number if math.isfinite(number) else None
      if math.isfinite(number):
        self._events.add_scalar(name, number, int(step))
    self._file.write(json.dumps(row, allow_nan=False) + '\n')
    self._file.flush()

  def close(self) -> None:
    """Flushes and closes both records."""
    self._file.close()
    self._events.close()


class NoWriter:
  """Takes metrics, and keeps none."""

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Forgets them."""

  def close(self) -> None:
    """Nothing was opened."""


def open_writer(
  workdir: str | pathlib.Path, resume_step: int
) -> MetricsWriter | NoWriter:
  """A `MetricsWriter` in the main process of a run; others write nothing."""
  if distributed.is_main():
    return MetricsWriter(workdir, resume_step)
  return NoWriter()


def _drop_after(path: pathlib.Path, resume_step: int) -> None:
  """Rewrites a metrics file without the steps after resume_step."""
  rows = []
  for line in path.read_text('utf-8').splitlines():
    try:
      row = json.loads(line)
    except ValueError:  # The line a kill cut short; its step is done again.
      break
    if row['step'] <= resume_step:
      rows.append(row)
  jsonl.write_rows(path, rows)


class Progress:
  """A live line with an ETA on a terminal, plain lines elsewhere; on stderr.

      train 12/100  reward 0.43  tokens 81.2  eta 1:23

  Plain lines come with the first update, then at most every ten seconds, and
  once more at the end. Use as a context manager.

  The ETA is the mean time of the last updates times the steps left. The time
  up to the first update is left out: it is mostly compilation.

  Args:
    total: the last step.
    description: leading word.
    start: steps done by an earlier start of the run.
  """

  def __init__(self, total: int, description: str, start: int = 0):
    self._total = total
    self._description = description
    self._step = start
    self._line = ''
    self._printed_line = ''
    self._printed_at = -math.inf
    self._history = collections.deque(maxlen=ETA_WINDOW + 1)
    self._bar, self._is_shown = None, distributed.is_main()
    if self._is_shown and sys.stderr.isatty():
      self._bar = rich.progress.Progress(
        rich.progress.TextColumn('{task.description}'),
        rich.progress.BarColumn(bar_width=20),
        rich.progress.TextColumn('{task.fields[line]}', markup=False),
        console=rich.console.Console(stderr=True),
        # What the program prints belongs in its pipe, if it has one.
        redirect_stdout=sys.stdout.isatty(),
      )
      self._task = self._bar.add_task(
        description, total=total, completed=start, line=f'{start}/{total}'
      )

  def __enter__(self) -> 'Progress':
    if self._bar is not None:
      self._bar.start()
    return self

  def __exit__(self, *exc_info) -> None:
    if self._bar is not None:
      self._bar.stop()
    elif self._is_shown and self._line != self._printed_line:
      self._print()

  def update(self, step: int, fields: Mapping[str, float]) -> None:
    """Shows that `step` steps are done, with a few numbers of the last one."""
    now = time.monotonic()
    self._step = step
    self._history.append((now, step))
    numbers = [f'{name} {_short(value)}' for name, value in fields.items()]
    eta = f'eta {_clock(self._eta())}'
    self._line = '  '.join([f'{step}/{self._total}', *numbers, eta])
    if self._bar is not None:
      self._bar.update(self._task, completed=step, line=self._line)
    elif self._is_shown and now - self._printed_at >= PLAIN_INTERVAL:
      self._printed_at = now
      self._print()

  def _print(self) -> None:
    self._printed_line = self._line
    print(f'{self._description} {self._line}', file=sys.stderr, flush=True)

  def _eta(self) -> float | None:
    """Returns the seconds left, None while nothing is known."""
    if self._step >= self._total:
      return 0.0
    (begin, first), (end, last) = self._history[0], self._history[-1]
    if last <= first:
      return None
    return (end - begin) / (last - first) * (self._total - last)


def _short(value: float) -> str:
  """Returns three significant digits, all digits from 1000 on."""
  value = float(value)
  return f'{value:.0f}' if 1000 <= abs(value) < 1e9 else f'{value:.3g}'


def _clock(seconds: float | None) -> str:
  """Returns 1:23 or 1:02:03, '-' for None."""
  if seconds is None:
    return '-'
  minutes, second = divmod(round(seconds), 60)
  hours, minute = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minute:02d}:{second:02d}'
  return f'{minute}:{second:02d}'
