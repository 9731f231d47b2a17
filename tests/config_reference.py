"""`configs/README.md`: every key, every part of a recipe, every method.

  python -m tests.config_reference      writes it anew

Keys and their words come from `configs/default.py`, parts and theirs from the
first lines of the docstrings behind `objectives/tables.py`, methods from
`configs/tiny`. What stands before them is kept.
"""

import inspect
import json
import pathlib
import re

from lrm_jax import configuration
from lrm_jax.objectives import tables
from tests import methods_table

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / 'configs' / 'README.md'
# What a part decides.
DECIDES = {
  'budget': 'tokens a response may have, by step',
  'target': 'what the prompt asks for',
  'curriculum': 'which problems are drawn, how often, with how many responses',
  'measures': 'numbers read off the text, for others',
  'revision': 'tokens taken out before grading',
  'shaping': 'what a response earns; a sum',
  'selection': 'which groups are trained on',
  'oversampling': 'problems drawn to fill a batch',
  'demonstration': 'groups that learn a given response',
  'advantage': 'better than expected by how much',
  'bonuses': 'advantages of single tokens; a sum',
  'credit': 'which tokens are trained, with what',
  'correction': 'weights of samples of another policy',
  'loss': 'loss of a token, sequence or group',
  'regularizers': 'terms beside it, each with a coefficient; a sum',
  'aggregate': 'the denominators',
}


def page() -> str:
  """All of it, in Markdown."""
  introduction, _, _ = PAGE.read_text('utf-8').partition('\n\n## Keys\n')
  sections = [
    introduction,
    '## Keys\n\nLengths are in tokens; `null` is none.\n\n' + keys(),
    '## Parts of a recipe\n\n`config.objective` has one of each, or a '
    'dictionary of several where it says *a sum*. Formula, units and source '
    'stand in the docstring.\n\n' + '\n\n'.join(map(part, tables.PARTS)),
    '## Methods\n\nWhat is not named is usual: a constant budget, all groups, '
    'every problem alike.\n\n' + methods_table.table(),
  ]
  return '\n\n'.join(sections) + '\n'


def keys() -> str:
  """A line per key of `default.py`: name, value, its comment."""
  source = (ROOT / 'configs' / 'default.py').read_text('utf-8')
  said = comments(source)
  values = configuration.flatten(
    configuration.load(ROOT / 'configs' / 'default.py')
  )
  lines = ['| key | default | is |', '|---|---|---|']
  for name in said:
    value = cell(json.dumps(values[name]).replace('Infinity', 'inf'))
    lines.append(f'| `{name}` | `{value}` | {cell(said[name])} |')
  return '\n'.join(lines)


def comments(source: str) -> dict[str, str]:
  """The comment of each key, by its dotted name, in the order of the file."""
  found, path = {}, []
  for line in source.split('\n'):
    opened = re.match(r'    +(\w+)=dict\(', line)
    stated = re.match(r'    +(\w+)=[^#]*?,\s*# (.*)$', line)
    if opened:
      path.append(opened[1])
    elif path and re.match(r'\s+\),$', line):
      path.pop()
    elif stated:
      found['.'.join([*path, stated[1]])] = stated[2]
  return found


def part(name: str) -> str:
  """The names of a part, each with the first line of its docstring."""
  lines = [
    f'**{name}**: {DECIDES[name]}',
    '',
    '| name | does | keys |',
    '|---|---|---|',
  ]
  for key, function in sorted(tables.PARTS[name].items()):
    said = cell(inspect.getdoc(function).split('\n')[0])
    lines.append(f'| `{key}` | {said} | {keywords(function)} |')
  return '\n'.join(lines)


def keywords(function) -> str:
  """Its keys, and what they are if they are left out."""
  cells = []
  for parameter in inspect.signature(function).parameters.values():
    if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
      continue
    default = parameter.default
    value = '' if default is inspect.Parameter.empty else f'={number(default)}'
    cells.append(f'`{parameter.name}{value}`')
  return ' '.join(cells)


def number(value) -> str:
  """A default as one would write it."""
  if isinstance(value, str):
    return json.dumps(value)
  return f'{value:.6g}' if isinstance(value, float) else str(value)


def cell(text: str) -> str:
  """Text that ends no cell of a table."""
  return text.replace('|', '\\|')


if __name__ == '__main__':
  PAGE.write_text(page(), 'utf-8')
