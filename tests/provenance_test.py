"""What made a run."""

import subprocess

from lrm_jax import provenance


def _git(folder, *words):
  identity = ('-c', 'user.name=a', '-c', 'user.email=a@b.c')
  subprocess.run(
    ['git', '-C', folder, *identity, *words], check=True, capture_output=True
  )


def test_a_commit_and_a_plus_for_what_differs(tmp_path):
  assert provenance.commit(tmp_path) == 'unknown'
  _git(tmp_path, 'init')
  file = tmp_path / 'a.py'
  file.write_text('1')
  _git(tmp_path, 'add', 'a.py')
  _git(tmp_path, 'commit', '-m', 'a')
  clean = provenance.commit(tmp_path)
  assert len(clean) == 12 and int(clean, 16) >= 0
  (tmp_path / 'new.py').write_text('beside it')
  assert provenance.commit(tmp_path) == clean
  file.write_text('2')
  assert provenance.commit(tmp_path) == f'{clean}+'


def test_without_git(tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  assert provenance.commit(tmp_path) == 'unknown'


def test_of_this_process():
  found = provenance.describe()
  assert set(found) == {'commit', 'versions', 'machine'}
  assert found['versions'].keys() >= {'jax', 'jaxlib', 'flax', 'optax'}
  assert ' processors, ' in found['machine']
