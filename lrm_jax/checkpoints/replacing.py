"""A model directory that takes the place of an earlier one, all or nothing."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from lrm_jax.checkpoints import weights
from lrm_jax.errors import UserError

# What an earlier model may consist of.
_ENDINGS = ('.json', '.safetensors', '.model', '.jinja')
_NAMES = ('merges.txt', 'README.md')
# The folder of parameters that orbax wrote, and its mark.
PARAMS = 'params'
MARK = '_METADATA'


@contextlib.contextmanager
def replacing(directory: pathlib.Path) -> Iterator[pathlib.Path]:
  """A hidden directory beside `directory` that is moved there when complete.

  Raises:
    UserError: there is something there that is not a model, or it cannot be
      written. What was there before is untouched then.
  """
  directory = directory.resolve()
  check(directory)
  part, old = (
    directory.with_name(f'.{directory.name}.{os.getpid()}.{end}')
    for end in ('part', 'old')
  )
  try:
    part.mkdir(parents=True)
    yield part
    for path in part.rglob('*'):
      if path.is_file():
        with path.open('rb') as file:
          os.fsync(file.fileno())
    # No call exchanges two directories; between these two the target is away.
    if directory.exists():
      directory.rename(old)
    part.rename(directory)
  except OSError as error:
    raise UserError(
      f'{directory}: cannot be written ({" ".join(str(error).split())}); give '
      'a place with room where you may write'
    ) from error
  finally:
    if old.exists() and not directory.exists():
      old.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(part, ignore_errors=True)


def check(directory: pathlib.Path) -> None:
  """Only an empty directory or an earlier model may be overwritten.

  Raises:
    UserError: it is something else.
  """
  if directory.exists() and not directory.is_dir():
    raise UserError(f'{directory}: is a file; give a new or empty directory')
  names = []
  if directory.exists():
    names = sorted(path.name for path in directory.iterdir())
  marks = {weights.FILE, weights.INDEX}
  if (directory / PARAMS / MARK).exists():
    marks.add(PARAMS)
  others = [
    name
    for name in names
    if not name.endswith(_ENDINGS) and name not in (*_NAMES, *marks)
  ]
  if others or (names and not marks & set(names)):
    raise UserError(
      f'{directory}: holds {weights.first(others if others else names)}, which '
      'would be lost; give a new or empty directory'
    )
