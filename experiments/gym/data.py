"""Demonstrations of reasoning-gym's `chain_sum`, for a model from nothing.

  python experiments/gym/data.py 4000 runs/gym/rows.jsonl

A response adds from left to right, checks itself now and then ("Wait,"), slips
now and then, and ends with the answer in a box, as any model here does.
"""

import random
import re
import sys

from lrm_jax import jsonl, storage
from lrm_jax.data import sources
from lrm_jax.structs import Problem

# Two to four one-digit numbers.
TASK = 'gym:chain_sum:{split}?max_digits=1,max_terms=4'
SLIP, RECHECK = 0.1, 0.5


def response(problem: Problem, rng: random.Random) -> str:
  r"""` 4+3=7 Wait, 4+3=7 7-2=5</think>\boxed{5}`."""
  formula = problem.question.rpartition(':')[2].partition('=')[0]
  first, *steps = re.findall(r'([-+]? ?\d+)', formula)
  value, parts = int(first), []
  for step in steps:
    sign, number = step[0], int(step[1:])
    right = value + number if sign == '+' else value - number
    while True:
      wrong = rng.random() < SLIP
      found = right + rng.choice((-2, -1, 1, 2)) if wrong else right
      parts.append(f'{value}{sign}{number}={found}')
      if rng.random() >= RECHECK:
        break
      parts.append('Wait,')
    value = found
  return f' {" ".join(parts)}</think>\\boxed{{{value}}}'


def rows(count: int) -> list[dict]:
  """`count` problems of the training split, each with a response."""
  problems = sources.load_problems(TASK.format(split='train'), limit=count)
  return [
    {
      'id': problem.id,
      'question': problem.question,
      'response': response(problem, random.Random(problem.id)),
      'answer': problem.answer,
    }
    for problem in problems
  ]


if __name__ == '__main__':
  path = storage.as_path(sys.argv[2])
  storage.make_folder(path.parent)
  jsonl.write_rows(path, rows(int(sys.argv[1])))
