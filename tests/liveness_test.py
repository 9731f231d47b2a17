"""What processes do when one ends; with JAX, see `lost_process_test`."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

from lrm_jax import liveness
from tests import mesh_run

ROOT = pathlib.Path(__file__).parents[1]
# Seconds within which they end: an abort waits for six.
END = 5
# ADDRESS COUNT INDEX HOW, where HOW is what the process does.
PROGRAM = """
import ctypes, os, sys, time
from lrm_jax import liveness, meeting

address, count, index, how = sys.argv[1:]
count, index = int(count), int(index)
liveness.GRACE = 1.0
liveness.NOTICE = 0.2
liveness.start(meeting.meet(address, count, index, 20), count, index)
if how == 'work':
  time.sleep(1)
  sys.exit(0)
if how == 'die':
  time.sleep(0.5)
  os._exit(9)
if how == 'abort':
  # Like JAX's threads, it does not hold the interpreter's lock meanwhile.
  ctypes.CDLL(None).abort()
if how == 'fail':
  liveness.leave(2)
time.sleep(0 if how == 'end' else 60)
"""


def run(*how: str) -> list[tuple[int, str]]:
  """Exit codes and stderr of processes that do so."""
  address = mesh_run.free_address()
  started = [
    subprocess.Popen(
      [sys.executable, '-c', PROGRAM, address, str(len(how)), str(index), do],
      cwd=ROOT,
      env=os.environ | {'PYTHONPATH': str(ROOT), 'PYTHONFAULTHANDLER': ''},
      stderr=subprocess.PIPE,
      text=True,
    )
    for index, do in enumerate(how)
  ]
  try:
    said = [process.communicate(timeout=30)[1] for process in started]
  finally:
    for process in started:
      process.kill()
  return [
    (process.returncode, text)
    for process, text in zip(started, said, strict=True)
  ]


def line(state, process, count):
  return f'lrm: error: {liveness.report(state, process, count)}\n'


def test_last_words():
  for state in ('ended', 'failed', 'lost'):
    assert liveness.last_words(f'{state} 12', 3) == (state, 12)
  for text in ('', 'ended', 'ended 1 2', 'well 1', 'ended -1', 'ended 1\n'):
    assert liveness.last_words(text, 3) == ('lost', 3)


@pytest.mark.parametrize('state', ['failed', 'lost'])
def test_a_report_says_who_and_what_to_do(state):
  text = liveness.report(state, 3, 8)
  assert 'process 3 of 8' in text
  assert 'start all processes again with the same command' in text
  assert '\n' not in text


def test_alone_nothing_is_watched():
  liveness.start({}, 1, 0)
  liveness.leave(1)
  assert liveness._watch is None


def test_those_that_end_well_end_apart():
  assert run('work', 'end', 'work') == [(0, '')] * 3
  assert run('end', 'work') == [(0, '')] * 2


@pytest.mark.parametrize('lost', [0, 1, 2])
def test_all_others_hear_who_is_lost(lost):
  how = ['wait'] * 3
  how[lost] = 'die'
  expected = [(liveness.LOST, line('lost', lost, 3))] * 3
  expected[lost] = (9, '')
  assert run(*how) == expected


@pytest.mark.parametrize('failed', [0, 1])
def test_one_that_fails_alone_ends_the_others(failed):
  """As where one host lacks a file; its own error is all that it says."""
  how = ['wait'] * 3
  how[failed] = 'fail'
  expected = [(1, line('failed', failed, 3))] * 3
  expected[failed] = (2, '')
  assert run(*how) == expected


def test_where_all_fail_each_has_its_own_words():
  assert run('fail', 'fail') == [(2, '')] * 2


def test_an_abort_waits_for_the_line():
  """As of JAX, when it loses process 0, in the very same moment."""
  began = time.monotonic()
  found = run('die', 'abort')
  assert found == [(9, ''), (liveness.LOST, line('lost', 0, 2))]
  assert time.monotonic() - began < END
