"""The eight phases of an RL step: seconds of each, and regions of a trace.

  with Clock() as clock:          of a step
    with phases.phase('sample'):  wherever it is; a region in a profile too
      ...
  clock.seconds                   {'choose': 0.01, 'sample': 2.3, ...}

A phase within another takes its time away from it, so that all add up to the
step. They are phases of the host: the device may still be at work on one when
the host is in the next, and what it does is in the trace.
"""

import contextlib
import time
from collections.abc import Iterator

import jax

NAMES = (
  *('choose', 'sample', 'verify', 'shape'),
  *('select', 'credit', 'update', 'record'),
)
# Of the main thread's step; others, such as those of lanes, are not timed.
_clocks: list['Clock'] = []


class Clock:
  """Seconds in each phase since it was entered as a context."""

  def __init__(self):
    """Nothing has been timed."""
    self.seconds = dict.fromkeys(NAMES, 0.0)
    self._running: list[str] = []
    self._since = 0.0

  def __enter__(self) -> 'Clock':
    _clocks.append(self)
    return self

  def __exit__(self, *exception) -> None:
    _clocks.remove(self)

  def numbers(self) -> dict[str, float]:
    """For the metrics: `seconds_sample` and so on."""
    return {f'seconds_{name}': value for name, value in self.seconds.items()}

  def begin(self, name: str) -> None:
    """The time from now on is this phase's."""
    self._stop()
    self._running.append(name)

  def end(self) -> None:
    """The time from now on is that of the phase before, if there was one."""
    self._stop()
    self._running.pop()

  def _stop(self) -> None:
    now = time.perf_counter()
    if self._running:
      self.seconds[self._running[-1]] += now - self._since
    self._since = now


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
  """Times what is inside, if a `Clock` runs, and names it in a profile.

  Args:
    name: one of NAMES.
  """
  if name not in NAMES:
    raise ValueError(f'phase {name!r} is not one of {", ".join(NAMES)}')
  clocks = list(_clocks)
  for clock in clocks:
    clock.begin(name)
  try:
    with jax.profiler.TraceAnnotation(f'lrm/{name}'):
      yield
  finally:
    for clock in clocks:
      clock.end()
