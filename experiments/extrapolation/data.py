"""Chains whose labels say nothing about their length, and what goes wrong.

Chain arithmetic calls its steps a, b, c ..., so that a model trained on four
steps has never seen the labels of eight. Here a problem of n steps takes n
labels of the twelve at random. They stand in the question in any order and are
worked off in that of the alphabet: a step has to be found by its label, not by
its place. Values stay small, so that arithmetic is learnt soon and what is left
to go wrong is the length.

  Start=12 h:-3 c:+5 k:*2    ->    c:12+5=17 h:17-3=14 k:14*2=28
"""

import pathlib
import random
import re

from lrm_jax import jsonl
from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.structs import Problem

VALUES = range(1, 30)  # no 0: times anything it hides a mistake
LABEL = re.compile(r'\b([a-l]):')
STEP = re.compile(r'([a-l]):(\d+)([-+*]\d)=(\d+)')


def rows(split: str, level: int, count: int) -> list[dict]:
  """`count` problems of one level, each with its shortest trace."""
  found, index = [], 0
  while len(found) < count:
    problem = chain_arithmetic.make_problem(index, split, (level,))
    index += 1
    if not all(value in VALUES for value in values(problem)):
      continue
    response = chain_arithmetic.trace(
      problem, chain_arithmetic.SHORTEST, random.Random(0)
    )
    labels = draw(level, random.Random(problem.id))
    question = relabel(problem.question, labels)
    found.append(
      {
        'id': problem.id,
        'level': level,
        'question': shuffle(question, random.Random(problem.id + 's')),
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


def draw(level: int, rng: random.Random) -> str:
  """Labels for so many steps, increasing."""
  return ''.join(sorted(rng.sample(chain_arithmetic.LABELS, level)))


def relabel(text: str, labels: str) -> str:
  """The same text with `labels` in place of a, b, c ..."""
  order = chain_arithmetic.LABELS
  return LABEL.sub(lambda match: f'{labels[order.index(match[1])]}:', text)


def shuffle(question: str, rng: random.Random) -> str:
  """The same steps in any order."""
  start, *steps = question.split()
  rng.shuffle(steps)
  return ' '.join([start, *steps])


def write(
  path: pathlib.Path, split: str, levels: tuple[int, ...], count: int
) -> None:
  """`count` rows of every level; a file that is there stays."""
  if not path.exists():
    jsonl.write_rows(
      path, [row for level in levels for row in rows(split, level, count)]
    )


def first_mistake(question: str, response: str) -> str:
  """Where a response first leaves the right chain.

  Returns:
    'label' (another step than the next one), 'value' (not the one carried
    forward), 'operation' (not that of its label), 'result', 'stop' (before
    the last step), 'more' (steps after it), 'answer', 'form' (no step at all)
    or '' for none.
  """
  start, *steps = question.split()
  value = int(start.removeprefix('Start='))
  steps = sorted(step.split(':') for step in steps)
  thoughts, _, answer = response.partition('</think>')
  written = thoughts.split()
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
