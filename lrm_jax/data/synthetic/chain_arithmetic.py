r"""Chain arithmetic: problems, and traces that overthink them.

A problem of level n starts from a number and applies n labelled operations;
every intermediate value stays in 0..99:

  Start=12 a:+5 b:-3 c:*2

The shortest correct trace derives each value once. An overthinking trace
slips now and then, goes back with "Wait," to derive a step again (usually
though nothing was wrong), and starts all over with "Again:":

  ` a:12+5=17 Wait, a:12+5=17 b:17-3=14 c:14*2=28 Again: ...</think>\boxed{28}`

The value carried forward is always the one written last, so a re-check that
finds a slip repairs it. The number of re-checks is geometric.

A trace that leaps takes two operations, from left to right, in one step:

  ` ab:12+5-3=14 c:14*2=28</think>\boxed{28}`

That is shorter and harder to get right, so there thinking helps.
"""

import dataclasses
import functools
import hashlib
import itertools
import operator
import random
from collections.abc import Sequence

from lrm_jax import errors
from lrm_jax.structs import Problem

MAX_VALUE = 99
MAX_LEVEL = 12
LABELS = 'abcdefghijkl'
SPLITS = ('train', 'heldout')
OPERATIONS = {'+': operator.add, '-': operator.sub, '*': operator.mul}
# Pieces of a vocabulary of their own, so that a number is one token.
SYMBOLS = (*map(str, range(MAX_VALUE + 1)), *OPERATIONS, '=')
# Slips are near misses, as a miscount or a lost carry would be.
SLIPS = (-10, -2, -1, 1, 2, 10)

Step = tuple[str, int]  # operation, operand


@dataclasses.dataclass(frozen=True)
class Style:
  """How a trace overthinks; every field is a probability.

  Attributes:
    slip: a derivation comes out wrong.
    recheck: a right step is derived again; asked again after every re-check.
    recheck_wrong: the same for a wrong step.
    again: a right chain is started all over; asked again after every pass.
    again_wrong: the same for a wrong chain.
    leap: a step takes the next operation with it.

  Raises:
    UserError: one that is no probability, or a trace that would never end.
  """

  slip: float = 0.0
  recheck: float = 0.0
  recheck_wrong: float = 0.0
  again: float = 0.0
  again_wrong: float = 0.0
  leap: float = 0.0

  def __post_init__(self):
    for name, value in dataclasses.asdict(self).items():
      if not 0 <= value <= 1:
        raise errors.UserError(
          f'style.{name}={value} is not a probability; give one from 0 to 1'
        )
    if 1 in (self.recheck, self.again, self.slip * self.recheck_wrong):
      raise errors.UserError(
        f'style.recheck={self.recheck}, again={self.again}, slip * '
        f'recheck_wrong={self.slip * self.recheck_wrong}: one that is 1 never '
        'ends a trace; give less'
      )


# Without leaps.
SHORTEST = Style()


def make_problem(
  index: int,
  split: str = 'train',
  levels: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8),
) -> Problem:
  """The problem with this index; the same on every machine.

  A question belongs to one split only: its hash decides, and candidates of
  the other split are passed over.

  Args:
    index: any non-negative integer.
    split: 'train' or 'heldout'.
    levels: operations per problem; problem `index` has
      `levels[index % len(levels)]`, so every slice of the split is balanced.

  Returns:
    The problem; its id names split, level and index.

  Raises:
    UserError: an unknown split, no levels, or a level that is out of range.
  """
  if split not in SPLITS:
    raise errors.UserError(
      f'chain_arithmetic: split {split!r} is not one of {", ".join(SPLITS)}'
    )
  if not levels:
    raise errors.UserError(
      'chain_arithmetic: levels is empty; give at least one, such as (2, 3)'
    )
  level = levels[index % len(levels)]
  if not 1 <= level <= MAX_LEVEL:
    raise errors.UserError(
      f'chain_arithmetic: level {level} is not within 1..{MAX_LEVEL}'
    )
  rng = random.Random(f'chain/{split}/{level}/{index}')
  while True:
    start, steps = _draw(rng, level)
    question = f'Start={start} ' + ' '.join(
      f'{label}:{sign}{operand}'
      for label, (sign, operand) in zip(LABELS, steps, strict=False)
    )
    if _split_of(question) == split:
      break
  return Problem(
    id=f'chain-{split}-{level}-{index:06d}',
    question=question,
    answer=str(_apply(start, steps)),
    level=level,
    domain='arithmetic',
  )


def trace(problem: Problem, style: Style, rng: random.Random) -> str:
  """A response to `problem` in the given style, from after `<think>` on.

  The final answer is the value written last, right or wrong: a model that
  learns these traces learns to be wrong as often as they are.
  """
  start, steps = parse(problem.question)
  lines: list[str] = []
  while True:
    value, i = start, 0
    while i < len(steps):
      # No draw in a style without leaps: its traces are those of old.
      stride = 1 + (style.leap > 0 and rng.random() < style.leap)
      end = min(i + stride, len(steps))
      value = _derive(
        LABELS[i:end], value, steps[i:end], steps[end:], style, rng, lines
      )
      i = end
    wrong = value != _apply(start, steps)
    if rng.random() >= (style.again_wrong if wrong else style.again):
      break
    lines.append('Again:')
  return ' ' + ' '.join(lines) + f'</think>\\boxed{{{value}}}'


def parse(question: str) -> tuple[int, tuple[Step, ...]]:
  """'Start=12 a:+5 b:*2' -> (12, (('+', 5), ('*', 2)))."""
  start, *steps = question.split()
  values = (step.split(':')[1] for step in steps)
  return int(start.removeprefix('Start=')), tuple(
    (text[0], int(text[1:])) for text in values
  )


def _derive(labels, value, steps, rest, style, rng, lines) -> int:
  """Appends `steps` as one, and re-checks; returns the value written last."""
  right = _apply(value, steps)
  operations = ''.join(f'{sign}{operand}' for sign, operand in steps)
  prefix = ''
  while True:
    found = right
    if rng.random() < style.slip:
      found = _slip(right, rest, rng)
    lines.append(f'{prefix}{labels}:{value}{operations}={found}')
    wrong = found != right
    if rng.random() >= (style.recheck_wrong if wrong else style.recheck):
      return found
    prefix = 'Wait, '


def _slip(right: int, rest: Sequence[Step], rng: random.Random) -> int:
  """A near miss from which the rest stays in range; `right` if none does."""
  near = [right + d for d in SLIPS if _stays_in_range(right + d, rest)]
  return rng.choice(near) if near else right


def _stays_in_range(value: int, steps: Sequence[Step]) -> bool:
  values = itertools.accumulate(
    steps, lambda v, s: OPERATIONS[s[0]](v, s[1]), initial=value
  )
  return all(0 <= v <= MAX_VALUE for v in values)


def _draw(rng: random.Random, level: int) -> tuple[int, tuple[Step, ...]]:
  """A start and `level` operations that stay within 0..MAX_VALUE."""
  start = value = rng.randint(0, MAX_VALUE)
  steps = []
  for _ in range(level):
    signs = [s for s in OPERATIONS if _operands(value, s)]
    sign = rng.choice(signs)
    operand = rng.choice(_operands(value, sign))
    steps.append((sign, operand))
    value = OPERATIONS[sign](value, operand)
  return start, tuple(steps)


@functools.cache
def _operands(value: int, sign: str) -> tuple[int, ...]:
  """Operands in 1..9 (2..9 for *) that keep the value within range."""
  first = 2 if sign == '*' else 1
  return tuple(
    n for n in range(first, 10) if 0 <= OPERATIONS[sign](value, n) <= MAX_VALUE
  )


def _apply(start: int, steps: tuple[Step, ...]) -> int:
  return functools.reduce(lambda v, s: OPERATIONS[s[0]](v, s[1]), steps, start)


def _split_of(question: str) -> str:
  """One question in eight is held out, by its hash."""
  first_byte = hashlib.sha256(question.encode()).digest()[0]
  return 'heldout' if first_byte < 32 else 'train'
