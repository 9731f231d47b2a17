"""Small files that anyone may have written: read whole, within bounds.

A pipe would block for ever, a device never end, and a text of a few megabytes
can stand for gigabytes of objects. All that is refused as the operating system
refuses a file: by an OSError that says why.
"""

import errno
import json
import os
import pathlib
import stat
from typing import Any

# Of JSON, as objects up to half a gigabyte. The largest that models have are
# the settings of tokenizers, a megabyte.
MOST_JSON = 1 << 24


def read_bytes(path: pathlib.Path, most: int) -> bytes:
  """The content of a file.

  Args:
    path: of a regular file, or a link to one.
    most: bytes.

  Raises:
    OSError: it is no such file, longer, or cannot be read.
  """
  if not stat.S_ISREG(path.stat().st_mode):
    raise OSError(errno.EINVAL, 'not a regular file')
  with path.open('rb') as file:
    content = file.read(most + 1)
  if len(content) > most:
    raise OSError(errno.EFBIG, f'more than {most} bytes')
  return content


def read_json(path: pathlib.Path, most: int = MOST_JSON) -> Any:
  """The value in a JSON file; of two fields of one name, the last.

  Raises:
    OSError: as `read_bytes`.
    ValueError: it is not JSON, not UTF-8, or nested too deep.
  """
  try:
    return json.loads(read_bytes(path, most).decode())
  except RecursionError:
    raise ValueError('nested too deep') from None


def leads_out(path: pathlib.Path) -> bool:
  """Whether a file is a link out of its folder.

  The files of a snapshot in the cache of the Hugging Face hub are links to
  FOLDER/../../blobs, which belongs to the same model.
  """
  try:
    folder, found = path.parent.resolve(), path.resolve()
  except (OSError, RuntimeError):  # A link to itself.
    return True
  homes = [folder, *(outer / 'blobs' for outer in folder.parents[1:2])]
  return not any(found.is_relative_to(home) for home in homes)


def exists(path: pathlib.Path) -> bool:
  """Whether there is anything of that name, be it a pipe or a broken link."""
  return os.path.lexists(path)
