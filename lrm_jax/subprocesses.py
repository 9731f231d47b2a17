"""Starting and ending the helper processes that read strangers' text.

What they give up themselves is in `confinement.py`.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

# What Python and its libraries need; not tokens, nor what else was exported.
_ENVIRONMENT = (
  *('LANG', 'LC_ALL', 'LC_CTYPE', 'PYTHONPATH', 'PYTHONHOME'),
  *('PYTHONDONTWRITEBYTECODE', 'PYTHONPYCACHEPREFIX'),
  *('LD_LIBRARY_PATH', 'DYLD_LIBRARY_PATH'),
)
# A group's signals, for the parent alone.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start(command: Sequence[str], **environment: str) -> subprocess.Popen:
  """A process in a session of its own, with pipes for input and output.

  Its environment is `_ENVIRONMENT` as far as it is set. Signals that
  `confinement.begin` ignores are held back from the first instruction on.

  Args:
    command: a program and its arguments.
    **environment: variables besides.
  """
  kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
  # It inherits what its creator blocks. Other threads, or this one in a
  # moment, still take the signal here.
  before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
  try:
    return subprocess.Popen(
      command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      env=kept | environment,
      start_new_session=True,
    )
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(process: subprocess.Popen, patience: float = 0.0) -> int:
  """Kills a process of `start` with its group, and drops its pipes.

  Args:
    process: from `start`.
    patience: seconds in which it may end by itself, for one that has closed
      its output: a kill would hide the status. What it started then stays;
      on Linux a confined process starts nothing.

  Returns:
    The status it ended with, which may be an earlier one.
  """
  if patience:
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(patience)
  # Once it has been waited for, its number may be another group's.
  if process.returncode is None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
      os.killpg(process.pid, signal.SIGKILL)
    process.kill()
  status = process.wait()
  for pipe in (process.stdin, process.stdout):
    with contextlib.suppress(OSError):  # A request it never read.
      pipe.close()
  return status
