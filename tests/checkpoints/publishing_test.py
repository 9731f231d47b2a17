"""Checkpoints are published when they are whole, and only then others go."""

import json
import logging
import threading

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from lrm_jax.checkpoints import manifests, recovery
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.errors import UserError


def state(step):
  return {'x': step + jnp.arange(1000.0)}


def names(workdir):
  return sorted(path.name for path in (workdir / 'checkpoints').iterdir())


def full_disk(*_):
  raise OSError(28, 'No space left on device')


def test_the_manifest_names_every_file(tmp_path):
  checkpoints = RunCheckpoints(tmp_path, keep=1)
  checkpoints.save(3, state(3), {'n': 3}, {'accuracy': 0.25, 'loss': None})
  checkpoints.close()
  folder = tmp_path / 'checkpoints' / '3'
  record = manifests.read(folder)
  assert record['step'] == 3
  assert record['metrics'] == {'accuracy': 0.25, 'loss': None}
  files = {
    path.relative_to(folder).as_posix(): path.stat().st_size
    for path in folder.rglob('*')
    if path.is_file() and path.name != 'manifest.json'
  }
  assert {k: v['bytes'] for k, v in record['files'].items()} == files
  assert len(files) > 5


def test_saving_does_not_wait_for_the_manifest(tmp_path, monkeypatch):
  """The next steps go on while it is being written; others wait for it."""
  may_go_on, write = threading.Event(), manifests.write

  def slowly(*args):
    assert may_go_on.wait(60)
    write(*args)

  monkeypatch.setattr(manifests, 'write', slowly)
  checkpoints = RunCheckpoints(tmp_path, keep=1)
  checkpoints.save(1, state(1), {})
  checkpoints.check()
  assert checkpoints.latest_step() is None
  may_go_on.set()
  checkpoints.wait()
  assert checkpoints.latest_step() == 1
  checkpoints.close()


def test_the_old_one_goes_after_the_new_one_is_published(tmp_path, monkeypatch):
  seen, write = [], manifests.write

  def looking(folder, *args):
    seen.append(names(tmp_path))
    write(folder, *args)
    seen.append(names(tmp_path))

  monkeypatch.setattr(manifests, 'write', looking)
  checkpoints = RunCheckpoints(tmp_path, keep=1)
  checkpoints.save(1, state(1), {})
  checkpoints.save(2, state(2), {})
  checkpoints.close()
  assert seen == [['1'], ['1'], ['1', '2'], ['1', '2']]
  assert names(tmp_path) == ['2']


def test_the_best_stay_over_restarts(tmp_path):
  scores = {10: 0.5, 20: 0.9, 30: 0.7, 40: None, 50: 0.1}
  for step, score in scores.items():
    checkpoints = RunCheckpoints(tmp_path, 1, best=1, best_metric='accuracy')
    checkpoints.save(step, state(step), {}, {'accuracy': score, 'loss': -step})
    checkpoints.close()
  assert names(tmp_path) == ['20', '50']
  # Rated by something else, as all the numbers are there.
  checkpoints = RunCheckpoints(tmp_path, 1, best=1, best_metric='loss')
  checkpoints.save(60, state(60), {}, {'accuracy': 1.0, 'loss': -15})
  checkpoints.close()
  assert names(tmp_path) == ['60']


@pytest.mark.parametrize('target', ['arrays', 'manifest', 'removal'])
def test_a_full_disk_is_one_line_at_the_next_step(
  tmp_path, monkeypatch, caplog, target
):
  checkpoints = RunCheckpoints(tmp_path, keep=1)
  checkpoints.save(1, state(1), {})
  checkpoints.wait()
  if target == 'arrays':
    handler = ocp.StandardCheckpointHandler
    monkeypatch.setattr(handler, 'finalize', full_disk)
  elif target == 'manifest':
    monkeypatch.setattr('lrm_jax.jsonl.os.fsync', full_disk)
  else:
    monkeypatch.setattr(recovery, 'remove', full_disk)
  with pytest.raises(UserError) as info:
    checkpoints.save(2, state(2), {'n': 2})
    checkpoints._publisher.join()
    checkpoints.check()
  monkeypatch.undo()
  message = str(info.value)
  what = 'old checkpoints' if target == 'removal' else 'checkpoint 2'
  assert message.startswith(f'{what} could not be ')
  newest = 2 if target == 'removal' else 1
  assert f'checkpoint {newest} is the newest whole one' in message
  for word in ('No space left on device', str(tmp_path / 'checkpoints')):
    assert word in message
  assert 'start the same command again' in message and '\n' not in message
  assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
  # It can be: what was half written is gone.
  again = RunCheckpoints(tmp_path, keep=1)
  assert again.latest_step() == newest
  found = again.restore_state(newest, state(0))
  np.testing.assert_array_equal(found['x'], state(newest)['x'])
  again.save(3, state(3), {})
  again.close()
  assert not [name for name in names(tmp_path) if 'tmp' in name]


def test_of_what_tensorstore_says_the_reason_is_shown(tmp_path, monkeypatch):
  def full(*_):
    raise ValueError(
      'RESOURCE_EXHAUSTED: Error writing "a/0" in OCDBT database: Failed to '
      "write 256323 bytes to file 11: No space left [os_error_code='28']"
    )

  monkeypatch.setattr(manifests, 'write', full)
  checkpoints = RunCheckpoints(tmp_path, keep=1)
  checkpoints.save(1, state(1), {})
  with pytest.raises(UserError) as info:
    checkpoints.close()
  assert '(No space left on device); no checkpoint is left;' in str(info.value)


def test_a_bug_stays_a_bug(tmp_path, monkeypatch):
  def bug(*_):
    raise TypeError('of ours')

  monkeypatch.setattr(manifests, 'write', bug)
  checkpoints = RunCheckpoints(tmp_path, keep=1)
  checkpoints.save(1, state(1), {})
  with pytest.raises(TypeError, match='of ours'):
    checkpoints.close()


# --- In a bucket ---


@pytest.fixture
def address(store, request):
  return f'gs://bucket/{request.node.name}'


def save(address, *steps):
  checkpoints = RunCheckpoints(address, keep=9)
  for step in steps:
    checkpoints.save(step, state(step), {'n': step})
  checkpoints.close()


def place_of(store, address, step, part):
  place = f'{address.removeprefix("gs://bucket/")}/checkpoints/{step}/{part}'
  return next(name for name in store.names() if name.startswith(place))


def test_a_bucket_has_sizes_and_no_second_transfer(store, address):
  save(address, 1)
  record = json.loads(store.read(place_of(store, address, 1, 'manifest')))
  assert all(file.keys() == {'bytes'} for file in record['files'].values())
  name = place_of(store, address, 1, 'state/d/')
  assert record['files'][name.split('/checkpoints/1/')[1]] == {
    'bytes': len(store.read(name))
  }


def test_a_damaged_one_in_a_bucket_is_set_aside(store, address, capsys):
  save(address, 1, 2)
  name = place_of(store, address, 2, 'state/d/')
  content = store.read(name)
  store.put(name, content[:-3])
  checkpoints = RunCheckpoints(address, keep=9)
  assert checkpoints.latest_step() == 1
  part = name.split('/checkpoints/2/')[1]
  error = capsys.readouterr().err
  assert error == (
    f'lrm: checkpoint 2 is damaged ({part}: 3 bytes short); using 1; it is '
    'kept as damaged-2, which may be deleted\n'
  )
  moved = name.replace('/2/', '/damaged-2/')
  assert store.read(moved) == content[:-3] and name not in store.names()
  checkpoints.save(2, state(2), {'n': 2})
  checkpoints.close()
  again = RunCheckpoints(address, keep=9)
  assert again.latest_step() == 2 and again.restore_host(2) == {'n': 2}
  again.close()


@pytest.mark.parametrize(
  ('place', 'is_said'), [('/x/orbax/checkpoint/_src/a.py', False), ('b', True)]
)
def test_writes_that_nobody_waits_for_say_nothing(
  place, is_said, tmp_path, caplog
):
  """Of a save that failed, whose first error is the one that is raised."""
  RunCheckpoints(tmp_path, keep=1).close()
  logging.getLogger('asyncio').error(
    f'Task exception was never retrieved\nfuture: <coro=<f() done at {place}>>'
  )
  assert ('never retrieved' in caplog.text) is is_said
