"""The mark of a published checkpoint: what its files are, written after them.

STEP/manifest.json
  {"step": ..., "metrics": {...}, "files": {path: {"bytes": ..., "sha256":
  ...}}, "sha256": of all that}

A checkpoint without one was never published, and one whose files differ from
it is damaged. In a bucket there are sizes only: its objects have checksums of
their own, and to read all of them back would be a second transfer.
"""

import concurrent.futures
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from lrm_jax import jsonl, storage

NAME = 'manifest.json'
# Files that are read at the same time.
READERS = 8


def write(
  folder: storage.Path, step: int, metrics: Mapping[str, float | None]
) -> None:
  """Publishes a checkpoint that is complete; others see all of it or none.

  Args:
    folder: of the step.
    step: steps completed.
    metrics: numbers of that step, to rate the checkpoint by.
  """
  found = sizes(folder)
  sums = {} if storage.is_remote(folder) else digests(folder, found)
  files = {
    name: {'bytes': size} | ({'sha256': sums[name]} if name in sums else {})
    for name, size in found.items()
  }
  record = {'step': step, 'metrics': dict(metrics), 'files': files}
  jsonl.write_json(folder / NAME, record | {'sha256': _digest(record)})


def read(folder: storage.Path) -> dict[str, Any]:
  """The manifest of a step.

  Raises:
    OSError: there is none, or it cannot be read.
    ValueError: it is not what `write` wrote.
  """
  record = json.loads((folder / NAME).read_text('utf-8'))
  if not isinstance(record, dict) or 'sha256' not in record:
    raise ValueError('not a manifest')
  stated = record.pop('sha256')
  if stated != _digest(record):
    raise ValueError('another checksum')
  return record


def fault(folder: storage.Path) -> str | None:
  """What is wrong with a checkpoint; None if it is as it was published.

  Files that the manifest does not name are no fault.
  """
  try:
    files = read(folder)['files']
  except FileNotFoundError:
    return f'no {NAME}: its save did not come to its end'
  except (OSError, ValueError, RecursionError):
    return f'{NAME}: not as it was written'
  found = sizes(folder)
  for name, stated in sorted(files.items()):
    if name not in found:
      return f'{name}: missing'
    more = found[name] - stated['bytes']
    if more:
      return f'{name}: {abs(more)} bytes {"too long" if more > 0 else "short"}'
  stated = {n: file['sha256'] for n, file in files.items() if 'sha256' in file}
  try:
    sums = digests(folder, stated)
  except OSError as error:
    return f'a file cannot be read ({error.strerror})'
  for name in sorted(stated):
    if sums[name] != stated[name]:
      return f'{name}: another checksum'
  return None


def sizes(folder: storage.Path) -> dict[str, int]:
  """{path: bytes} of all files of a step but the manifest, sorted."""
  found = storage.file_sizes(folder)
  return {name: size for name, size in found.items() if name != NAME}


def digests(folder: storage.Path, names: Mapping[str, Any]) -> dict[str, str]:
  """{path: SHA-256} of files here, which are then on the disk too."""

  def one(name: str) -> str:
    with (folder / name).open('rb') as file:
      os.fsync(file.fileno())
      return hashlib.file_digest(file, 'sha256').hexdigest()

  with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
    return dict(zip(names, pool.map(one, names), strict=True))


def _digest(record: dict[str, Any]) -> str:
  text = json.dumps(record, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()
