r"""Exact grading: what is found in a response, and what equals what.

Expected values are by hand from the rules in the module; True, False and None
(left to algebra) are all in the tables, so a rule too eager fails as well.
"""

import fractions
import json
import os
import pathlib
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from lrm_jax.rewards import math_answer

_DATA = pathlib.Path(
  os.environ.get(
    'LRM_DATA_DIR',
    pathlib.Path(__file__).parents[3] / 'shared' / 'data',
  )
)
_BENCHMARKS = (
  'aime24',
  'aime25',
  'amc22_23',
  'gsm8k_test',
  'math500',
  'minerva_math',
  'olympiadbench',
)


@pytest.mark.parametrize(
  'text, expected',
  [
    # Boxes.
    (r'so \boxed{5}.', '5'),
    (r'\boxed{1} no, \boxed{2}', '2'),
    (r'\fbox{7}', '7'),
    (r'\boxed {7}', '7'),
    (r'\boxed 5', '5'),
    (r'$\boxed5$.', '5'),
    (r'\boxed{\frac{1}{\sqrt{2}}}', r'\frac{1}{\sqrt{2}}'),
    (r'\boxed{\boxed{5}}', r'\boxed{5}'),
    (r'\boxed{\{1, 2\}}', r'\{1, 2\}'),
    (r'\boxed{\left\{ 1 \right.}', r'\left\{ 1 \right.'),
    (r'\boxed{ 5 }', '5'),
    (r'\boxed{5', None),
    (r'\boxed{3} or rather \boxed{4', '3'),
    (r'\boxed{\boxed{5}', '5'),
    (r'\boxed{\frac{1}{2}', None),
    (r'\boxed{}', None),
    (r'\boxed{  } so 5', None),
    (r'\boxed{5} as in \boxed{}', '5'),
    (r'} \boxed{5} }', '5'),
    ('{ \\boxed{5\n}', '5'),
    # No box: a marker.
    ('The answer is 5.', '5'),
    ('The answer is 5. Or is it 6? No.', '5'),
    ('**Final Answer:** 5', '5'),
    ('Final Answer: The final answer is $5$. I hope it is correct.', '5'),
    ('The answer is 3. No, the answer is 4.', '4'),
    ('the answer is $18 a day for the two of them', '18'),
    ('answer: \\(\\frac12\\), since 2 is even', r'\frac12'),
    ('Answer:\n\n42\n', '42'),
    ('3 + 4 = <<3+4=7>>7\n#### 7', '7'),
    ('#### -1,234', '-1,234'),
    ('the answer is 5.4', '5.4'),
    # No box, no marker: the last line.
    ('42', '42'),
    (' 42.\n', '42'),
    ('(3, 4)', '(3, 4)'),
    ('**7**', '7'),
    ('x = 5', 'x = 5'),
    ('blue', 'blue'),
    ('5 apples', '5 apples'),
    ('First 3.\nSo we end up with 1,200 apples in all.', '1,200'),
    ('We get a total of -3 for the sum', '-3'),
    ('It follows that 5-3 makes 2 in the end.', '2'),
    ('Hence $x$ is given by $y + 1$.', 'y + 1'),
    ('So we get\n\\[\nx = 5\n\\]', 'x = 5'),
    ('She pays $5 and then $6 more every day.', '$6'),
    ('There is nothing more to say here.', None),
    ('', None),
    (' \n ', None),
  ],
)
def test_extract_answer(text, expected):
  answer = math_answer.extract_answer('thoughts</think>' + text)
  assert (answer if answer is None else answer.strip()) == expected


@pytest.mark.parametrize(
  'response, strict, lenient',
  [
    (r'\boxed{1}</think>\boxed{2}', '2', '2'),
    # The first closing tag counts, as in `split_response`.
    (r'a</think>\boxed{2}</think>so there', '2', '2'),
    (r'<think>\boxed{1}</think>', None, None),
    (r'\boxed{1}', None, '1'),
    (r'<think>\boxed{1}', None, None),
    (r'\boxed{1}<think>', None, None),
  ],
)
def test_only_text_behind_thinking_is_read(response, strict, lenient):
  extract = math_answer.extract_answer
  assert extract(response) == strict
  assert extract(response, require_closed_think=True) == strict
  assert extract(response, require_closed_think=False) == lenient
  verdict = math_answer.grade_exact(response, '1', require_closed_think=False)
  assert verdict.correct == (lenient == '1')
  assert (verdict.status == 'no_answer') == (lenient is None)


_EQUAL = [
  ('5', '5'),
  ('10080', r'10,\!080'),
  ('10{,}080', r'10,\!080'),
  (r'10\,080', r'10,\!080'),
  ('32348', r'\$32,\!348'),
  ('$32,348', r'\$32,\!348'),
  ('58500', '58,500'),
  ('0.0000672', '.0000672'),
  (r'6.72 \times 10^{-5}', '.0000672'),
  ('6.72e-5', '.0000672'),
  (r'\frac{270}{7}', r'\frac{270}7\text{ degrees}'),
  (r'270/7', r'\frac{270}7\text{ degrees}'),
  (r'\dfrac{270}{7}^\circ', r'\frac{270}7\text{ degrees}'),
  ('5.4', r'5.4 \text{ cents}'),
  ('5.40', r'5.4 \text{ cents}'),
  ('5.4 cents', r'5.4 \text{ cents}'),
  ('864', r'864 \mbox{ inches}^2'),
  (r'1.85', r'1.85\ \text{USD}'),
  ('52', '52_8'),
  ('52_{8}', '52_8'),
  ('1, -2', '1,-2'),
  ('(C)', r'\text{(C)}'),
  ('C', r'\text{(C)}'),
  (r'\textbf{(C)}', r'\text{(C)}'),
  (r'\textbf{(073)}', '73'),
  ('5', 'x=5'),
  ('x = 5', '5'),
  ('x=5', 'x = 5.0'),
  ('-2x', 'y = -2x'),
  ('1/2', '0.5'),
  (r'\frac12', '0.5'),
  (r'\frac 1 2', '1/2'),
  (r'\tfrac{1}{2}', r'\dfrac{2}{4}'),
  (r'-\frac{1}{2}', r'\frac{-1}{2}'),
  ('\u22121/2', '-0.5'),
  ('1 1/2', '1.5'),
  (r'1\frac12', '3/2'),
  (r'137 \frac{1}{2}', '137.5'),
  ('-3./2', '-1.5'),
  ('+2', '2'),
  ('025', '25'),
  ('27.0', '27'),
  ('-0', '0'),
  ('50%', r'50\%'),
  ('50', r'50\%'),
  ('0.5', r'50\%'),
  ('50 percent', '0.5'),
  ('90', r'90^\circ'),
  ('90\u00b0', r'90^{\circ}'),
  ('10^{6}', '1,000,000'),
  ('3e8', r'3 \cdot 10^8'),
  ('9007199254740993', '9,007,199,254,740,993'),
  (r'\left( 3, \frac{\pi}{2} \right)', r'(3,\frac{\pi}2)'),
  (r'$\sqrt3$', r'\sqrt{3}'),
  (r'\text{Evelyn}', 'evelyn'),
  ('x^2+1', 'x^{2} + 1'),
  (r'{5}', '5'),
  (r'\boxed{5}', '5'),
  (r'(-∞, 2]', r'(-\infty,2]'),
  ('5.', '5'),
  (r'1\!2', '12'),
]


@pytest.mark.parametrize('response, gold', _EQUAL)
def test_equal_answers(response, gold):
  verdict = math_answer.grade_exact(
    'thoughts</think>\\boxed{' + response + '}', gold
  )
  assert verdict == math_answer.Verdict(True, response, 'ok')


@pytest.mark.parametrize(
  'response, gold',
  [
    ('4', '5'),
    ('-5', '5'),
    # Equal as 64-bit floats.
    ('9007199254740993', '9007199254740992'),
    (f'{10**40 + 1}', f'{10**40}'),
    ('0.30000000000000004', '0.3'),
    # Equal for math-verify, which rounds to six decimals.
    ('0.0000672', '0.0000673'),
    ('0.333333', r'\frac{1}{3}'),
    ('11/2', '1 1/2'),
    ('11/2', r'1\frac12'),
    ('12', r'1\frac12'),
    ('52_9', '52_8'),
    ('42', '52_8'),
    ('5', '0.5'),
    ('5%', '0.5'),
    ('1e5', '1e-5'),
    ('1,080', '10,080'),
    (r'5 \text{ cents}', '6'),
    ('1/3', '1/-3'),
  ],
)
def test_unequal_numbers(response, gold):
  verdict = math_answer.grade_exact(rf'</think>\boxed{{{response}}}', gold)
  if gold == '1/-3':  # No rational in the normal form; algebra decides.
    assert verdict is None
  else:
    assert verdict == math_answer.Verdict(False, response, 'ok')


@pytest.mark.parametrize(
  'response, gold',
  [
    (r'\sqrt{12}', r'2\sqrt3'),
    ('-2,1', '1,-2'),
    ('(1,2)', '1,2'),
    ('1, 234', '1234'),
    ('1 2', '12'),
    ('y=5', 'x=5'),
    ('3', r'\frac{3}{0}'),
    (r'2\frac{3}{2}', '3.5'),
    ('10^{1000000000}', '5'),
    ('10**10**10', '5'),
    ('5x', '5'),
    ('6m', '6'),
    ('6 m', '6'),
    (r'5 \text{ or 6}', '5'),
    (r'5 \text{ or }', '5'),
    ('5 or 6', '5'),
    (r'5\mathrm{i}', '5'),
    (r'\text{A} \text{ or } \text{B}', 'A'),
    (r'\text{B} \text{ A}', 'B'),
    ('east', 'west'),
    ('', ''),
    ('\u0665', '6'),
    ('\u00b2', '2'),
  ],
)
def test_left_to_algebra(response, gold):
  verdict = math_answer.grade_exact(f'</think>The answer is {response}', gold)
  if response:
    assert verdict is None
  else:
    assert verdict == math_answer.Verdict(False, None, 'no_answer')


def test_an_empty_gold_answer_matches_nothing():
  # Both normalise to the empty string.
  verdict = math_answer.grade_exact(r'</think>\boxed{\,}', '')
  assert not verdict.correct


def test_long_answers_are_refused_on_either_side():
  limit = math_answer.MAX_CHARS
  fits = '1' * limit
  grade = math_answer.grade_exact
  assert grade(rf'</think>\boxed{{{fits}}}', fits).correct
  for answer, gold in [(fits + '1', '1'), (fits + '1', fits + '1')]:
    verdict = grade(rf'</think>\boxed{{{answer}}}', gold)
    assert verdict == math_answer.Verdict(False, answer, 'too_long')
  assert grade(r'</think>\boxed{1}', fits + '1').status == 'too_long'


@pytest.mark.parametrize(
  'text',
  [
    r'\boxed{' * 30_000,
    r'\boxed' + ' ' * 200_000,
    '{' * 200_000 + r'\boxed{5}',
    '(' * 100_000,
    'answer is ' * 20_000,
    '$' * 100_001,
    '\\[' * 50_000,
    '1,' * 100_000,
    '\\' * 100_001,
    '\\boxed{' + '\\frac' * 200 + '}',
    '\\boxed{' + ' ' * 500 + '~' * 400 + '}',
    '\x00' * 1000,
  ],
)
def test_hostile_text_takes_linear_time(text):
  begin = time.process_time()
  math_answer.grade_exact('</think>' + text, '5')
  math_answer.grade_exact('</think>\\boxed{1}', text[:1000])
  assert time.process_time() - begin < 2


_FRAGMENTS = st.sampled_from(
  [
    r'\boxed{', '}', '{', '</think>', '<think>', r'\frac', '1', '/', '0', '%',
    r'\text{', '_', '^', ',', ' ', '$', 'x=', '.', '-', 'e', 'answer is ',
    r'\times10^', '\\', '\ud800', '\x00', '10^',
  ]
)  # fmt: skip


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(
  st.one_of(st.text(), st.lists(_FRAGMENTS, max_size=30).map(''.join)),
  st.one_of(st.text(), st.lists(_FRAGMENTS, max_size=30).map(''.join)),
  st.booleans(),
)
def test_never_raises(response, gold, strict):
  verdict = math_answer.grade_exact(response, gold, require_closed_think=strict)
  if verdict is not None and verdict.correct:
    assert verdict.status == 'ok' and verdict.extracted


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(
  st.fractions(),
  st.fractions(),
  st.sampled_from(['{}/{}', '\\frac{{{}}}{{{}}}']),
)
def test_fractions_are_compared_exactly(a, b, form):
  text = form.format(a.numerator, a.denominator)
  verdict = math_answer.grade_exact(f'</think>\\boxed{{{text}}}', str(b))
  assert verdict.correct == (fractions.Fraction(a) == fractions.Fraction(b))


@pytest.mark.parametrize('name', _BENCHMARKS)
def test_benchmark_gold_answers_equal_themselves(name):
  path = _DATA / f'{name}.jsonl'
  if not path.exists():
    pytest.skip(f'{path} is absent; set LRM_DATA_DIR')
  rows = [json.loads(line) for line in path.read_text('utf-8').splitlines()]
  for row in rows:
    response = f'thoughts</think>It is $\\boxed{{{row["answer"]}}}$.'
    verdict = math_answer.grade_exact(response, row['answer'])
    assert verdict is not None and verdict.correct, row['answer']


@pytest.mark.parametrize('name', ['gsm8k_test', 'math500', 'minerva_math'])
def test_benchmark_solutions_hold_their_gold_answers(name):
  path = _DATA / f'{name}.jsonl'
  if not path.exists():
    pytest.skip(f'{path} is absent; set LRM_DATA_DIR')
  rows = [json.loads(line) for line in path.read_text('utf-8').splitlines()]
  assert len(rows) > 200
  for row in rows:
    verdict = math_answer.grade_exact(
      '</think>' + row['solution'], row['answer']
    )
    assert verdict is not None and verdict.correct, row['answer']
