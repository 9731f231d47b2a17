"""A disk that fills up at any point of a run: one line, and nothing is lost.

The run is on a file system of a few megabytes, and another file takes up so
much of it that the run can write the given number of bytes.
"""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from experiments.faults import comparison
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
def test_a_disk_that_can_only_be_read_ends_in_one_line(
  small, undisturbed, capfd, monkeypatch
):
  """It is found so between two steps."""
  from lrm_jax import metrics

  shown = metrics.Progress.update

  def update(self, done, fields):
    shown(self, done, fields)
    if done == 2 and self._description == 'train':
      again = ['mount', '-o', 'remount,ro', str(small)]
      # Files that are open for writing forbid it; then no room is left.
      if subprocess.run(again, capture_output=True, check=False).returncode:
        leave(small, 0)

  with monkeypatch.context() as patch:
    patch.setattr(metrics.Progress, 'update', update)
    assert start(small / 'run') == 2
  written = capfd.readouterr().err
  assert 'lrm: error: ' in written and 'Traceback' not in written
  subprocess.run(['mount', '-o', 'remount,rw', str(small)], check=True)
  (small / 'filler').unlink(missing_ok=True)
  assert start(small / 'run') == 0
  assert comparison.differences(undisturbed, small / 'run') == []
