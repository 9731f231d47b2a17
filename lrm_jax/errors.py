"""What a command ends with beside bugs: one line, and an exit code."""


class UserError(ValueError):
  """Bad input. The message is one line: what, received, allowed, cure.

  `lrm` prints it as `lrm: error: MESSAGE` and exits with code 2; nothing else
  may have been written by then.
  """


class CheckFailed(Exception):
  """Something that was asked to be checked is not so. The message is one line.

  `lrm` prints it as `lrm: check failed: MESSAGE` and exits with code 1.
  """
