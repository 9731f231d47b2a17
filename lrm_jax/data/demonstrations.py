"""Demonstrations for supervised training: a prompt and the response to learn.

A source is a function of the index alone, so a run resumes by its cursor.
"""

import functools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lrm_jax import errors, jsonl
from lrm_jax.data import prompts
from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.tokenization import base

# prompt ids, response ids (end-of-sequence included)
Demonstration = tuple[list[int], list[int]]
Source = Callable[[int], Demonstration]

# Draws of one trace before its style is taken to be too long for its room.
MAX_DRAWS = 1000


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
  ends by itself. The source raises a UserError where none is short enough.
  """

  def source(index: int) -> Demonstration:
    problem = chain_arithmetic.make_problem(index, 'train', levels)
    rng = random.Random(f'trace/{seed}/{problem.id}')
    prompt = prompts.encode_prompt(tokenizer, problem.question)
    for _ in range(MAX_DRAWS):
      text = chain_arithmetic.trace(problem, style, rng)
      response = [*tokenizer.encode(text), tokenizer.eos_ids[0]]
      if len(response) <= max_tokens:
        return prompt, response
    raise errors.UserError(
      f'max_tokens={max_tokens}: none of {MAX_DRAWS} traces of level '
      f'{problem.level} in this style is so short; raise it'
    )

  return source


def read_jsonl(path: str) -> list[dict[str, Any]]:
  """Rows with `question` and `response`, at least one.

  Raises:
    UserError: there is no such file, or a row has neither.
  """
  rows = jsonl.read_rows(path, {'question': (str,), 'response': (str,)})
  if not rows:
    raise errors.UserError(f'{path}: has no rows; give at least one')
  return rows


def texts_of_rows(path: str, count: int) -> Iterator[str]:
  """Questions and responses of the first rows, for a vocabulary."""
  for row in read_jsonl(path)[:count]:
    yield f'{row["question"]}{prompts.THINK_OPEN}{row["response"]}'


def texts_of_traces(style: chain_arithmetic.Style, count: int) -> Iterator[str]:
  """The same of chain arithmetic of every level."""
  levels = tuple(range(1, chain_arithmetic.MAX_LEVEL + 1))
  for index in range(count):
    problem = chain_arithmetic.make_problem(index, 'train', levels)
    trace = chain_arithmetic.trace(problem, style, random.Random(index))
    yield f'{problem.question}{prompts.THINK_OPEN}{trace}'


def from_rows(
  tokenizer: base.Tokenizer, rows: Sequence[Mapping[str, Any]], seed: int
) -> Source:
  """The rows of `read_jsonl`, in a fresh order every epoch."""

  @functools.lru_cache(maxsize=1)
  def order_of(epoch: int) -> list[int]:
    order = list(range(len(rows)))
    random.Random(f'epoch/{seed}/{epoch}').shuffle(order)
    return order

  def source(index: int) -> Demonstration:
    epoch, place = divmod(index, len(rows))
    row = rows[order_of(epoch)[place]]
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
