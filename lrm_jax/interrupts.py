"""Ctrl-C and preemption: stop at a safe place, save, and say where to go on.

The first signal is noted, and the run stops as soon as that loses nothing: a
step whose responses are still being sampled is abandoned and will be made
again, one whose update has begun is finished. What the checkpoint then holds is
the state between two steps. A second signal ends the process at once.

The command line notes signals before it loads anything that takes time, so
nothing heavy is imported here.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

from lrm_jax import storage
from lrm_jax.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = 'give the same command again'
# Contexts that are open, one within another.
_open: list['Interrupts'] = []
# Of `deferred`, likewise.
_deferred: list[None] = []


class Interrupts:
  """A context in which the first signal is noted, and the second is obeyed.

  `requested` is True once a signal came. Of contexts within one another the
  inner one notes it, and it is asked of all.
  """

  def __init__(self):
    self.requested = False
    self._previous = {}

  def __enter__(self) -> 'Interrupts':
    for number in SIGNALS:
      self._previous[number] = signal.signal(number, self._note)
    _open.append(self)
    return self

  def __exit__(self, *exception) -> None:
    _open.remove(self)
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    self._previous = {}

  def _note(self, number, frame) -> None:
    if is_requested():
      # As a shell counts. Saving may be under way: what is not complete has no
      # name yet, and the next start takes it away.
      os._exit(128 + number)
    self.requested = True
    # The signal may have come in the midst of another line.
    with contextlib.suppress(RuntimeError):
      print(
        'lrm: stopping and saving; once more to stop at once', file=sys.stderr
      )


@contextlib.contextmanager
def of_run() -> Iterator[Interrupts]:
  """An `Interrupts` for a run, whose devices are asked for first.

  libtpu takes SIGTERM for itself when it is loaded.
  """
  import jax

  jax.devices()
  with Interrupts() as interrupts:
    yield interrupts


def is_requested() -> bool:
  """Whether this process was told to stop."""
  return any(interrupts.requested for interrupts in _open)


def check() -> None:
  """Abandons what this process does alone, if it was told to stop.

  Only inside of `agreed`: others may go on, and wait for this one later.

  Raises:
    Stopped: it was.
  """
  if is_requested() and not _deferred:
    raise Stopped(f'stopped; {AGAIN}')


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """What is not abandoned: whoever is told to stop inside goes on for now.

  Every process of the run comes here. A second signal is obeyed still.
  """
  _deferred.append(None)
  try:
    yield
  finally:
    _deferred.pop()


@contextlib.contextmanager
def agreed() -> Iterator[None]:
  """What may be abandoned by one process, and is then left behind by all.

  Every process of the run comes here, and no other one is waited for inside.

  Raises:
    Stopped: in all processes, where one or more were told to stop.
  """
  from lrm_jax import distributed

  with contextlib.suppress(Stopped):
    yield
  if _deferred:
    return
  if distributed.any_of(is_requested()):
    raise Stopped(f'stopped; {AGAIN}')


def check_loading(workdir: storage.Path) -> None:
  """Ends a run that was told to stop before it has taken a step.

  Every process of the run comes here.

  Args:
    workdir: of the run, if it is there yet; it is not changed.

  Raises:
    Stopped: in all processes, with the line for the user.
  """
  from lrm_jax import distributed
  from lrm_jax.checkpoints import recovery

  if distributed.any_of(is_requested()):
    newest = recovery.newest(workdir / 'checkpoints')
    raise Stopped(at_step(0 if newest is None else newest))


def at_step(step: int) -> str:
  """The line for the user of a run that was stopped after so many steps."""
  return f'stopped; resumable at step {step}: {AGAIN}'
