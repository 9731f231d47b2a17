"""Every error is in the table, and its text in a test."""

import ast
import re

import pytest

from tests import errors_seen, errors_table
from tests.errors_table import KINDS, ROOT, VALUE

HOW = (
  '; run `python -m pytest -p tests.errors_seen tests/X_test.py` for the tests '
  'that look at them'
)


def test_the_table_is_not_stale():
  expected = errors_table.render(errors_table.tested())
  is_same = errors_table.TABLE.read_text('utf-8') == expected
  assert is_same, f'errors.md is not of this source{HOW}'


def test_every_error_has_a_test_of_its_text():
  tested = errors_table.tested()
  missing = [
    f'{site.path}:{site.lines[0]} {site.message}'
    for site in errors_table.sites()
    if site.key not in tested and not site.is_passed_on
  ]
  text = '\n'.join(missing)
  assert not text, f'{len(missing)} errors without a test{HOW}'


def test_the_tests_are_there():
  for test in set(errors_table.tested().values()):
    path, _, name = test.partition('::')
    tree = ast.parse((ROOT / path).read_text('utf-8'))
    names = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    assert name in names, test


def test_nothing_is_left_out():
  """Each is made where it can be seen: by its own name, with a text."""
  text = ''.join(
    path.read_text('utf-8') for path in (ROOT / 'lrm_jax').rglob('*.py')
  )
  calls = re.findall(rf'(?<![\w`])({"|".join(KINDS)})\(', text)
  classes = [f'class {kind}(' for kind in KINDS]
  assert len(errors_table.sites()) == len(calls) - sum(map(text.count, classes))
  assert not re.search(rf'({"|".join(KINDS)}) as (?!error)', text)
  assert len({site.key for site in errors_table.sites()}) == len(
    errors_table.sites()
  ), 'two errors of one function have the same text: which one is tested?'


def test_few_are_passed_on():
  passed = [site for site in errors_table.sites() if site.is_passed_on]
  assert len(passed) < 10


@pytest.mark.parametrize(
  ('strings', 'is_looked_at'),
  [
    (['must be even'], True),
    (['even; give'], True),
    (['be .* give'], True),
    (['must be even', '('], True),
    (['(', 'be'], False),
    (['train.rows=3'], False),
    (['some_key', 'rows'], False),
    (['a value that is 3'], False),
    (['absent'], False),
    ([], False),
  ],
)
def test_what_counts_as_looking_at_a_text(strings, is_looked_at):
  text = f'train.rows={VALUE} in {VALUE}: must be even; give some_key another'
  message = (
    'train.rows=3 in a value that is 3: must be even; give some_key another'
  )
  assert errors_seen.looks_at(strings, text, message) == is_looked_at
