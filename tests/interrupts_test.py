"""The first signal is noted, the second ends the process."""

import os
import signal
import subprocess
import sys
import time

import pytest

from lrm_jax import interrupts
from lrm_jax.errors import Stopped
from lrm_jax.interrupts import SIGNALS, Interrupts


@pytest.fixture
def received():
  """Puts a recording handler under every signal; restores what was there."""
  received = []
  old = {
    number: signal.signal(number, lambda number, _: received.append(number))
    for number in SIGNALS
  }
  yield received
  for number, handler in old.items():
    signal.signal(number, handler)


@pytest.mark.parametrize('number', SIGNALS)
def test_the_first_signal_is_noted(number, received, capsys):
  assert not interrupts.is_requested()
  with Interrupts() as context:
    interrupts.check()
    with interrupts.agreed():
      pass
    signal.raise_signal(number)
    assert context.requested and interrupts.is_requested()
    assert 'once more to stop at once' in capsys.readouterr().err
    with pytest.raises(Stopped, match='give the same command again'):
      interrupts.check()
  assert received == []
  assert not interrupts.is_requested()


def test_what_is_abandoned_by_one_is_left_by_all(received):
  begun = []
  with Interrupts(), pytest.raises(Stopped):
    with interrupts.agreed():
      signal.raise_signal(signal.SIGTERM)
      begun.append(1)
      interrupts.check()
      begun.append(2)
  assert begun == [1]


def test_other_errors_pass(received):
  with Interrupts(), pytest.raises(KeyError), interrupts.agreed():
    raise KeyError


def test_handlers_are_back_afterwards(received):
  with pytest.raises(KeyError), Interrupts() as context:
    raise KeyError
  assert not context.requested
  signal.raise_signal(signal.SIGTERM)
  assert received == [signal.SIGTERM]
  assert not context.requested


@pytest.mark.parametrize('second', SIGNALS)
def test_the_second_signal_ends_the_process(second):
  code = """
import sys, time
from lrm_jax.interrupts import Interrupts
with Interrupts():
  print('ready', flush=True)
  try:
    time.sleep(60)
    time.sleep(60)
  finally:
    print('not at once', flush=True)
"""
  with subprocess.Popen(
    [sys.executable, '-c', code],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    text=True,
  ) as process:
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGTERM)
    assert 'once more' in process.stderr.readline()
    time.sleep(0.1)
    process.send_signal(second)
    assert process.wait(20) == 128 + second
    assert process.stdout.read() == ''
