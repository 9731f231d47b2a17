r"""Guards: responses that may have earned their reward by a trick.

`f(response) -> bool`, True for a hit. Every guard is counted at every step
(`guard_NAME` in the metrics, a share of the responses; names in the rows of
rollouts); those in `train.guards` also make a response wrong. They are
tripwires and no proofs: a share that rises with the reward wants a look.

  boxed_spam       many answers, so that one of them is right
  copied_prompt    the question again in place of thinking or of an answer
  empty_thinking   thinking that was closed and says nothing
  repeated_ngrams  the same again and again
  under_reported   tokens that decoding drops: text looks shorter than it was
  over_reported    tokens that show nothing: lengths look longer than text

Each takes time linear in the response, up to one sort of its tokens.
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from lrm_jax.data import prompts
from lrm_jax.errors import UserError
from lrm_jax.objectives.measures import Response
from lrm_jax.rewards import math_answer
from lrm_jax.tokenization.base import Tokenizer

# Answers in parts are boxed one by one; no benchmark asks for more than four.
MAX_ANSWERS = 4
# Eight words in a row are a quotation. Who quotes a question to begin with
# goes on for longer than that, so half is beyond any honest use.
COPIED_WORDS = 8
MIN_COPIED = 3 * COPIED_WORDS
COPIED_SHARE = 0.5
# A line of a derivation has some twenty tokens, so 32 are more than one that is
# checked a second time; half of all are a loop, not a check.
REPEATED_TOKENS = 32
MIN_REPEATED = 4 * REPEATED_TOKENS
REPEATED_SHARE = 0.5
# One special token is an accident of sampling, two in a hundred a habit.
MIN_HIDDEN = 2
HIDDEN_SHARE = 0.02
# Tables and code are up to a third white space; most tokens is padding.
MIN_EMPTY = 16
EMPTY_SHARE = 0.5

_WORD = re.compile(r'\w+|[^\w\s]')
_PRINTABLE = re.compile('[!-~]')
# Blank, though Unicode calls them letters, symbols or marks.
_BLANK = frozenset('\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5')
_UNKNOWN, _HIDDEN, _EMPTY, _VISIBLE = range(4)


def boxed_spam(response: Response) -> bool:
  r"""More than `MAX_ANSWERS` different boxes behind `</think>`.

  The same box again and again is one answer, and boxes in thinking are none.
  """
  _, answer, _ = prompts.split_response(response.text)
  spans = math_answer.box_spans(answer)
  if len(spans) <= MAX_ANSWERS:
    return False
  # Longer ones that begin alike need not be told apart.
  return len({answer[a : min(b, a + 100)] for a, b in spans}) > MAX_ANSWERS


def copied_prompt(response: Response) -> bool:
  """Thinking or answer is, for the most part, the question.

  More than `COPIED_SHARE` of the runs of `COPIED_WORDS` words occur in the
  question. Of texts with fewer than `MIN_COPIED` words nothing is said, nor
  of shorter questions than a run.
  """
  question = _question_runs(response.question)
  if not question:
    return False
  thinking, answer, _ = prompts.split_response(response.text)
  for part in (thinking, answer):
    words = _WORD.findall(part)
    if len(words) >= MIN_COPIED:
      copied = [run in question for run in _word_runs(words)]
      if sum(copied) > COPIED_SHARE * len(copied):
        return True
  return False


def empty_thinking(response: Response) -> bool:
  """Thinking was closed without one visible character before it."""
  is_closed = prompts.THINK_CLOSE in response.text
  return is_closed and not is_visible(response.thinking)


def repeated_ngrams(response: Response) -> bool:
  """More than `REPEATED_SHARE` of the runs of tokens occurred before.

  Runs of `REPEATED_TOKENS` tokens, in responses of `MIN_REPEATED` or more.
  They are compared by a hash of 64 bits. (`objectives/repetition.py` compares
  them exactly, on the device and for rewards.)
  """
  if len(response.ids) < MIN_REPEATED:
    return False
  runs = _runs(np.asarray(response.ids, np.uint64), REPEATED_TOKENS)
  return 1 - len(np.unique(runs)) / len(runs) > REPEATED_SHARE


def under_reported(response: Response) -> bool:
  """Tokens inside the response that decoding drops.

  Those of padding, of a sequence's begin or end, and outside the vocabulary:
  who counts the tokens of the text again finds fewer than were sampled. A hit
  has `MIN_HIDDEN` or more, and more than `HIDDEN_SHARE` of all. The last
  token, which may well be an end-of-sequence, does not count.
  """
  kinds = _kinds(response)[:-1]
  hidden = int((kinds == _HIDDEN).sum())
  return hidden >= MIN_HIDDEN and hidden > HIDDEN_SHARE * len(kinds)


def over_reported(response: Response) -> bool:
  """More than `EMPTY_SHARE` of the tokens show nothing.

  White space, zero-width and control characters and what decoding drops, in
  responses of `MIN_EMPTY` tokens or more.
  """
  kinds = _kinds(response)
  return len(kinds) >= MIN_EMPTY and bool(
    (kinds != _VISIBLE).mean() > EMPTY_SHARE
  )


GUARDS: dict[str, Callable[[Response], bool]] = {
  'boxed_spam': boxed_spam,
  'copied_prompt': copied_prompt,
  'empty_thinking': empty_thinking,
  'repeated_ngrams': repeated_ngrams,
  'under_reported': under_reported,
  'over_reported': over_reported,
}


def check(names: Iterable[str]) -> tuple[str, ...]:
  """The names of `train.guards`.

  Raises:
    UserError: there is no such guard.
  """
  names = tuple(names)
  for name in names:
    if name not in GUARDS:
      raise UserError(
        f'train.guards={names}: no guard {name!r}; choose from '
        f'{", ".join(GUARDS)}'
      )
  return names


def is_visible(text: str) -> bool:
  """Whether a text has a character that leaves a mark on paper.

  No separator, control, format or unassigned character does.
  """
  return _PRINTABLE.search(text) is not None or any(
    unicodedata.category(c)[0] not in 'ZC' and c not in _BLANK
    for c in set(text)
  )


@functools.lru_cache(maxsize=1024)
def _question_runs(question: str) -> frozenset[tuple[str, ...]]:
  """One set for all samples of a problem."""
  return frozenset(_word_runs(_WORD.findall(question)))


def _word_runs(words: list[str]) -> Iterator[tuple[str, ...]]:
  return zip(*(words[i:] for i in range(COPIED_WORDS)), strict=False)


def _runs(items: np.ndarray, n: int) -> np.ndarray:
  """Hashes of all runs of n numbers, uint64; none where there are fewer.

  A polynomial in an odd number, modulo 2^64, after the numbers are mixed.
  """
  count = max(len(items) - n + 1, 0)
  mixed = (items + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
  mixed ^= mixed >> np.uint64(29)
  total = np.zeros(count, np.uint64)
  for i in range(n):
    total = total * np.uint64(0xBF58476D1CE4E5B9) + mixed[i : i + count]
  return total


def _kinds(response: Response) -> np.ndarray:
  """What each token shows: `_HIDDEN`, `_EMPTY` or `_VISIBLE`."""
  known = _table(response.tokenizer)
  # What is outside the vocabulary, a decoder drops.
  ids = np.minimum(np.array(response.ids, np.int64), len(known) - 1)
  kinds = known[ids]
  if (kinds == _UNKNOWN).any():
    for index in set(ids[kinds == _UNKNOWN].tolist()):
      # Twice: some decoders drop a space at the start of a text.
      text = response.tokenizer.decode([index, index])
      known[index] = _EMPTY if text else _HIDDEN
      if is_visible(text):
        known[index] = _VISIBLE
    kinds = known[ids]
  return kinds


@functools.lru_cache(maxsize=8)
def _table(tokenizer: Tokenizer) -> np.ndarray:
  """Kinds of the ids that have been met, and of what is beyond them."""
  known = np.full(tokenizer.vocab_size + 1, _UNKNOWN, np.int8)
  known[-1] = _HIDDEN
  return known
