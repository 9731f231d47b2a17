"""Evaluated responses as rows of JSON Lines; `stored.py` reads them."""

from collections.abc import Sequence
from typing import Any

from lrm_jax import records
from lrm_jax.evaluation import classes, stored
from lrm_jax.rewards import math_answer
from lrm_jax.structs import Problem, Rollouts
from lrm_jax.tokenization.base import Tokenizer


def rows(
  tokenizer: Tokenizer,
  grader: Any,
  problems: Sequence[Problem],
  rollouts: Rollouts,
) -> list[dict[str, Any]]:
  """One row a sample: `records.response_rows` with the problem and the answer.

  What is more: question, answer (the gold one) and level of the problem;
  extracted, the answer of the response as it is spelled, null for none; class,
  of `classes.classify`.

  Args:
    tokenizer: decodes responses.
    grader: compares answers that were not right with each other.
    problems: B of them.
    rollouts: their responses, G each.
  """
  found = records.response_rows(tokenizer, problems, rollouts)
  samples = rollouts.length.shape[1]
  answers = [math_answer.extract_answer(row['response']) for row in found]
  starts = range(0, len(found), samples)
  numbers = classes.classify(
    [answers[start : start + samples] for start in starts],
    rollouts.correct,
    lambda pairs: classes.equal_answers(grader, pairs),
  )
  for place, row in enumerate(found):
    problem = problems[place // samples]
    row |= {
      'answer': problem.answer,
      'question': problem.question,
      'level': problem.level,
      'extracted': answers[place],
      'class': int(numbers.flat[place]),
    }
  return found


def shortened(found: Sequence[dict], responses: int) -> list[dict[str, Any]]:
  """Rows of which the first samples of each problem keep their texts.

  Args:
    found: from `rows`.
    responses: of each problem; of the other rows the numbers stay.
  """
  return [
    row if row['sample'] < responses else stored.numbers_only(row)
    for row in found
  ]
