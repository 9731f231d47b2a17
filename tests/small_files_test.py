"""Files that are none, never end, or stand for more than they look."""

import os

import pytest

from lrm_jax import small_files


def test_whole_files_and_links_to_them(tmp_path):
  path = tmp_path / 'a'
  path.write_bytes(b'12345')
  (tmp_path / 'link').symlink_to(path)
  for name in ('a', 'link'):
    assert small_files.read_bytes(tmp_path / name, 5) == b'12345'
  with pytest.raises(OSError, match='more than 4 bytes'):
    small_files.read_bytes(path, 4)


def test_what_is_no_file(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'zero').symlink_to('/dev/zero')
  for path in (tmp_path, tmp_path / 'pipe', tmp_path / 'zero'):
    with pytest.raises(OSError, match='not a regular file'):
      small_files.read_bytes(path, 10)
  with pytest.raises(FileNotFoundError):
    small_files.read_bytes(tmp_path / 'absent', 10)


@pytest.mark.parametrize(
  'content',
  [
    b'[' * 100_000,
    b'{"a":' * 100_000,
    b'\xff\xfe',
    b'{"a": ',
    b'',
    b'9' * 5000,
  ],
)
def test_what_is_no_json(tmp_path, content):
  path = tmp_path / 'a.json'
  path.write_bytes(content)
  with pytest.raises(ValueError):
    small_files.read_json(path)


def test_of_two_fields_the_last(tmp_path):
  """As in transformers; within bounds a NaN is for whoever reads it."""
  path = tmp_path / 'a.json'
  path.write_text('{"a": 1, "a": 2}')
  assert small_files.read_json(path) == {'a': 2}


def test_a_file_too_long(tmp_path):
  path = tmp_path / 'a.json'
  path.write_bytes(b'{}')
  os.truncate(path, small_files.MOST_JSON + 1)
  with pytest.raises(OSError, match='more than'):
    small_files.read_json(path)


def test_links_out_of_a_folder(tmp_path):
  model = tmp_path / 'hub' / 'snapshots' / 'abc'
  model.mkdir(parents=True)
  blob = tmp_path / 'hub' / 'blobs' / '0123'
  blob.parent.mkdir()
  for path in (blob, tmp_path / 'secret', model / 'file'):
    path.write_text('')
  targets = {
    'hub': '../../blobs/0123',
    'beside': 'file',
    'up': '../../../secret',
    'absolute': tmp_path / 'secret',
    'again': 'up',
    'itself': 'itself',
    'nowhere': '../nowhere',
  }
  for name, target in targets.items():
    (model / name).symlink_to(target)
  (tmp_path / 'short').symlink_to(model)
  for folder in (model, tmp_path / 'short'):
    out = {name for name in targets if small_files.leads_out(folder / name)}
    assert out == {'up', 'absolute', 'again', 'itself', 'nowhere'}
    assert not small_files.leads_out(folder / 'file')
