r"""Hostile answers, and the verdict that each must get.

Where there is no convention the rule is that of `math_answer`: a wrong answer
that passes is worse than a right one that does not.
"""

import json
import pathlib
import time

import pytest

from lrm_jax.rewards import math_answer, pool

_PATIENCE = 60.0

# Answer in the box, gold, verdict.
_BOXED = [
  # Hedges: several answers are none, unless they are what was asked for.
  *[
    (answer, '3', False)
    for answer in (
      *('3 or 4', '4 or 3', r'3 \text{ or } 4', '3, 4', '4, 3', '3,4', '3; 4'),
      *(r'3 \text{ and } 4', '[3, 4]', '(3,4)', r'\{3,4\}', r'3 \pm 1', '3 4'),
      *(r'\pm 3', r'3 \lor 4', 'x=3 or x=4', 'x=3, x=4', '3 (or 4)', '3 (4)'),
      *(r'3 \\ 4', '3-4', '3..4', r'3 \leq x \leq 4', 'x > 2', r'x \ge 3'),
      *(r'x\neq 3', 'not 3', r'\text{not } 3', '3 maybe', '3 perhaps not'),
      *(r'3 \text{ probably}', '3 is wrong', '3 or', 'either 3 or 4', '3?'),
      *(r'3 \ne 4', '3 < 4', r'3 \cup 4', '[0,10]', r'\mathbb{R}', 'x', '?'),
      *('anything', r'\text{all}', r'3 \to 4', r'3 \Rightarrow 4', '3/4/5'),
      *(r'\begin{cases}3\\4\end{cases}', r'\max(3,4)', 'a=3,b=4', '3\n4'),
    )
  ],
  ('3, 4', '4, 3', True),
  ('3 or 4', '3, 4', True),
  ('3, 4, 5', '3, 4', False),
  ('3', '3, 4', False),
  (r'\pm 3', r'\pm 3', True),
  ('3', r'\pm 3', False),
  ('A, B', 'A', False),
  ('A or B', 'A', False),
  ('ABCDE', 'A', False),
  ('(0,1)', '[0,1]', False),
  (r'(-\infty,\infty)', '[0,1]', False),
  # Words that change a number are no units.
  *[
    (f'12 {words}', '12', False)
    for words in (
      *('hundred', 'thousand', 'million', 'dozen', 'squared', 'factorial'),
      *('minus one', 'plus one', 'point five', 'half', 'negative', 'over two'),
    )
  ],
  ('12 apples', '12', True),
  ('12 feet squared', '12', True),
  # Not numbers, and no number at all.
  *[
    (answer, gold, False)
    for answer in ('nan', 'NaN', 'inf', '-inf', '0/0', r'\frac{1}{0}', '')
    for gold in ('0', '1')
  ],
  ('1/0', '2/0', False),
  (r'-\infty', r'\infty', False),
  (r'\infty', r'\infty', True),
  # What is not seen, or is seen as something else.
  *[
    (answer, '12', False)
    for answer in (
      *('\u202e21', '\u202e12', '1\u200b2', '1\u00ad2', '1\u20602', '1\x002'),
      *('\u0661\u0662', '\u00b9\u00b2', '\uff11\uff12', 'l2', '\u216b'),
      *('\ud80012', '12\udfff', '12\ufffd', '13\x08\x082', '1\u03382'),
      *('12\U000e0041', '1\u06612', '0x0C', '0b1100', '1_2', '12j', 'XII'),
      *(r'\phantom{12}', r'\hphantom{12}', r'13\phantom{12}', 'twelve'),
    )
  ],
  ('\u0410', 'A', False),
  # Macros and code are text.
  *[
    (answer, '12', False)
    for answer in (
      *(r'\def\x{12}\x', r'\newcommand{\x}{12}\x', r'\let\x=12', '%12'),
      *(r'\input{/etc/passwd}', r'\write18{ls}', r'\char49\char50', '1{}2'),
      *('__import__("os").system("id")', '{%12%}', '<b>12</b>', '12 % 13'),
      *('f"{12}"', 'lambda: 12', 'int("12")', '12 if True else 13', '12#'),
    )
  ],
  # A false equation has the value that it ends with, and no other.
  ('12=13', '12', False),
  ('12 \\ne 13', '12', False),
]
# Beyond what an answer may be: no algebra, and so no time.
_REFUSED = [
  *('{' * 490 + '1' + '}' * 490, '(' * 490 + '1' + ')' * 490),
  *(r'\sqrt{' * 140 + '1' + '}' * 140, r'\frac{1}{' * 90 + '1' + '}' * 90),
  *('e^{' * 200 + '0' + '}' * 200, '9' * 990, '1.' + '0' * 900 + '1'),
  *('[' * 490 + ']' * 490, r'\text{' * 140 + '1' + '}' * 140),
]
# The kernel ends them.
_BOMBS = ['9^{9^{9^{9}}}', '10000000!']
# The whole response, and whether it says 12.
_RESPONSES = [
  (r'\boxed{12}', False),
  (r'<think>\boxed{12}', False),
  (r'<think>\boxed{12}</think>', False),
  (r'\boxed{12}</think>13', False),
  (r'</think><think>\boxed{12}</think>', False),
  (r'</think>\boxed{13}<think>\boxed{12}', False),
  (r'</think>\boxed{12}<think>\boxed{13}</think>', True),
  (r'</think>\boxed{12}\boxed{13}', False),
  (r'</think>\boxed{13}\boxed{12}', True),
  ('</think>' + ''.join(rf'\boxed{{{n}}}' for n in range(20)), False),
  (r'</think>\boxed{13} \boxed{}', False),
  ('</think>12 or 13', False),
  ('</think>The answer is 12 or 13.', False),
  ('</think>The answer is 12. The answer is 13.', False),
  ('</think>answer: 12, 13, 14', False),
  (r'</think>\Boxed{13} 12', False),
  (r'</THINK>\boxed{12}', False),
  ('</think\u200b>' + r'\boxed{12}', False),
  (r'</think>\boxed{1}2', False),
  (r'</think>\boxed{\text{I do not know}}', False),
  ('', False),
  ('</think>', False),
  ('\x00', False),
  ('</think>\x00', False),
]
_MEGABYTES = [
  r'\boxed{' * 300_000,
  r'\boxed{' * 150_000 + '2' + '}' * 150_000,
  r'\boxed{2} ' * 200_000,
  '{' * 2_000_000 + r'\boxed{2}',
  '<think>' * 300_000,
  '</think>' * 300_000,
  'answer is ' * 200_000,
  '$' * 2_000_001,
  '\\[' * 1_000_000,
  '2,' * 1_000_000,
  '\\' * 2_000_001,
  '\x00' * 2_000_000,
  r'\boxed{' + ' ' * 2_000_000 + '}',
  r'\boxed{' + '2' * 2_000_000 + '}',
]


@pytest.fixture(scope='module')
def grader():
  with pool.Grader(num_workers=2, timeout=_PATIENCE) as grader:
    yield grader


def test_every_boxed_answer_gets_its_verdict(grader):
  verdicts = grader.grade(
    [(rf'</think>\boxed{{{answer}}}', gold) for answer, gold, _ in _BOXED]
  )
  for (answer, gold, correct), verdict in zip(_BOXED, verdicts, strict=True):
    assert verdict.correct == correct, (answer, gold)
    assert verdict.status in ('ok', 'no_answer'), (answer, gold)


def test_every_response_gets_its_verdict(grader):
  verdicts = grader.grade([(text, '12') for text, _ in _RESPONSES])
  for (text, correct), verdict in zip(_RESPONSES, verdicts, strict=True):
    assert verdict.correct == correct, text


@pytest.mark.parametrize('answer', _REFUSED, ids=range(len(_REFUSED)))
def test_what_nobody_would_write_is_wrong_at_once(answer):
  for gold in ('1', r'\sqrt{2}'):
    verdict = math_answer.grade_exact(rf'</think>\boxed{{{answer}}}', gold)
    assert verdict == math_answer.Verdict(False, answer, 'ok')


def test_bombs_are_cut_off_and_told_from_wrong_answers():
  with pool.Grader(num_workers=2, timeout=0.4) as grader:
    verdicts = grader.grade([(rf'</think>\boxed{{{b}}}', '1') for b in _BOMBS])
    assert [(v.correct, v.status) for v in verdicts] == [
      (False, 'timeout')
    ] * len(_BOMBS)


def test_megabytes_take_linear_time(grader):
  """And never reach a worker: what is too long is refused here."""
  begin = time.process_time()
  verdicts = grader.grade([('</think>' + text, '1') for text in _MEGABYTES])
  assert not any(verdict.correct for verdict in verdicts)
  assert verdicts[-1].status == 'too_long'
  # Some 30 MB; a single quadratic rule would take hours.
  assert time.process_time() - begin < 10


def test_a_request_is_bounded_whatever_the_characters():
  """`send` writes it in one piece: a pipe has room for 64 kB."""
  worst = '\U0001f600' * math_answer.MAX_CHARS
  request = json.dumps({'answer': worst, 'gold': worst}) + '\n'
  assert len(request.encode()) < 1 << 16
  room = pathlib.Path('/proc/sys/fs/pipe-max-size')
  if room.exists():
    assert int(room.read_text()) >= 1 << 16
