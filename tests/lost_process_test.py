"""A run of two real processes that loses one, or never had it."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from lrm_jax import distributed, jsonl, liveness
from tests import mesh_run, methods_test

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 6
# Seconds. The first is what users are promised.
END, RUN = 60, 300
# Metrics of every step; losses are near 0 and say little.
EQUAL = ('grad_norm', 'entropy', 'reward', 'sampled_tokens')
SIZES = (
  methods_test.SIZES
  | mesh_run.SIZES
  | {
    'train.steps': STEPS,
    'objective.budget.cap': 48,
    'eval.problems': 2,
    'eval.samples': 1,
  }
)


class Process:
  """An `lrm train`, and what it says on stderr."""

  def __init__(self, workdir: pathlib.Path, **environment: str):
    self._log = workdir.with_suffix(f'.{time.monotonic_ns()}.log')
    changes = [f'--config.{name}={value}' for name, value in SIZES.items()]
    command = [sys.executable, '-m', 'lrm_jax.main', 'train']
    with self._log.open('w') as log:
      self._started = subprocess.Popen(
        [
          *command,
          f'--config={ROOT}/configs/tiny/grpo.py',
          f'--workdir={workdir}',
          *changes,
        ],
        cwd=ROOT,
        env=os.environ | environment | {'JAX_PLATFORMS': 'cpu'},
        stdout=log,
        stderr=log,
      )

  def kill(self) -> None:
    """As the kernel does when memory runs out; waits until it is gone."""
    self._started.send_signal(signal.SIGKILL)
    self._started.wait()

  def is_running(self) -> bool:
    return self._started.poll() is None

  def end(self, seconds: float) -> tuple[int, str]:
    """Exit code and last line; fails where it takes longer."""
    try:
      code = self._started.wait(seconds)
    except subprocess.TimeoutExpired:
      pytest.fail(f'still runs after {seconds} s:\n{self.said()}')
    return code, self.said().splitlines()[-1]

  def said(self) -> str:
    return self._log.read_text()


@pytest.fixture
def start(tmp_path):
  """Starts processes; none outlives the test."""
  started = []

  def one(workdir: pathlib.Path, **environment: str) -> Process:
    started.append(Process(workdir, **environment))
    return started[-1]

  yield one
  for process in started:
    if process.is_running():
      process.kill()


def variables(address: str, index: int) -> dict[str, str]:
  return {
    distributed.COORDINATOR: address,
    distributed.COUNT: '2',
    distributed.INDEX: str(index),
  }


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
  """Metrics of a run of one process that loses nothing."""
  workdir = tmp_path_factory.mktemp('unbroken') / 'run'
  process = Process(workdir)
  try:
    code, _ = process.end(RUN)
  finally:
    process.kill()
  assert code == 0, process.said()
  return jsonl.read_rows(workdir / 'metrics.jsonl')


def wait_for_step(workdir: pathlib.Path, step: int, pair: list[Process]):
  deadline = time.monotonic() + RUN
  path = workdir / 'metrics.jsonl'
  while not path.exists() or path.read_text().count('\n') < step:
    assert time.monotonic() < deadline, 'no step in time'
    assert all(process.is_running() for process in pair), [
      process.said() for process in pair
    ]
    time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize('victim', [0, pytest.param(1, marks=pytest.mark.long)])
def test_the_other_process_ends_and_the_pair_resumes(
  victim, start, tmp_path, unbroken
):
  workdir = tmp_path / 'run'
  address = mesh_run.free_address()
  both = [start(workdir, **variables(address, index)) for index in (0, 1)]
  wait_for_step(workdir, 2, both)
  both[victim].kill()
  began = time.monotonic()
  code, line = both[1 - victim].end(END)
  print(f'ended {time.monotonic() - began:.2f} s later')
  assert line == f'lrm: error: {liveness.report("lost", victim, 2)}'
  assert code == liveness.LOST
  assert 'Traceback' not in both[1 - victim].said()
  assert len(jsonl.read_rows(workdir / 'metrics.jsonl')) < STEPS

  # At the same port, at once.
  both = [start(workdir, **variables(address, index)) for index in (0, 1)]
  for process in both:
    code, _ = process.end(RUN)
    assert code == 0, process.said()
  rows = jsonl.read_rows(workdir / 'metrics.jsonl')
  assert [row['step'] for row in rows] == list(range(1, STEPS + 1))
  assert (workdir / 'summary.json').exists()
  for row, other in zip(rows, unbroken, strict=True):
    for name in EQUAL:
      assert row[name] == pytest.approx(other[name], rel=1e-5), (name, row)


@pytest.mark.parametrize('present', [0, 1])
def test_a_process_that_does_not_come_is_named(present, start, tmp_path):
  address = mesh_run.free_address()
  timeout = {distributed.START_TIMEOUT: '2'}
  workdir = tmp_path / 'run'
  process = start(workdir, **variables(address, present), **timeout)
  code, line = process.end(END)
  assert code == 2
  assert line.startswith(
    f'lrm: error: process {1 - present} of 2 did not come to {address} within '
    '2 s; '
  )
  assert process.said().count('\n') == 1
  assert not workdir.exists()
