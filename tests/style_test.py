"""The rules of the house, read from the source.

What ruff checks (docstrings, names, imports, line length) is not here.
"""

import ast
import dataclasses
import functools
import importlib
import importlib.metadata
import pathlib
import re
import sys

import pytest

from lrm_jax.objectives import recipe, tables

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = sorted((ROOT / 'lrm_jax').rglob('*.py'))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def _tree(path):
  return ast.parse(path.read_text('utf-8'))


def _find(*kinds):
  """(where, node) of every node of these kinds in the package."""
  for path in PACKAGE:
    for node in ast.walk(_tree(path)):
      if isinstance(node, kinds):
        yield f'{path.relative_to(ROOT)}:{node.lineno}', node


def _lines(node):
  return node.end_lineno - node.lineno + 1


# --- Sizes and names ---


def test_files_are_short():
  lines = {path.name: path.read_text().count('\n') for path in PACKAGE}
  assert not {k: v for k, v in lines.items() if v >= MAX_FILE_LINES}


def test_functions_are_short():
  """The loops included. Functions inside a function count on their own."""

  def own_lines(node):
    """Without the functions directly inside, which pass by themselves."""
    inner, stack = [], list(ast.iter_child_nodes(node))
    while stack:
      child = stack.pop()
      if isinstance(child, FUNCTIONS):
        inner.append(child)
      else:
        stack.extend(ast.iter_child_nodes(child))
    return _lines(node) - sum(map(_lines, inner))

  sizes = {
    f'{where} {node.name}': own_lines(node) for where, node in _find(*FUNCTIONS)
  }
  assert not {k: v for k, v in sizes.items() if v >= MAX_FUNCTION_LINES}


def _dependencies():
  """The import names of what setup.py requires."""
  setup = ast.parse((ROOT / 'setup.py').read_text())
  (required,) = (
    ast.literal_eval(node.value)
    for node in ast.walk(setup)
    if isinstance(node, ast.keyword) and node.arg == 'install_requires'
  )
  normal = lambda name: re.sub('[-_.]+', '-', name).lower()
  wanted = {normal(re.match(r'[\w.-]+', text)[0]) for text in required}
  return {
    module
    for module, owners in importlib.metadata.packages_distributions().items()
    if wanted & set(map(normal, owners))
  }


def test_no_module_has_the_name_of_another():
  """`python lrm_jax/main.py` would import ours instead."""
  dependencies = _dependencies()
  assert {'jax', 'optax', 'tokenizers', 'math_verify'} <= dependencies
  taken = dependencies | set(sys.stdlib_module_names) | {'utils'}
  own = {path.stem for path in PACKAGE} | {path.parent.name for path in PACKAGE}
  assert not own & taken


# --- What the package does not do ---


def test_no_bare_assert():
  """They vanish under `python -O`, and say nothing to the user."""
  assert not [where for where, _ in _find(ast.Assert)]


def test_no_silent_defaults():
  """`config.get(key, default)` hides a typo, `x or default` a zero."""
  found = []
  for where, node in _find(ast.Call):
    function = node.func
    if isinstance(function, ast.Attribute) and function.attr == 'get':
      if re.search(r'\bconfig', ast.unparse(function.value)):
        found.append(f'{where} {ast.unparse(node)}')
  literals = (ast.List, ast.Dict, ast.Tuple, ast.Set)
  for where, node in _find(ast.BoolOp):
    last = node.values[-1]
    is_default = isinstance(last, literals) or 'default' in ast.unparse(last)
    if isinstance(last, ast.Constant):
      is_default = not isinstance(last.value, bool)
    if isinstance(node.op, ast.Or) and is_default:
      found.append(f'{where} {ast.unparse(node)}')
  assert not found


def test_no_deprecated_jax():
  """`jax.jit`, `jax.shard_map` and `jax.set_mesh` have taken their places."""
  found = []
  for where, node in _find(ast.Name, ast.Attribute, ast.alias):
    text = node.name if isinstance(node, ast.alias) else ast.unparse(node)
    if re.search(r'\bpjit\b|experimental\.(shard_map|maps)\b', text):
      found.append(f'{where} {text}')
  for where, node in _find(ast.ImportFrom):
    names = {alias.name for alias in node.names}
    if node.module == 'jax.experimental' and names & {'pjit', 'shard_map'}:
      found.append(f'{where} {ast.unparse(node)}')
  for where, node in _find(ast.With):
    for item in node.items:
      # A mesh as a context; jax.set_mesh(mesh) is a call.
      text = ast.unparse(item.context_expr)
      if re.search(r'mesh\w*$', text, re.IGNORECASE):
        found.append(f'{where} with {text}')
  assert not found


# --- Recipes ---

PARTS = [(part, name) for part, table in tables.PARTS.items() for name in table]
# Parts without a formula to write down again.
WITHOUT_REFERENCE = {
  'level_target': 'a draw: its law is tested',
  'uniform_target': 'a draw: its law is tested',
}


def _module(part, name):
  """The module of a part below `objectives`, such as `shaping.capped`."""
  module = tables.PARTS[part][name].__module__
  assert module.startswith('lrm_jax.objectives.')
  return module.removeprefix('lrm_jax.objectives.')


def test_the_tables_are_all_there_are():
  found = [
    value
    for name, value in vars(tables).items()
    if name.isupper() and isinstance(value, dict) and not name.startswith('_')
  ]
  companions = [
    tables.PARTS,
    tables.MEMORIES,
    tables.OBSERVERS,
    tables.PREPARERS,
  ]
  assert len(found) == len(tables.PARTS) + len(companions)
  names = {name for _, name in PARTS}
  for table in companions[1:]:
    assert set(table) <= names
  fields = [field.name for field in dataclasses.fields(recipe.Recipe)]
  assert list(tables.PARTS) == fields


@pytest.mark.parametrize(('part', 'name'), PARTS)
def test_every_part_is_named_after_its_function(part, name):
  assert tables.PARTS[part][name].__name__ == name
  assert _module(part, name)


@pytest.mark.parametrize(('part', 'name'), PARTS)
def test_every_part_has_a_reference(part, name):
  """In float64 loops from the formula, or the reason why not."""
  path = f'tests.objectives.reference.{_module(part, name).replace(".", "_")}'
  if name in WITHOUT_REFERENCE:
    return
  reference = getattr(importlib.import_module(path), name)
  assert reference.__module__ == path
  # It stands on its own: nothing of the package is called.
  tree = _tree(ROOT / f'{path.replace(".", "/")}.py')
  imported = {
    node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
  }
  assert not [m for m in imported if m and 'lrm_jax.objectives' in m]


def test_no_reason_is_given_for_a_part_that_is_gone_or_has_one():
  missing = set()
  for part, name in PARTS:
    path = f'tests.objectives.reference.{_module(part, name).replace(".", "_")}'
    if not hasattr(importlib.import_module(path), name):
      missing.add(name)
  assert missing == set(WITHOUT_REFERENCE)


@pytest.mark.parametrize(('part', 'name'), PARTS)
def test_every_part_is_tested_in_the_file_of_its_module(part, name):
  *folders, module = _module(part, name).split('.')
  path = ROOT.joinpath('tests', 'objectives', *folders, f'{module}_test.py')
  words = set()
  for node in ast.walk(_tree(path)):
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == module:
      words.add(node.attr)
    if isinstance(node, ast.Constant):
      words.add(node.value)
  assert name in words, f'{path.name} never names {name}'


# --- Words ---


def _texts():
  """Every text file that belongs to the repository."""
  folders = ('lrm_jax', 'tests', 'configs', 'experiments', 'colab', '.ci')
  paths = [path for path in ROOT.iterdir() if path.is_file()]
  for folder in folders:
    paths += (ROOT / folder).rglob('*')
  for path in sorted(paths):
    if path.is_file() and '__pycache__' not in path.parts:
      try:
        yield path.relative_to(ROOT).as_posix(), path.read_text('utf-8')
      except UnicodeDecodeError:  # An array or a picture.
        continue


def test_no_paths_of_one_machine():
  """A path that only exists where the line was written helps nobody."""
  pattern = re.compile(r'(?<![\w.~])/(work|root|home|Users)/\w')
  texts = dict(_texts())
  assert {'README.md', 'setup.py', 'lrm_jax/main.py', '.ci/run'} <= set(texts)
  found = [
    f'{name}:{number} {line.strip()}'
    for name, text in texts.items()
    for number, line in enumerate(text.splitlines(), 1)
    if pattern.search(line)
  ]
  assert not found
