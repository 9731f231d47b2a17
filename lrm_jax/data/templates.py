"""Chat templates -> prompts, rendered by a process with limits.

A template may loop for ever or multiply a text by a billion, in one
instruction that nothing in this process could interrupt. So the process of
`template_worker.py` renders them all; it is started for the first one, costs
some 50 microseconds a prompt, and ends with this one.
"""

import atexit
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping

from lrm_jax.errors import UserError

# Of processor time, for a prompt; real templates take some microseconds.
SECONDS = 5
# Of its address space, of which Python and jinja take a twentieth.
MEMORY_BYTES = 1 << 30


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
  if not _processes:
    _processes.append(_start())
  (process,) = _processes
  try:
    process.stdin.write(request)
    process.stdin.flush()
    reply = process.stdout.readline()
    if reply.endswith(b'\n'):
      return json.loads(reply)
  except BrokenPipeError:
    pass  # It has died: its status says of what.
  except BaseException:
    # Such as Ctrl-C: a late reply would go to the next request.
    _stop()
    raise
  status = process.wait()
  _stop()
  if status == -signal.SIGPROF:
    return {'error': f'takes more than {SECONDS} seconds'}
  return {'error': f'its process ended with status {status}'}


def _start() -> subprocess.Popen:
  # -P keeps this folder's modules from shadowing those of libraries. Ctrl-C is
  # for the caller alone.
  worker = pathlib.Path(__file__).with_name('template_worker.py')
  return subprocess.Popen(
    (sys.executable, '-P', str(worker), str(SECONDS), str(MEMORY_BYTES)),
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    start_new_session=True,
  )


def _stop() -> None:
  """Ends the process, if there is one, and releases its pipes."""
  while _processes:
    process = _processes.pop()
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
      try:
        pipe.close()
      except OSError:
        pass  # A request it never read.


def _forget() -> None:
  """In a fork: the process, and who holds the lock, belong to the parent."""
  global _lock
  _lock = threading.Lock()
  _processes.clear()


atexit.register(_stop)
os.register_at_fork(after_in_child=_forget)
