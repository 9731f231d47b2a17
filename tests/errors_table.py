"""The table of all errors a user can meet, as it stands in `errors.md`.

python -m tests.errors_table                        writes the table anew
python -m pytest -p tests.errors_seen tests/X_test.py    and which tests of X
                                                    look at the text of an error
"""

import ast
import collections
import functools
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
TABLE = ROOT / 'tests' / 'errors.md'
KINDS = ('UserError', 'CheckFailed')
# In the place of a value that is only known when an error is raised.
VALUE = '\0'
# Names of keys, flags and files within a message: tests have them anyway.
KEYS = re.compile(r'\S*[=._/]\w\S*|\S+=')
# Letters of a message's own words that a test has to look at.
LEAST = 4
_PASSED_ON = 'what it passes on is'
HEAD = """\
# Errors

Every error that a mistake of a user, or a file that is not what it should be,
can end in. A `UserError` is printed as `lrm: error: MESSAGE` and the exit code
is 2; a `CheckFailed` as `lrm: check failed: MESSAGE` and the exit code is 1.
`{...}` stands for a value. The last column is a test that looks at the text.

Made by `python -m tests.errors_table`, and the last column by
`python -m pytest -p tests.errors_seen tests/X_test.py`. Not edited by hand.
"""
_ROW = re.compile(r'\| `` (.*) `` \| (\w+) \| `(\w+)` \| `(\S+::\w+)` \|')


class Site(NamedTuple):
  """A place where an error is made.

  Attributes:
    path: of the module, below the root.
    lines: of the call, the first and the last.
    function: the innermost one.
    kind: one of KINDS.
    message: with `{name}` or `{...}` for values.
    text: the same with VALUE for values.
  """

  path: str
  lines: tuple[int, int]
  function: str
  kind: str
  message: str
  text: str

  @property
  def is_passed_on(self) -> bool:
    """Whether the message is that of another error, with a name before it."""
    own = KEYS.sub('', self.text.replace(VALUE, ' '))
    return sum(map(str.isalpha, own)) < LEAST

  @property
  def key(self) -> tuple[str, str, str]:
    """What stays the same when lines move."""
    return self.path, self.function, self.message


@functools.cache
def sites() -> tuple[Site, ...]:
  """All errors of the package, by file and line."""
  found = []
  for path in sorted((ROOT / 'lrm_jax').rglob('*.py')):
    name = path.relative_to(ROOT).as_posix()
    found += _sites(name, ast.parse(path.read_text('utf-8')), '')
  return tuple(sorted(found))


def _sites(path: str, node: ast.AST, function: str) -> Iterator[Site]:
  if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
    function = node.name
  if isinstance(node, ast.Call):
    kind = ast.unparse(node.func).rpartition('.')[2]
    if kind in KINDS:
      message = _text(node.args[0], _shown)
      yield Site(
        path,
        (node.lineno, node.end_lineno),
        function,
        kind,
        ' '.join(message.replace('|', '\\|').split()),
        _text(node.args[0], lambda value: VALUE),
      )
  for child in ast.iter_child_nodes(node):
    yield from _sites(path, child, function)


def _text(node: ast.AST, show) -> str:
  """The text of an expression, its values as a function shows them."""
  if isinstance(node, ast.Constant):
    return str(node.value)
  if isinstance(node, ast.JoinedStr):
    return ''.join(_text(value, show) for value in node.values)
  if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
    return _text(node.left, show) + _text(node.right, show)
  return show(node.value if isinstance(node, ast.FormattedValue) else node)


def _shown(value: ast.AST) -> str:
  """A name as it is; of anything longer only that it is there."""
  text = ast.unparse(value)
  return f'{{{text}}}' if re.fullmatch(r'[A-Za-z]\w*', text) else '{...}'


def render(tests: Mapping[tuple[str, str, str], str]) -> str:
  """The table in Markdown, one section a module.

  Args:
    tests: key of a site -> the test that looks at its text.
  """
  modules = collections.defaultdict(list)
  for site in sites():
    modules[site.path].append(site)
  lines = [HEAD]
  for path, found in modules.items():
    lines += [f'## {path}', '', '| message | kind | raised in | tested in |']
    lines += ['|---|---|---|---|']
    for site in found:
      test = f'`{tests[site.key]}`' if site.key in tests else ''
      test = _PASSED_ON if site.is_passed_on else test
      lines.append(
        f'| `` {site.message} `` | {site.kind} | `{site.function}` | {test} |'
      )
    lines.append('')
  return '\n'.join(lines)


def tested() -> dict[tuple[str, str, str], str]:
  """{key of a site: its test} as the table has it."""
  found, path = {}, ''
  lines = TABLE.read_text('utf-8').splitlines() if TABLE.exists() else []
  for line in lines:
    if line.startswith('## '):
      path = line.removeprefix('## ')
    row = _ROW.fullmatch(line)
    if row:
      found[path, row[3], row[1]] = row[4]
  return found


if __name__ == '__main__':
  TABLE.write_text(render(tested()), 'utf-8')
