"""Chat templates -> prompts, rendered by a process with limits.

A template may loop for ever or multiply a text by a billion, in one
instruction that nothing in this process could interrupt. So the process of
`template_worker.py` renders them all; it is started for the first one, costs
some 50 microseconds a prompt, and ends with this one. One that has died is
replaced and asked again; dying over a template twice is the template's fault.
"""

import atexit
import json
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

from lrm_jax import subprocesses
from lrm_jax.errors import UserError

# Of processor time, for a prompt; real templates take some microseconds.
SECONDS = 5
# Of its address space, of which Python and jinja take a twentieth.
MEMORY_BYTES = 1 << 30
# By wall clock, for a process that does not run at all: on a loaded machine it
# waits for a processor, and at first for a cold disk.
WALL_SECONDS = 4 * SECONDS
START_SECONDS = 120
_ATTEMPTS = 2
# From closing its output to having ended.
_EXIT_SECONDS = 1.0
_MAX_REPLY_BYTES = 1 << 28


def render(template: str, content: str, tokens: Mapping[str, str]) -> str:
  """The prompt that a template makes of one message of a user.

  Args:
    template: jinja source.
    content: of the message, plain text.
    tokens: such as `{'eos_token': '</s>'}`, which templates read.

  Raises:
    UserError: the template is broken, refuses the message, reaches for what
      it may not touch, or exceeds its time or memory.
  """
  request = {'template': template, 'content': content, 'tokens': dict(tokens)}
  with _lock:
    reply = _ask(json.dumps(request).encode() + b'\n')
  if 'error' in reply:
    raise UserError(
      f'chat_template: {reply["error"]}; mend the template or remove it from '
      'the model directory'
    )
  return reply['prompt']


_lock = threading.Lock()
_processes: list[subprocess.Popen] = []


def _ask(request: bytes) -> dict[str, str]:
  for _ in range(_ATTEMPTS):
    wall = WALL_SECONDS
    # It may have died since: of a lack of memory on the machine, say.
    if _processes and _processes[0].poll() is not None:
      _stop()
    if not _processes:
      _processes.append(_start())
      wall += START_SECONDS
    try:
      reply = _exchange(_processes[0], request, wall)
    except TimeoutError:
      _stop()
      reason = f'has no answer after {wall} seconds'
      continue
    except BaseException:
      # Such as Ctrl-C: a late reply would go to the next request.
      _stop()
      raise
    if reply is not None:
      return reply
    status = _stop(_EXIT_SECONDS)
    if status == -signal.SIGPROF:
      return {'error': f'takes more than {SECONDS} seconds'}
    reason = f'its process ended with status {status}'
  return {'error': reason}


def _exchange(
  process: subprocess.Popen, request: bytes, seconds: float
) -> dict[str, str] | None:
  """The reply, or None from a process that has died or talks nonsense.

  Raises:
    TimeoutError: there is none yet.
  """
  deadline = time.monotonic() + seconds
  unsent, received = memoryview(request), bytearray()
  with selectors.DefaultSelector() as selector:
    selector.register(process.stdin, selectors.EVENT_WRITE)
    selector.register(process.stdout, selectors.EVENT_READ)
    while not received.endswith(b'\n'):
      left = deadline - time.monotonic()
      if left <= 0:
        raise TimeoutError
      for key, _ in selector.select(left):
        if key.fileobj is process.stdout:
          part = os.read(key.fd, 1 << 20)
          received += part
          if not part or len(received) > _MAX_REPLY_BYTES:
            return None
          continue
        try:
          unsent = unsent[os.write(key.fd, unsent) :]
        except BrokenPipeError:
          return None
        if not unsent:
          selector.unregister(process.stdin)
  try:
    reply = json.loads(received)
  except (ValueError, RecursionError):
    return None
  is_reply = isinstance(reply, dict) and bool({'prompt', 'error'} & set(reply))
  return reply if is_reply else None


def _start() -> subprocess.Popen:
  # -P keeps this folder's modules from shadowing those of libraries.
  worker = pathlib.Path(__file__).with_name('template_worker.py')
  process = subprocesses.start(
    (sys.executable, '-P', str(worker), str(SECONDS), str(MEMORY_BYTES))
  )
  # A long prompt does not fit into a pipe that nobody reads.
  os.set_blocking(process.stdin.fileno(), False)
  return process


def _stop(patience: float = 0.0) -> int:
  """Ends the process, if there is one; returns its status."""
  status = 0
  while _processes:
    status = subprocesses.end(_processes.pop(), patience)
  return status


def _forget() -> None:
  """In a fork: the process, and who holds the lock, belong to the parent."""
  global _lock
  _lock = threading.Lock()
  _processes.clear()


atexit.register(_stop)
os.register_at_fork(after_in_child=_forget)
