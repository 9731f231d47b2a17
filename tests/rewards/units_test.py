r"""Words behind a number: known units are dropped, and nothing else is."""

import pytest

from lrm_jax.rewards import pool
from lrm_jax.rewards.units import strip_unit

_PATIENCE = 60.0
# Behind a number, plain and in upright type. None leaves the number as it is.
_NO_UNITS = (
  # It is another number.
  *('eighths', 'fifths', 'ninths', 'sevenths', 'fourths', 'sixteenths'),
  *('billionths', 'trillionths', 'lakh', 'quadrillion', 'gross', 'pairs'),
  *('dozen', 'score', 'hundred', 'thousand', 'million', 'half', 'quarters'),
  *('pi', 'e', 'i', 'sqrt', 'root', 'log', 'sin', 'sec', 'mod', 'inverse'),
  *('reciprocal', 'inverted', 'negative', 'naught', 'oh', 'point', 'squared'),
  *('cubed', 'factorial', 'fact', 'power', 'to the fifth', 'to the power'),
  *('repeating', 'recurring', 'base seven', 'base b', 'k', 'K', 'M', 'B', 'U'),
  *('a', 'x', 'n', 'percentile', 'out of', 'out of two', 'over two', 'off'),
  *('below zero', 'below', 'short', 'south', 'less', 'more', 'minus one'),
  *('times two', 'twice', 'double', 'plusminus', 'choose two', 'choose'),
  # It is hedged, or taken back.
  *('at least', 'at most', 'or more', 'or so', 'minimum', 'to', 'upto', 'ish'),
  *('through', 'without', 'unless', 'otherwise', 'if', 'maybe', 'guess'),
  *('undefined', 'none', 'impossible', 'unlikely', 'false', 'wrong', 'cancel'),
  *('is not it', 'apples or pears', 'apples and pears', 'not apples'),
  *('apples maybe', 'no apples', 'apples less', 'fewer apples', 'half apples'),
  # Not quite units.
  *('per hour', 'of apples', 'square', 'cubic', 'sq', 'squared feet', 'per'),
  *('apples squared', 'feet squared cubed', 'miles per', 'miles per hour per'),
  *('qwertys', 'lorem ipsum', 'degrees south', 'degrees apples pears'),
)
_UNITS = (
  *('cm', 'feet', 'miles', 'inches', 'pounds', 'dollars', 'cents', 'euros'),
  *('degrees', 'degrees Celsius', 'days', 'hours', 'min', 'mph', 'p.m.', 'USD'),
  *('units', 'square units', 'sq units', 'sq. units', 'cubic inches', 'acres'),
  *('square centimeters', 'square cm', 'feet squared', 'miles per hour'),
  *(
    'km/h',
    'meters per second',
    'ways',
    'values',
    'pieces',
    'apples',
    'Apples',
  ),
  *('distinct integers', 'right triangles', 'dogs', 'daps', 'gallons', 'eggs'),
  *('pieces of paper', 'boxes', 'berries', 'leaves', 'points', 'students'),
)


@pytest.fixture(scope='module')
def grader():
  with pool.Grader(num_workers=2, timeout=_PATIENCE) as grader:
    yield grader


def _accepted(grader, pairs):
  pairs = list(pairs)
  verdicts = grader.grade([(rf'</think>\boxed{{{a}}}', b) for a, b in pairs])
  assert {verdict.status for verdict in verdicts} == {'ok'}
  return [p for p, v in zip(pairs, verdicts, strict=True) if v.correct]


def test_no_other_word_passes_for_a_unit(grader):
  answers = [
    form.format(number, words)
    for number in ('5', '0.3', r'\frac{3}{4}')
    for words in _NO_UNITS
    for form in ('{} {}', r'{}\text{{ {}}}', r'{} \mathrm{{{}}}', r'{}\ {}')
  ]
  golds = [a.replace('\\ ', ' ').split('\\text')[0] for a in answers]
  golds = [gold.split('\\mathrm')[0].split(' ')[0] for gold in golds]
  assert len(answers) > 1000
  assert _accepted(grader, zip(answers, golds, strict=True)) == []
  # Nor may the gold answer lose what changes it.
  assert _accepted(grader, zip(golds, answers, strict=True)) == []


def test_a_fraction_in_what_cannot_be_read_is_not_the_answer(grader):
  """As math-verify takes it, which looks for one anywhere."""
  answers = (r'\frac{1}{3} E_{1}+\frac{2}{3} E_{2}', r'\frac{2}{3} qwerty !?')
  assert _accepted(grader, [(a, r'\frac{2}{3}') for a in answers]) == []


@pytest.mark.parametrize('unit', _UNITS)
def test_units_are_dropped(unit):
  for number in ('5', '-5.4', r'\frac{11}{15}', '1,234'):
    for form in ('{} {}', r'{}\text{{ {}}}', r'{} \mbox{{ {}}}'):
      assert strip_unit(form.format(number, unit)).strip() == number


@pytest.mark.parametrize(
  'text, number',
  [
    (r'864 \mbox{ inches}^2', '864'),
    (r'15\mbox{ cm}^{2}', '15'),
    (r'9.8 \text{ m/s}^2', '9.8'),
    (r'6\text{ m}', '6'),
    (r'164 \pi \mbox{ square feet}', r'164 \pi'),
    (r'32^\circ\text{F}', r'32^\circ'),
    (r'20^{\circ} \text{ C}', r'20^{\circ}'),
    (r'1.85\ \text{USD}', '1.85'),
    # A variable, an exponent of no area, no number.
    ('6 m', None),
    (r'32\text{F}', None),
    (r'5\text{ apples}^2', None),
    (r'5\text{ cm}^5', None),
    ('x cm', None),
    ('cm', None),
    ('', None),
  ],
)
def test_signs_around_units(text, number):
  assert strip_unit(text) == (text if number is None else number)


_FALSE = (
  *('5=4', '1=2=4', '3=4', 'x=5=4', '2x=5=4', '5=x=4', '5 = 4', '4=5-2=4'),
  *('2+2=5=4', r'\sqrt{16}=3=4', r'3\text{ cm}=4', '4=4=5=4', '0=4'),
  # Nobody means this as an answer.
  '='.join(['x'] * 11 + ['4']),
)
_TRUE = (
  *('x=4', '2+2=4', '2+2 = 4', r'\sqrt{16}=4', 'x=2+2=4', 'x=y=4', 'f(2)=4'),
  *(r'\binom{4}{1}=4', r'\sum_{k=1}^{4} 1 = 4', r'\log_2 16=4', 'P(A)=4'),
  *(r'\frac{8}{2}=4.0', r'3+1=4\text{ cm}', '8-4=2+2=4', '4=4'),
)


def test_numbers_that_are_not_equal_are_a_hedge(grader):
  assert _accepted(grader, [(answer, '4') for answer in _FALSE]) == []


def test_true_chains_have_the_value_they_end_with(grader):
  pairs = [(answer, '4') for answer in _TRUE]
  assert _accepted(grader, pairs) == pairs
