r"""The process that runs the scoring of reasoning-gym; started, never imported.

It speaks the protocol of `worker.py` and gives up what that gives up. `gold` is
a reference of `data/gym_entries.py`: the entry is made again here, from text.

Nothing that a model wrote is evaluated. Tasks that do it are refused by name
(`REFUSED` there), or are kept from it here:

- countdown and puzzle24 read a formula by sympy's `parse_expr`, which is
  `eval`: they are given `read_formula`;
- binary_matrix, n_queens, spiral_matrix and string_insertion run an answer that
  is wrong as a Python list, for a part of the score: their `eval` refuses;
- nobody else may compile text, but for those who compile only their own:
  basic_arithmetic, bitwise_arithmetic, gsm_symbolic and number_sorting (and
  `ast`, which decimal_arithmetic reads its own formulas by).
"""

import fractions
import functools
import importlib
import importlib.util
import logging
import operator
import pathlib
import re
import sys

_EVALUATING = (
  'reasoning_gym.algorithmic.binary_matrix',
  'reasoning_gym.algorithmic.spiral_matrix',
  'reasoning_gym.algorithmic.string_insertion',
  'reasoning_gym.games.n_queens',
)
_OF_THEIR_OWN = (
  'ast',  # It only parses; nothing of what it gives is run.
  'reasoning_gym.algorithmic.number_sorting',
  'reasoning_gym.arithmetic.basic_arithmetic',
  'reasoning_gym.arithmetic.bitwise_arithmetic',
  'reasoning_gym.arithmetic.gsm_symbolic.generators_00_49',
  'reasoning_gym.arithmetic.gsm_symbolic.generators_50_99',
)
_TOKEN = re.compile(r'\s*([0-9]{1,30}|[-+*/()])')
_MAX_FORMULA_CHARS = 500
_MAX_DEPTH = 30
_BINARY = {
  '+': operator.add,
  '-': operator.sub,
  '*': operator.mul,
  '/': operator.truediv,
}


def main() -> int:
  """Serves requests from standard input until it closes."""
  here = pathlib.Path(__file__)
  worker = _load(here.with_name('worker.py'))
  entries = _load(here.parents[1] / 'data' / 'gym_entries.py')
  hook = worker.make_hook(compilers=worker.COMPILERS | set(_OF_THEIR_OWN))
  return worker.serve(prepare, functools.partial(is_right, entries), hook)


def _load(path: pathlib.Path):
  """A module, of whose package this script knows nothing."""
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def prepare() -> None:
  """Loads reasoning-gym without what evaluates text."""
  import sympy
  from sympy.parsing import sympy_parser

  logging.disable(logging.CRITICAL)
  # Before the tasks take it over by name.
  sympy.parse_expr = sympy_parser.parse_expr = read_formula
  sympy_parser.eval_expr = _refuse
  import reasoning_gym  # noqa: F401 (loading it is the point)

  for name in _EVALUATING:
    importlib.import_module(name).eval = _refuse


def is_right(entries, answer: str, reference: str) -> bool:
  """Whether the task gives the answer a score of 1.

  Args:
    entries: the module `gym_entries`.
    answer: from a response.
    reference: of the entry.

  Returns:
    The verdict; False for what makes the task fail.

  Raises:
    MemoryError: what is left is no ground for any verdict.
    Exception: the entry cannot be made again, so that nobody knows.
  """
  made, entry = entries.recall(reference)
  try:
    return made.score_answer(answer, entry) == 1
  except MemoryError:
    raise
  except Exception:
    return False


def read_formula(text: str, *unused, **also_unused):
  """`sympy.parse_expr` for integers, + - * / and brackets, or a name, alone.

  Args:
    text: such as '3*(4 + 5)/2', or a letter, as tasks call a variable.
    *unused: the arguments of `parse_expr`.
    **also_unused: the same.

  Returns:
    The value, a `Fraction`, or a sympy Symbol.

  Raises:
    SyntaxError: the text is anything else, or nested beyond any answer.
    ZeroDivisionError: it divides by zero.
  """
  tokens, at = [], 0
  text = text.strip()
  if re.fullmatch('[A-Za-z]', text):
    import sympy

    return sympy.Symbol(text)
  if len(text) > _MAX_FORMULA_CHARS:
    _refuse()
  while at < len(text):
    match = _TOKEN.match(text, at)
    if match is None:
      _refuse()
    tokens.append(match[1])
    at = match.end()
  tokens.reverse()
  value = _sum(tokens, 0)
  return value if not tokens else _refuse()


def _sum(tokens: list[str], depth: int) -> fractions.Fraction:
  value = _product(tokens, depth)
  while tokens and tokens[-1] in '+-':
    value = _BINARY[tokens.pop()](value, _product(tokens, depth))
  return value


def _product(tokens: list[str], depth: int) -> fractions.Fraction:
  value = _factor(tokens, depth)
  while tokens and tokens[-1] in '*/':
    value = _BINARY[tokens.pop()](value, _factor(tokens, depth))
  return value


def _factor(tokens: list[str], depth: int) -> fractions.Fraction:
  if not tokens or depth > _MAX_DEPTH:
    _refuse()
  token = tokens.pop()
  if token in '+-':
    value = _factor(tokens, depth + 1)
    return -value if token == '-' else value
  if token == '(':
    value = _sum(tokens, depth + 1)
    return value if tokens and tokens.pop() == ')' else _refuse()
  return fractions.Fraction(int(token)) if token.isdecimal() else _refuse()


def _refuse(*args, **kwargs):
  raise SyntaxError('text is not evaluated here')


if __name__ == '__main__':
  sys.exit(main())
