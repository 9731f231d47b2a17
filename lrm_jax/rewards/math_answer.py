r"""Mathematical answers: find one in a response, compare it with the gold one.

Example: the response `First 2 + 2 ...</think>So it is $\boxed{\frac12}$.` has
the answer `\frac12`, and against the gold answer `0.5` it is correct.

1. `extract_answer` reads the part after the first `</think>`, thinking that
   is opened again left out: the last `\boxed{}`, or the plain answer where
   nothing is boxed.
2. `grade_exact` decides what needs no algebra: answers that are spelled the
   same after normalisation (true), and two exact rational numbers (true or
   false). All of it is exact arithmetic on `fractions.Fraction`, so integers
   above 2**53 and long decimals are told apart.
3. What is left undecided goes to math-verify in another process: `pool.py`.

Conventions, those of the MATH benchmark where it has one: units (those that
`units.py` lists), currency and degree signs are not compared; `50\%` equals
both `50` and `0.5`; `52_8` equals `52` but not `52_9`; `x = 5` equals `5` but
not `y = 5`; `1,234` is a number and `1, 234` a list. Decimals are exact:
`0.333` is not `1/3`.

Where there is no convention, a wrong answer that passes is worse than a right
one that does not: hedges (`3 or 4`, `3 maybe`), words that change a number
(`3 hundred`), look-alikes and invisible characters within an answer, and what
is nested beyond any answer are not correct, nor are equations between numbers
that are not equal (`5 = 4`).

Time is linear in the response, and nothing here raises on any text.
"""

import dataclasses
import fractions
import re

from lrm_jax.data import prompts
from lrm_jax.rewards.units import strip_unit

# Five times the longest gold answer of the benchmarks (210 characters).
MAX_CHARS = 1000
# The plain rule looks no further back than this from the end of a response.
_TAIL_CHARS = 2000
# Below 640, the tightest limit on int() that an interpreter may be given.
_MAX_NUMBER_CHARS = 600
# Of braces and brackets; gold answers of the benchmarks have 5.
_MAX_DEPTH = 30
# Keeps 10**k small; measured quantities stay within 10**-50 and 10**60.
_MAX_EXPONENT = 400

_BRACES = re.compile(
  r'(?P<box>\\(?:boxed|fbox)\s*\{)'
  r'|\\(?:boxed|fbox)(?![A-Za-z])\s*(?P<bare>[^\s{}$\\]+)|\\.|[{}]',
  re.DOTALL,
)
_THOUGHTS = re.compile(
  f'{prompts.THINK_OPEN}.*?(?:{prompts.THINK_CLOSE}|\\Z)', re.DOTALL
)
_INK = re.compile(r'\S')
_ANY_BOX = re.compile(r'\\(?:boxed|fbox)(?![A-Za-z])')
_MARKER = re.compile(
  r'####[ \t]*(?=[-+.$(\\0-9])|\banswer[*_ \t]*(?:is\b|:|=)[*_:\s]*',
  re.IGNORECASE,
)
_MATH_SPAN = re.compile(
  r'\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)'
  r'|\$(?!\s)([^$\n]+?)(?<!\s)\$(?![0-9])',
  re.DOTALL,
)
_PLAIN_NUMBER = re.compile(
  r'(?<![0-9A-Za-z).])[-+]?\$?(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?|\.[0-9]+)'
  r'(?:/[0-9]+)?%?|[0-9]+'
)


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What a verifier says of one response.

  Attributes:
    correct: whether the answer equals the gold one.
    extracted: the answer as the response spells it; None where it has none.
    status: 'ok', compared; 'no_answer', thinking never closed or nothing was
      found; 'timeout', the comparison was cut off or its process was lost, so
      that nobody knows; 'too_long', an answer over `MAX_CHARS`. Only 'ok' can
      be correct.
  """

  correct: bool
  extracted: str | None
  status: str


def extract_answer(
  response: str, *, require_closed_think: bool = True
) -> str | None:
  r"""Finds the final answer of a response.

  It is the last `\boxed{}` or `\fbox{}` that closes and is not empty, braces
  balanced (`\boxed 5` counts too). A response that has boxes, but none such,
  has no answer. Without any box it is the plain answer:

  - what follows the last `#### ` or `answer is` / `answer:`, to the end of
    that formula or sentence;
  - or else the last formula (`$...$`, `\(...\)`, `\[...\]`) of the last line;
  - or else the last line itself if it has two words at most;
  - or else the last number in that line.

  Args:
    response: what the model wrote after the prompt.
    require_closed_think: where the prompt opens `<think>`, a response without
      `</think>` is all thinking and has no answer. False reads such a
      response as a whole, unless it opens `<think>` itself.

  Returns:
    The answer without surrounding space, or None.
  """
  _, text, closed = prompts.split_response(response)
  if not closed:
    if require_closed_think or prompts.THINK_OPEN in response:
      return None
    text = response
  else:
    text = _THOUGHTS.sub(' ', text)
  has_box = _ANY_BOX.search(text) is not None
  found = _last_box(text) if has_box else _plain_answer(text[-_TAIL_CHARS:])
  return found.strip() if found.strip() else None


def grade_exact(
  response: str, answer: str, *, require_closed_think: bool = True
) -> Verdict | None:
  """Grades a response where that needs no algebra.

  Args:
    response: what the model wrote after the prompt.
    answer: the gold answer.
    require_closed_think: as for `extract_answer`.

  Returns:
    The verdict, or None where exact comparison cannot decide.
  """
  extracted = extract_answer(
    response, require_closed_think=require_closed_think
  )
  if extracted is None:
    return Verdict(False, None, 'no_answer')
  if max(len(extracted), len(answer)) > MAX_CHARS:
    return Verdict(False, extracted, 'too_long')
  correct = _compare(extracted, answer)
  return None if correct is None else Verdict(correct, extracted, 'ok')


def box_spans(text: str) -> list[tuple[int, int]]:
  """Where the contents of boxes start and stop, in the order they close.

  Those that close and are not empty. One pass with a stack of open braces:
  any nesting costs no more than other text.
  """
  spans, opened = [], []
  for match in _BRACES.finditer(text):
    token = match.group()
    if match['box']:
      opened.append(match.end())
    elif match['bare']:
      bare = match['bare'].rstrip('.,;:!?')
      spans.append((match.start('bare'), match.start('bare') + len(bare)))
    elif token == '{':
      opened.append(None)
    elif token == '}' and opened:
      start = opened.pop()
      if start is not None and _INK.search(text, start, match.start()):
        spans.append((start, match.start()))
  return spans


def _last_box(text: str) -> str:
  """The content of the last box that closes, the outer one of nested ones."""
  spans = box_spans(text)
  return text[slice(*spans[-1])] if spans else ''


def _plain_answer(text: str) -> str:
  """The answer of a text without boxes; '' where there is none."""
  markers = list(_MARKER.finditer(text))
  if markers:
    rest = text[markers[-1].end() :].lstrip()
    span = _MATH_SPAN.match(rest)
    if span:
      return span[span.lastindex]
    line = re.split(r'\n|[.;!?](?=\s|$)', rest, maxsplit=1)[0]
    return _short_answer(line, first=True)
  text = text.rstrip()
  line_start = text.rfind('\n') + 1
  spans = [m for m in _MATH_SPAN.finditer(text) if m.end() > line_start]
  if spans:
    return spans[-1][spans[-1].lastindex]
  return _short_answer(text[line_start:], first=False)


def _short_answer(line: str, first: bool) -> str:
  """The line if it is no prose, or else its first or last number."""
  line = line.strip('*`$ \t')
  words = re.findall(r'[A-Za-z]{2,}', re.sub(r'\\[A-Za-z]+', '', line))
  if len(words) <= 2:
    return line.rstrip('.,;:!?')
  numbers = _PLAIN_NUMBER.findall(line)
  if not numbers:
    return ''
  return numbers[0] if first else numbers[-1]


# --- Normalisation and exact comparison -------------------------------------

_UNICODE = str.maketrans(
  {
    '\u2212': '-',
    '\u2013': '-',
    '\uff0c': ',',
    '\u00a0': ' ',
    '\u00d7': r'\times ',
    '\u00b0': r'^\circ ',
    '\u03c0': r'\pi ',
    '\u221e': r'\infty ',
    '\u222a': r'\cup ',
    '\u2264': r'\le ',
    '\u2265': r'\ge ',
  }
)
_TEXT = r'\\(?:text(?:bf|it|rm|normal)?|mbox|math(?:rm|bf|it|bb)|operatorname)'
# Applied in this order. `(?<!\\)` leaves the `\\` between matrix rows alone.
_REWRITES = tuple(
  (re.compile(pattern), replacement)
  for pattern, replacement in (
    (r'(?<!\\)\\(?:left|right|[bB]igg?[lr]?|displaystyle)(?![A-Za-z])', ''),
    (r'(?<=[0-9]),(?:\\!\s*)+(?=[0-9])|(?<=[0-9])\{,\}(?=[0-9])', ''),
    (r'(?<!\\)\\!\s*|(?<!\\)\\[()\[\]]|\\?\$', ''),
    (r'(?<!\\)\\[,;:> ]|~|(?<!\\)\\q?quad(?![A-Za-z])', ' '),
    (r'\\(?:boxed|fbox)(?![A-Za-z])', ''),
    (r'\\%|\s*\bpercent\b', '%'),
    (r'\\[dtc]frac(?![A-Za-z])', r'\\frac'),
    (r'\\(?:leq|geq|neq)(?![A-Za-z])', lambda match: match.group()[:-1]),
    (_TEXT + r'\s*\{([^{}]*)\}', r'\1'),
    (r'\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![A-Za-z])', ''),
    (
      r'\\frac\s*(?:\{([^{}]*)\}|([0-9A-Za-z]))\s*'
      r'(?:\{([^{}]*)\}|([0-9A-Za-z]))',
      r'\\frac{\1\2}{\3\4}',
    ),
    (r'\\sqrt\s*([0-9A-Za-z])', r'\\sqrt{\1}'),
    (r'([_^])\s*\{\s*([0-9A-Za-z]+)\s*\}', r'\1{\2}'),
    (r'([_^])\s*([0-9A-Za-z])', r'\1{\2}'),
    (r'\s+', ' '),
    (r'(\\[A-Za-z]+) (?![A-Za-z])', r'\1'),
  )
)
_UNSEEN = re.compile(r'\\[hv]?phantom(?![A-Za-z])')
_NAME = re.compile(r'([A-Za-z](?:\([A-Za-z]\)|_\{[0-9A-Za-z]+\})?)=(?!=)(.+)')
_THOUSANDS = re.compile(
  r'[-+]?[0-9]{1,3}([, ])[0-9]{3}(?:\1[0-9]{3})*(?:\.[0-9]+)?%?'
)
_DIGITS = r'(?:[0-9]+\.?[0-9]*|\.[0-9]+)'
_DECIMAL = re.compile(
  rf'([-+]?{_DIGITS})(?:[eE]([-+]?[0-9]+)'
  rf'|(?:\\times|\\cdot|\*) ?10\^\{{?([-+]?[0-9]+)\}}?)?'
)
_POWER_OF_TEN = re.compile(r'([-+]?)10\^\{?([-+]?[0-9]+)\}?')
_FRACTION = re.compile(
  rf'([-+]?)([0-9]*) ?(?:\\frac\{{([-+]?{_DIGITS})\}}\{{([-+]?{_DIGITS})\}}'
  rf'|(?<![0-9])([0-9]+\.?[0-9]*)/({_DIGITS}))'
)
_BASED = re.compile(r'([0-9]+)(?:_\{([0-9]+)\})?')


def _compare(response: str, gold: str) -> bool | None:
  """Whether two answers are equal; None where only algebra can tell."""
  a, b = _normalise(response), _normalise(gold)
  if a == b:
    return a != ''
  if _is_no_answer(a):
    return False
  named_a, named_b = _NAME.fullmatch(a), _NAME.fullmatch(b)
  if named_a and named_b:
    if named_a[1] != named_b[1]:
      return None
  a = named_a[2] if named_a else a
  b = named_b[2] if named_b else b
  if a.rstrip('%') == b.rstrip('%'):
    return True
  based_a, based_b = _BASED.fullmatch(a), _BASED.fullmatch(b)
  if based_a and based_b and (based_a[2] or based_b[2]):
    is_same_base = None in (based_a[2], based_b[2]) or based_a[2] == based_b[2]
    return is_same_base and based_a[1] == based_b[1]
  x, y = _rational(a.rstrip('%')), _rational(b.rstrip('%'))
  if x is None or y is None:
    return None
  if a.endswith('%') != b.endswith('%'):
    percent, other = (x, y) if a.endswith('%') else (y, x)
    return other in (percent, percent / 100)
  return x == y


def _is_no_answer(text: str) -> bool:
  """Nothing that anybody would write down: too deep, too long or unseen."""
  depth = deepest = 0
  for char in text:
    depth += (char in '{([') - (char in '])}')
    deepest = max(deepest, depth)
  is_long = len(text) > _MAX_NUMBER_CHARS and _DECIMAL.fullmatch(text)
  return deepest > _MAX_DEPTH or bool(is_long or _UNSEEN.search(text))


def _normalise(text: str) -> str:
  """One spelling for what the MATH benchmark takes for the same answer."""
  text = re.sub(r'(?<!\\)[.,;:]+$', '', text.translate(_UNICODE).strip())
  text = strip_unit(text)
  for pattern, replacement in _REWRITES:
    text = pattern.sub(replacement, text)
  text = text.strip().rstrip('.,;:')
  while re.fullmatch(r'\{[^{}]*\}', text):
    text = text[1:-1].strip()
  if _THOUSANDS.fullmatch(text):
    return text.replace(',', '').replace(' ', '')
  # A space between two letters or digits says something: 1 1/2 is not 11/2.
  text = re.sub(r' (?![0-9A-Za-z])|(?<![0-9A-Za-z]) ', '', text)
  if re.fullmatch(r'\((?:[A-Z]|[0-9.]+)\)', text):
    return text[1:-1]
  if re.fullmatch(r'[A-Za-z][A-Za-z ]+', text):
    return text.casefold()
  return text


def _rational(text: str) -> fractions.Fraction | None:
  """The exact value of a normalised number; None for anything else."""
  if len(text) > _MAX_NUMBER_CHARS:
    return None
  if match := _DECIMAL.fullmatch(text):
    return _scaled(*(part for part in match.groups() if part))
  if match := _POWER_OF_TEN.fullmatch(text):
    return _scaled(f'{match[1]}1', match[2])
  if not (match := _FRACTION.fullmatch(text)):
    return None
  sign, whole, *parts = match.groups()
  top, bottom = (fractions.Fraction(part) for part in parts if part)
  if bottom == 0:
    return None
  value = top / bottom
  if whole:
    # `2\frac{3}{2}` may as well be a product.
    if not 0 < value < 1:
      return None
    value += int(whole)
  return -value if sign == '-' else value


def _scaled(digits: str, exponent: str = '0') -> fractions.Fraction | None:
  if abs(int(exponent)) > _MAX_EXPONENT:
    return None
  return fractions.Fraction(digits) * fractions.Fraction(10) ** int(exponent)
