"""What made a run: the commit of the source, versions, the machine."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')
_SOURCE = pathlib.Path(__file__).parents[1]


def describe() -> dict[str, Any]:
  """Of this process: `commit`, `versions` and `machine`, plain JSON."""
  devices = jax.devices()
  return {
    'commit': commit(_SOURCE),
    'versions': {p: importlib.metadata.version(p) for p in _PACKAGES},
    'machine': (
      f'{platform.machine()}, {os.cpu_count()} processors, '
      f'{len(devices)} {devices[0].device_kind}'
    ),
  }


def commit(source: pathlib.Path) -> str:
  """The commit of a clone, with a + if something differs from it.

  Args:
    source: root of the clone; 'unknown' if it is none.
  """
  run = lambda *words: subprocess.run(
    ['git', '-C', str(source), *words], capture_output=True, text=True
  )
  try:
    found = run('rev-parse', '--short=12', 'HEAD')
  except FileNotFoundError:
    return 'unknown'  # no git on this machine
  if found.returncode:
    return 'unknown'
  is_changed = run('status', '--porcelain', '--untracked-files=no').stdout
  return found.stdout.strip() + ('+' if is_changed.strip() else '')
