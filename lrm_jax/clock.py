"""Time that never jumps while a process runs."""

import time

# Read once: what sets the clock of a machine later changes nothing here.
_UNIX = time.time() - time.monotonic()


def now() -> float:
  """Unix seconds as of the start of this process, and a steady clock since.

  Differences are durations, never negative. Between two processes lies the
  clock of their machines, which may have been set meanwhile.
  """
  return _UNIX + time.monotonic()
