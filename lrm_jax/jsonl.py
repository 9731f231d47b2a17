"""JSON Lines and JSON files: clear errors on reading, whole files on writing.

A name that ends in `.gz` is compressed, with no time stamp inside, so equal
rows give equal bytes. Text outside ASCII is escaped: every reader's idea of
a line end, and half a surrogate pair from a model, are then harmless.
"""

import contextlib
import gzip
import io
import itertools
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

from lrm_jax import errors, storage
from lrm_jax.errors import UserError

Path = str | os.PathLike[str]

_JSON_NAMES = {
  str: 'string',
  int: 'number',
  float: 'number',
  bool: 'boolean',
  list: 'array',
  dict: 'object',
  type(None): 'null',
}
# Bytes of a row: a response of a million tokens, each with its ids and numbers.
_MOST_LINE = 1 << 26
# Rows of text become five to thirty times smaller.
_MOST_UNPACKED = 1 << 24
_MOST_GROWTH = 200
_NO_FIELDS: Mapping[str, tuple[type, ...]] = {}


def read_rows(
  path: Path, required: Mapping[str, tuple[type, ...]] = _NO_FIELDS
) -> list[dict[str, Any]]:
  """Reads a JSON Lines file; blank lines are skipped.

  Args:
    path: UTF-8, one object a line, lines ended by newline characters.
    required: the fields every row must have, and the Python types that
      `json` may have given them; others may be there too.

  Returns:
    One dict per line.

  Raises:
    UserError: the file cannot be read, or a line (named `FILE:LINE`, from 1)
      is not UTF-8, not JSON, not an object, or lacks a required field.
  """
  return list(each_row(path, required))


def each_row(
  path: Path, required: Mapping[str, tuple[type, ...]] = _NO_FIELDS
) -> Iterator[dict[str, Any]]:
  """`read_rows`, one row at a time; what is wrong is raised on the way."""
  path = storage.as_path(path)
  try:
    with _open_reader(path) as file:
      for number, line in _lines(file, path):
        if line.strip():
          yield _parse_line(line, f'{path}:{number}', required)
  except FileNotFoundError:
    raise UserError(f'{path}: no such file; check the path') from None
  except (gzip.BadGzipFile, EOFError, zlib.error) as error:
    raise UserError(
      f'{path}: not a whole gzip file ({error}); write it again, or drop .gz '
      'from the name of a plain file'
    ) from error
  except OSError as error:
    reason = error if error.strerror is None else error.strerror
    raise UserError(
      f'{path}: cannot be read ({reason}); give a file that you may read'
    ) from error


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
  """Writes a JSON Lines file; other processes see all of it or none.

  Args:
    path: its folder must exist, or it is in a bucket; an earlier file is
      replaced.
    rows: any number of objects; NaN and infinities are written as Python's
      `json` reads them back.

  Raises:
    UserError: the file cannot be written; an earlier one is untouched.
  """
  with whole_file(storage.as_path(path)) as file:
    for row in rows:
      file.write(json.dumps(row).encode() + b'\n')


def write_json(path: Path, value: Any) -> None:
  """Writes one JSON value, indented, in the same way as `write_rows`."""
  with whole_file(storage.as_path(path)) as file:
    file.write(json.dumps(value, indent=2).encode() + b'\n')


def read_growing(
  path: Path, required: Mapping[str, tuple[type, ...]] = _NO_FIELDS
) -> list[dict[str, Any]]:
  """`read_rows` of a plain file that another process may be writing.

  What stands behind the last line's end is the begin of a row, and not read.
  """
  path = storage.as_path(path)
  with storage.explained(path):
    lines = path.read_bytes().split(b'\n')[:-1]
  return [
    _parse_line(line, f'{path}:{number}', required)
    for number, line in enumerate(lines, start=1)
    if line.strip()
  ]


def remove_parts(folder: storage.Path) -> None:
  """Removes files that a process left there that was killed as it wrote."""
  if not storage.is_remote(folder):
    for part in folder.glob('.*.part'):
      if part.is_file():
        part.unlink(missing_ok=True)


def _open_reader(path: storage.Path) -> IO[bytes]:
  if storage.is_remote(path):
    content = io.BytesIO(path.read_bytes())
    return gzip.open(content) if path.suffix == '.gz' else content
  return gzip.open(path) if path.suffix == '.gz' else path.open('rb')


def _lines(file: IO[bytes], path: storage.Path) -> Iterator[tuple[int, bytes]]:
  """(number, line) of a file, as long as no line and not all are too long.

  A compressed file may be a thousand times as large as it looks, in one line
  or in many.
  """
  room = math.inf
  if path.suffix == '.gz':
    status = path.stat()
    size = status.length if storage.is_remote(path) else status.st_size
    room = max(_MOST_UNPACKED, _MOST_GROWTH * size)
  for number in itertools.count(1):
    line = file.readline(_MOST_LINE + 1)
    if not line:
      return
    if len(line) > _MOST_LINE:
      raise UserError(
        f'{path}:{number}: longer than {_MOST_LINE} bytes; each line must be '
        'one JSON object'
      )
    room -= len(line)
    if room < 0:
      raise UserError(
        f'{path}: unpacked more than {_MOST_GROWTH} times as large as the '
        'file; where that is meant, unpack it with gunzip'
      )
    yield number, line


def _parse_line(
  line: bytes, where: str, required: Mapping[str, tuple[type, ...]]
) -> dict[str, Any]:
  try:
    # A byte order mark opens the files of some editors.
    row = json.loads(line.removeprefix(b'\xef\xbb\xbf').decode())
  # Also too deep a nesting, too long an integer.
  except (ValueError, RecursionError) as error:
    raise UserError(
      f'{where}: not JSON ({" ".join(str(error).split())}); each line must '
      'be one JSON object in UTF-8'
    ) from error
  if not isinstance(row, dict):
    raise UserError(
      f'{where}: received a JSON {_JSON_NAMES[type(row)]}; each line must be '
      'an object such as {"id": "1"}'
    )
  for name, types in required.items():
    if name not in row:
      raise UserError(
        f"{where}: no field '{name}' among {sorted(row)}; every row needs "
        f'{" and ".join(required)}'
      )
    if type(row[name]) not in types:
      allowed = ' or '.join(dict.fromkeys(_JSON_NAMES[t] for t in types))
      raise UserError(
        f"{where}: field '{name}' is a JSON {_JSON_NAMES[type(row[name])]}; "
        f'it must be a {allowed}'
      )
  return row


@contextlib.contextmanager
def whole_file(path: storage.Path) -> Iterator[IO[bytes]]:
  """A file that takes the place of `path` once all of it is on the disk.

  Args:
    path: its folder must exist, or it is in a bucket; where its name ends in
      `.gz`, what is written is compressed.

  Raises:
    UserError: it cannot be written; an earlier one is untouched.
  """
  if storage.is_remote(path):
    content = io.BytesIO()
    with _compressing(path, content) as file:
      yield file
    with storage.explained(path):
      path.write_bytes(content.getvalue())
    return
  part = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    with part.open('wb') as plain:
      with _compressing(path, plain) as file:
        yield file
      plain.flush()
      os.fsync(plain.fileno())
    os.replace(part, path)
  except OSError as error:
    cure = errors.cure(
      error,
      'give a place with room in an existing folder where you may write',
    )
    raise UserError(
      f'{path}: cannot be written ({error.strerror}); {cure}'
    ) from error
  finally:
    # Where nothing can be written, nothing can be removed either, and what is
    # said of `path` stands.
    with contextlib.suppress(OSError):
      part.unlink(missing_ok=True)


def _compressing(
  path: storage.Path, plain: IO[bytes]
) -> contextlib.AbstractContextManager[IO[bytes]]:
  """What to write into, where the name of a file says that it is compressed."""
  if path.suffix == '.gz':
    return gzip.GzipFile('', 'wb', fileobj=plain, mtime=0)
  return contextlib.nullcontext(plain)
