"""Where a verb writes, checked before it works."""

import os
import tempfile

from lrm_jax import storage
from lrm_jax.errors import UserError


def output_file(name: str) -> storage.Path:
  """The file of --output.

  Raises:
    UserError: it is a folder, is called summary.json (which is written beside
      it), or cannot be written.
  """
  target = storage.as_path(name)
  with storage.explained(target):
    is_folder = target.is_dir()
  if is_folder or target.name == 'summary.json':
    raise UserError(
      f"--output='{target}': must be a file, and not summary.json, which is "
      'written beside it'
    )
  check_writable(f"--output='{target}'", target.parent)
  return target


def output_folder(name: str) -> storage.Path:
  """The folder of --workdir, of a verb that is no run.

  Raises:
    UserError: it holds a run or a model, or cannot be written.
  """
  folder = storage.as_path(name)
  check_writable(f"--workdir='{folder}'", folder)
  if (folder / 'config.json').exists():
    raise UserError(
      f"--workdir='{folder}' holds a run or a model (config.json), whose "
      'files would be replaced; choose another folder'
    )
  return folder


def check_writable(flag: str, folder: storage.Path) -> None:
  """Refuses a folder that cannot be made, before any time is spent.

  Args:
    flag: for the message, such as "--workdir='runs/a'".
    folder: it may exist or not; nothing is made but a file, in the nearest
      folder that exists or in the bucket, which is removed at once.

  Raises:
    UserError: the nearest folder that exists is none, or not writable; or the
      bucket cannot be written.
  """
  if storage.is_remote(folder):
    return storage.check_writable(folder)
  existing = next(filter(os.path.exists, (folder, *folder.absolute().parents)))
  try:
    # Rights say too little: root has all of them, also where nobody can write.
    tempfile.TemporaryFile(dir=existing).close()
  except OSError as error:
    raise UserError(
      f"{flag}: '{existing}' is no folder in which you may write "
      f'({error.strerror}); choose another place'
    ) from error
