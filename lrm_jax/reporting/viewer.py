"""The rollout viewer's controls, as they stand in the page.

`page/viewer.js` fills them; each is found by its id, `v-NAME`.
"""

from collections.abc import Sequence

from lrm_jax.reporting import samples
from lrm_jax.reporting.markup import Markup, element

_SORTS = (
  ('order', 'as sampled'),
  ('longest', 'longest first'),
  ('shortest', 'shortest first'),
  ('best', 'highest advantage'),
  ('worst', 'lowest advantage'),
)
_SHADES = (
  ('logp', 'log-probability'),
  ('entropy', 'entropy'),
  ('advantage', 'advantage'),
  ('none', 'nothing'),
)
_KEYS = (
  (('/',), 'search problems by id or question'),
  (('j', 'k'), 'next and previous response'),
  (('↓', '↑'), 'the same, where the list has the focus'),
  (('Enter',), 'open the chosen response'),
  (('→', '←'), 'next and previous response, or token in a text'),
  (('Esc',), 'close'),
  (('?',), 'this help'),
)


def frame() -> Markup:
  """Controls, list and dialogs, which scripts bring to life."""
  return element(
    'div',
    {},
    element('p', {'id': 'v-loading'}, 'Unpacking the rollouts …'),
    element(
      'noscript',
      {},
      element(
        'p', {}, 'Rollouts are shown by scripts, which are switched off.'
      ),
    ),
    element(
      'div',
      {'id': 'v-viewer', 'hidden': True},
      _controls(),
      element(
        'div',
        {'class': 'bar-of-list'},
        element('span', {'id': 'v-count', 'role': 'status'}),
        _button('help-button', 'Keys (?)'),
      ),
      element(
        'div',
        {
          'id': 'v-list',
          'class': 'list',
          'role': 'listbox',
          'tabindex': '0',
          'aria-label': 'responses',
        },
      ),
    ),
    _dialog(),
    _help(),
  )


def _controls() -> Markup:
  number = {'type': 'number', 'min': '0', 'inputmode': 'numeric'}
  verdicts = [
    element(
      'label',
      {},
      element(
        'input',
        {
          'type': 'checkbox',
          'name': 'v-verdict',
          'value': name[0],
          'checked': True,
        },
      ),
      name,
    )
    for name in samples.VERDICTS
  ]
  return element(
    'div',
    {'class': 'controls', 'role': 'search', 'aria-label': 'responses'},
    _labelled(
      'Problem',
      element('input', {'id': 'v-search', 'type': 'search', **_SEARCH}),
      'wide',
    ),
    element(
      'fieldset',
      {},
      element('legend', {}, 'Verdict'),
      element('div', {'class': 'checks'}, *verdicts),
    ),
    _pair('Length, tokens', ('min', 'max'), ('shortest', 'longest'), number),
    _pair('Step', ('from', 'to'), ('first step', 'last step'), number),
    _labelled('From', _select('part', [('', 'everything')])),
    _labelled('Order', _select('sort', _SORTS)),
    _button('reset', 'Reset'),
  )


_SEARCH = {'placeholder': 'id or words of the question', 'autocomplete': 'off'}


def _dialog() -> Markup:
  tools = element(
    'div',
    {'class': 'tools'},
    _button('previous', '← Previous'),
    _button('next', 'Next →'),
    element('span', {'id': 'v-position', 'class': 'position'}),
    _labelled('Shade', _select('shade', _SHADES)),
    _labelled('Beside it', _select('beside', ())),
    _button('close', 'Close', 'close'),
  )
  box = {'id': 'v-dialog', 'class': 'rollout', 'aria-label': 'response'}
  return element(
    'dialog',
    box,
    # The focus is on what scrolls, and on no button.
    element(
      'div',
      {'class': 'inside', 'tabindex': '-1', 'autofocus': True},
      tools,
      element('dl', {'id': 'v-problem', 'class': 'problem'}),
      element('div', {'id': 'v-legend', 'class': 'shades'}),
      element('div', {'id': 'v-panels', 'class': 'panels'}),
    ),
  )


def _help() -> Markup:
  rows = []
  for keys, text in _KEYS:
    names = [element('kbd', {}, key) for key in keys]
    rows += [element('dt', {}, *names), element('dd', {}, text)]
  return element(
    'dialog',
    {'id': 'v-help', 'class': 'help', 'aria-labelledby': 'v-help-title'},
    element('h2', {'id': 'v-help-title'}, 'Keys'),
    element('dl', {}, *rows),
    _button('help-close', 'Close'),
  )


def _labelled(name: str, control: Markup, kind: str | None = None) -> Markup:
  return element('label', {'class': kind}, name, control)


def _pair(
  name: str, ids: Sequence[str], labels: Sequence[str], attributes: dict
) -> Markup:
  first, last = (
    element('input', {'id': f'v-{i}', 'aria-label': label, **attributes})
    for i, label in zip(ids, labels, strict=True)
  )
  return element(
    'fieldset',
    {},
    element('legend', {}, name),
    element('div', {'class': 'pair'}, first, 'to', last),
  )


def _select(name: str, options: Sequence[tuple[str, str]]) -> Markup:
  found = [element('option', {'value': key}, text) for key, text in options]
  return element('select', {'id': f'v-{name}'}, *found)


def _button(name: str, text: str, kind: str | None = None) -> Markup:
  return element(
    'button', {'id': f'v-{name}', 'type': 'button', 'class': kind}, text
  )
