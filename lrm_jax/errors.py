"""The one exception for mistakes a user can cure."""


class UserError(ValueError):
  """Bad input. The message is one line: what, received, allowed, cure.

  `lrm` prints it as `lrm: error: MESSAGE` and exits with code 2; nothing else
  may have been written by then.
  """
