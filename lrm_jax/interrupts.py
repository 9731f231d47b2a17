"""Ctrl-C and preemption: stop at a safe place, save, and say where to go on.

The first signal is noted, and the run stops as soon as that loses nothing: a
step whose responses are still being sampled is abandoned and will be made
again, one whose update has begun is finished. What the checkpoint then holds is
the state between two steps. A second signal ends the process at once.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

import jax

from lrm_jax import distributed
from lrm_jax.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = 'give the same command again'
# Contexts that are open; one at most.
_open: list['Interrupts'] = []


class Interrupts:
  """A context in which the first signal is noted, and the second is obeyed.

  `requested` is True once a signal came.
  """

  def __init__(self):
    self.requested = False
    self._previous = {}

  def __enter__(self) -> 'Interrupts':
    # libtpu takes SIGTERM for itself when it is loaded, so it has to be now.
    jax.devices()
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
    if self.requested:
      # As a shell counts. Saving may be under way: what is not complete has no
      # name yet, and the next start takes it away.
      os._exit(128 + number)
    self.requested = True
    # The signal may have come in the midst of another line.
    with contextlib.suppress(RuntimeError):
      print(
        'lrm: stopping and saving; once more to stop at once', file=sys.stderr
      )


def is_requested() -> bool:
  """Whether this process was told to stop."""
  return any(interrupts.requested for interrupts in _open)


def check() -> None:
  """Abandons what this process does alone, if it was told to stop.

  Only inside of `agreed`: others may go on, and wait for this one later.

  Raises:
    Stopped: it was.
  """
  if is_requested():
    raise Stopped(f'stopped; {AGAIN}')


@contextlib.contextmanager
def agreed() -> Iterator[None]:
  """What may be abandoned by one process, and is then left behind by all.

  Every process of the run comes here, and no other one is waited for inside.

  Raises:
    Stopped: in all processes, where one or more were told to stop.
  """
  with contextlib.suppress(Stopped):
    yield
  if distributed.any_of(is_requested()):
    raise Stopped(f'stopped; {AGAIN}')
