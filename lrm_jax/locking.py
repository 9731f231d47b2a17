"""One process at a time writes the folder of a run.

WORKDIR/.lock   who has it; the file stays, and says nothing once they are gone

It is a lock of the kernel (flock), so it goes with its process however that
ends, and no start has to clear it away. Of a run of several processes the main
one has it. A bucket has no locks: there nothing is kept apart, and two runs
must not be given the same folder.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator

from lrm_jax import distributed, errors, storage

NAME = '.lock'
# What a file system says that has no locks, as NFS may not.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextlib.contextmanager
def held(workdir: storage.Path) -> Iterator[None]:
  """Nobody else has the folder inside; every process of a run comes here.

  Args:
    workdir: of the run; it is made if it is not there.

  Raises:
    UserError: another process has it, or it cannot be written.
  """
  descriptors = []

  def take() -> None:
    if not storage.is_remote(workdir):
      descriptors.append(_take(workdir))

  distributed.from_main(take)
  try:
    yield
  finally:
    for descriptor in descriptors:
      os.close(descriptor)


def _take(workdir: storage.Path) -> int:
  """The descriptor of the file; the lock is held until it is closed."""
  path = workdir / NAME
  try:
    storage.make_folder(workdir)
    # No child gets it, or it would hold the lock for longer.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
  except OSError as error:
    raise _cannot_write(workdir, error) from error
  try:
    _lock(descriptor, workdir)
    _sign(descriptor, workdir)
  except BaseException:
    os.close(descriptor)
    raise
  return descriptor


def _lock(descriptor: int, workdir: storage.Path) -> None:
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    raise errors.UserError(
      f"--workdir='{workdir}' is in use by {_owner(descriptor)}; wait until "
      'that run has ended, or stop it, or choose another --workdir'
    ) from error
  except OSError as error:
    if error.errno not in _NO_LOCKS:
      raise _cannot_write(workdir, error) from error
    print(
      f"lrm: '{workdir}' cannot be locked ({error.strerror}); see to it that "
      'no other run writes there',
      file=sys.stderr,
      flush=True,
    )


def _sign(descriptor: int, workdir: storage.Path) -> None:
  """Writes who has it, in place of who had it before."""
  owner = {'pid': os.getpid(), 'host': socket.gethostname()}
  text = f'{json.dumps(owner)}\n'.encode()
  try:
    # In this order: a file that has its block needs no room for it.
    os.pwrite(descriptor, text, 0)
    os.ftruncate(descriptor, len(text))
  except OSError as error:
    raise _cannot_write(workdir, error) from error


def _owner(descriptor: int) -> str:
  """Who has it, as far as they have written it by now."""
  try:
    owner = json.loads(os.pread(descriptor, 1000, 0))
    return f'process {int(owner["pid"])} on {owner["host"]}'
  except (OSError, ValueError, TypeError, KeyError):
    return 'another process'


def _cannot_write(workdir: storage.Path, error: OSError) -> errors.UserError:
  return errors.UserError(
    f"--workdir='{workdir}' cannot be written ({error.strerror}); "
    f'{errors.cure(error, "give a folder where you may write")}'
  )
