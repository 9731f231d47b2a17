"""A disk that fills up, or can only be read: one line, and nothing is lost.

The run is on a file system of a few megabytes, and another file takes up so
much of it that the run can write the given number of bytes.
"""

import gc
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types

import pytest

from experiments.faults import comparison
from lrm_jax import metrics
from tests.train_test import CONFIG, flags, lrm

SIZES = {
  'train__steps': 3,
  'train__checkpoint_every': 1,
  'train__rollouts_every': 1,
  'train__problems': 4,
  'train__mini_batches': 1,
  'eval__problems': 4,
}


def start(workdir) -> int:
  return lrm(
    'train', f'--config={CONFIG}', f'--workdir={workdir}', *flags(**SIZES)
  )


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('undisturbed')
  assert start(workdir) == 0
  return workdir


@pytest.fixture
def small(tmp_path):
  """A file system of 40 megabytes."""
  folder = tmp_path / 'small'
  folder.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=40m', 'tmpfs', str(folder)]
  if subprocess.run(mount, capture_output=True, check=False).returncode:
    pytest.skip('may not mount a file system')
  yield folder
  subprocess.run(['umount', '--lazy', str(folder)], check=True)


def release(folder: pathlib.Path) -> None:
  """Unmounts what a run in this process may still have files open in."""
  deadline = time.monotonic() + 60
  while True:
    gc.collect()
    done = subprocess.run(['umount', str(folder)], capture_output=True)
    if not done.returncode:
      return
    assert time.monotonic() < deadline, done.stderr
    time.sleep(0.2)


def leave(folder: pathlib.Path, room: int) -> pathlib.Path:
  """Writes a file that leaves so many bytes to others."""
  filler = folder / 'filler'
  free = shutil.disk_usage(folder).free
  with filler.open('wb') as file:
    os.posix_fallocate(file.fileno(), 0, free - room)
  return filler


# At the config, the first evaluation, the metrics, in the first checkpoint and
# in later ones, and in the export.
ROOMS = (0, 4_096, 12_288, 65_536, 2_000_000, 6_500_000, 10_200_000)


@pytest.mark.slow
@pytest.mark.parametrize('room', ROOMS)
def test_a_full_disk_ends_in_one_line_and_loses_nothing(
  room, small, undisturbed, capfd
):
  filler = leave(small, room)
  code = start(small / 'run')
  written = capfd.readouterr().err
  assert code == 2, written
  (line,) = [x for x in written.splitlines() if x.startswith('lrm: error: ')]
  assert 'No space left on device' in line
  assert 'Traceback' not in written
  filler.unlink()
  assert start(small / 'run') == 0
  assert comparison.differences(undisturbed, small / 'run') == []
  rows = (small / 'run' / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(row)['step'] for row in rows] == [1, 2, 3]


@pytest.mark.slow
def test_a_process_on_a_full_disk_writes_no_traceback(small):
  """Nor do the threads that write the arrays."""
  leave(small, 65_536)
  words = [f'--config={CONFIG}', f'--workdir={small / "run"}', *flags(**SIZES)]
  done = subprocess.run(
    [sys.executable, '-m', 'lrm_jax.main', 'train', *words],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  assert 'could not be written to' in done.stderr
  assert 'Traceback' not in done.stderr and 'ignored' not in done.stderr


# --- A file system that can only be read ---


def at_step(monkeypatch, step, act):
  """Lets something happen when a step has been shown."""
  shown = metrics.Progress.update

  def update(self, done, fields):
    shown(self, done, fields)
    if done == step and self._description == 'train':
      act()

  monkeypatch.setattr(metrics.Progress, 'update', update)


def assert_one_line(written):
  (line,) = [x for x in written.splitlines() if x.startswith('lrm: error: ')]
  assert 'Read-only file system' in line
  assert '.part' not in line and 'Traceback' not in written
  return line


@pytest.mark.slow
def test_a_run_on_a_disk_that_can_only_be_read_by_now(
  small, undisturbed, capfd, monkeypatch
):
  """It was stopped after two steps, and then somebody mounted it so."""
  with monkeypatch.context() as patch:
    at_step(patch, 2, lambda: signal.raise_signal(signal.SIGTERM))
    assert start(small / 'run') == 0
  assert 'resumable at step 2' in capfd.readouterr().err
  subprocess.run(['mount', '-o', 'remount,ro', str(small)], check=True)
  assert start(small / 'run') == 2
  line = assert_one_line(capfd.readouterr().err)
  assert f"--workdir='{small / 'run'}' cannot be written" in line
  assert 'mount that file system for writing again' in line
  subprocess.run(['mount', '-o', 'remount,rw', str(small)], check=True)
  assert start(small / 'run') == 0
  assert comparison.differences(undisturbed, small / 'run') == []


@pytest.fixture
def failing(tmp_path):
  """An ext4 in a file: `mount` and `fail`, as the kernel does of itself."""
  image, folder = tmp_path / 'image', tmp_path / 'failing'
  folder.mkdir()
  with image.open('wb') as file:
    file.truncate(80 << 20)

  def ask(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True)

  def mount():
    ask('mount', '-o', 'loop,errors=remount-ro', str(image), str(folder))

  def fail():
    # What is not on the disk yet would be lost with the power, too.
    ask('sync', '--file-system', str(folder))
    trigger().write_text('1')

  def trigger():
    device = ask('findmnt', '-no', 'SOURCE', str(folder)).stdout.strip()
    name = pathlib.Path(device).name
    return pathlib.Path(f'/sys/fs/ext4/{name}/trigger_fs_error')

  def mend():
    release(folder)
    # 1: it has found errors, and mended them.
    words = ['e2fsck', '-fy', str(image)]
    assert subprocess.run(words, capture_output=True).returncode <= 1
    mount()

  try:
    ask('mkfs.ext4', '-q', '-F', str(image))
    mount()
  except (OSError, subprocess.CalledProcessError):
    pytest.skip('may not mount a file system')
  if not os.access(trigger(), os.W_OK):
    release(folder)
    pytest.skip('may not make the kernel report an error')
  yield types.SimpleNamespace(folder=folder, fail=fail, mend=mend)
  subprocess.run(['umount', '--lazy', str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_the_kernel_makes_read_only_underway(
  failing, undisturbed, capfd, monkeypatch
):
  """With files open: so it does where a device fails."""
  workdir = failing.folder / 'run'
  with monkeypatch.context() as patch:
    at_step(patch, 2, failing.fail)
    assert start(workdir) == 2
  assert_one_line(capfd.readouterr().err)
  failing.mend()
  assert start(workdir) == 0
  assert comparison.differences(undisturbed, workdir) == []
