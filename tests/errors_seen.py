"""Notes in `errors.md` which tests look at the text of which error.

python -m pytest -p tests.errors_seen tests/X_test.py

An error counts where it was raised in a test of this process, and the test has
a string that is found in the message, in words that are the message's own: not
in the values within it, nor in the names of keys.
"""

import pathlib
import re
import sys
import types
from collections.abc import Iterator
from typing import Any

from lrm_jax import errors
from tests import errors_table
from tests.errors_table import KEYS, LEAST, ROOT, VALUE, Site

_raised: list[tuple[Site, str]] = []
_seen: dict[tuple[str, str, str], str] = {}
_passed: set[str] = set()


def pytest_configure():
  """Lets every error note where it is made."""
  places = {}
  for site in errors_table.sites():
    for line in range(site.lines[0], site.lines[1] + 1):
      places[str(ROOT / site.path), line] = site
  for kind in (errors.UserError, errors.CheckFailed):

    def noting(self, *arguments, _init=kind.__init__):
      frame = sys._getframe(1)
      place = frame.f_code.co_filename, frame.f_lineno
      if place in places:
        _raised.append((places[place], str(arguments[0])))
      _init(self, *arguments)

    kind.__init__ = noting


def pytest_runtest_logreport(report):
  """Which tests passed; of the others nothing counts."""
  if report.when == 'call' and report.passed:
    _passed.add(report.nodeid)


def pytest_runtest_teardown(item):
  """Goes through what the test raised."""
  if item.nodeid not in _passed:
    _raised.clear()
  code = item.function.__code__
  strings = [text for text in _strings(code) if text != item.function.__doc__]
  if hasattr(item, 'callspec'):
    strings += _strings(item.callspec.params)
  for site, message in _raised:
    if site.key not in _seen and looks_at(strings, site.text, message):
      path = pathlib.Path(item.path).relative_to(ROOT)
      _seen[site.key] = f'{path.as_posix()}::{item.originalname}'
  _raised.clear()


def pytest_sessionfinish():
  """Writes the table anew; of older tests those that are still there stay."""
  tests = errors_table.tested() | _seen
  errors_table.TABLE.write_text(errors_table.render(tests), 'utf-8')


def looks_at(strings: list[str], text: str, message: str) -> bool:
  """Whether one of a test's strings is found in a message's own words.

  Args:
    strings: texts or regular expressions.
    text: the message with VALUE in place of values.
    message: as it was raised.
  """
  parts = map(re.escape, text.split(VALUE))
  match = re.fullmatch('(.*?)'.join(parts), message, re.DOTALL)
  if match is None:
    return False
  own = list(message)
  spans = [match.span(n + 1) for n in range(match.re.groups)]
  spans += [found.span() for found in KEYS.finditer(message)]
  for start, stop in spans:
    own[start:stop] = ' ' * (stop - start)
  own = ''.join(own)
  return any(
    sum(map(str.isalpha, own[start:stop])) >= LEAST
    for string in strings
    for start, stop in _found(string, message)
  )


def _found(string: str, message: str) -> Iterator[tuple[int, int]]:
  start = message.find(string)
  if start >= 0:
    yield start, start + len(string)
  try:
    match = re.search(string, message)
  except re.error:
    return
  if match:
    yield match.span()


def _strings(value: Any) -> Iterator[str]:
  """All strings of a function's code, or of a test's parameters."""
  if isinstance(value, str):
    yield value
  elif isinstance(value, types.CodeType):
    yield from _strings(value.co_consts)
  elif isinstance(value, dict):
    yield from _strings([*value, *value.values()])
  elif isinstance(value, (list, tuple, set, frozenset)):
    for item in value:
      yield from _strings(item)
