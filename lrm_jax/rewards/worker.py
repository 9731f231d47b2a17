r"""The process that runs math-verify; started by `pool.py`, never imported.

Protocol: one JSON object a line. It writes `{"ready": true}` once math-verify
is loaded (`{"error": "..."}` where it cannot be), then for each request
`{"answer": ..., "gold": ...}` one reply `{"correct": true or false}`, with
`"last": true` beside it when it ends of its own accord. It ends when its input
closes. Arguments: the seconds of processor time a comparison may take, after
which the kernel ends the process, and its address space (bytes).

Nothing here evaluates model text. math-verify's reader of plain expressions
calls sympy's `parse_expr`, which is `eval`, so only its LaTeX reader is used:
a grammar. But sympy turns each number token of that grammar into a number by
`sympify`, which is `eval` again; both are replaced below, before any text is
read, by a reader of literals that refuses the rest.

Should some text come to be run all the same, the process has given up what a
comparison does not need, once math-verify is loaded. On Linux the kernel lets
it start no program, open no socket, change no file and touch no other process
(`confinement.py` says where, and what remains). Everywhere the interpreter
refuses what it knows to be none of a comparison's business (`make_hook`). That
alone would not hold somebody who can run Python: some calls, such as
`_posixsubprocess.fork_exec` or `os.mkfifo`, are not announced to it. Nor does
the timer of a comparison, which can be turned off from inside; then the parent
ends the process by wall clock, and without a parent the kernel does, by the
processor time of its whole life.
"""

import dataclasses
import importlib.util
import json
import logging
import math
import os
import pathlib
import re
import signal
import sys
import time
from collections.abc import Callable

_INTEGER = re.compile(r'[0-9]+')
_FLOAT = re.compile(r'(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?')
# sympy spells some of its own constants as text, such as '3/2'.
_RATIO = re.compile(r'([0-9]+)/([1-9][0-9]*)')
# Audit events that no comparison has, by how they begin.
_REFUSED = (
  *('socket.', 'subprocess.', 'os.system', 'os.exec', 'os.posix_spawn'),
  *('os.spawn', 'os.fork', 'os.kill', 'pty.', 'ctypes.', 'mmap.', 'shutil.'),
  *('os.remove', 'os.rename', 'os.rmdir', 'os.mkdir', 'os.link', 'os.symlink'),
  *('os.truncate', 'os.chmod', 'os.chown', 'os.chflags', 'os.utime'),
  *('os.setxattr', 'os.removexattr', 'os.lockf', 'os.putenv', 'os.unsetenv'),
  *('os.chdir', 'tempfile.', 'resource.', 'fcntl.', 'signal.pthread_kill'),
  *('gc.', 'sys.settrace', 'sys.setprofile', 'sys.remote_exec', 'syslog.'),
  *('pickle.', 'urllib.', 'http.', 'sqlite3.', 'code.__new__'),
)
# Who may compile text, which is then its own template: the import of modules,
# `dataclass`, `namedtuple`, and sympy's operations on monomials.
COMPILERS = frozenset(
  (
    *('importlib._bootstrap', 'importlib._bootstrap_external'),
    *('_frozen_importlib', '_frozen_importlib_external'),
    *('dataclasses', 'collections', 'sympy.polys.monomials'),
  )
)
# Of an equation that somebody may have meant as an answer.
_MAX_SIDES = 10
# Of processor time, after which it makes room for a fresh process.
_LIFE_SECONDS = 600


def main() -> int:
  """Serves requests from standard input until it closes."""
  return serve(_prepare, is_equal, make_hook())


def serve(
  prepare: Callable[[], None],
  judge: Callable[[str, str], bool],
  hook: Callable[[str, tuple], None],
) -> int:
  """Gives up what is not needed, then answers requests.

  Args:
    prepare: loads libraries, while everything is still allowed.
    judge: `answer, gold -> verdict`.
    hook: of audit events, see `make_hook`.

  Returns:
    The exit code.
  """
  seconds, memory_bytes = float(sys.argv[1]), int(sys.argv[2])
  confinement = _load_confinement()
  replies = confinement.begin(memory_bytes)
  try:
    prepare()
    # What came before counts, and so does one comparison after the last look.
    confinement.confine(
      math.ceil(time.process_time() + _LIFE_SECONDS + seconds) + 2
    )
    sys.addaudithook(hook)
  except Exception as error:
    print(json.dumps({'error': repr(error)}), file=replies, flush=True)
    return 1
  born = time.process_time()
  print(json.dumps({'ready': True}), file=replies, flush=True)
  for line in sys.stdin:
    request = json.loads(line)
    # Its signal has no handler, so that nothing can hold it up.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    reply = {'correct': judge(request['answer'], request['gold'])}
    signal.setitimer(signal.ITIMER_PROF, 0)
    is_last = time.process_time() - born > _LIFE_SECONDS
    if is_last:
      reply['last'] = True
    print(json.dumps(reply), file=replies, flush=True)
    if is_last:
      break
  return 0


def _load_confinement():
  """The module, of whose package this script knows nothing."""
  path = pathlib.Path(__file__).parents[1] / 'confinement.py'
  spec = importlib.util.spec_from_file_location('confinement', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _prepare() -> None:
  """Loads math-verify, warms it up and makes sure that it works."""
  import math_verify  # noqa: F401 (loading it is the point)
  import sympy.physics.units  # noqa: F401 (sympy loads it late, by eval)

  logging.disable(logging.CRITICAL)
  forbid_evaluation()
  if not is_equal(r'\sqrt{8}', r'2\sqrt{2}'):
    raise RuntimeError('it does not take the root of 8 for twice that of 2')


def make_hook(
  compilers: frozenset[str] = COMPILERS,
) -> Callable[[str, tuple], None]:
  """An audit hook that lets comparisons happen and not much else.

  What it decides by is in its code and its default values, out of reach of
  whoever may rebind a name of this module or of `builtins`.

  Args:
    compilers: modules that may compile text.

  Returns:
    A function of an event and its arguments that raises PermissionError for
    events that no comparison has.
  """

  def refuse(
    event,
    arguments,
    refused=_REFUSED,
    compilers=compilers,
    writes=os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND,
    frame=sys._getframe,
    error=PermissionError,
  ):
    if event == 'open':
      _, mode, flags = arguments
      if flags & writes or (mode is not None and mode.strip('rbtU')):
        raise error('a comparison writes no file')
    elif event == 'compile':
      caller = frame(1).f_globals['__name__']
      if caller not in compilers:
        raise error(f'{caller} may not compile text')
    elif event.startswith(refused):
      raise error(f'a comparison has no {event}')

  return refuse


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
  math-verify's rule alone, everything under 5e-7 would equal 0). An equation
  has the value it ends with, unless it equates different numbers: `5 = 4` is
  no answer.

  Args:
    answer: from a response; LaTeX or plain.
    gold: the gold answer.

  Returns:
    The verdict; False for what cannot be read.

  Raises:
    MemoryError: what is left is no ground for any verdict.
  """
  try:
    parsed_gold, parsed = _parse(gold), _parse(answer)
    return _verify(parsed_gold, parsed) and not _is_false_chain(answer)
  except MemoryError:
    raise
  except Exception:
    return False


def _verify(gold: list, answer: list) -> bool:
  import math_verify

  zeros = _leading_zeros(gold)
  return math_verify.verify(
    gold,
    answer,
    float_rounding=6 + zeros,
    numeric_precision=15 + zeros,
    timeout_seconds=None,
  )


def _is_false_chain(text: str) -> bool:
  """Whether an equation has two sides that are different numbers."""
  sides = _sides(text)
  if len(sides) < 2:
    return False
  if len(sides) > _MAX_SIDES:
    return True
  numbers = [side for side in map(_parse, sides) if _is_number(side)]
  return not all(_verify(numbers[0], number) for number in numbers[1:])


def _is_number(parsed: list) -> bool:
  return bool(parsed) and bool(getattr(parsed[0], 'is_number', False))


def _sides(text: str) -> list[str]:
  """What stands between the equality signs that are in no brackets."""
  sides, depth = [''], 0
  for at, char in enumerate(text):
    depth += (char in '{([') - (char in '])}')
    is_sign = (
      char == '=' and depth == 0 and text[max(at - 1, 0) : at] not in (*'<>:',)
    )
    if is_sign:
      sides.append('')
    else:
      sides[-1] += char
  return sides


def _parse(text: str) -> list:
  import math_verify

  config = math_verify.LatexExtractionConfig(
    boxed_match_priority=0, try_extract_without_anchor=False
  )
  # It would take the variable of `2t` for a unit; the parent drops units.
  normalization = dataclasses.replace(config.normalization_config, units=False)
  config = dataclasses.replace(config, normalization_config=normalization)
  text = text.strip()
  if _FLOAT.fullmatch(text):
    # Its grammar reads the e of 3e8 as the base of natural logarithms.
    text = re.sub('[eE](.*)', r'\\times 10^{\1}', text)
  # The whole text or nothing: it would go on to look for a fraction anywhere in
  # it. No alarms of its own: the time is kept outside.
  return math_verify.parse(
    rf'\boxed{{{text}}}',
    [config],
    extraction_mode='first_match',
    parsing_timeout=None,
  )


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
