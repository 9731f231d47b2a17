"""One page of HTML that needs nothing else: words, charts, data, scripts.

The policy in its head lets nothing in from outside, and runs only the scripts
below, by their hashes: whatever a text of a run spells, it is not among them.
"""

import base64
import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lrm_jax.reporting import viewer
from lrm_jax.reporting.markup import Markup, element, join

STYLES = ('page.css', 'charts.css', 'viewer.css')
# In the order in which they need each other.
SCRIPTS = (
  *('tokens.js', 'store.js', 'filters.js', 'list.js'),
  *('detail.js', 'viewer.js'),
)
# Runs before anything is painted.
_THEME = 'theme.js'


class Section(NamedTuple):
  """A part of the page.

  Attributes:
    name: its id, and its word in the navigation.
    title: its heading.
    text: what it is, in a sentence or two; '' for nothing.
    body: tables and others, one below the other.
    figures: beside each other, as many as there is room for.
  """

  name: str
  title: str
  text: str
  body: Sequence[Markup]
  figures: Sequence[Markup] = ()


def render(
  title: str,
  subtitle: str,
  notes: Sequence[str],
  sections: Sequence[Section],
  blobs: Mapping[str, str],
) -> str:
  """The page.

  Args:
    title: of the page.
    subtitle: below it.
    notes: what a reader should know, such as what was left out.
    sections: those with nothing in them are left out.
    blobs: of `Store.blobs`; none where there are no rollouts.
  """
  sections = [s for s in sections if s.body or s.figures]
  if blobs:
    sections.append(
      Section(
        'rollouts',
        'Rollouts',
        'Stored responses with their problems; open one to see its tokens, '
        'beside another response to the same problem.',
        [viewer.frame()],
      )
    )
  body = element(
    'body',
    {},
    element('a', {'class': 'skip', 'href': '#main'}, 'Skip to the content'),
    _patterns(),
    element(
      'header',
      {'class': 'head'},
      element('h1', {}, title),
      element('p', {'class': 'soft'}, subtitle),
      element('ul', {'class': 'notes'}, *(element('li', {}, n) for n in notes))
      if notes
      else Markup(),
    ),
    _navigation(sections),
    element('main', {'id': 'main'}, *map(_section, sections)),
    *_data(blobs),
    *(_script(name) for name in SCRIPTS if blobs),
  )
  html = element('html', {'lang': 'en'}, _head(title, bool(blobs)), body)
  return f'<!DOCTYPE html>\n{html}\n'


def policy(has_viewer: bool) -> str:
  """What the browser may load and run."""
  names = (_THEME, *SCRIPTS) if has_viewer else (_THEME,)
  scripts = ' '.join(f"'{_hash(_read(name))}'" for name in names)
  styles = f"'{_hash(_style())}'"
  return (
    f"default-src 'none'; script-src {scripts}; style-src {styles}; "
    "base-uri 'none'; form-action 'none'"
  )


def _head(title: str, has_viewer: bool) -> Markup:
  meta = lambda **attributes: element('meta', attributes)
  return element(
    'head',
    {},
    meta(charset='utf-8'),
    element(
      'meta',
      {
        'http-equiv': 'Content-Security-Policy',
        'content': policy(has_viewer),
      },
    ),
    meta(name='viewport', content='width=device-width, initial-scale=1'),
    meta(name='referrer', content='no-referrer'),
    element('title', {}, title),
    # The page's own text; a style or a script ends at its end tag only.
    element('style', {}, Markup(_style())),
    _script(_THEME),
  )


def _navigation(sections: Sequence[Section]) -> Markup:
  links = [
    element('li', {}, element('a', {'href': f'#{s.name}'}, s.name.capitalize()))
    for s in sections
  ]
  button = element(
    'button', {'id': 'theme', 'type': 'button', 'hidden': True}, 'Theme'
  )
  return element(
    'nav',
    {'aria-label': 'sections'},
    element('div', {}, element('ul', {}, *links), button),
  )


def _section(section: Section) -> Markup:
  title = f'{section.name}-title'
  return element(
    'section',
    {'id': section.name, 'aria-labelledby': title},
    element('h2', {'id': title}, section.title),
    element('p', {'class': 'about'}, section.text)
    if section.text
    else Markup(),
    *section.body,
    element('div', {'class': 'figures'}, *section.figures)
    if section.figures
    else Markup(),
  )


def _patterns() -> Markup:
  """What fills parts of histograms beside their colour."""
  box = {'width': 6, 'height': 6, 'patternUnits': 'userSpaceOnUse'}
  ground = {'width': 6, 'height': 6}
  hatch = element(
    'pattern',
    {'id': 'hatch', **box, 'patternTransform': 'rotate(45)'},
    element('rect', {'class': 'hatch-ground', **ground}),
    element('line', {'class': 'hatch-line', 'x1': 0, 'y1': 0, 'y2': 6}),
  )
  dots = element(
    'pattern',
    {'id': 'dots', **box},
    element('rect', {'class': 'dots-ground', **ground}),
    element('circle', {'class': 'dots-dot', 'cx': 3, 'cy': 3, 'r': 1.6}),
  )
  return element(
    'svg',
    {'class': 'defs', 'aria-hidden': 'true'},
    element('defs', {}, hatch, dots),
  )


def _data(blobs: Mapping[str, str]) -> list[Markup]:
  """Blobs as scripts that no browser runs."""
  kind = {'type': 'application/octet-stream'}
  return [
    element('script', {'id': f'blob-{name}', **kind}, text)
    for name, text in blobs.items()
  ]


def _script(name: str) -> Markup:
  return element('script', {}, Markup(_read(name)))


def _style() -> str:
  return join(Markup(_read(name)) for name in STYLES)


def _read(name: str) -> str:
  folder = importlib.resources.files('lrm_jax.reporting').joinpath('page')
  return folder.joinpath(name).read_text('utf-8')


def _hash(text: str) -> str:
  digest = hashlib.sha256(text.encode()).digest()
  return f'sha256-{base64.b64encode(digest).decode()}'
