"""Where files are: in folders of this machine, or in buckets (gs://...).

A folder is a `pathlib.Path`, a place in a bucket an `epath.Path`; both have the
same methods. An object of a bucket is written whole: others see all of it or
none. What a bucket cannot do (append, rename a folder, be written by a library
that knows only local files) is done in a `Mirror`, whose files are copied.
"""

import contextlib
import importlib.util
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias, Union

from lrm_jax.errors import UserError

if TYPE_CHECKING:
  from etils import epath

Path: TypeAlias = Union[pathlib.Path, 'epath.Path']

# Others that epath can open (s3://, az://) have no driver in orbax: it would
# write the arrays of a checkpoint into a local folder of that name.
SCHEME = 'gs'
# Of a file, sent in one request.
_CHUNK = 1 << 26


def as_path(text: str | os.PathLike[str]) -> Path:
  """The path of a folder or a file, here or in a bucket.

  Raises:
    UserError: an address of another kind, one without a bucket, or the library
      that speaks to buckets is not installed.
  """
  text = os.fspath(text)
  found = re.match(r'([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)', text)
  if found is None:
    return pathlib.Path(text)
  scheme, bucket = found.groups()
  if scheme != SCHEME or not bucket:
    raise UserError(
      f"'{text}': not a place that can be read and written; give a folder, or "
      f'{SCHEME}://BUCKET/FOLDER in Google Cloud Storage'
    )
  if importlib.util.find_spec('gcsfs') is None:
    raise UserError(
      f"'{text}' is in a bucket, and gcsfs is not installed; "
      "pip install 'lrm_jax[gcs]'"
    )
  # Not above: `lrm --help` needs none of it.
  from etils import epath

  return epath.Path(text)


def is_remote(path: Path) -> bool:
  """Whether a path of `as_path` is in a bucket."""
  return not isinstance(path, pathlib.Path)


def make_folder(path: Path) -> None:
  """Makes a folder and those above it; in a bucket they are only names."""
  if not is_remote(path):
    path.mkdir(parents=True, exist_ok=True)


def refresh(path: Path) -> None:
  """Forgets what a bucket listed before; others write to it too."""
  if is_remote(path):
    from etils.epath import backend

    backend.fsspec_backend.fs(path).invalidate_cache()


def file_sizes(folder: Path) -> dict[str, int]:
  """{path: bytes} of all files in a folder and in those within, sorted."""
  if not is_remote(folder):
    found = {
      path.relative_to(folder).as_posix(): path.stat().st_size
      for path in folder.rglob('*')
      if path.is_file()
    }
    return dict(sorted(found.items()))
  from etils.epath import backend

  refresh(folder)
  listed = backend.fsspec_backend.fs(folder).find(str(folder), detail=True)
  start = f'{folder.as_posix().removeprefix(f"{SCHEME}://")}/'
  return {
    name.removeprefix(start): listed[name]['size'] for name in sorted(listed)
  }


def remove_folder(path: Path) -> None:
  """Removes a folder with all that is in it."""
  if is_remote(path):
    path.rmtree()
  else:
    shutil.rmtree(path)


def move_folder(source: Path, target: Path) -> None:
  """Gives a folder another name, beside the one it has.

  A bucket cannot: there each object is written anew and then removed.
  """
  if not is_remote(source):
    source.rename(target)
    return
  for path in source.iterdir():
    if path.is_dir():
      move_folder(path, target / path.name)
      continue
    with path.open('rb') as old, (target / path.name).open('wb') as new:
      shutil.copyfileobj(old, new, _CHUNK)
    path.unlink()


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
  """Says in one line what a bucket refused.

  Raises:
    UserError: for everything that its client raises. What happens to a local
      path passes as it is.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:  # Of a dozen kinds: of HTTP, of logging in, ...
    if not is_remote(path):
      raise
    reason = ' '.join(f'{type(error).__name__}: {error}'.split())
    raise UserError(
      f"'{path}' cannot be reached ({reason[:300]}); check that the bucket is "
      'there and that you may write: gcloud auth application-default login'
    ) from error


def check_writable(path: Path) -> None:
  """Writes an object into a folder of a bucket, and removes it.

  Raises:
    UserError: that failed.
  """
  with explained(path):
    probe = path / f'.{os.getpid()}.probe'
    probe.write_bytes(b'')
    probe.unlink()


def local_copy(folder: Path) -> pathlib.Path:
  """A folder of this machine with the files of one, without its folders.

  A local folder is its own copy. That of a bucket is made once, and removed at
  the end of the process.

  Raises:
    UserError: the bucket cannot be reached.
  """
  if not is_remote(folder):
    return folder
  if str(folder) not in _copies:
    with explained(folder):
      mirror = Mirror(folder)
      mirror.fetch()
    _copies[str(folder)] = mirror
  return _copies[str(folder)].folder


def copy_files(folder: Path, names: Sequence[str]) -> pathlib.Path:
  """A folder of this machine with some files of a bucket's, those that exist.

  Made once, and removed at the end of the process.

  Raises:
    UserError: the bucket cannot be reached.
  """
  key = f'{folder} {" ".join(names)}'
  if key not in _chosen:
    copy = tempfile.TemporaryDirectory()
    with explained(folder):
      for name in names:
        if (folder / name).exists():
          content = (folder / name).read_bytes()
          (pathlib.Path(copy.name) / name).write_bytes(content)
    _chosen[key] = copy
  return pathlib.Path(_chosen[key].name)


class Mirror:
  """A folder of this machine whose files are copied to a bucket, each whole.

  The mirror of a local folder is that folder, and nothing is copied. As a
  context manager it copies at the end, unless something was raised.

  Attributes:
    folder: to write into. That of a bucket exists and is empty at first.
  """

  def __init__(self, target: str | os.PathLike[str]):
    self._target = as_path(target)
    self.is_remote = is_remote(self._target)
    self._copied: dict[pathlib.Path, tuple[int, int]] = {}
    if self.is_remote:
      self._scratch = tempfile.TemporaryDirectory(prefix='lrm_jax_')
      self.folder = pathlib.Path(self._scratch.name)
    else:
      self.folder = self._target

  def fetch(self) -> None:
    """Copies the files in the bucket's folder here, without its folders."""
    if self.is_remote and self._target.exists():
      for path in self._target.iterdir():
        if not path.is_dir():
          self.fetch_file(path.name)

  def fetch_file(self, name: str) -> None:
    """Copies one file here, if the bucket has it."""
    if self.is_remote and (self._target / name).exists():
      with (self._target / name).open('rb') as source:
        with (self.folder / name).open('wb') as target:
          shutil.copyfileobj(source, target, _CHUNK)

  def upload(self) -> None:
    """Copies to the bucket what has changed since it was copied last."""
    if not self.is_remote:
      return
    for path in sorted(self.folder.rglob('*')):
      if not path.is_file():
        continue
      # Asked before it is read: what is written meanwhile is a change.
      status = path.stat()
      version = status.st_size, status.st_mtime_ns
      if path not in self._copied or self._copied[path] != version:
        name = path.relative_to(self.folder).as_posix()
        with path.open('rb') as source:
          with (self._target / name).open('wb') as target:
            shutil.copyfileobj(source, target, _CHUNK)
        self._copied[path] = version

  def close(self) -> None:
    """Removes the copy on this machine."""
    if self.is_remote:
      self._scratch.cleanup()

  def __enter__(self) -> 'Mirror':
    return self

  def __exit__(self, kind, *_) -> None:
    if kind is None:
      self.upload()
    self.close()


# What `local_copy` made.
_copies: dict[str, Mirror] = {}
_chosen: dict[str, tempfile.TemporaryDirectory] = {}
