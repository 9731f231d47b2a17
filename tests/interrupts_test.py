"""The first signal is noted, the second ends the process."""

import os
import signal
import subprocess
import sys
import time

import pytest

from lrm_jax import interrupts, main
from lrm_jax.errors import Stopped
from lrm_jax.interrupts import SIGNALS, Interrupts
from tests import sft_test, train_test


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


def test_one_context_within_another(received, capsys):
  """What the outer one noted holds in the inner one, and the next is second."""
  with Interrupts() as outer:
    signal.raise_signal(signal.SIGTERM)
    with Interrupts() as inner:
      assert interrupts.is_requested()
      with pytest.raises(Stopped):
        interrupts.check()
    assert outer.requested and not inner.requested
  with Interrupts() as outer:
    with interrupts.of_run() as inner:
      signal.raise_signal(signal.SIGTERM)
    assert inner.requested and not outer.requested
  assert not interrupts.is_requested()
  assert received == []


# --- While it is loading ---

START = """
import os, signal, sys
from lrm_jax import main

class Finder:
  # Nobody but the signal's handler is in time before this import.
  def find_spec(self, name, *_):
    if name == 'jax' and sys.argv[1] == 'import':
      sys.meta_path.remove(self)
      os.kill(os.getpid(), signal.SIGTERM)

def at(module, name):
  whole = getattr(module, name)
  def call(*args, **keywords):
    result = whole(*args, **keywords)
    os.kill(os.getpid(), signal.SIGTERM)
    return result
  setattr(module, name, call)

assert 'jax' not in sys.modules
sys.meta_path.insert(0, Finder())
if sys.argv[1] == 'build':
  from lrm_jax import experiment
  at(experiment, 'build')
if sys.argv[1] == 'restore':
  from lrm_jax import resuming, sft_resuming
  at(resuming, 'restore')
  at(sft_resuming, 'restore')
sys.exit(main.main(['lrm', *sys.argv[2:]]))
"""


def load(place, *words):
  """Starts a run that is told to stop at a place; (code, lines of errors)."""
  done = subprocess.run(
    [sys.executable, '-c', START.lstrip(), place, *map(str, words)],
    capture_output=True,
    text=True,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
  )
  return done.returncode, done.stderr.splitlines()


def stopped_at(step):
  return [
    'lrm: stopping and saving; once more to stop at once',
    f'lrm: stopped; resumable at step {step}: give the same command again',
  ]


@pytest.mark.parametrize('place', ['import', 'build', 'restore'])
def test_a_run_that_is_loading(place, tmp_path):
  workdir = tmp_path / 'run'
  words = [
    *('train', f'--config={train_test.CONFIG}', f'--workdir={workdir}'),
    *train_test.flags(train__steps=1, eval__problems=2),
  ]
  assert load(place, *words) == (0, stopped_at(0))
  assert not (workdir / 'metrics.jsonl').exists()
  assert workdir.exists() == (place == 'restore')


@pytest.mark.parametrize('place', ['import', 'restore'])
def test_a_supervised_run_that_is_loading(place, tmp_path):
  """Before its first step, and with a checkpoint."""
  keys = sft_test.SMALL | sft_test.NEW_MODEL
  words = [
    *('sft', f'--config={sft_test.CONFIG}', f'--workdir={tmp_path}'),
    *(f'--config.{key}={value}' for key, value in keys.items()),
  ]
  assert load(place, *words) == (0, stopped_at(0))
  assert main.main(['lrm', *words]) == 0
  before = (tmp_path / 'metrics.jsonl').read_bytes()
  assert load(place, *words) == (0, stopped_at(5))
  assert (tmp_path / 'metrics.jsonl').read_bytes() == before
