"""One safetensors file: as the library writes it, and hostile headers."""

import json
import os

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from lrm_jax.checkpoints import tensor_files
from tests import bits
from tests.checkpoints.hf_models import refusal

SHAPES = {'b.10.w': (7, 5), 'b.9.w': (300, 3), 'a': (11,), 'none': (0, 4)}


def tensors(dtype):
  generator = np.random.default_rng(0)
  kind = tensor_files.DTYPES[tensor_files.CODES[dtype]]
  return {
    name: generator.standard_normal(shape).astype(kind)
    for name, shape in SHAPES.items()
  }


def save(path, dtype='float32'):
  values = tensors(dtype)
  tensor_files.write(path, SHAPES, dtype, values.__getitem__)
  return values


@pytest.mark.parametrize('dtype', tensor_files.CODES)
def test_bytes_are_those_of_the_library(tmp_path, dtype):
  ours, theirs = tmp_path / 'ours', tmp_path / 'theirs'
  values = save(ours, dtype)
  safetensors.numpy.save_file(values, theirs, {'format': 'pt'})
  assert bits.digest(ours.read_bytes()) == bits.digest(theirs.read_bytes())


def test_tensors_are_made_one_after_the_other(tmp_path):
  """In the order of the file, each once."""
  values, asked = tensors('float32'), []

  def read(name):
    asked.append(name)
    return values[name]

  tensor_files.write(tmp_path / 'file', SHAPES, 'float32', read)
  assert asked == sorted(SHAPES)


@pytest.mark.parametrize('block', [1, 64, 1 << 20])
@pytest.mark.parametrize('dtype', tensor_files.CODES)
def test_rows_in_blocks(tmp_path, monkeypatch, dtype, block):
  monkeypatch.setattr(tensor_files, '_BLOCK', block)
  values = save(tmp_path / 'file', dtype)
  header = tensor_files.read_header(tmp_path / 'file')
  assert header.keys() == SHAPES.keys()
  for name, (start, stop) in {'b.10.w': (2, 6), 'a': (0, 11)}.items():
    assert header[name].shape == SHAPES[name]
    rows = []
    for first, part in tensor_files.read_blocks(header[name], start, stop):
      assert first == sum(map(len, rows))
      assert part.nbytes <= block or len(part) == 1
      rows.append(part.copy())
    bits.assert_same(np.concatenate(rows), values[name][start:stop])


def test_a_file_that_becomes_shorter(tmp_path):
  path = tmp_path / 'file'
  save(path)
  header = tensor_files.read_header(path)
  os.truncate(path, path.stat().st_size - 8)
  read = lambda: list(tensor_files.read_blocks(header['b.9.w'], 0, 300))
  assert 'ends inside b.9.w' in refusal(read)


# Headers.


def write_header(path, header, data=b'\0' * 16, length=None):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  length = len(text) if length is None else length
  path.write_bytes(length.to_bytes(8, 'little') + text + data)
  return path


def entry(*offsets, dtype='F32', shape=(2,)):
  return {'dtype': dtype, 'shape': shape, 'data_offsets': offsets}


A = entry(0, 8)


@pytest.mark.parametrize(
  ('header', 'words'),
  [
    ({'a': A}, '8 bytes belong to no tensor'),
    ({'a': A, 'b': entry(4, 12)}, 'b is not behind'),
    ({'a': A, 'b': entry(12, 20)}, 'b is not behind'),
    ({'a': A, 'b': entry(8, 12)}, 'b, F32[2], has 4 bytes'),
    ({'a': A, 'b': entry(8, 24, shape=(4,))}, 'b ends at byte'),
    ({'a': A, 'b': entry(16, 8, dtype='I8')}, 'b, I8[2], has -8 bytes'),
    ({'a': A, 'b': entry(8, 16, dtype='I7')}, 'I7, an unknown dtype'),
    ({'a': A, 'b': entry(8, 16, dtype='F4')}, 'b, F4[2], has 8 bytes'),
    ({'a': A, 'b': entry(8, 16), '__metadata__': {'x': 1}}, 'no texts'),
    ({'a': A, 'b': entry(8, 16, shape=(2**62, 2**62))}, 'has 8 bytes'),
    ({'a': A, 'b': entry(-8, 0)}, 'where b is'),
    ({'a': A, 'b': entry(8, 16.0)}, 'where b is'),
    ({'a': A, 'b': entry(8, True)}, 'where b is'),
    ({'a': A, 'b': entry(8, 2**64)}, 'where b is'),
    ({'a': A, 'b': entry(8, 16, 24)}, 'where b is'),
    ({'a': A, 'b': entry(8, 16, shape=[1] * 9)}, 'where b is'),
    ({'a': A, 'b': entry(8, 16, dtype=None)}, 'where b is'),
    ({'a': A, 'b': A | {'more': 1}}, 'where b is'),
    ({'a': A, 'b': [8, 16]}, 'where b is'),
    ({'a': A, 'b\n\x1b[2J': None}, r"where 'b\n\x1b[2J' is"),
    ([A], 'no JSON object'),
    (b'{"a": ', 'not JSON'),
    (b'[' * 100_000, 'not JSON'),
    (b'{"a": ' + b'9' * 5000 + b'}', 'not JSON'),
    (b'\xff\xfe{\0}\0', 'not JSON'),
    (b'{"a": 1, "a": 2}', 'there twice'),
  ],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_headers_that_do_not_fit_their_file(tmp_path, header, words):
  path = write_header(tmp_path / 'file', header)
  message = refusal(tensor_files.read_header, path)
  assert 'not a whole safetensors file' in message
  assert words in message and message.isprintable() and len(message) < 700


@pytest.mark.parametrize('length', [2**63, 1000, 17])
def test_lengths_beyond_the_file(tmp_path, length):
  path = write_header(tmp_path / 'file', b'{}', b'', length)
  message = refusal(tensor_files.read_header, path)
  assert 'ends inside its header, at byte 10' in message


def test_a_header_too_long_to_be_one(tmp_path):
  path = write_header(tmp_path / 'file', b'', b'', tensor_files.MAX_JSON + 1)
  os.truncate(path, 2 * tensor_files.MAX_JSON)
  assert 'a header of' in refusal(tensor_files.read_header, path)


def test_what_is_no_file(tmp_path):
  message = refusal(tensor_files.read_header, tmp_path / 'absent')
  assert 'absent: no such file' in message
  os.mkfifo(tmp_path / 'pipe')
  for path in (tmp_path, tmp_path / 'pipe'):
    assert 'no regular file' in refusal(tensor_files.read_header, path)


def test_what_the_library_refuses_we_refuse(tmp_path):
  """Every cut of a good file, and every byte of its header changed."""
  path = tmp_path / 'file'
  save(path)
  good = path.read_bytes()
  length = 8 + int.from_bytes(good[:8], 'little')
  generator = np.random.default_rng(0)
  candidates = [good[:size] for size in range(0, len(good), 97)]
  for place in range(length):
    changed = bytearray(good)
    changed[place] ^= int(generator.integers(1, 256))
    candidates.append(bytes(changed))
  refused = 0
  for candidate in candidates:
    path.write_bytes(candidate)
    try:
      with safetensors.safe_open(path, 'numpy') as file:
        names = set(file.keys())
    except safetensors.SafetensorError:
      refusal(tensor_files.read_header, path)
      refused += 1
      continue
    try:
      assert set(tensor_files.read_header(path)) == names
    except tensor_files.UserError:  # We may be stricter, not laxer.
      pass
  assert refused > len(candidates) / 2
