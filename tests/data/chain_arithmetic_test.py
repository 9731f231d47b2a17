r"""Chain arithmetic: problems, and traces that say what their style says."""

import itertools
import math
import random
import re

import pytest

from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.data.synthetic.chain_arithmetic import (
  LABELS,
  OPERATIONS,
  SHORTEST,
  SLIPS,
  SPLITS,
  Style,
  make_problem,
  parse,
)
from lrm_jax.errors import UserError
from lrm_jax.rewards import math_answer

ALL_LEVELS = tuple(range(1, 13))
VERBOSE = Style(
  slip=0.3, recheck=0.4, recheck_wrong=0.6, again=0.4, again_wrong=0.5
)
LINE = re.compile(r'(Wait, )?([a-l]):(\d+)([-+*])(\d+)=(\d+) ?')


def _trace(problem, style, seed=0):
  rng = random.Random(f'{seed}/{problem.id}')
  return chain_arithmetic.trace(problem, style, rng)


def _passes(trace):
  """Each pass as steps, each step as its lines (left, sign, operand, found)."""
  assert trace.startswith(' ')
  thinking = trace.partition('</think>')[0]
  passes = []
  for text in thinking[1:].split(' Again: '):
    lines = LINE.findall(text)
    assert ''.join(m.group() for m in LINE.finditer(text)) == text
    steps = []
    for wait, label, left, sign, operand, found in lines:
      if not wait:
        assert label == LABELS[len(steps)]
        steps.append([])
      assert label == LABELS[len(steps) - 1]
      steps[-1].append((int(left), sign, int(operand), int(found)))
    passes.append(steps)
  return passes


def _boxed(trace):
  return int(re.fullmatch(r'.*</think>\\boxed\{(\d+)\}', trace)[1])


def _right(line):
  left, sign, operand, _ = line
  return OPERATIONS[sign](left, operand)


def _is_wrong(line):
  return line[-1] != _right(line)


def _close(count, trials, probability):
  """Within four standard errors of a binomial share."""
  error = math.sqrt(probability * (1 - probability) / trials)
  return abs(count / trials - probability) < 4 * error


# The same on every machine and in every Python from 3.11 on. By hand:
#   1 + 4 = 5, + 7 = 12
#   70 + 4 = 74, - 5 = 69, + 1 = 70, + 9 = 79, + 3 = 82, + 8 = 90, - 5 = 85
#   16 - 5 = 11, * 9 = 99, - 4 = 95, + 2 = 97, - 3 = 94, - 7 = 87, - 6 = 81,
#   - 3 = 78, - 4 = 74, + 5 = 79, - 1 = 78, + 8 = 86
@pytest.mark.parametrize(
  ('index', 'split', 'levels', 'name', 'question', 'answer'),
  [
    (
      0,
      'train',
      (2, 3, 4, 5, 6, 7, 8),
      'chain-train-2-000000',
      'Start=1 a:+4 b:+7',
      '12',
    ),
    (
      5,
      'heldout',
      (2, 3, 4, 5, 6, 7, 8),
      'chain-heldout-7-000005',
      'Start=70 a:+4 b:-5 c:+1 d:+9 e:+3 f:+8 g:-5',
      '85',
    ),
    (
      12345,
      'train',
      (12,),
      'chain-train-12-012345',
      'Start=16 a:-5 b:*9 c:-4 d:+2 e:-3 f:-7 g:-6 h:-3 i:-4 j:+5 k:-1 l:+8',
      '86',
    ),
  ],
)
def test_literal_problems(index, split, levels, name, question, answer):
  problem = make_problem(index, split, levels)
  assert problem.id == name
  assert problem.question == question
  assert problem.answer == answer
  assert problem.level == question.count(':')


def test_literal_traces():
  problem = make_problem(2, 'train', (3,))
  assert problem.question == 'Start=73 a:+6 b:-5 c:-1'
  assert (
    chain_arithmetic.trace(problem, SHORTEST, random.Random(0))
    == ' a:73+6=79 b:79-5=74 c:74-1=73</think>\\boxed{73}'
  )
  # A slip by one, one that a re-check does not repair, and one that it does.
  assert chain_arithmetic.trace(problem, VERBOSE, random.Random('trace/2')) == (
    ' a:73+6=80 b:80-5=77 Wait, b:80-5=75 Wait, b:80-5=75 c:75-1=75'
    ' Wait, c:75-1=74</think>\\boxed{74}'
  )


def test_splits_are_disjoint_and_varied():
  questions = {
    split: [make_problem(i, split).question for i in range(3000)]
    for split in SPLITS
  }
  assert not set(questions['train']) & set(questions['heldout'])
  for split in SPLITS:
    # Level 2 has only 36,238 questions, so a few come twice.
    assert len(set(questions[split])) > 2900


@pytest.mark.parametrize('split', SPLITS)
@pytest.mark.parametrize('levels', [(3,), (8, 1, 12), ALL_LEVELS])
def test_levels_come_in_turn(split, levels):
  for index in range(2 * len(levels) + 1):
    problem = make_problem(index, split, levels)
    expected = levels[index % len(levels)]
    assert problem.level == expected
    assert len(parse(problem.question)[1]) == expected
    assert problem.id == f'chain-{split}-{expected}-{index:06d}'


def test_every_value_is_within_range_and_the_last_one_is_the_answer():
  signs = set()
  for index in range(1200):
    problem = make_problem(index, 'train', ALL_LEVELS)
    value, steps = parse(problem.question)
    assert 0 <= value <= 99
    for sign, operand in steps:
      assert (2 if sign == '*' else 1) <= operand <= 9
      value = OPERATIONS[sign](value, operand)
      assert 0 <= value <= 99
      signs.add(sign)
    assert problem.answer == str(value)
  assert signs == {'+', '-', '*'}


def test_parse_is_the_inverse_of_the_question():
  assert parse('Start=12 a:+5 b:-3 c:*2') == (
    12,
    (('+', 5), ('-', 3), ('*', 2)),
  )
  for index in range(60):
    question = make_problem(index, 'heldout', ALL_LEVELS).question
    start, steps = parse(question)
    labelled = zip(LABELS, steps, strict=False)
    words = [f'{label}:{sign}{n}' for label, (sign, n) in labelled]
    assert ' '.join([f'Start={start}', *words]) == question


def test_the_shortest_trace_derives_each_value_once():
  for index in range(120):
    problem = make_problem(index, 'train', ALL_LEVELS)
    trace = _trace(problem, SHORTEST)
    ((*steps,),) = _passes(trace)
    assert [len(step) for step in steps] == [1] * problem.level
    assert not any(_is_wrong(step[0]) for step in steps)
    assert str(_boxed(trace)) == problem.answer


@pytest.mark.parametrize(
  'style',
  [VERBOSE, Style(slip=0.5), Style(slip=0.4, recheck=0.5, again=0.3)],
)
def test_the_value_carried_forward_is_the_one_written_last(style):
  wrong_lines = 0
  for index in range(300):
    problem = make_problem(index, 'train', ALL_LEVELS)
    start, operations = parse(problem.question)
    trace = _trace(problem, style)
    for steps in _passes(trace):
      value = start
      for lines, operation in zip(steps, operations, strict=True):
        for line in lines:
          assert line[:3] == (value, *operation)
          assert 0 <= line[3] <= 99
          assert 0 <= _right(line) <= 99
          assert line[3] - _right(line) in (0, *SLIPS)
          wrong_lines += _is_wrong(line)
        value = lines[-1][3]
    # `value` is that of the last pass now.
    assert _boxed(trace) == value
  assert wrong_lines > 300


def test_a_wrong_chain_gives_a_wrong_answer_and_the_grader_sees_it():
  counts = {True: 0, False: 0}
  for index in range(300):
    problem = make_problem(index, 'heldout', ALL_LEVELS)
    trace = _trace(problem, Style(slip=0.2))
    (steps,) = _passes(trace)
    is_right = steps[-1][-1][3] == int(problem.answer)
    verdict = math_answer.grade_exact(trace, problem.answer)
    assert verdict.status == 'ok'
    assert verdict.extracted == str(_boxed(trace))
    assert verdict.correct == is_right
    counts[is_right] += 1
    if is_right:
      # Either nothing slipped, or the slips made up for each other.
      errors = [step[0] for step in steps if _is_wrong(step[0])]
      assert len(errors) != 1
  assert min(counts.values()) > 50


def test_rechecks_repair():
  repaired = 0
  for index in range(200):
    problem = make_problem(index, 'train', ALL_LEVELS)
    trace = _trace(problem, Style(slip=0.4, recheck_wrong=1.0))
    assert str(_boxed(trace)) == problem.answer
    (steps,) = _passes(trace)
    for lines in steps:
      # Derived again as long as it is wrong, and then no more.
      *before, last = map(_is_wrong, lines)
      assert all(before) and not last
      repaired += bool(before)
  assert repaired > 300


def test_starting_again_repairs():
  repaired = 0
  for index in range(200):
    problem = make_problem(index, 'train', (4,))
    trace = _trace(problem, Style(slip=0.2, again_wrong=1.0))
    assert str(_boxed(trace)) == problem.answer
    *before, _ = _passes(trace)
    assert all(str(s[-1][-1][3]) != problem.answer for s in before)
    repaired += bool(before)
  assert repaired > 50


@pytest.mark.parametrize('q', [0.2, 0.42, 0.7])
def test_rechecks_of_right_steps_are_geometric(q):
  counts = []
  for index in range(500):
    problem = make_problem(index, 'train', (8,))
    (steps,) = _passes(_trace(problem, Style(recheck=q)))
    counts += [len(lines) - 1 for lines in steps]
  n = len(counts)
  # P(k) = (1 - q) q^k: mean q / (1 - q), variance q / (1 - q)^2.
  mean_error = math.sqrt(q / n) / (1 - q)
  assert abs(sum(counts) / n - q / (1 - q)) < 4 * mean_error
  for k in range(3):
    assert _close(counts.count(k), n, (1 - q) * q**k)


def test_again_is_geometric():
  q = 0.5
  counts = []
  for index in range(2000):
    problem = make_problem(index, 'train', (1,))
    counts.append(len(_passes(_trace(problem, Style(again=q)))) - 1)
  mean_error = math.sqrt(q / len(counts)) / (1 - q)
  assert abs(sum(counts) / len(counts) - 1) < 4 * mean_error
  for k in range(3):
    assert _close(counts.count(k), len(counts), (1 - q) * q**k)


LEAP = re.compile(r'(?:Wait, )?([a-l]+):(\d+)((?:[-+*]\d+)+)=(\d+)')


def test_literal_leaps():
  problem = make_problem(2, 'train', (3,))
  assert problem.question == 'Start=73 a:+6 b:-5 c:-1'
  assert _trace(problem, Style(leap=1.0)) == (
    ' ab:73+6-5=74 c:74-1=73</think>\\boxed{73}'
  )
  problem = make_problem(0, 'train', (4,))
  assert problem.question == 'Start=29 a:-5 b:+9 c:+7 d:-1'
  traces = {_trace(problem, Style(leap=0.5), seed) for seed in range(60)}
  # From left to right: 29 - 5 = 24, + 9 = 33, + 7 = 40, - 1 = 39.
  assert ' a:29-5=24 bc:24+9+7=40 d:40-1=39</think>\\boxed{39}' in traces


def test_leaps_take_every_operation_once():
  q, strides = 0.4, []
  for index in range(1500):
    problem = make_problem(index, 'train', (6,))
    start, steps = parse(problem.question)
    value, labels, operations = start, '', ''
    for label, left, taken, found in LEAP.findall(
      _trace(problem, Style(leap=q))
    ):
      assert int(left) == value
      assert len(label) == len(re.findall('[-+*]', taken))
      labels, operations = labels + label, operations + taken
      value = int(found)
      if labels == label:  # the first: the end is not near
        strides.append(len(label))
    assert labels == 'abcdef'
    assert operations == ''.join(f'{sign}{n}' for sign, n in steps)
    assert str(value) == problem.answer
  assert set(strides) == {1, 2}
  assert _close(strides.count(2), len(strides), q)


def test_a_leap_may_slip_and_be_repaired():
  slipped = 0
  style = Style(slip=0.3, recheck_wrong=1.0, leap=1.0)
  for index in range(200):
    problem = make_problem(index, 'train', (2,))
    trace = _trace(problem, style)
    found = [line[-1] for line in LEAP.findall(trace)]
    assert found[-1] == problem.answer == str(_boxed(trace))
    assert problem.answer not in found[:-1]
    slipped += len(found) > 1
  assert _close(slipped, 200, 0.3)


def test_each_probability_is_of_what_it_says():
  """Level 1: nothing comes after the step, so that every slip is possible."""
  style = Style(
    slip=0.3, recheck=0.35, recheck_wrong=0.8, again=0.25, again_wrong=0.6
  )
  lines = {False: 0, True: 0}  # by wrong or not
  rechecked = {False: 0, True: 0}
  chains = {False: 0, True: 0}
  restarted = {False: 0, True: 0}
  for index in range(3000):
    passes = _passes(_trace(make_problem(index, 'train', (1,)), style))
    for number, (derivations,) in enumerate(passes, 1):
      for place, line in enumerate(derivations, 1):
        lines[_is_wrong(line)] += 1
        rechecked[_is_wrong(line)] += place < len(derivations)
      is_wrong = _is_wrong(derivations[-1])
      chains[is_wrong] += 1
      restarted[is_wrong] += number < len(passes)
  assert _close(lines[True], sum(lines.values()), style.slip)
  assert _close(rechecked[False], lines[False], style.recheck)
  assert _close(rechecked[True], lines[True], style.recheck_wrong)
  assert _close(restarted[False], chains[False], style.again)
  assert _close(restarted[True], chains[True], style.again_wrong)


def test_traces_follow_the_generator_they_are_given():
  problem = make_problem(7)
  assert _trace(problem, VERBOSE, 1) == _trace(problem, VERBOSE, 1)
  assert len({_trace(problem, VERBOSE, seed) for seed in range(5)}) > 1


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (
      {'split': 'test'},
      "chain_arithmetic: split 'test' is not one of train, heldout",
    ),
    (
      {'levels': (13,)},
      'chain_arithmetic: level 13 is not within 1..12',
    ),
    ({'levels': (0,)}, 'chain_arithmetic: level 0 is not within 1..12'),
    (
      {'levels': ()},
      'chain_arithmetic: levels is empty; give at least one, such as (2, 3)',
    ),
  ],
)
def test_mistakes(arguments, message):
  with pytest.raises(UserError) as info:
    make_problem(0, **arguments)
  assert str(info.value) == message


@pytest.mark.parametrize('value', [-0.1, 1.5, float('nan')])
def test_a_style_has_probabilities(value):
  with pytest.raises(UserError) as info:
    Style(leap=value)
  assert str(info.value) == (
    f'style.leap={value} is not a probability; give one from 0 to 1'
  )


@pytest.mark.parametrize(
  ('style', 'message'),
  [
    ({'recheck': 1.0}, 'recheck=1.0, again=0.0, slip * recheck_wrong=0.0'),
    ({'again': 1.0}, 'recheck=0.0, again=1.0, slip * recheck_wrong=0.0'),
    (
      {'slip': 1.0, 'recheck_wrong': 1.0},
      'recheck=0.0, again=0.0, slip * recheck_wrong=1.0',
    ),
  ],
)
def test_a_trace_has_to_end(style, message):
  with pytest.raises(UserError) as info:
    Style(**style)
  assert str(info.value) == (
    f'style.{message}: one that is 1 never ends a trace; give less'
  )


def test_symbols_cover_every_number_and_sign():
  symbols = chain_arithmetic.SYMBOLS
  assert len(set(symbols)) == len(symbols) == 104
  expected = itertools.chain(map(str, range(100)), '+-*=')
  assert set(symbols) == set(expected)
