"""Gold answers against themselves, and against each other."""

import json
import pathlib
import random
from fractions import Fraction

import sympy

from lrm_jax.rewards.pool import Grader


def read(folder: pathlib.Path) -> dict[str, list[str]]:
  """The answers of every .jsonl file, by name."""
  return {
    path.stem: [
      str(json.loads(line)['answer'])
      for line in path.read_text('utf-8').splitlines()
      if line.strip()
    ]
    for path in sorted(folder.glob('*.jsonl'))
  }


def check(files: dict[str, list[str]], grader: Grader, seed: int) -> dict:
  r"""What the verifier says of `\boxed{gold}`.

  Args:
    files: gold answers by the name of their file.
    grader: of the package.
    seed: of the order in which golds are compared with one another.

  Returns:
    Counts, golds that do not equal themselves, and accepted pairs of golds
    that are spelled differently, each with `is_equal`'s word on it.
  """
  answers = [a for column in files.values() for a in column]
  if not answers:
    return {}
  own = grader.grade([(_boxed(a), a) for a in answers])
  others = list(answers)
  random.Random(seed).shuffle(others)
  pairs = list(dict.fromkeys(zip(others, answers, strict=True)))
  pairs = [(a, b) for a, b in pairs if a.strip() != b.strip()]
  verdicts = grader.grade([(_boxed(a), b) for a, b in pairs])
  accepted = [p for p, v in zip(pairs, verdicts, strict=True) if v.correct]
  return {
    'golds': len(answers),
    'accepted_as_themselves': sum(v.correct for v in own),
    'refused_as_themselves': [
      a for a, v in zip(answers, own, strict=True) if not v.correct
    ],
    'pairs_of_different_spelling': len(pairs),
    'accepted_pairs': [
      {'answer': a, 'gold': b, 'equal_by_value': is_equal(a, b)}
      for a, b in accepted
    ],
  }


def is_equal(answer: str, gold: str) -> bool:
  """A second opinion: the same text without dress, or the same number.

  It knows plain numbers, fractions, roots and pi, and no more: False says
  that somebody has to look.
  """
  a, b = _plain(answer), _plain(gold)
  if a == b:
    return True
  x, y = _value(a), _value(b)
  return x is not None and y is not None and x == y


def _boxed(answer: str) -> str:
  return rf'thoughts</think>It is $\boxed{{{answer}}}$.'


def _plain(text: str) -> str:
  for dress in (r'\left', r'\right', r'\!', r'\,', '$', '\\ ', ' ', r'\text'):
    text = text.replace(dress, '')
  text = text.replace('dfrac', 'frac').replace('tfrac', 'frac')
  return text.replace(r'\%', '').replace(r'^\circ', '').strip('.')


def _value(text: str):
  """The number, exactly; None for anything else."""
  text = text.replace(',', '').rpartition('=')[2]
  try:
    return Fraction(text)
  except (ValueError, ZeroDivisionError):
    pass
  try:
    from latex2sympy2_extended import latex2sympy

    value = latex2sympy(text)
    return sympy.simplify(value) if value.is_number else None
  except Exception:
    return None
