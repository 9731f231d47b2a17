"""One safetensors file: what it holds, blocks of its tensors, writing one.

  8 bytes   length of the header, little-endian
  header    JSON {name: {dtype, shape, data_offsets: [begin, end]}}
  data      the tensors, one behind the other; offsets count from here

Files are read a few megabytes at a time. Mapped into memory, all of a file
that has been looked at would count as memory of this process. A header may
come from anyone: all it says is checked before a byte of data is read.
"""

import json
import math
import pathlib
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from lrm_jax.errors import UserError

# Names in a header of the dtypes that parameters may have.
CODES = {'float32': 'F32', 'bfloat16': 'BF16', 'float16': 'F16'}
DTYPES = {
  'F32': np.dtype(np.float32),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'F16': np.dtype(np.float16),
}
# Bits of one number in all dtypes that a file may have.
_BITS = {
  **dict.fromkeys(('F4',), 4),
  **dict.fromkeys(('F6_E2M3', 'F6_E3M2'), 6),
  **dict.fromkeys(('BOOL', 'U8', 'I8', 'F8_E5M2', 'F8_E4M3', 'F8_E8M0'), 8),
  **dict.fromkeys(('F8_E4M3FNUZ', 'F8_E5M2FNUZ'), 8),
  **dict.fromkeys(('I16', 'U16', 'F16', 'BF16'), 16),
  **dict.fromkeys(('I32', 'U32', 'F32'), 32),
  **dict.fromkeys(('I64', 'U64', 'F64', 'C64'), 64),
}
AGAIN = 'download or export the model again'
# A quarter of a million tensors; as a tree of objects some 300 MB.
MAX_JSON = 1 << 25
# Read at once: long enough for a disk, short beside any weight that is worth
# counting.
_BLOCK = 1 << 23
_METADATA = '__metadata__'


class Stored(NamedTuple):
  """A tensor in a file.

  Attributes:
    path: the file.
    name: of the tensor.
    dtype: as the header names it.
    shape: of the tensor.
    start: its first byte, from the beginning of the file.
  """

  path: pathlib.Path
  name: str
  dtype: str
  shape: tuple[int, ...]
  start: int


# --- Reading ---


def read_header(path: pathlib.Path) -> dict[str, Stored]:
  """{name: tensor} of a file.

  Raises:
    UserError: there is no such file, or its header and its size do not make
      one whole safetensors file.
  """
  try:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
      raise damaged(path, 'no regular file')
    with path.open('rb') as file:
      size = status.st_size
      length = int.from_bytes(file.read(8), 'little')
      if size < 8 or length > size - 8:
        raise damaged(path, f'it ends inside its header, at byte {size}')
      if length > MAX_JSON:
        raise damaged(path, f'a header of {length} bytes')
      header = file.read(length)
  except FileNotFoundError:
    raise UserError(f'{path}: no such file; {AGAIN}') from None
  except OSError as error:
    raise damaged(path, error.strerror) from error
  try:
    entries = json.loads(header.decode(), object_pairs_hook=_without_repeats)
  except (ValueError, RecursionError) as error:
    reason = f'its header is not JSON: {str(error)[:80]}'
    raise damaged(path, reason) from None
  if not isinstance(entries, dict):
    raise damaged(path, 'its header is no JSON object')
  if not _is_metadata(entries.pop(_METADATA, {})):
    raise damaged(path, f'its header has no texts in {_METADATA}')
  found = [
    _stored(path, name, entry, 8 + length) for name, entry in entries.items()
  ]
  _check_places(path, found, 8 + length, size)
  return {tensor.name: tensor for tensor, _ in found}


def read_blocks(
  tensor: Stored, start: int, stop: int
) -> Iterator[tuple[int, np.ndarray]]:
  """Rows `[start, stop)` of a tensor, some at a time.

  Yields:
    (number of the first row, counted from `start`; `[rows, ...]`), which is
    overwritten by the next one.

  Raises:
    UserError: the file cannot be read, or has become shorter.
  """
  dtype = DTYPES[tensor.dtype]
  width = math.prod(tensor.shape[1:])
  most = max(1, _BLOCK // max(1, width * dtype.itemsize))
  buffer = np.empty((min(most, stop - start), *tensor.shape[1:]), dtype)
  try:
    with tensor.path.open('rb', buffering=0) as file:
      file.seek(tensor.start + start * width * dtype.itemsize)
      for row in range(start, stop, most):
        block = buffer[: stop - row]
        if not _fill(file, block.reshape(-1).view(np.uint8).data):
          raise damaged(tensor.path, f'it ends inside {shown(tensor.name)}')
        yield row - start, block
  except OSError as error:
    raise damaged(tensor.path, error.strerror) from error


def _fill(file: Any, view: memoryview) -> bool:
  """Reads until `view` is full; False where the file ends before."""
  while view:
    count = file.readinto(view)
    if not count:
      return False
    view = view[count:]
  return True


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """An object; two values of one name would be two files in one."""
  found = dict(pairs)
  if len(found) != len(pairs):
    raise ValueError('a name is there twice')
  return found


def _is_metadata(value: Any) -> bool:
  return isinstance(value, dict) and all(
    isinstance(text, str) for text in value.values()
  )


def _stored(
  path: pathlib.Path, name: str, entry: Any, data: int
) -> tuple[Stored, int]:
  """An entry of a header as (tensor, its end), where it is one."""
  is_count = lambda value: type(value) is int and 0 <= value < 1 << 63
  if not (
    isinstance(entry, dict)
    and entry.keys() == {'dtype', 'shape', 'data_offsets'}
    and isinstance(entry['dtype'], str)
    and all(isinstance(entry[key], list) for key in ('shape', 'data_offsets'))
    and all(map(is_count, (*entry['shape'], *entry['data_offsets'])))
    and len(entry['data_offsets']) == 2
    and len(entry['shape']) <= 8
  ):
    raise damaged(path, f'its header does not say where {shown(name)} is')
  dtype, shape = entry['dtype'], tuple(entry['shape'])
  begin, end = entry['data_offsets']
  if dtype not in _BITS:
    raise damaged(path, f'{shown(name)} is {shown(dtype)}, an unknown dtype')
  if 8 * (end - begin) != math.prod(shape) * _BITS[dtype]:
    raise damaged(
      path, f'{shown(name)}, {dtype}{list(shape)}, has {end - begin} bytes'
    )
  return Stored(path, name, dtype, shape, data + begin), data + end


def _check_places(
  path: pathlib.Path,
  found: Sequence[tuple[Stored, int]],
  start: int,
  size: int,
) -> None:
  """Tensors fill the data, without a gap and without an overlap."""
  for tensor, end in sorted(found, key=lambda item: (item[0].start, item[1])):
    if tensor.start != start or end < start:
      raise damaged(path, f'{shown(tensor.name)} is not behind the one before')
    if end > size:
      raise damaged(
        path, f'{shown(tensor.name)} ends at byte {end} of {size}, cut off'
      )
    start = end
  if start != size:
    raise damaged(path, f'{size - start} bytes belong to no tensor')


# --- Writing ---


def write(
  path: pathlib.Path,
  shapes: Mapping[str, tuple[int, ...]],
  dtype: str,
  read: Callable[[str], np.ndarray],
) -> None:
  """Writes a file, the same bytes as the safetensors library would.

  Args:
    path: the file.
    shapes: of all its tensors.
    dtype: of them all, a key of CODES.
    read: name -> tensor of that shape and dtype. Called once for each, in the
      order of the file; only one is held at a time.

  Raises:
    OSError: as writing a file does.
  """
  size = DTYPES[CODES[dtype]].itemsize
  # transformers refuses a file that does not say this.
  header: dict[str, Any] = {_METADATA: {'format': 'pt'}}
  end = 0
  for name in sorted(shapes):
    begin, end = end, end + math.prod(shapes[name]) * size
    header[name] = {
      'dtype': CODES[dtype],
      'shape': shapes[name],
      'data_offsets': (begin, end),
    }
  text = json.dumps(header, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % 8)
  with path.open('wb') as file:
    file.write(len(text).to_bytes(8, 'little') + text)
    for name in sorted(shapes):
      tensor = np.ascontiguousarray(read(name))
      file.write(tensor.reshape(-1).view(np.uint8).data)


# --- Messages ---


def damaged(path: pathlib.Path, reason: str | None) -> UserError:
  """The error of a file that is no whole safetensors file."""
  return UserError(f'{path}: not a whole safetensors file ({reason}); {AGAIN}')


def shown(name: str) -> str:
  """A name that a stranger chose, for a message of one line."""
  name = name if len(name) <= 200 else f'{name[:200]}...'
  return name if name.isprintable() else ascii(name)
