"""Ctrl-C and preemption: finish the step, save, then stop."""

import signal
import sys

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
  """A context in which the first signal is only noted.

  A second one acts as usual. `requested` is True once a signal came.
  """

  def __init__(self):
    self.requested = False
    self._previous = {}

  def __enter__(self) -> 'Interrupts':
    for number in SIGNALS:
      self._previous[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *exception) -> None:
    self._restore()

  def _note(self, number, frame) -> None:
    self.requested = True
    self._restore()
    print(
      'lrm: stopping after this step and saving; once more to stop at once',
      file=sys.stderr,
    )

  def _restore(self) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    self._previous = {}
