"""Answers that are equal are one class: whom a sample votes for.

0        the answers that the verifier calls equal to the gold one
1, 2 ... other answers, in the order in which they first appear
-1       no answer
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from lrm_jax.rewards import math_answer

Pair = tuple[str, str]


def classify(
  extracted: Sequence[Sequence[str | None]],
  correct: np.ndarray,
  equal: Callable[[list[Pair]], list[bool]],
) -> np.ndarray:
  """The class of the answer of each sample, within its problem.

  What is spelled like a right answer is right. A wrong answer joins the first
  class whose first spelling equals it, or else founds one. (Equality need not
  be transitive: `52_8` and `52_9` both equal `52`. Which is first decides.)

  Args:
    extracted: B lists of G answers as they are spelled, None for none.
    correct: `[B, G]` verdicts, 0 or 1.
    equal: says of pairs of answers whether they are equal; called once, with
      each pair of different wrong answers of a problem.

  Returns:
    `[B, G]` int64.
  """
  right = [
    {text for text, is_right in zip(*row, strict=True) if is_right}
    for row in zip(extracted, np.asarray(correct) > 0, strict=True)
  ]
  wrong = [
    [text for text in dict.fromkeys(row) if text is not None and text not in r]
    for row, r in zip(extracted, right, strict=True)
  ]
  pairs = list(dict.fromkeys(pair for row in wrong for pair in _pairs(row)))
  same = {
    pair for pair, is_same in zip(pairs, equal(pairs), strict=True) if is_same
  }
  found = []
  for row, r, w in zip(extracted, right, wrong, strict=True):
    number = dict.fromkeys(r, 0) | _numbers(w, same) | {None: -1}
    found.append([number[text] for text in row])
  return np.array(found, np.int64)


def equal_answers(grader, pairs: Sequence[Pair]) -> list[bool]:
  """Whether the verifier calls answers equal.

  Args:
    grader: such as `rewards.pool.Grader`.
    pairs: answers without responses around them; the second is the one that
      was there first.

  Returns:
    False where nobody knows: an answer that is too long, or that cannot stand
    in a box, or on which the verifier was lost.
  """
  boxed = [f'</think>\\boxed{{{answer}}}' for answer, _ in pairs]
  sound = [
    math_answer.extract_answer(text) == answer
    for text, (answer, _) in zip(boxed, pairs, strict=True)
  ]
  asked = [
    (text, first)
    for text, (_, first), is_sound in zip(boxed, pairs, sound, strict=True)
    if is_sound
  ]
  verdicts = iter(grader.grade(asked) if asked else ())
  return [is_sound and next(verdicts).correct for is_sound in sound]


def _pairs(answers: Sequence[str]) -> Iterable[Pair]:
  """(later, earlier) of each two."""
  for place, answer in enumerate(answers):
    for earlier in answers[:place]:
      yield answer, earlier


def _numbers(answers: Sequence[str], same: set[Pair]) -> dict[str, int]:
  """Answer -> the number of its class, from 1."""
  firsts, found = [], {}
  for answer in answers:
    number = next(
      (n for n, first in enumerate(firsts, 1) if (answer, first) in same), None
    )
    if number is None:
      firsts.append(answer)
      number = len(firsts)
    found[answer] = number
  return found
