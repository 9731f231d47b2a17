"""A start uses the newest checkpoint that is whole, and no other."""

import json
import shutil

import jax.numpy as jnp
import pytest

from lrm_jax.checkpoints import manifests, recovery
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.errors import UserError
from tests import bits


def state(step):
  return {'x': step + jnp.arange(1000.0), 'y': jnp.int32(step)}


def save(workdir, *steps):
  checkpoints = RunCheckpoints(workdir, keep=9)
  for step in steps:
    checkpoints.save(step, state(step), {'n': step}, {'accuracy': step / 100})
  checkpoints.close()


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('run')
  save(workdir, 20, 30, 40)
  return workdir


@pytest.fixture
def run(written, tmp_path):
  """The folder of a run with steps 20, 30 and 40, to be damaged."""
  shutil.copytree(written, tmp_path / 'run')
  return tmp_path / 'run'


def largest(step_folder):
  files = [path for path in (step_folder / 'state').rglob('*')]
  return max(files, key=lambda path: path.stat().st_size * path.is_file())


def shorten(folder):
  path = largest(folder)
  path.write_bytes(path.read_bytes()[:-3])
  return f'{path.relative_to(folder)}: 3 bytes short'


def lengthen(folder):
  path = folder / 'host' / 'metadata'
  path.write_bytes(path.read_bytes() + b' ')
  return 'host/metadata: 1 bytes too long'


def flip(folder):
  path = largest(folder)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  return f'{path.relative_to(folder)}: another checksum'


def lose(folder):
  path = largest(folder)
  path.unlink()
  return f'{path.relative_to(folder)}: missing'


def lose_manifest(folder):
  (folder / manifests.NAME).unlink()
  return 'no manifest.json: its save did not come to its end'


def garble_manifest(folder):
  (folder / manifests.NAME).write_bytes(b'\xff{')
  return 'manifest.json: not as it was written'


def forge_manifest(folder):
  """Valid JSON, in which a file is not named any more."""
  record = json.loads((folder / manifests.NAME).read_text())
  record['files'].popitem()
  (folder / manifests.NAME).write_text(json.dumps(record))
  return 'manifest.json: not as it was written'


def empty_manifest(folder):
  (folder / manifests.NAME).write_text('[]')
  return 'manifest.json: not as it was written'


DAMAGES = (
  *(shorten, lengthen, flip, lose),
  *(garble_manifest, forge_manifest, empty_manifest),
)


def names(run):
  return sorted(path.name for path in (run / 'checkpoints').iterdir())


def assert_usable(run, step):
  checkpoints = RunCheckpoints(run, keep=9)
  assert checkpoints.latest_step() == step
  bits.assert_same(checkpoints.restore_state(step, state(0)), state(step))
  assert checkpoints.restore_host(step) == {'n': step}
  checkpoints.close()


def test_a_whole_one_is_used_and_nothing_said(run, capsys):
  assert_usable(run, 40)
  assert capsys.readouterr().err == ''
  assert names(run) == ['20', '30', '40']


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_one_is_named(run, capsys, damage):
  what = damage(run / 'checkpoints' / '40')
  assert_usable(run, 30)
  error = capsys.readouterr().err
  assert error == (
    f'lrm: checkpoint 40 is damaged ({what}); using 30; it is kept as '
    'damaged-40, which may be deleted\n'
  )
  # The step is done again.
  save(run, 40)
  assert_usable(run, 40)


def test_an_unfinished_one_is_not_called_damaged(run, capsys):
  what = lose_manifest(run / 'checkpoints' / '40')
  assert_usable(run, 30)
  error = capsys.readouterr().err
  assert error == f'lrm: checkpoint 40 is unfinished ({what}); using 30\n'
  save(run, 40)
  assert_usable(run, 40)


@pytest.mark.parametrize('damage', [shorten, flip, lose, garble_manifest])
def test_a_damaged_one_is_set_aside(run, capsys, damage):
  damage(run / 'checkpoints' / '40')
  assert_usable(run, 30)
  assert names(run) == ['20', '30', 'damaged-40']
  save(run, 40)
  assert_usable(run, 40)
  assert names(run) == ['20', '30', '40', 'damaged-40']
  damage(run / 'checkpoints' / '40')
  capsys.readouterr()
  assert_usable(run, 30)
  assert 'kept as damaged-40.2, which may' in capsys.readouterr().err
  assert names(run) == ['20', '30', 'damaged-40', 'damaged-40.2']


def test_of_unpublished_ones_the_last_stays(run):
  for step in (40, 30):
    lose_manifest(run / 'checkpoints' / str(step))
    assert_usable(run, step - 10)
    assert f'unpublished-{step}' in names(run)
  assert names(run) == ['20', 'unpublished-30']


def test_an_unpublished_one_goes_when_it_was_made_again(run):
  (run / 'checkpoints' / 'unpublished-50').mkdir()
  lose_manifest(run / 'checkpoints' / '40')
  assert_usable(run, 30)
  (run / 'checkpoints' / 'unpublished-40.2').mkdir()
  (run / 'checkpoints' / 'unpublished-50').mkdir()
  save(run, 35)
  assert 'unpublished-40' in names(run) and 'unpublished-40.2' in names(run)
  save(run, 40)
  assert names(run) == ['20', '30', '35', '40', 'unpublished-50']


def test_several_are_named_newest_first(run, capsys):
  flip(run / 'checkpoints' / '40')
  lose(run / 'checkpoints' / '30')
  assert_usable(run, 20)
  lines = capsys.readouterr().err.splitlines()
  assert [line.split()[2] for line in lines] == ['40', '30']
  assert all('; using 20; it is kept as ' in line for line in lines)


@pytest.mark.parametrize('damage', [flip, lose_manifest])
def test_when_all_are_damaged_nothing_begins_again(run, capsys, damage):
  for step in (20, 30, 40):
    damage(run / 'checkpoints' / str(step))
  for _ in range(2):
    with pytest.raises(UserError) as info:
      RunCheckpoints(run, keep=2)
    message = str(info.value)
    assert 'no checkpoint there can be used: 40 (' in message
    assert '30 (' in message and '20 (' in message
    assert '--workdir' in message and '\n' not in message
    assert names(run) == ['20', '30', '40']
  assert capsys.readouterr().err == ''


@pytest.mark.parametrize('damage', [flip, lose_manifest])
def test_so_it_is_with_the_only_one_of_a_run_that_had_others(run, damage):
  """It says that there was one before it."""
  for step in (20, 30):
    shutil.rmtree(run / 'checkpoints' / str(step))
  damage(run / 'checkpoints' / '40')
  with pytest.raises(UserError, match='no checkpoint there can be used'):
    RunCheckpoints(run, keep=2)


def test_files_that_are_not_of_the_checkpoint_are_no_damage(run):
  (run / 'checkpoints' / '40' / 'note.txt').write_text('mine')
  (run / 'checkpoints' / 'notes').mkdir()
  assert_usable(run, 40)


def test_what_a_kill_left_is_removed(run):
  folder = run / 'checkpoints'
  for name in ('50.orbax-checkpoint-tmp-17', 'deleted-10'):
    (folder / name / 'state').mkdir(parents=True)
  assert_usable(run, 40)
  assert names(run) == ['20', '30', '40']


# --- Killed between the commit of orbax and the manifest ---


def save_until_killed(workdir, step, monkeypatch):
  """All of a save but its manifest, as a kill leaves it."""

  def kill(*_):
    raise OSError(9, 'killed')

  with monkeypatch.context() as patch:
    patch.setattr(manifests, 'write', kill)
    with pytest.raises(UserError):
      save(workdir, step)
  assert str(step) in names(workdir)


def test_a_step_that_was_not_published_does_not_count(run, monkeypatch, capsys):
  save_until_killed(run, 50, monkeypatch)
  # Nothing was removed for its sake.
  assert names(run) == ['20', '30', '40', '50']
  assert_usable(run, 40)
  assert 'checkpoint 50 is unfinished (no manifest' in capsys.readouterr().err


def test_nor_does_the_first_one(tmp_path, monkeypatch, capsys):
  """Then the run begins again, as if it had been killed a moment earlier."""
  save_until_killed(tmp_path, 10, monkeypatch)
  checkpoints = RunCheckpoints(tmp_path, keep=2)
  assert checkpoints.latest_step() is None
  error = capsys.readouterr().err
  assert error.endswith('; beginning again\n') and error.count('\n') == 1
  checkpoints.save(10, state(10), {'n': 10})
  checkpoints.close()
  assert_usable(tmp_path, 10)


# --- Checkpoints of earlier versions ---


def age(run, *steps):
  """Makes them what an earlier version wrote: no manifest, a plain host."""
  for step in steps:
    path = run / 'checkpoints' / str(step)
    (path / manifests.NAME).unlink(missing_ok=True)
    (path / 'host' / 'metadata').write_text(json.dumps({'n': step}))


def test_one_of_an_earlier_version_is_used_unverified(run, capsys):
  age(run, 20, 30, 40)
  assert_usable(run, 40)
  error = capsys.readouterr().err
  assert error.startswith('lrm: checkpoint 40 has no manifest.json: an earlier')
  assert error.count('\n') == 1
  # From then on there are manifests.
  save(run, 50)
  capsys.readouterr()
  assert_usable(run, 50)
  assert capsys.readouterr().err == ''


def test_one_of_an_earlier_version_that_cannot_be_read_is_damaged(run):
  age(run, 40)
  (run / 'checkpoints' / '40' / 'host' / 'metadata').write_text('{"n"')
  assert_usable(run, 30)


# --- Searching, for a fork, changes nothing ---


def test_a_search_sets_nothing_aside(run, capsys):
  what = flip(run / 'checkpoints' / '40')
  found = recovery.search(run / 'checkpoints')
  assert found == recovery.Found(30, True, {40: what})
  assert names(run) == ['20', '30', '40']
  assert capsys.readouterr().err == ''


def test_a_file_in_the_place_of_the_folder(tmp_path):
  (tmp_path / 'checkpoints').write_text('')
  for look in (
    lambda: RunCheckpoints(tmp_path, keep=1),
    lambda: recovery.choose(tmp_path, None),
    lambda: recovery.newest(tmp_path / 'checkpoints'),
  ):
    with pytest.raises(UserError, match="checkpoints' is a file; checkpoints "):
      look()
  assert (tmp_path / 'checkpoints').is_file()


def test_the_newest_that_was_published(run):
  lose_manifest(run / 'checkpoints' / '40')
  before = names(run)
  assert recovery.newest(run / 'checkpoints') == 30
  age(run, 40)
  assert recovery.newest(run / 'checkpoints') == 40
  assert recovery.newest(run / 'no_such') is None
  assert names(run) == before
