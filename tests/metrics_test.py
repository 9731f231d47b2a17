"""metrics.jsonl holds each step once; the progress line tells the time left."""

import io
import json
import math
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from lrm_jax import metrics


def _rows(folder):
  text = (folder / 'metrics.jsonl').read_text()
  return [
    json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()
  ]


def _events(folder):
  """Returns all events of a run, oldest file first."""
  found = []
  files = (folder / 'tensorboard').iterdir()
  for path in sorted(files, key=lambda p: p.stat().st_mtime_ns):
    data = path.read_bytes()
    while data:  # length (8 bytes), its checksum (4), event, checksum (4)
      size = int.from_bytes(data[:8], 'little')
      found.append(event_pb2.Event.FromString(data[12 : 12 + size]))
      data = data[16 + size :]
  return found


def test_rows_are_strict_json_of_plain_numbers(tmp_path):
  writer = metrics.MetricsWriter(tmp_path, resume_step=-1)
  writer.write(0, {'a': np.float32(0.5), 'b': jnp.int32(3), 'c': math.nan})
  writer.write(1, {'a': math.inf})
  # Readable while the run goes on.
  assert _rows(tmp_path) == [
    {'step': 0, 'a': 0.5, 'b': 3.0, 'c': None},
    {'step': 1, 'a': None},
  ]
  writer.close()
  scalars = [
    (event.step, value.tag, value.simple_value)
    for event in _events(tmp_path)
    for value in event.summary.value
  ]
  assert scalars == [(0, 'a', 0.5), (0, 'b', 3.0)]


def test_resumed_run_has_each_step_once(tmp_path):
  writer = metrics.MetricsWriter(tmp_path, resume_step=-1)
  for step in range(6):
    writer.write(step, {'a': 1.0})
  writer.close()
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 6, "a"')  # cut short by a kill
  writer = metrics.MetricsWriter(tmp_path, resume_step=3)
  for step in (4, 5, 6):
    writer.write(step, {'a': 2.0})
  writer.close()
  assert [(row['step'], row['a']) for row in _rows(tmp_path)] == [
    *((step, 1.0) for step in range(4)),
    *((step, 2.0) for step in (4, 5, 6)),
  ]
  # TensorBoard is told to forget the steps that are done again.
  starts = [
    event.step for event in _events(tmp_path) if event.HasField('session_log')
  ]
  assert starts == [0, 4]


def test_fresh_start_drops_every_old_row(tmp_path):
  writer = metrics.MetricsWriter(tmp_path, resume_step=-1)
  writer.write(0, {'a': 1.0})
  writer.close()
  metrics.MetricsWriter(tmp_path, resume_step=-1).close()
  assert _rows(tmp_path) == []


class _Clock:
  """Stands in for time.monotonic."""

  def __init__(self):
    self.now = 1000.0

  def __call__(self):
    return self.now


@pytest.fixture
def clock(monkeypatch):
  clock = _Clock()
  monkeypatch.setattr(metrics.time, 'monotonic', clock)
  return clock


def test_plain_lines_are_rare_and_end_with_the_last_step(clock, capsys):
  with metrics.Progress(100, 'step') as progress:
    for step in range(1, 13):
      clock.now += 2.0
      progress.update(step, {'reward': 0.43, 'tokens': 81.23})
  captured = capsys.readouterr()
  assert captured.out == ''
  lines = captured.err.splitlines()
  # At steps 1, 6 and 11 (ten seconds apart), and the last one at the end.
  assert [line.split()[1] for line in lines] == [
    '1/100',
    '6/100',
    '11/100',
    '12/100',
  ]
  assert lines[-1] == 'step 12/100  reward 0.43  tokens 81.2  eta 2:56'


def test_eta_ignores_compilation_and_follows_the_present_speed(clock, capsys):
  with metrics.Progress(1000, 'step') as progress:
    clock.now += 600.0  # compiles
    progress.update(1, {})
    for step in range(2, 30):
      clock.now += 60.0
      progress.update(step, {})
    for step in range(30, 60):
      clock.now += 1.0
      progress.update(step, {})
  lines = capsys.readouterr().err.splitlines()
  assert lines[0] == 'step 1/1000  eta -'
  assert lines[1] == 'step 2/1000  eta 16:38:00'  # 998 minutes
  assert lines[-1] == 'step 59/1000  eta 15:41'  # 941 seconds


def test_resumed_progress_counts_only_its_own_steps(clock, capsys):
  with metrics.Progress(100, 'step', start=90) as progress:
    for step in (91, 92):
      clock.now += 10.0
      progress.update(step, {'kl': 3.1234e-4, 'n': 12345.6})
  assert capsys.readouterr().err.splitlines()[-1] == (
    'step 92/100  kl 0.000312  n 12346  eta 1:20'
  )


def test_finished_line_is_printed_once(clock, capsys):
  with metrics.Progress(1, 'step') as progress:
    progress.update(1, {})
  assert capsys.readouterr().err == 'step 1/1  eta 0:00\n'
  with metrics.Progress(1, 'step'):
    pass
  assert capsys.readouterr().err == ''


def test_terminal_gets_a_live_line(clock, monkeypatch):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr(sys, 'stderr', terminal)
  monkeypatch.setenv('TERM', 'xterm')
  monkeypatch.setenv('COLUMNS', '100')
  with metrics.Progress(4, 'step') as progress:
    clock.now += 1.0
    progress.update(1, {'reward': 0.5})
    clock.now += 1.0
    progress.update(2, {'reward': 0.75})
  assert '2/4  reward 0.75  eta 0:02' in terminal.getvalue()
  assert '\x1b[' in terminal.getvalue()
