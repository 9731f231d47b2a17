r"""Measures: numbers read off the text of a response, on the host.

`f(response, **keywords) -> float`. They land in `Rollouts.measures` under
their names, where shaping rewards find them.

A separator is a regular expression: `\n\n` splits at blank lines, a space at
every space. What it matches belongs to no piece.
"""

import bisect
import dataclasses
import functools
import hashlib
import re
import zlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from lrm_jax.errors import UserError
from lrm_jax.rewards import math_answer
from lrm_jax.structs import Rollouts
from lrm_jax.tokenization.base import Tokenizer


@dataclasses.dataclass(frozen=True)
class Response:
  """What a measure may look at.

  Attributes:
    text: everything the model wrote.
    ids: its tokens, end-of-sequence included.
    thinking: the text before `</think>`; all of it while that is missing.
    thinking_length: tokens of the thinking.
    gold: the gold answer of the problem.
    correct: the verifier's verdict.
    tokenizer: decodes ids.
    question: of the problem, without any prompt template.
  """

  text: str
  ids: list[int]
  thinking: str
  thinking_length: int
  gold: str
  correct: bool
  tokenizer: Tokenizer
  question: str = ''


def find(rollouts: Rollouts, name: str, reader: str) -> jax.Array:
  """A measure, or one line about the one that is missing.

  Args:
    rollouts: after the measures were taken.
    name: of the measure.
    reader: the part that needs it, for the message.

  Returns:
    `[B, G]` float32.

  Raises:
    UserError: the measure was not taken.
  """
  if name not in rollouts.measures:
    taken = ', '.join(sorted(rollouts.measures))
    raise UserError(
      f'config.objective.{reader}: reads the measure {name!r}, and those taken '
      f'are {taken if taken else "none"}; add it to config.objective.measures'
    )
  return jnp.asarray(rollouts.measures[name]).astype(jnp.float32)


def paragraphs(response: Response, *, separator: str = '\n\n') -> float:
  r"""The number of paragraphs of the thinking; 0 for an empty one.

  Pieces of nothing but white space do not count. Chain arithmetic has no blank
  lines: `(?<![,:]) ` counts its derivations, as that splits at the spaces
  that do not follow `Wait,` and `Again:`.

  Source: steps are paragraphs in Step Pruner, arXiv 2510.03805; how it takes
  blank lines with spaces in them is unknown, here they separate nothing.

  Args:
    response: its thinking is used.
    separator: a regular expression.

  Returns:
    A whole number.

  Raises:
    UserError: the separator is no regular expression, or empty.
  """
  return float(len(_paragraphs(response.thinking, separator)))


def longest_paragraph(response: Response, *, separator: str = '\n\n') -> float:
  r"""The tokens of the longest paragraph of the thinking; 0 if it is empty.

  Paragraphs as in `paragraphs`, each encoded by itself: where a token of the
  response reaches into the separator or beyond it, the number may differ from
  that of the tokens as sampled.

  Source: Step Pruner, arXiv 2510.03805, watches the length of steps, lest they
  grow as they become fewer; how it counts their tokens is unknown.

  Args:
    response: `thinking` and `tokenizer`.
    separator: a regular expression.

  Returns:
    Tokens, a whole number.

  Raises:
    UserError: the separator is no regular expression, or empty.
  """
  found = _paragraphs(response.thinking, separator)
  lengths = (len(response.tokenizer.encode(piece)) for piece in found)
  return float(max(lengths, default=0))


def answer_class(response: Response) -> float:
  """A number for the final answer: the same for the same spelling, -1 for none.

  24 bits of a hash of what `math_answer.extract_answer` finds, without blanks:
  two different answers of a group share a number once in 16 million.

  Source: COPO, arXiv 2508.04138, counts the answers of a group, in its code as
  they are spelled; blanks aside, so here.

  Args:
    response: `text` is used.

  Returns:
    A whole number below 2^24, exact in float32, or -1.
  """
  answer = math_answer.extract_answer(response.text)
  if answer is None:
    return -1.0
  digest = hashlib.sha256(''.join(answer.split()).encode()).digest()
  return float(int.from_bytes(digest[:3], 'big'))


def compressibility(response: Response) -> float:
  """Conciseness of the thinking, 0.1 to 1: how little it repeats itself.

      score = 0.1 + 0.9 min(1, compressed bytes / bytes)

  with bytes in UTF-8, compressed by DEFLATE at level 9. Thinking that says
  everything once comes out near 1, and so does one of a few dozen characters,
  which nothing compresses; going round in circles tends to 0.1. Empty thinking
  gets 1.

  This is ours and stands in for the 3B conciseness reward model of arXiv
  2511.09158, with which it shares the range only. It sees repeated spelling,
  not repeated ideas, and longer prose always compresses a little better.

  Args:
    response: its thinking is used.

  Returns:
    The score.
  """
  data = response.thinking.encode()
  if not data:
    return 1.0
  deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
  size = len(deflate.compress(data) + deflate.flush())
  return 0.1 + 0.9 * min(1.0, size / len(data))


def answer_prefix(response: Response, *, separator: str) -> float:
  r"""The thinking tokens until the gold answer is reached; -1 if never.

  The thinking is split into segments; the prefix ends with the first segment
  in which the gold answer stands as a result: right after `=`, or at the end,
  and not as an operand. Where no segment has it so, the first that holds it at
  all counts. Numbers are compared by value (`1,234.0` is 1234), signs
  included, and never as a part of a longer number; other answers as spelled.
  The prefix has the fewest tokens whose text covers that segment, without
  the separator.

  This is ours and stands in for LC-R1's LC-Extractor, a trained model (arXiv
  2506.14755). It cannot tell an intermediate result or a guess that happens
  to equal the answer from the answer.

  Args:
    response: `ids`, `thinking`, `thinking_length`, `gold` and `tokenizer`;
      the verdict does not matter.
    separator: a regular expression, such as a space for chain arithmetic or
      `(?<=[.!?])\s+|\n+` for sentences and lines.

  Returns:
    Tokens, 1 to `thinking_length`, or -1.

  Raises:
    UserError: the separator is no regular expression, or empty.
  """
  pattern = _compile(separator)
  stop = _answer_stop(response.thinking, response.gold, pattern)
  if stop is None:
    return -1.0
  prefix, ids = response.thinking[:stop], response.ids
  # Not by length: half a character decodes to one of its own.
  tokens = bisect.bisect_left(
    range(len(ids) + 1),
    True,
    key=lambda n: response.tokenizer.decode(ids[:n]).startswith(prefix),
  )
  return float(min(tokens, response.thinking_length))


def _paragraphs(text: str, separator: str) -> list[str]:
  """The pieces that are more than white space."""
  pieces = (text[a:b] for a, b in _pieces(text, _compile(separator)))
  return [piece for piece in pieces if piece.strip()]


def _pieces(text: str, separator: re.Pattern) -> Iterator[tuple[int, int]]:
  """Where the pieces start and stop, empty ones too."""
  start = 0
  for match in separator.finditer(text):
    yield start, match.start()
    start = match.end()
  yield start, len(text)


@functools.cache
def _compile(separator: str) -> re.Pattern:
  """Before anything is split: a text with nothing to split has mistakes too."""
  try:
    pattern = re.compile(separator)
  except re.error as error:
    raise UserError(
      f'separator = {separator!r}: {error}; give a regular expression'
    ) from error
  if not separator:
    raise UserError("separator = '': give a regular expression, such as '\\n'")
  return pattern


# --- The gold answer in a text ----------------------------------------------

_MINUS = ('-', '\u2212')
# No answer is longer, with the signs around it, than matters here.
_WINDOW = 24
_NUMBER = re.compile(r'([0-9]*(?:,[0-9]{3})*)\.?([0-9]*)')
# Neither within a word or a longer number nor an argument of a LaTeX command.
_LEFT = (
  r'(?<!\w)(?<![0-9][.,/])(?<!\{,\})'
  r'(?:(?<!\{)|(?<=\\boxed\{)|(?<=\\fbox\{))'
)
_RIGHT = r'(?!\w)(?!(?:[.,/]|\{,\})[0-9])'
_OPERATOR = r'(?:[-+/^<>\u2212\u00d7\u00b7\u00f7]|\\(?:times|cdot|div)\b)'
_EQUALS = re.compile(r'(?<![<>!])=(?:[\s$*(]|\\f?box(?:ed)?\{|\\[(\[])*\Z')
_OPERAND_OF = re.compile(rf'(?:{_OPERATOR}|(?<!\*)\*)[\s$(]*\Z')
_GOES_ON = re.compile(rf'[\s$)}}]*(?:{_OPERATOR}|\*(?!\*))')
_ENDS = re.compile(r'(?:[\s.,;:!?$)}\]*"\']|\\[)\]])*')


def _answer_stop(text: str, gold: str, separator: re.Pattern) -> int | None:
  """Where the segment that reaches the gold answer stops."""
  spelling = _spelling(gold)
  if spelling is None:
    return None
  mention = None
  for start, stop in _pieces(text, separator):
    results = list(_occurrences(text[start:stop], *spelling))
    if any(results):
      return stop
    if results and mention is None:
      mention = stop
  return mention


@functools.lru_cache(maxsize=4096)
def _spelling(gold: str) -> tuple[re.Pattern, bool] | None:
  """A pattern of the gold answer without its sign, and whether that is -."""
  body = gold.strip().strip('$').strip()
  negative = body.startswith(_MINUS)
  body = body[1:].lstrip() if negative else body
  if not body:
    return None
  number = _NUMBER.fullmatch(body)
  if number and re.search('[0-9]', body):
    spelled = _spell_number(*number.groups())
  else:
    spelled = r'\s+'.join(map(re.escape, body.split()))
  return re.compile(_LEFT + spelled + _RIGHT), negative


def _spell_number(whole: str, decimals: str) -> str:
  """A pattern of every decimal spelling of a number."""
  whole = whole.replace(',', '').lstrip('0')
  decimals = decimals.rstrip('0')
  if not whole and not decimals:
    return r'0+(?:\.0+)?'
  # Thousands are counted from the right.
  thousands = re.sub(r'(?<=[0-9])(?=(?:[0-9]{3})+$)', '#', whole)
  thousands = thousands.replace('#', r'(?:,|\{,\})?')
  return '0*' + thousands + (rf'\.{decimals}0*' if decimals else r'(?:\.0+)?')


def _occurrences(
  segment: str, pattern: re.Pattern, negative: bool
) -> Iterator[bool]:
  """For each occurrence of the value whether it stands as a result."""
  for match in pattern.finditer(segment):
    before = segment[max(match.start() - _WINDOW, 0) : match.start()]
    is_negative = _ends_with_sign(before)
    if is_negative != negative:
      continue
    before = before[:-1] if is_negative else before
    after = segment[match.end() : match.end() + _WINDOW]
    if _EQUALS.search(before):
      yield not _GOES_ON.match(after)
    else:
      yield bool(_ENDS.fullmatch(after)) and not _OPERAND_OF.search(before)


def _ends_with_sign(before: str) -> bool:
  """Whether a text ends with the minus of a number, not of a difference."""
  if not before.endswith(_MINUS):
    return False
  return not (before[-2:-1].isalnum() or before[-2:-1] in tuple(')]}|'))
