r"""What algebra decides, by the real workers of the pool."""

import pytest

from lrm_jax.rewards import pool
from lrm_jax.rewards.math_answer import Verdict

# Far from what any pair needs, even on a loaded machine.
_PATIENCE = 60.0

_ALGEBRA = [
  (r'\sqrt{12}', r'2\sqrt{3}', True),
  (r'\frac{1}{\sqrt3}', r'\frac{\sqrt{3}}{3}', True),
  (r'\frac{\sqrt{2}}{3}', r'\frac{\sqrt{3}}{3}', False),
  ('-2,1', '1,-2', True),
  ('-2,2', '1,-2', False),
  ('1, 234', '1234', False),
  ('(2,1)', '(1,2)', False),
  ('[1,2]', '(1,2)', False),
  ('[1,2)', '[1,2]', False),
  (r'(3, \frac{2\pi}{4})', r'\left( 3, \frac{\pi}{2} \right)', True),
  (r'(2,12)\cup(12,102)', r'(12,102)\cup(2,12)', True),
  (r'(2,12)\cup[12,102)', r'(12,102)\cup(2,12)', False),
  (r'(-\infty, 0]', r'(-\infty, 0)', False),
  (
    r'\begin{bmatrix} 0.2 \\ -18/5 \end{bmatrix}',
    r'\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}',
    True,
  ),
  (
    r'\begin{pmatrix} 1 \\ -18/5 \end{pmatrix}',
    r'\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}',
    False,
  ),
  ('(x+1)^2', 'x^2+2x+1', True),
  ('(x+1)^2', 'x^2+2x+2', False),
  ('-q+p', 'p - q', True),
  ('q-p', 'p - q', False),
  ('6-5i', '-5i + 6', True),
  ('y-2x-3=0', 'y = 2x+3', True),
  ('y=5', 'x=5', False),
  (r'x\in[-2,7]', '[-2,7]', True),
  ('1 2', '12', False),
  (r'12\sqrt{13}', r'\sqrt{1872} \text{ feet}', True),
  ('2', '2t', False),
  ('t+t', '2t', True),
  ('6 m', '6', False),
  ('5 or 6', '5', False),
  (r'5 \text{ or } 6', '5', False),
  (r'\text{seat}', r'\text{east}', False),
  ('3.14159265', r'\pi', True),
  (r'\frac{22}{7}', r'\pi', False),
  # math-verify alone would round all four to zero.
  (r'\sqrt2 \times 10^{-21}', '6.7e-20', False),
  (r'6.7\sqrt1 \times 10^{-20}', '6.7e-20', True),
  (r'\frac{1}{0}', '5', False),
  (r'\sum_{k=1}^{4} k', '10', True),
]


def _pairs(*answers, gold=r'\sqrt2'):
  return [(rf'</think>\boxed{{{answer}}}', gold) for answer in answers]


@pytest.fixture(scope='module')
def grader():
  with pool.Grader(num_workers=2, timeout=_PATIENCE) as grader:
    yield grader


def test_algebra(grader):
  verdicts = grader.grade(
    [(f'</think>\\boxed{{{answer}}}', gold) for answer, gold, _ in _ALGEBRA]
  )
  for (answer, gold, expected), verdict in zip(_ALGEBRA, verdicts, strict=True):
    assert verdict == Verdict(expected, answer, 'ok'), (answer, gold)


def test_model_text_is_not_evaluated(grader, tmp_path):
  """Neither as Python nor as sympy's Python; `ones` would be a matrix."""
  target = tmp_path / 'touched'
  answers = [
    f"__import__('os').system('touch {target}')",
    f"\\text{{__import__('os').system('touch {target}')}}",
    f"open('{target}', 'w')",
    f'f(__import__("os").system("touch {target}"))',
    f'x_{{__import__("os").system("touch {target}")}}',
    '5 if True else 6',
    'int("5")',
    'len("12345")',
    '(lambda: 5)()',
    '().__class__.__bases__',
    '5 #',
  ]
  verdicts = grader.grade(_pairs(*answers, gold='5'))
  assert not target.exists()
  assert {verdict.status for verdict in verdicts} == {'ok'}
  assert not any(verdict.correct for verdict in verdicts[:-1])


def test_odd_text_gets_a_verdict(grader):
  answers = ['\x00', '5\n\n6', '\ud800', '\u0665', '\\', '{}', '\u2028', '"']
  answers += ['\U0001f600' * 900, r'\frac' * 100, 'x' * 200]
  verdicts = grader.grade(_pairs(*answers))
  assert [verdict.correct for verdict in verdicts] == [False] * len(answers)
  assert {verdict.status for verdict in verdicts} <= {'ok', 'no_answer'}
