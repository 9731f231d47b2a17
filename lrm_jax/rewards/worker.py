r"""The process that runs math-verify; started by `pool.py`, never imported.

Protocol: one JSON object a line. It writes `{"ready": true}` once math-verify
is loaded (`{"error": "..."}` where it cannot be), then for each request
`{"answer": ..., "gold": ...}` one reply `{"correct": true or false}`. It ends
when its input closes. Arguments: the seconds of processor time a comparison
may take, after which the kernel ends the process, and its address space
(bytes).

Nothing here evaluates model text. math-verify's reader of plain expressions
calls sympy's `parse_expr`, which is `eval`, so only its LaTeX reader is used:
a grammar. But sympy turns each number token of that grammar into a number by
`sympify`, which is `eval` again; both are replaced below, before any text is
read, by a reader of literals that refuses the rest.

Should some text get through all the same, it finds little: once math-verify is
loaded, the process gives up what a comparison does not need. The kernel lets
it write no file, open few, start no process and gain no right (`limit`); and
the interpreter refuses sockets, shells, files for writing, foreign functions
and the compilation of text by anyone but a few libraries (`refuse`).
"""

import dataclasses
import json
import logging
import math
import os
import re
import resource
import signal
import sys

_INTEGER = re.compile(r'[0-9]+')
_FLOAT = re.compile(r'(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?')
# sympy spells some of its own constants as text, such as '3/2'.
_RATIO = re.compile(r'([0-9]+)/([1-9][0-9]*)')
# Modules are loaded late, one file at a time.
_MAX_FILES = 32
_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS of prctl(2)
# Audit events that no comparison has, by how they begin.
_REFUSED = (
  *('socket.', 'subprocess.', 'os.system', 'os.exec', 'os.posix_spawn'),
  *('os.spawn', 'os.fork', 'os.kill', 'pty.', 'ctypes.', 'mmap.', 'shutil.'),
  *('os.remove', 'os.rename', 'os.rmdir', 'os.mkdir', 'os.link', 'os.symlink'),
  *('os.truncate', 'os.chmod', 'os.chown', 'os.putenv', 'os.chdir'),
  *('pickle.', 'urllib.', 'sys.remote_exec'),
)
# Who may compile text, which is then its own template: the import of modules,
# `dataclass`, `namedtuple`, and sympy's operations on monomials.
_COMPILERS = frozenset(
  (
    *('importlib._bootstrap', 'importlib._bootstrap_external'),
    *('_frozen_importlib', '_frozen_importlib_external'),
    *('dataclasses', 'collections', 'sympy.polys.monomials'),
  )
)


def main() -> int:
  """Serves requests from standard input until it closes."""
  seconds, memory_bytes = float(sys.argv[1]), int(sys.argv[2])
  # A process inherits what its parent ignores, and where libtpu is loaded that
  # is SIGPROF: no comparison would ever end.
  signal.signal(signal.SIGPROF, signal.SIG_DFL)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
  # A library that prints must not get between the replies.
  replies = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  if sys.platform == 'linux':  # Elsewhere the kernel ignores or refuses it.
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or hard > memory_bytes:
      resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
  try:
    _prepare()
    limit()
    sys.addaudithook(refuse)
  except Exception as error:
    print(json.dumps({'error': repr(error)}), file=replies, flush=True)
    return 1
  print(json.dumps({'ready': True}), file=replies, flush=True)
  for line in sys.stdin:
    request = json.loads(line)
    # Its signal has no handler, so that nothing can hold it up.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    correct = is_equal(request['answer'], request['gold'])
    signal.setitimer(signal.ITIMER_PROF, 0)
    print(json.dumps({'correct': correct}), file=replies, flush=True)
  return 0


def _prepare() -> None:
  """Loads math-verify, warms it up and makes sure that it works."""
  import math_verify  # noqa: F401 (loading it is the point)
  import sympy.physics.units  # noqa: F401 (sympy loads it late, by eval)

  logging.disable(logging.CRITICAL)
  forbid_evaluation()
  if not is_equal(r'\sqrt{8}', r'2\sqrt{2}'):
    raise RuntimeError('it does not take the root of 8 for twice that of 2')


def limit() -> None:
  """Gives up what the kernel would grant; nobody can take it back."""
  sys.dont_write_bytecode = True
  limits = {
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_NOFILE: _MAX_FILES,
    # Of no effect on root, who must be stopped by `refuse` alone.
    resource.RLIMIT_NPROC: 0,
  }
  for kind, most in limits.items():
    resource.setrlimit(kind, (most, most))
  if sys.platform == 'linux':
    import ctypes

    ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def refuse(event: str, arguments: tuple) -> None:
  """An audit hook that lets comparisons happen and little else.

  Raises:
    PermissionError: the event is none of theirs.
  """
  if event == 'open':
    _, mode, flags = arguments
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    if set('wax+') & set('' if mode is None else mode) or flags & writes:
      raise PermissionError('a comparison writes no file')
  elif event == 'compile':
    caller = sys._getframe(1).f_globals['__name__']
    if caller not in _COMPILERS:
      raise PermissionError(f'{caller} may not compile text')
  elif event.startswith(_REFUSED):
    raise PermissionError(f'a comparison has no {event}')


def forbid_evaluation() -> None:
  """Takes `eval` out of sympy's way from text to expressions."""
  from sympy.parsing import sympy_parser

  sympy_parser.parse_expr = read_literal
  sympy_parser.eval_expr = _refuse


def read_literal(text: str, *unused, **also_unused):
  """`sympy.parse_expr` for number literals alone.

  Args:
    text: an unsigned integer, decimal or ratio of integers.
    *unused: the arguments of `parse_expr`.
    **also_unused: the same.

  Returns:
    A sympy Integer, Float or Rational.

  Raises:
    SyntaxError: the text is anything else.
  """
  import sympy

  text = text.strip()
  if _INTEGER.fullmatch(text):
    return sympy.Integer(int(text))
  if _FLOAT.fullmatch(text):
    return sympy.Float(text)
  if ratio := _RATIO.fullmatch(text):
    return sympy.Rational(int(ratio[1]), int(ratio[2]))
  return _refuse(text)


def _refuse(*args, **kwargs):
  raise SyntaxError('text is not evaluated here')


def is_equal(answer: str, gold: str) -> bool:
  """Whether math-verify takes two answers for equal.

  Numbers agree to six decimals, and below 1 to six significant digits (by
  math-verify's rule alone, everything under 5e-7 would equal 0).

  Args:
    answer: from a response; LaTeX or plain.
    gold: the gold answer.

  Returns:
    The verdict; False for what cannot be read.

  Raises:
    MemoryError: what is left is no ground for any verdict.
  """
  import math_verify

  try:
    parsed_gold, parsed = _parse(gold), _parse(answer)
    zeros = _leading_zeros(parsed_gold)
    return math_verify.verify(
      parsed_gold,
      parsed,
      float_rounding=6 + zeros,
      numeric_precision=15 + zeros,
      timeout_seconds=None,
    )
  except MemoryError:
    raise
  except Exception:
    return False


def _parse(text: str) -> list:
  import math_verify

  config = math_verify.LatexExtractionConfig(boxed_match_priority=0)
  # It would take the variable of `2t` for a unit; the parent drops units.
  normalization = dataclasses.replace(config.normalization_config, units=False)
  config = dataclasses.replace(config, normalization_config=normalization)
  text = text.strip()
  if _FLOAT.fullmatch(text):
    # Its grammar reads the e of 3e8 as the base of natural logarithms.
    text = re.sub('[eE](.*)', r'\\times 10^{\1}', text)
  # No alarms of its own: the time is kept outside.
  return math_verify.parse(rf'\boxed{{{text}}}', [config], parsing_timeout=None)


def _leading_zeros(parsed: list) -> int:
  """Zeros after the decimal point of a number below 1; 0 for other things."""
  sizes = [
    abs(float(item))
    for item in parsed
    if getattr(item, 'is_number', False) and item.is_real
  ]
  return max(
    (-math.floor(math.log10(size)) for size in sizes if 0 < size < 1),
    default=0,
  )


if __name__ == '__main__':
  sys.exit(main())
