"""Signals to a whole group: what a scheduler or a terminal sends to a job."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from lrm_jax import subprocesses
from lrm_jax.rewards import pool, worker

# A comparison that takes a second or so, and then is right.
_SLOW = (
  r'</think>\boxed{(x+1)^{160}(x-1)^{160}+y}',
  '(x^2-1)^{160}+y',
)
_RUN = r"""
import json, signal, sys, threading
from lrm_jax import interrupts
from lrm_jax.data import templates
from lrm_jax.rewards import overlap, pool

pair = json.loads(sys.argv[1])
simple = [(r'</think>\boxed{\sqrt{8}}', r'2\sqrt2')]
with interrupts.Interrupts() as stop, pool.Grader(1, timeout=60.0) as grader:
  ask = lambda: [
    grader._workers[0].process.pid, templates._processes[0].pid
  ]
  grader.grade(simple)
  templates.render('hello', 'q', {})
  before = ask()
  with overlap.Grading(grader) as grading:
    grading.put(0, *pair)
    print(json.dumps(before), flush=True)
    (verdict,) = grading.wait([0])
  prompt = templates.render('hello', 'q', {})
  print(json.dumps({
    'requested': stop.requested,
    'correct': verdict.correct,
    'status': verdict.status,
    'prompt': prompt,
    'same': before == ask(),
  }), flush=True)
  sys.stdin.read()
"""


def _start():
  """A process with both helpers, of which one compares; and their ids."""
  process = subprocess.Popen(
    [sys.executable, '-c', _RUN, json.dumps(_SLOW)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
  )
  return process, json.loads(process.stdout.readline())


def _is_running(pid):
  try:
    os.kill(pid, 0)
    status = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except (ProcessLookupError, FileNotFoundError):
    return False
  return status.rpartition(')')[2].split()[0] != 'Z'


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_everybody_stops_the_parent_alone(number):
  process, helpers = _start()
  with process:
    time.sleep(0.2)
    for pid in (*helpers, process.pid):
      os.kill(pid, number)
    told = json.loads(process.stdout.readline())
    process.stdin.close()
  assert told == {
    'requested': True,
    'correct': True,
    'status': 'ok',
    'prompt': 'hello',
    'same': True,
  }
  assert not any(map(_is_running, helpers))


def test_helpers_end_when_their_parent_is_killed():
  """At once when idle; else when the comparison at hand is over."""
  process, helpers = _start()
  with process:
    process.kill()
  deadline = time.monotonic() + 60
  while any(map(_is_running, helpers)) and time.monotonic() < deadline:
    time.sleep(0.05)
  assert not any(map(_is_running, helpers))


def test_a_signal_at_the_first_moment_costs_no_worker():
  """Before Python runs the first line, they are blocked."""
  path = pathlib.Path(worker.__file__)
  process = subprocesses.start(
    (sys.executable, '-P', str(path), '5', str(pool.WORKER_MEMORY_BYTES))
  )
  for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    process.send_signal(number)
  assert json.loads(process.stdout.readline()) == {'ready': True}
  subprocesses.end(process)
