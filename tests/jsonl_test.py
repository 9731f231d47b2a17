"""JSON Lines: errors that name the line, files that are whole or absent."""

import errno
import gzip
import json
import math
import os
import pathlib

import pytest

from lrm_jax import jsonl
from lrm_jax.errors import UserError

_ROWS = [
  {'id': '1', 'text': 'a\u2028b\nc \u00e9 \ud800 \U0001f600'},
  {'id': '2', 'nested': {'x': [1, 2.5, None, True]}},
]


@pytest.mark.parametrize('name', ['rows.jsonl', 'rows.jsonl.gz'])
def test_rows_come_back(tmp_path, name):
  path = tmp_path / name
  jsonl.write_rows(path, iter(_ROWS))
  assert jsonl.read_rows(path) == _ROWS
  first = path.read_bytes()
  assert first.startswith(b'\x1f\x8b') == name.endswith('.gz')
  text = gzip.decompress(first) if name.endswith('.gz') else first
  assert len(text.decode('ascii').splitlines()) == 2
  jsonl.write_rows(str(path), _ROWS)
  assert path.read_bytes() == first
  assert os.listdir(tmp_path) == [name]


def test_values_json_has_no_word_for(tmp_path):
  path = tmp_path / 'rows.jsonl'
  jsonl.write_rows(path, [{'x': math.nan, 'y': -math.inf}])
  (row,) = jsonl.read_rows(path)
  assert math.isnan(row['x']) and row['y'] == -math.inf


def test_write_json(tmp_path):
  path = tmp_path / 'summary.json'
  jsonl.write_json(path, {'a': [1], 'b': None})
  assert json.loads(path.read_text()) == {'a': [1], 'b': None}
  assert path.read_text().endswith('}\n')


def test_blank_lines_and_a_byte_order_mark(tmp_path):
  path = tmp_path / 'rows.jsonl'
  path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"a": 2}')
  assert jsonl.read_rows(path) == [{'a': 1}, {'a': 2}]
  path.write_bytes(b'')
  assert jsonl.read_rows(path) == []


@pytest.mark.parametrize(
  'line, message',
  [
    (b'{"a": 1', 'not JSON'),
    (b'[1]', 'JSON array; each line must be an object'),
    (b'null', 'JSON null'),
    (b'{"a": "\xff"}', 'not JSON .*utf-8'),
    (b'[' * 100_000, 'not JSON'),
    (b'{"a": ' + b'1' * 5000 + b'}', 'not JSON'),
    (b'{"b": 1}', "no field 'a' among .'b'.; every row needs a"),
    (b'{"a": null}', "field 'a' is a JSON null; it must be a number"),
    (b'{"a": true}', "field 'a' is a JSON boolean"),
  ],
)
def test_errors_name_file_and_line(tmp_path, line, message):
  path = tmp_path / 'rows.jsonl'
  path.write_bytes(b'{"a": 1}\n\n' + line + b'\n')
  with pytest.raises(UserError, match=message) as raised:
    jsonl.read_rows(path, {'a': (int, float)})
  assert str(raised.value).startswith(f'{path}:3: ')
  assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('absent.jsonl', None, 'no such file'),
    ('plain.jsonl.gz', b'{"a": 1}', 'not a whole gzip file'),
    (
      'cut.gz',
      gzip.compress(b'{"a": 1}' * 99, mtime=0)[:-9],
      'not a whole gzip file',
    ),
    ('.', None, 'cannot be read'),
  ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
  path = tmp_path / name
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError, match=message):
    jsonl.read_rows(path)


@pytest.mark.parametrize('name', ['rows.jsonl', 'rows.jsonl.gz'])
def test_a_failure_midway_leaves_the_earlier_file(tmp_path, name):
  path = tmp_path / name
  jsonl.write_rows(path, _ROWS)

  def rows():
    yield {'a': 1}
    raise RuntimeError('midway')

  with pytest.raises(RuntimeError, match='midway'):
    jsonl.write_rows(path, rows())
  assert jsonl.read_rows(path) == _ROWS
  assert os.listdir(tmp_path) == [name]


def test_places_that_cannot_be_written(tmp_path):
  with pytest.raises(UserError, match='cannot be written'):
    jsonl.write_json(tmp_path / 'absent' / 'x.json', {})
  with pytest.raises(UserError, match='cannot be written'):
    jsonl.write_json(tmp_path, {})


@pytest.mark.parametrize(
  ('number', 'cure'),
  [
    (errno.EROFS, 'mount that file system for writing again, or give another'),
    (errno.ENOSPC, 'make room there'),
    (errno.EACCES, 'give a place with room in an existing folder where you'),
  ],
)
def test_a_file_that_cannot_be_written_is_named_with_its_cure(
  number, cure, tmp_path, monkeypatch
):
  """Itself, and not the hidden one that would have taken its place."""

  def refuse(*_, **__):
    raise OSError(number, os.strerror(number), '.x.json.1.part')

  monkeypatch.setattr(pathlib.Path, 'open', refuse)
  monkeypatch.setattr(pathlib.Path, 'unlink', refuse)
  with pytest.raises(UserError) as info:
    jsonl.write_json(tmp_path / 'x.json', {})
  why = os.strerror(number)
  assert str(info.value).startswith(
    f'{tmp_path / "x.json"}: cannot be written ({why}); {cure}'
  )
