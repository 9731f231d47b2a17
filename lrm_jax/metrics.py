"""Numbers of a run: metrics.jsonl, TensorBoard events, a progress line.

Data flow: {name: float} of one step -> `MetricsWriter.write` -> one line of
WORKDIR/metrics.jsonl and one scalar each in WORKDIR/tensorboard; the few that
matter while waiting -> `Progress.update` -> stderr.
"""

import collections
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Mapping

import rich.console
import rich.progress

from lrm_jax import distributed, events, jsonl, storage
from lrm_jax.errors import UserError

# A plain progress line appears at most this often (seconds).
PLAIN_INTERVAL = 10.0
# Both records go to a bucket at least this often (seconds), and with every
# checkpoint.
UPLOAD_INTERVAL = 60.0
# The ETA looks back over this many updates.
ETA_WINDOW = 20
# The position in a file that is empty.
START = {'rows': 0, 'bytes': 0}


class MetricsWriter:
  """Writes the metrics of each step once, across restarts.

  metrics.jsonl is the record (`{"step": n, name: float, ...}` a line, flushed
  at once; a float that is not finite is null); the TensorBoard events mirror
  it without the values that are not finite. Use as a context manager, or close
  it.

  A bucket has no appending: there, both are kept on this machine and copied
  whole, by `flush` and when `UPLOAD_INTERVAL` is over.

  Args:
    workdir: existing folder of the run, or its place in a bucket.
    resume_step: last step whose lines stay; later ones, left by work that is
      about to be done again, are dropped. -1 starts afresh.

  Attributes:
    last: the numbers of the step that was written last, as they were written;
      {} before the first.
  """

  def __init__(self, workdir: str | os.PathLike[str], resume_step: int):
    self._mirror = storage.Mirror(workdir)
    self._mirror.fetch_file('metrics.jsonl')
    self._copied_at = time.monotonic()
    self._rows, self.last = 0, {}
    path = self._mirror.folder / 'metrics.jsonl'
    if path.exists():
      _drop_after(path, resume_step)
      self._rows = path.read_bytes().count(b'\n')
    self._file = path.open('a', encoding='utf-8')
    self._events = events.EventFile(
      self._mirror.folder / 'tensorboard', resume_step + 1
    )

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Records scalars of one step (Python, NumPy or JAX numbers)."""
    row = {'step': int(step)}
    for name, value in values.items():
      number = float(value)
      row[name] = number if math.isfinite(number) else None
    # First: a step counts when it is in the other record.
    known = {name: row[name] for name in values if row[name] is not None}
    self._events.add(int(step), known)
    self._events.flush()
    self._file.write(json.dumps(row, allow_nan=False) + '\n')
    self._file.flush()
    self._rows += 1
    self.last = {name: row[name] for name in values}
    if time.monotonic() - self._copied_at >= UPLOAD_INTERVAL:
      self.flush()

  def position(self) -> dict[str, int]:
    """`rows` and `bytes` of metrics.jsonl; so much of it is on the disk."""
    self._file.flush()
    os.fsync(self._file.fileno())
    # In bytes, not where a text file thinks that it is.
    size = os.fstat(self._file.fileno()).st_size
    return {'rows': self._rows, 'bytes': size}

  def flush(self) -> None:
    """Copies both records to the bucket, if they belong there."""
    if self._mirror.is_remote:
      self._events.flush()
      self._mirror.upload()
    self._copied_at = time.monotonic()

  def close(self) -> None:
    """Flushes and closes both records."""
    self._file.close()
    self._events.close()
    self._mirror.upload()
    self._mirror.close()

  def __enter__(self) -> 'MetricsWriter':
    return self

  def __exit__(self, *_) -> None:
    # Also of a run that fails: its last steps say why.
    self.close()


class NoWriter:
  """Takes metrics, and keeps none."""

  last: Mapping[str, float | None] = {}

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Forgets them."""

  def position(self) -> dict[str, int]:
    """That of no file."""
    return dict(START)

  def flush(self) -> None:
    """There is nothing to copy."""

  def close(self) -> None:
    """Nothing was opened."""

  def __enter__(self) -> 'NoWriter':
    return self

  def __exit__(self, *_) -> None:
    self.close()


def open_writer(
  workdir: str | os.PathLike[str], resume_step: int
) -> MetricsWriter | NoWriter:
  """A `MetricsWriter` in the main process of a run; others write nothing."""
  if distributed.is_main():
    return MetricsWriter(workdir, resume_step)
  return NoWriter()


def _drop_after(path: pathlib.Path, resume_step: int) -> None:
  """Rewrites a metrics file without the steps after resume_step."""
  rows = []
  *lines, rest = path.read_bytes().split(b'\n')
  # What has no line end was cut short by a kill; its step is done again.
  del rest
  for number, line in enumerate(lines, start=1):
    try:
      row = json.loads(line)
    except (ValueError, RecursionError):
      row = None
    is_row = isinstance(row, dict) and 'step' in row
    if not is_row or type(row['step']) is not int:
      raise UserError(
        f'{path}:{number}: not the metrics of a step; mend or remove that line'
      )
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
