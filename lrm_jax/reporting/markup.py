"""HTML and SVG as values: whatever is not markup by type is escaped.

  element('p', {'class': 'note'}, 'a < b', element('b', {}, 'c'))

A `Markup` is made by `element` and `join` only, from names in the source; a
text of a model, a data set or a config is a plain `str`, and so becomes text.
Nothing else on a page is made in another way, apart from the page's own
stylesheet and scripts.
"""

import html
import re
from collections.abc import Iterable, Mapping

# What has no picture of its own, or moves what stands beside it: controls,
# marks of direction, line and paragraph separators, halves of a pair.
_UNSEEN = re.compile(
  '[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e'
  '\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]'
)
_NAME = re.compile(r'[A-Za-z][A-Za-z0-9:-]*')
_VOID = frozenset(('br', 'hr', 'input', 'link', 'meta'))


class Markup(str):
  """A piece of HTML or SVG that is whole."""

  __slots__ = ()


Child = str | Markup


def visible(text: str) -> str:
  """A text in which what cannot be seen is written as its number."""
  return _UNSEEN.sub(lambda found: f'\\u{ord(found[0]):04x}', text)


def escape(text: str) -> Markup:
  """A text, as markup that shows it; safe in a quoted attribute too."""
  return Markup(html.escape(visible(text), quote=True))


def element(
  name: str, attributes: Mapping[str, object], *children: Child
) -> Markup:
  """One element.

  Args:
    name: of the element.
    attributes: True stands for a bare one, None and False for none; floats
      are rounded to two places.
    *children: texts, which are escaped, and markup.

  Raises:
    ValueError: for a name that is none: names are never data.
  """
  parts = [_checked(name)]
  for key, value in attributes.items():
    if value is None or value is False:
      continue
    key = _checked(key)
    parts.append(key if value is True else f'{key}="{_quoted(value)}"')
  head = f'<{" ".join(parts)}>'
  if name in _VOID:
    return Markup(head)
  return Markup(f'{head}{join(children)}</{name}>')


def join(children: Iterable[Child]) -> Markup:
  """Texts and markup, one behind the other."""
  return Markup(
    ''.join(
      child if isinstance(child, Markup) else escape(child)
      for child in children
    )
  )


def table(
  caption: Child, header: Iterable[Child], rows: Iterable[Iterable[Child]]
) -> Markup:
  """A table, whose first column names the rows, in a box that may scroll.

  Args:
    caption: says what it is.
    header: of the columns.
    rows: of cells, as many as there are columns.
  """
  head = [element('th', {'scope': 'col'}, cell) for cell in header]
  body = []
  for first, *cells in rows:
    body.append(
      element(
        'tr',
        {},
        element('th', {'scope': 'row'}, first),
        *(element('td', {}, cell) for cell in cells),
      )
    )
  found = element(
    'table',
    {},
    element('caption', {}, caption),
    element('thead', {}, element('tr', {}, *head)),
    element('tbody', {}, *body),
  )
  # What scrolls must be reached by the keyboard.
  box = {'class': 'scroll', 'tabindex': '0', 'role': 'group'}
  return element('div', {**box, 'aria-label': 'table'}, found)


def _checked(name: str) -> str:
  if not _NAME.fullmatch(name):
    raise ValueError(f'{name!r} is no name of an element or an attribute')
  return name


def _quoted(value: object) -> str:
  if isinstance(value, float):
    text = f'{value:.2f}'.rstrip('0').rstrip('.')
    return '0' if text == '-0' else text
  return escape(str(value))
