"""Same bits or not, by digest.

When two long byte strings in an assert differ, pytest writes an account of
where; on a CI machine it leaves nothing out, which takes it most of an hour.
"""

import hashlib
import pathlib

import jax
import numpy as np


def digest(data: bytes) -> str:
  """What tells these bytes from any others."""
  return hashlib.sha256(data).hexdigest()


def digests(folder: pathlib.Path) -> dict[str, str]:
  """Name of every file in a folder -> its digest."""
  files = [path for path in folder.iterdir() if path.is_file()]
  return {path.name: digest(path.read_bytes()) for path in files}


def assert_same(found, expected) -> None:
  """Two trees of arrays have one structure, and equal leaves to the bit."""
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  leaves = zip(
    jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
  )
  for (path, a), b in leaves:
    a, b = np.asarray(a), np.asarray(b)
    where = jax.tree_util.keystr(path)
    assert (a.dtype, a.shape) == (b.dtype, b.shape), where
    assert digest(a.tobytes()) == digest(b.tobytes()), where
