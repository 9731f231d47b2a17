"""Demonstrations for supervised training: a prompt and the response to learn.

A source is a function of the index alone, so a run resumes by its cursor.
"""

import random
from collections.abc import Callable

from lrm_jax import errors, jsonl
from lrm_jax.data import prompts
from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.tokenization import base

# prompt ids, response ids (end-of-sequence included)
Demonstration = tuple[list[int], list[int]]
Source = Callable[[int], Demonstration]


def chain_traces(
  tokenizer: base.Tokenizer,
  style: chain_arithmetic.Style,
  *,
  levels: tuple[int, ...],
  max_tokens: int,
  seed: int,
) -> Source:
  """Traces of chain arithmetic in one style.

  A trace longer than `max_tokens` is drawn again, so every demonstration
  ends by itself.
  """

  def source(index: int) -> Demonstration:
    problem = chain_arithmetic.make_problem(index, 'train', levels)
    rng = random.Random(f'trace/{seed}/{problem.id}')
    prompt = prompts.encode_prompt(tokenizer, problem.question)
    while True:
      text = chain_arithmetic.trace(problem, style, rng)
      response = [*tokenizer.encode(text), tokenizer.eos_ids[0]]
      if len(response) <= max_tokens:
        return prompt, response

  return source


def from_jsonl(tokenizer: base.Tokenizer, path: str, seed: int) -> Source:
  """Rows with `question` and `response`, in a fresh order every epoch."""
  rows = jsonl.read_rows(path)
  for number, row in enumerate(rows, 1):
    if not {'question', 'response'} <= set(row):
      raise errors.UserError(
        f'{path}:{number}: a demonstration needs `question` and `response`; '
        f'this row has {", ".join(sorted(row))}'
      )
  if not rows:
    raise errors.UserError(f'{path}: has no rows; give at least one')

  def source(index: int) -> Demonstration:
    epoch, place = divmod(index, len(rows))
    order = list(range(len(rows)))
    random.Random(f'epoch/{seed}/{epoch}').shuffle(order)
    row = rows[order[place]]
    prompt = prompts.encode_prompt(tokenizer, row['question'])
    response = tokenizer.encode(row['response'])
    return prompt, [*response, tokenizer.eos_ids[0]]

  return source


def shortest_tokens(tokenizer: base.Tokenizer) -> Callable[[int], int]:
  """Level -> tokens of the shortest correct trace, end-of-sequence included.

  Every number is one token, so all problems of a level agree.
  """

  def tokens(level: int) -> int:
    problem = chain_arithmetic.make_problem(0, 'train', (level,))
    text = chain_arithmetic.trace(
      problem, chain_arithmetic.SHORTEST, random.Random(0)
    )
    return len(tokenizer.encode(text)) + 1

  return tokens
