"""A few of the crashes of `experiments/faults/crash.py`, which has seventy."""

import json
import pathlib
import signal
import sys

import pytest

from experiments.faults import crash


@pytest.mark.slow
def test_a_run_that_is_killed_and_stopped_ends_as_if_it_never_was(tmp_path):
  wanted = {signal.SIGKILL: 2, signal.SIGTERM: 1}
  rows = crash.matrix(tmp_path, wanted, seed=1, each=2)
  assert [row['signal'] for row in rows] == ['SIGKILL', 'SIGKILL', 'SIGTERM']
  assert all(row['place'] for row in rows)


class Runs:
  """In the place of `crash.start`: exit codes and errors, one a start."""

  def __init__(self, *codes):
    self.codes = list(codes)

  def __call__(self, words, moment, number):
    (folder,) = (w for w in words if w.startswith('--workdir='))
    pathlib.Path(folder.partition('=')[2]).mkdir(exist_ok=True)
    code = self.codes.pop(0)
    return code, 'its last words', None if moment is None else moment.place


def test_a_matrix_that_fails_leaves_its_record(tmp_path, monkeypatch):
  """After the undisturbed run: a kill, its end, a kill, an end that fails."""
  starts = Runs(0, -9, 0, -9, 3)
  monkeypatch.setattr(crash, 'start', starts)
  # `main` sets them; as they were afterwards.
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', '')
  monkeypatch.setenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '')
  monkeypatch.setattr(crash.comparison, 'differences', lambda *_: [])
  out = tmp_path / 'crash.json'
  words = ['crash.py', '--kills=5', '--stops=0', '--each=1', f'--out={out}']
  monkeypatch.setattr(sys, 'argv', words)
  assert crash.main() == 1
  record = json.loads(out.read_text())
  assert record['signals'] == {'SIGKILL': 2, 'SIGTERM': 0}
  assert 'its last words' in record['failure'] and record['differences'] == []
  # And one whose end is another.
  starts.codes = [0, -9, 0]
  monkeypatch.setattr(crash.comparison, 'differences', lambda *_: ['x/a: 1'])
  assert crash.main() == 1
  record = json.loads(out.read_text())
  assert record['differences'] == ['x/a: 1'] and 'differs' in record['failure']
  monkeypatch.setattr(crash.comparison, 'differences', lambda *_: [])
  starts.codes = [0, -9, 0]
  words[1] = '--kills=1'
  assert crash.main() == 0
  record = json.loads(out.read_text())
  assert record['failure'] is None and record['differences'] == []


# It starts a child, and both tell when they get a signal.
GROUP = """
import os, signal, sys, time
marks = int(os.environ['MARKS'])
child = os.fork()
name = b'child ' if child == 0 else b'parent '
def told(number, frame):
  os.write(2, name + str(number).encode() + b'\\n')
  os._exit(0)
signal.signal(signal.SIGTERM, told)
if child == 0:
  os.write(marks, b'verify\\n')
  time.sleep(60)
  os._exit(0)
signal.pause()
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_goes_to_the_whole_group_and_a_kill_to_one(number, tmp_path):
  script = tmp_path / 'group.py'
  script.write_text(GROUP)
  moment = crash.Moment('verify', 1, 0.5)
  if number == signal.SIGKILL:
    script.write_text(GROUP.replace('time.sleep(60)', 'time.sleep(2)'))
  code, errors, place = crash.start(
    [sys.executable, str(script)], moment, number
  )
  assert place == 'verify'
  if number == signal.SIGTERM:
    assert code == 0
    assert sorted(errors.split()) == ['15', '15', 'child', 'parent']
  else:
    assert (code, errors) == (-9, '')
