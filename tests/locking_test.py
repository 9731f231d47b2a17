"""Two starts in one folder: one line for the second, nothing for the first."""

import errno
import fcntl
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

from lrm_jax import errors, jsonl, locking, main, metrics, storage
from tests import sft_test, train_test

HOLDER = """
import pathlib, subprocess, sys, time
from lrm_jax import locking
with locking.held(pathlib.Path(sys.argv[1])):
  child = subprocess.Popen(['sleep', '60'])
  print(child.pid, flush=True)
  time.sleep(60)
"""


def test_the_second_is_told_who_was_first(tmp_path):
  with locking.held(tmp_path):
    with pytest.raises(errors.UserError) as info:
      with locking.held(tmp_path):
        pytest.fail('both have it')
  message = str(info.value)
  host = socket.gethostname()
  assert f'in use by process {os.getpid()} on {host}; wait until' in message
  assert f"--workdir='{tmp_path}'" in message and '\n' not in message
  with locking.held(tmp_path):
    pass


@pytest.mark.parametrize('text', ['', '[]', '{"pid": 1}', '\xff', 'null'])
def test_who_cannot_be_read_is_another_process(text, tmp_path):
  with locking.held(tmp_path):
    (tmp_path / '.lock').write_text(text, 'latin-1')
    with pytest.raises(errors.UserError, match='in use by another process'):
      with locking.held(tmp_path):
        pass


def test_a_kill_sets_it_free(tmp_path):
  """Though a child of the process lives on."""
  code = [sys.executable, '-c', HOLDER, str(tmp_path / 'run')]
  with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as process:
    child = int(process.stdout.readline())
    with pytest.raises(errors.UserError, match=f'process {process.pid} on'):
      with locking.held(tmp_path / 'run'):
        pass
    process.kill()
    process.wait()
    try:
      with locking.held(tmp_path / 'run'):
        owner = json.loads((tmp_path / 'run' / '.lock').read_text())
        assert owner['pid'] == os.getpid()
    finally:
      os.kill(child, signal.SIGKILL)


def refuse(number):
  def flock(*_):
    raise OSError(number, os.strerror(number))

  return flock


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(number, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(fcntl, 'flock', refuse(number))
  with locking.held(tmp_path):
    pass
  (line,) = capsys.readouterr().err.splitlines()
  assert f'cannot be locked ({os.strerror(number)}); see to it that' in line


@pytest.mark.parametrize(
  ('number', 'cure'),
  [
    (errno.EIO, 'give a folder where you may write'),
    (errno.ENOSPC, 'make room there'),
    (errno.EROFS, 'mount that file system for writing again, or give'),
  ],
)
def test_a_folder_that_cannot_be_written(number, cure, tmp_path, monkeypatch):
  monkeypatch.setattr(fcntl, 'flock', refuse(number))
  with pytest.raises(errors.UserError) as info:
    with locking.held(tmp_path):
      pass
  assert f'cannot be written ({os.strerror(number)})' in str(info.value)
  assert cure in str(info.value)


def test_a_bucket_has_no_lock(monkeypatch):
  monkeypatch.setattr(storage, 'is_remote', lambda path: True)
  with locking.held(pathlib.Path('no/such/place')):
    pass
  assert not pathlib.Path('no').exists()


@pytest.mark.parametrize('verb', ['train', 'sft'])
def test_a_second_start_changes_nothing(verb, tmp_path, monkeypatch, capsys):
  """It comes in the midst of the first, which goes on to its end."""
  shown, codes = metrics.Progress.update, []
  words = ['lrm', verb, f'--workdir={tmp_path}']
  if verb == 'train':
    words += [f'--config={train_test.CONFIG}']
    words += train_test.flags(train__steps=2, eval__problems=2)
  else:
    keys = sft_test.SMALL | sft_test.NEW_MODEL
    words += [f'--config={sft_test.CONFIG}']
    words += [f'--config.{key}={value}' for key, value in keys.items()]

  def update(self, done, fields):
    if done == 2 and self._description == verb and not codes:
      before = sorted(tmp_path.rglob('*'))
      codes.append(main.main(words))
      assert sorted(tmp_path.rglob('*')) == before
    shown(self, done, fields)

  monkeypatch.setattr(metrics.Progress, 'update', update)
  assert main.main(words) == 0
  assert codes == [2]
  lines = capsys.readouterr().err.splitlines()
  (line,) = [x for x in lines if x.startswith('lrm: error: ')]
  assert f'in use by process {os.getpid()} on' in line
  rows = jsonl.read_rows(tmp_path / 'metrics.jsonl')
  assert [row['step'] for row in rows] == list(range(1, len(rows) + 1))
