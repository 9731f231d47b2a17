"""Chains whose labels say nothing about their length, and what goes wrong.

Chain arithmetic calls its steps a, b, c ..., so that a model trained on four
steps has never seen the labels of eight. Here a problem of n steps takes n
labels of the twelve at random, in order. Values stay small, so that arithmetic
is learnt soon and what is left to go wrong is the length. Demonstrations derive
a step again now and then, as those of the tiny LRM do, so that a step is not
always as far from its place in the question.
"""

import pathlib
import random
import re

from lrm_jax import jsonl
from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.structs import Problem

VALUES = range(1, 30)  # no 0: times anything it hides a mistake
MAX_RECHECKS = 2  # so that a demonstration of four steps has 61 tokens at most
LABEL = re.compile(r'\b([a-l]):')
STEP = re.compile(r'([a-l]):(\d+)([-+*]\d)=(\d+)')


def rows(
  split: str, level: int, count: int, style: chain_arithmetic.Style
) -> list[dict]:
  """`count` problems of one level, each with a demonstration."""
  found, index = [], 0
  while len(found) < count:
    problem = chain_arithmetic.make_problem(index, split, (level,))
    index += 1
    if not all(value in VALUES for value in values(problem)):
      continue
    rng = random.Random(problem.id)
    labels = draw(level, rng)
    response = demonstrate(problem, style, rng)
    found.append(
      {
        'id': problem.id,
        'level': level,
        'question': relabel(problem.question, labels),
        'response': relabel(response, labels),
        'answer': problem.answer,
      }
    )
  return found


def values(problem: Problem) -> list[int]:
  """The start and the value after every step."""
  value, steps = chain_arithmetic.parse(problem.question)
  found = [value]
  for sign, operand in steps:
    found.append(chain_arithmetic.OPERATIONS[sign](found[-1], operand))
  return found


def demonstrate(
  problem: Problem, style: chain_arithmetic.Style, rng: random.Random
) -> str:
  """A trace with so many re-checks at most."""
  while True:
    text = chain_arithmetic.trace(problem, style, rng)
    if text.count('Wait,') <= MAX_RECHECKS:
      return text


def draw(level: int, rng: random.Random) -> str:
  """Labels for so many steps, increasing."""
  return ''.join(sorted(rng.sample(chain_arithmetic.LABELS, level)))


def relabel(text: str, labels: str) -> str:
  """The same text with `labels` in place of a, b, c ..."""
  order = chain_arithmetic.LABELS
  return LABEL.sub(lambda match: f'{labels[order.index(match[1])]}:', text)


def write(
  path: pathlib.Path,
  split: str,
  levels: tuple[int, ...],
  count: int,
  style: chain_arithmetic.Style,
) -> None:
  """`count` rows of every level; a file that is there stays."""
  if not path.exists():
    jsonl.write_rows(
      path,
      [row for level in levels for row in rows(split, level, count, style)],
    )


def first_mistake(question: str, response: str) -> str:
  """Where a response first leaves the right chain; re-checks do not count.

  Returns:
    'label' (another step than the next one), 'value' (not the one carried
    forward), 'operation' (not that of its label), 'result', 'stop' (before
    the last step), 'more' (steps after it), 'answer', 'form' (no step at all)
    or '' for none.
  """
  start, *steps = question.split()
  value, steps = (
    int(start.removeprefix('Start=')),
    [s.split(':') for s in steps],
  )
  thoughts, _, answer = response.partition('</think>')
  written = thoughts.replace('Wait,', '').split()
  # A re-check that repeats a step says nothing new.
  written = [s for i, s in enumerate(written) if i == 0 or s != written[i - 1]]
  for i, (label, operation) in enumerate(steps):
    if i == len(written):
      return 'stop'
    match = STEP.fullmatch(written[i])
    if not match:
      return 'form'
    right = chain_arithmetic.OPERATIONS[operation[0]](value, int(operation[1:]))
    expected = (label, str(value), operation, str(right))
    names = ('label', 'value', 'operation', 'result')
    for name, a, b in zip(names, match.groups(), expected, strict=True):
      if a != b:
        return name
    value = right
  if len(written) > len(steps):
    return 'more'
  return '' if answer == f'\\boxed{{{value}}}' else 'answer'
