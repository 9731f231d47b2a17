"""The table of methods and their parts, as it stands in `configs/README.md`."""

import pathlib

from lrm_jax import configuration
from lrm_jax.objectives import tables

ROOT = pathlib.Path(__file__).parents[1]
COLUMNS = ('shaping', 'advantage', 'loss', 'aggregate')
# What a method has unless the last column says so.
USUAL = {
  'budget': 'constant',
  'selection': 'all_groups',
  'target': 'no_target',
  'curriculum': 'uniform',
  'revision': 'unrevised',
  'oversampling': 'no_oversampling',
  'demonstration': 'undemonstrated',
  'credit': 'as_it_is',
  'correction': 'uncorrected',
}


def methods() -> dict[str, dict[str, list[str]]]:
  """{method: {part: names}} of `configs/tiny/`."""
  found = {}
  for path in sorted((ROOT / 'configs' / 'tiny').glob('*.py')):
    if path.stem in ('__init__', 'setting'):
      continue
    objective = configuration.load(path).objective
    parts = {}
    for part in tables.PARTS:
      section = objective[part]
      named = 'name' in section
      parts[part] = [section['name']] if named else sorted(section)
    found[path.stem] = parts
  return found


def table() -> str:
  """The table in Markdown, one line a method."""
  lines = [
    '| method, and the setting of its paper | '
    + ' | '.join(COLUMNS)
    + ' | and |',
    '|---' * (len(COLUMNS) + 2) + '|',
  ]
  for name, parts in methods().items():
    links = f'[`{name}`](tiny/{name}.py) [paper]({name}_r1_1p5b.py)'
    cells = [links] + [' + '.join(parts[part]) for part in COLUMNS]
    others = [
      other
      for part, names in parts.items()
      if part not in COLUMNS
      for other in names
      if part not in USUAL or other != USUAL[part]
    ]
    cells.append(', '.join(others))
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)
