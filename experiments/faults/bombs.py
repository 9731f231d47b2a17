r"""Answers made to hang, kill or deceive a verifier, and what they are made of.

`BOMBS` go into a box, `RESPONSES` are whole. None equals 1, which they are
compared with.
"""

# Of disorder: LaTeX, Unicode, Python, tags.
FRAGMENTS = (
  *(r'\boxed{', '{', '}', '(', ')', '[', ']', '</think>', '<think>', '$', '$$'),
  *(r'\frac', r'\frac{1}{2}', r'\sqrt', r'\sqrt[3]', r'\text{', r'\left', '^'),
  *(r'\right', '_', '!', '!!', '%', '&', '\\\\', '\\', '|', '=', '<', '>', ','),
  *(r'\pm', r'\cdot', r'\times 10^', r'\infty', r'\pi', r'\sin', r'\log', 'x'),
  *(r'\int', r'\sum_{i=1}^', r'\lim_{x\to0}', r'\binom', r'\mod', r'\cup'),
  *(r'\begin{pmatrix}', r'\end{pmatrix}', r'\begin{cases}', r'\end{cases}'),
  *('0', '1', '2', '9', '10', '99', '.', '-', '+', '/', '*', 'e', 'i', ' or '),
  *(r'\def\x', r'\newcommand', r'\input', r'\write18', 'nan', 'inf', '\n', ' '),
  *(
    '\x00',
    '\ud800',
    '\udfff',
    '\u202e',
    '\u200b',
    '\ufeff',
    '\u0661',
    '\u0430',
  ),
  *("__import__('os')", 'lambda:', 'answer is ', '#### ', '#', ';', "'", '"'),
)
SPELLINGS = (
  *('5', '-3', '1,234', '0.5', '50\\%', r'\frac{1}{2}', '3/4', r'2\sqrt{3}'),
  *(r'\pi', '(1,2)', '[0,1)', r'\{1,2,3\}', 'x^2+1', 'x=5', '1, 2, 3', '52_8'),
  *(r'\text{(A)}', r'90^\circ', r'6.02\times 10^{23}', r'\frac{\pi}{2}', '12!'),
  *(r'\begin{pmatrix}1\\2\end{pmatrix}', r'(-\infty,2]', r'3+4i', r'\log_2 3'),
  *(r'x\in[-2,7]', 'y = 2x+3', r'\binom{5}{2}', r'5 \text{ cm}', 'east'),
)


def _nested(opening: str, inner: str, closing: str) -> str:
  """As deep as an answer may be long."""
  depth = (990 - len(inner)) // (len(opening) + len(closing))
  return opening * depth + inner + closing * depth


BOMBS = (
  # Towers, factorials and other numbers without end.
  *('9^{9^{9^{9}}}', '10^{10^{10}}', '2^{2^{2^{2^{2^2}}}}', '10^{999999999}'),
  *('1e999999999', '1e-999999999', '10^{-100000000}', '2^{1000000000}'),
  *(r'\frac{1}{10^{100000000}}', '9' * 990, '9' * 400 + '^{' + '9' * 400 + '}'),
  *('(((((9!)!)!)!)!)!', '9!!!!!!!!', '99999999!', '10000000!'),
  *(r'\binom{10000000}{5000000}', '1.0000000001^{1000000000000}'),
  *(r'\pi^{\pi^{\pi^{\pi^\pi}}}', 'i^{i^{i^{i^i}}}', 'x^{x^{x^{x^{x^x}}}}'),
  *(r'7^{100000000000000} \mod 13', r'\gcd(10^{10^6},10^{10^6}-1)'),
  *(r'\sin(10^{10^{5}})', r'\tan(10^{100})', r'\Gamma(10^9)', r'\zeta(10^9)'),
  *(r'\lfloor 10^{10^9} \rfloor', r'\sqrt[9999999999]{3}'),
  # Algebra without end.
  *('(x+1)^{1000000}', '(x+y+z)^{1000}', '(a+b+c+d+e+f+g)^{99}'),
  *(r'\prod_{i=1}^{1000000000}i', r'\sum_{i=1}^{1000000000}\frac1i'),
  *(r'\sum_{i=1}^{\infty}\frac{1}{i^i}', r'\int_0^1 e^{e^{x^x}}dx'),
  r'\int\int\int\int e^{x^2}\sin(\cos(x^x))dx dx dx dx',
  r'\lim_{x\to 0}\frac{\sin(\sin(\sin(\sin x)))}{x^x}',
  *('x^{1000}+x^{999}-1=0', 'x^5-x-1=0', r'|x|+|y|+|z|+|w|\le 0'),
  # Nesting.
  *(_nested('{', '2', '}'), _nested('(', '2', ')'), _nested('[', '', ']')),
  *(_nested(r'\sqrt{', '2', '}'), _nested(r'\frac{1}{', '2', '}')),
  *(_nested(r'\sin{', 'x', '}'), _nested('e^{', 'x', '}')),
  *(_nested('a_{', '1', '}'), _nested(r'\overline{', '2', '}')),
  *(_nested(r'\text{', '2', '}'), _nested(r'\left(', '2', r'\right)')),
  *(_nested(r'\boxed{', '2', '}'), r'\sin ' * 190 + '2', r'\log ' * 190 + '2'),
  # Length.
  *('2' + '+1' * 489, 'x' + '+x' * 489, '2' + '^2' * 489, 'x' * 980),
  *('x=' * 480 + '2', '2,' * 490, '(1,2),' * 160, '(' + '1,' * 400 + '2)'),
  *(r'(1,2)\cup' * 100 + '(1,2)', r'\{' + '2,' * 480 + r'\}', '|' * 980),
  *('-' * 981 + '2', '+' * 980 + '2', '$' * 980, '\\\\' * 490, '^' * 980),
  *('_' * 980, r'\pm ' * 240 + '2', '2' + r'\pm 1' * 190, r'\frac' * 190),
  *(r'\left' * 190, r'\sqrt' * 190, r'\mod ' * 190, '0.' + '3' * 970),
  r'\begin{pmatrix}' + '2&' * 450 + r'\end{pmatrix}',
  r'\begin{bmatrix}' + ('2&' * 10 + r'\\') * 40 + r'\end{bmatrix}',
  r'\begin{cases}' + r'x&y\\' * 90 + r'\end{cases}',
  # Macros.
  *(r'\def\a{\a\a}\a', r'\def\x{\def\x{\def\x{}}}', r'\input{/dev/zero}'),
  r'\newcommand{\a}{\b\b}\newcommand{\b}{\a\a}\a',
  # Characters.
  *('\u0661' * 900, '\u202e' * 900, '\U0001f600' * 900, '\x00' * 900),
  *('\ud800' * 900, '2\u0301' * 450, '\u200b' * 900, '\ufeff2', '\u202e1'),
)
RESPONSES = (
  r'</think>' + r'\boxed{' * 200_000,
  r'</think>' + r'\boxed{' * 100_000 + '2' + '}' * 100_000,
  r'</think>' + r'\boxed{2} ' * 200_000,
  '<think>' * 300_000,
  '</think>' * 300_000,
  '</think>' + '<think>' * 300_000,
  '</think>' + '{' * 2_000_000 + r'\boxed{2}',
  '</think>' + 'answer is ' * 200_000,
  '</think>' + '$' * 2_000_001,
  '</think>' + '\\[' * 1_000_000,
  '</think>' + '2,' * 1_000_000,
  '</think>' + '\\' * 2_000_001,
  '</think>' + '\x00' * 2_000_000,
  r'</think>\boxed{' + ' ' * 2_000_000 + '}',
  r'</think>\boxed' + ' ' * 2_000_000 + '{2}',
  r'</think>\boxed{' + '2' * 2_000_000 + '}',
)
