"""What a command ends with beside bugs: one line, and an exit code."""

import errno

_MOST_CHARS = 2000


# The disk is full, or has become one that can only be read.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class UserError(ValueError):
  """Bad input. The message is one line: what, received, allowed, cure.

  `lrm` prints it as `lrm: error: MESSAGE` and exits with code 2; nothing else
  may have been written by then.
  """


class CheckFailed(Exception):
  """Something that was asked to be checked is not so. The message is one line.

  `lrm` prints it as `lrm: check failed: MESSAGE` and exits with code 1.
  """


class Stopped(Exception):
  """A run was told to stop, and did. The message says where it goes on.

  `lrm` prints it as `lrm: MESSAGE` and exits with code 0, or with what
  LRM_STOP_CODE says: launchers that take 0 for a finished run set it to 75.
  """


def one_line(error: Exception) -> str:
  """Its message for a terminal: one line, not endless, nothing but text.

  Parts of it may come from a stranger's file, with the codes that move a
  cursor or clear a screen.
  """
  text = ' '.join(str(error).split())
  if len(text) > _MOST_CHARS:
    # What to do about it stands at the end.
    half = _MOST_CHARS // 2
    text = f'{text[:half]} ... {text[-half:]}'
  return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def cure(error: OSError, otherwise: str) -> str:
  """What to do about something that cannot be written.

  Args:
    error: why.
    otherwise: where it is neither a full file system nor one to be read only.
  """
  if error.errno == errno.EROFS:
    return 'mount that file system for writing again, or give another place'
  return 'make room there' if error.errno in NO_ROOM else otherwise


def no_room(error: OSError) -> UserError:
  """What the user is told of an error of `NO_ROOM`, wherever it comes from."""
  where = 'a file' if error.filename is None else f"'{error.filename}'"
  what = 'make room'
  if error.errno == errno.EROFS:
    what = 'mount that file system for writing again'
  return UserError(
    f'{where} cannot be written ({error.strerror}); {what}, and give the '
    'same command again: a run goes on from its last checkpoint'
  )
