"""Whatever ends a run, what it was saving is published first."""

import subprocess
import sys
import time

import jax.numpy as jnp
import pytest

from lrm_jax import alarms, configuration, errors, metrics, sft
from lrm_jax.checkpoints import manifests
from lrm_jax.checkpoints.state import RunCheckpoints
from tests import sft_test, train_test

SCRIPT = """
import sys
import jax.numpy as jnp
from lrm_jax import errors, main
from lrm_jax.checkpoints.state import RunCheckpoints

def run(argv):
  with RunCheckpoints(sys.argv[1], keep=3) as checkpoints:
    checkpoints.save(1, {'a': jnp.ones((2000, 2000))}, {'x': 1})
    raise {'user': errors.UserError, 'bug': FloatingPointError}[sys.argv[2]](
      'of the run'
    )

main._dispatch = run
sys.exit(main.main(['lrm', 'train']))
"""


@pytest.mark.parametrize('kind', ['user', 'bug'])
def test_a_process_that_fails_right_after_a_save(kind, tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', SCRIPT, str(tmp_path), kind],
    capture_output=True,
    text=True,
  )
  assert manifests.fault(tmp_path / 'checkpoints' / '1') is None
  if kind == 'user':
    assert done.returncode == 2
    assert done.stderr == 'lrm: error: of the run\n'
  else:
    assert done.returncode == 1
    assert done.stderr.count('Traceback') == 1
    assert done.stderr.endswith('FloatingPointError: of the run\n')


def full_disk(*_):
  raise OSError(28, 'No space left on device')


def test_of_two_errors_that_of_the_run_is_raised(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(manifests, 'write', full_disk)
  with pytest.raises(errors.UserError, match='^of the run$'):
    with RunCheckpoints(tmp_path, keep=1) as checkpoints:
      checkpoints.save(1, {'x': jnp.ones(3)}, {})
      raise errors.UserError('of the run')
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('lrm: checkpoint 1 could not be written to')


def test_of_a_run_that_ends_well_the_error_of_a_save_is_raised(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(manifests, 'write', full_disk)
  with pytest.raises(errors.UserError, match='checkpoint 1 could not be wri'):
    with RunCheckpoints(tmp_path, keep=1) as checkpoints:
      checkpoints.save(1, {'x': jnp.ones(3)}, {})


@pytest.mark.parametrize('is_full', [False, True])
def test_an_alarm_says_whether_the_last_step_was_saved(
  is_full, tmp_path, monkeypatch, capsys
):
  if is_full:
    monkeypatch.setattr(manifests, 'write', full_disk)
  with pytest.raises(errors.CheckFailed) as failed:
    with RunCheckpoints(tmp_path, keep=1) as checkpoints:
      checkpoints.save(7, {'x': jnp.ones(3)}, {})
      alarms.end(checkpoints, 'entropy 0', 7)
  message = str(failed.value)
  if is_full:
    assert message.startswith('entropy 0; not saved: checkpoint 7 could not be')
  else:
    assert message == 'entropy 0; saved step 7'
  assert capsys.readouterr().err == ''


@pytest.fixture
def late(monkeypatch):
  """Manifests take a second; the line of the second step is never shown."""
  write, shown = manifests.write, metrics.Progress.update

  def slowly(*args):
    time.sleep(1)
    write(*args)

  def update(self, done, fields):
    if done == 2 and self._description in ('train', 'sft'):
      raise errors.UserError('of the run')
    shown(self, done, fields)

  monkeypatch.setattr(manifests, 'write', slowly)
  monkeypatch.setattr(metrics.Progress, 'update', update)


@pytest.mark.parametrize('verb', ['train', 'sft'])
def test_an_error_of_a_later_step(verb, late, tmp_path):
  with pytest.raises(errors.UserError, match='of the run'):
    if verb == 'train':
      sizes = {'train__checkpoint_every': 1, 'eval__problems': 2}
      train_test.start(tmp_path, **sizes)
    else:
      keys = sft_test.SMALL | sft_test.NEW_MODEL | {'checkpoint_every': 1}
      overrides = [f'config.{key}={value}' for key, value in keys.items()]
      sft.run(configuration.load(sft_test.CONFIG, overrides), tmp_path)
  folder = tmp_path / 'checkpoints'
  assert [path.name for path in folder.iterdir()] == ['1']
  assert manifests.fault(folder / '1') is None
