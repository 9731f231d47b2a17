"""The page in a browser: it works, and nothing of what a model wrote runs."""

import json

import pytest

from lrm_jax import main
from lrm_jax.reporting import samples
from tests import browser
from tests.reporting import folders

READY = 'window.viewer !== undefined'
OPEN = "document.querySelector('#v-dialog[open] .panel') !== null"
COUNT = "document.getElementById('v-count').textContent"


@pytest.fixture(scope='module')
def rows():
  """What stands in the page's files, in its order."""
  return [
    *folders.evaluation_rows(right=0),
    *folders.evaluation_rows(right=1),
    *(row for step in (1, 2, 3) for row in folders.step_rows(step)),
  ]


@pytest.fixture(scope='module')
def address(tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs') / 'dler'
  folders.write_run(folder, rows=True)
  assert main.main(['lrm', 'report', str(folder)]) == 0
  return f'file://{folder}/report.html'


@pytest.fixture
def viewer(chromium, address):
  found = chromium.open(address)
  found.until(READY)
  yield found
  assert not found.events('Runtime.exceptionThrown')
  assert not found.events('Log.entryAdded')
  found.close()


def fill(tab, name, value):
  """Writes into a control, as a user does."""
  tab.evaluate(
    f"(() => {{ const e = document.getElementById('v-{name}'); "
    f'e.value = {json.dumps(value)}; '
    "e.dispatchEvent(new Event('input', {bubbles: true})); "
    "e.dispatchEvent(new Event('change', {bubbles: true})); })()"
  )


# --- What scripts read is what Python wrote ---


def test_every_response_is_whole(viewer, rows):
  found = viewer.evaluate(
    'Promise.all(Array.from({length: viewer.store.count}, async (_, i) => {'
    '  const r = await viewer.store.response(i);'
    '  return {text: r.text, parts: partsOfText(r), logp: r.logp,'
    '    advantages: r.advantages,'
    '    id: viewer.store.problemOf(i).id,'
    '    length: viewer.store.columns.length[i],'
    '    verdict: viewer.store.columns.verdict[i]};'
    '}))'
  )
  assert len(found) == len(rows)
  for got, row in zip(found, rows, strict=True):
    assert got['text'] == row['response'] == ''.join(got['parts'])
    assert len(got['parts']) == row['length'] == got['length']
    assert got['logp'] == pytest.approx(row['logp'], abs=1e-3)
    each = row['token_advantages'] if 'token_advantages' in row else None
    assert got['advantages'] == each
    assert got['id'] == row['id']
    assert got['verdict'] == samples.verdict(row)


@pytest.mark.parametrize(
  ('state', 'is_in'),
  [
    ({}, lambda r: True),
    ({'q': 'P1'}, lambda r: r['id'] == 'p1'),
    ({'q': 'd:-2'}, lambda r: 'd:-2' in r['question']),
    ({'q': '__proto__'}, lambda r: False),
    ({'v': 'r'}, lambda r: r['correct']),
    ({'v': 'wt'}, lambda r: not r['correct']),
    ({'v': ''}, lambda r: False),
    ({'min': '20'}, lambda r: r['length'] >= 20),
    ({'max': '20'}, lambda r: r['length'] <= 20),
    ({'part': '0.training'}, lambda r: 'step' in r),
    ({'from': '2', 'to': '2'}, lambda r: 'step' in r and r['step'] == 2),
  ],
)
def test_filters(viewer, rows, state, is_in):
  expression = (
    f'Array.from(select(viewer.store, {{...DEFAULTS, ...{json.dumps(state)}}}))'
  )
  expected = [i for i, row in enumerate(rows) if is_in(row)]
  assert viewer.evaluate(expression) == expected


@pytest.mark.parametrize(
  ('sort', 'key', 'sign'),
  [
    ('longest', 'length', -1),
    ('shortest', 'length', 1),
    ('best', 'advantage', -1),
    ('worst', 'advantage', 1),
  ],
)
def test_orders(viewer, rows, sort, key, sign):
  found = viewer.evaluate(
    f"Array.from(select(viewer.store, {{...DEFAULTS, sort: '{sort}'}}))"
  )
  # What has no advantage comes last.
  place = lambda i: (key not in rows[i], sign * rows[i].get(key, 0), i)
  assert found == sorted(range(len(rows)), key=place)


@pytest.mark.parametrize(
  ('expression', 'expected'),
  [
    ("parseState('#rollouts?q=a%26b&v=rw&min=3').q", 'a&b'),
    ("parseState('#rollouts?min=-1&v=rwx&sort=no&open=x').v", 'rwtu'),
    ("parseState('#rollouts?open=x&beside=y').open", ''),
    ("parseState('#summary').q", ''),
    ('formatState(DEFAULTS)', '#rollouts?'),
    (
      "parseState(formatState({...DEFAULTS, q: '<#?&=\\u2028'})).q",
      '<#?&=\u2028',
    ),
    ('chunkOf([0, 5, 9], 4)', 0),
    ('chunkOf([0, 5, 9], 5)', 1),
    ('chunkOf([0, 5, 9], 100)', 2),
    ("shadeOf('logp', -0.3)", 'l3'),
    ("shadeOf('logp', -40)", 'l7'),
    ("shadeOf('entropy', 0)", 'e0'),
    ("shadeOf('logp', NaN)", ''),
    ("shadeOf('advantage', -0.6)", 'down2'),
    ("shadeOf('advantage', 0)", 'a0'),
    (
      "legendOf('logp').map(([name]) => name).join()",
      'l0,l1,l2,l3,l4,l5,l6,l7',
    ),
    ("legendOf('advantage').length", 9),
    ("visibleParts('a\\u202eb🙂').map(([t]) => t).join('|')", 'a|\u202e|b🙂'),
    ("visibleParts('\\ud83d').map(([, u]) => u).join()", 'true'),
    ("codeOf('\\u0000')", 'U+0000'),
    ('fixed(-1.256, 2) + signed(1, 1) + fixed(NaN, 1)', '−1.26+1.0–'),
  ],
)
def test_pure_functions(viewer, expression, expected):
  assert viewer.evaluate(expression) == expected


# --- What a user does ---


def test_controls_choose_responses(viewer, rows):
  viewer.wait_for(COUNT, f'{len(rows)} of {len(rows)} responses')
  fill(viewer, 'search', 'e1')
  viewer.wait_for(COUNT, f'4 of {len(rows)} responses')
  assert viewer.evaluate('location.hash') == '#rollouts?q=e1'
  viewer.evaluate("document.querySelector('[name=v-verdict]').click()")
  viewer.wait_for(COUNT, f'3 of {len(rows)} responses')
  viewer.evaluate("document.getElementById('v-reset').click()")
  viewer.wait_for(COUNT, f'{len(rows)} of {len(rows)} responses')
  assert viewer.evaluate("document.getElementById('v-search').value") == ''


def test_before_and_after_stand_side_by_side(viewer):
  viewer.evaluate("document.getElementById('v-list').focus()")
  viewer.press('Enter')
  viewer.until(OPEN)
  titles = viewer.texts('.panel h4')
  assert titles == ['before · sample 0', 'after · sample 0']
  assert viewer.texts('.panel .text') == [folders.WRONG, folders.RIGHT]
  assert viewer.texts('#v-problem dd') == [
    'e0',
    f'{folders.QUESTION} d:-0',
    '24',
  ]
  boxes = viewer.evaluate(
    "Array.from(document.querySelectorAll('.panel'), "
    '(e) => e.getBoundingClientRect().left)'
  )
  assert boxes[0] < boxes[1]
  # And alone, if that is wanted.
  fill(viewer, 'beside', 'none')
  viewer.until("document.querySelectorAll('.panel').length === 1")
  assert 'beside=none' in viewer.evaluate('location.hash')


def test_keys(viewer):
  viewer.evaluate("document.getElementById('rollouts').scrollIntoView()")
  viewer.press('/')
  focus = 'document.activeElement.id'
  assert viewer.evaluate(focus) == 'v-search'
  # A letter in a field is a letter.
  viewer.press('p', 'j')
  assert viewer.evaluate('viewer.state.q') == 'pj'
  viewer.evaluate('viewer.ui.reset.click()')
  viewer.press('Escape')
  viewer.evaluate("document.getElementById('v-list').focus()")
  viewer.press('j', 'j', 'k', 'ArrowDown', 'ArrowUp')
  assert viewer.evaluate('viewer.list.place') == 1
  active = viewer.evaluate(
    'document.getElementById(viewer.ui.list.getAttribute('
    "'aria-activedescendant')).ariaPosInSet"
  )
  assert active == '2'
  viewer.press('End')
  assert viewer.evaluate('viewer.list.place') == 35
  viewer.press('Home', 'Enter')
  viewer.until(OPEN)
  viewer.press('j')
  viewer.wait_for(
    "document.getElementById('v-position').textContent", '2 of 36'
  )
  viewer.press('ArrowRight', 'ArrowLeft', 'k')
  viewer.wait_for(
    "document.getElementById('v-position').textContent", '1 of 36'
  )
  assert 'open=0' in viewer.evaluate('location.hash')
  viewer.press('Escape')
  viewer.until("!document.getElementById('v-dialog').open")
  assert viewer.evaluate(focus) == 'v-list'
  assert 'open' not in viewer.evaluate('location.hash')
  viewer.press('?')
  viewer.until("document.getElementById('v-help').open")
  viewer.press('Escape')
  viewer.until("!document.getElementById('v-help').open")


def test_everything_is_reached_by_tab_and_shows_it(viewer):
  wanted = set(
    viewer.evaluate(
      "Array.from(document.querySelectorAll('#v-viewer :is(input, select, "
      'button, [tabindex="0"])\'), (e) => e.id || e.value)'
    )
  )
  assert len(wanted) >= 14
  seen = set()
  viewer.evaluate("document.getElementById('theme').focus()")
  for _ in range(120):
    viewer.press('Tab')
    name, outline = viewer.evaluate(
      '[document.activeElement.id || document.activeElement.value, '
      'getComputedStyle(document.activeElement).outlineStyle]'
    )
    if name in wanted:
      assert outline == 'solid', name
      seen.add(name)
  assert seen == wanted


def test_tokens_are_shaded_and_said(viewer, rows):
  viewer.evaluate("location.hash = '#rollouts?open=12&beside=none'")
  viewer.until(OPEN)
  found = viewer.evaluate(
    "Array.from(document.querySelectorAll('.t'), (e) => e.classList[1])"
  )
  # Log-probabilities of 0, -1/4, -1/2, -3/4 and -1 in turns.
  expected = ['l0', 'l3', 'l4', 'l4', 'l5']
  assert found == [expected[i % 5] for i in range(rows[12]['length'])]
  assert 'nats' in viewer.texts('#v-legend .unit')[0]
  viewer.evaluate("document.querySelector('.text').focus()")
  viewer.press('ArrowRight', 'ArrowRight')
  (said,) = viewer.texts('.say')
  length = rows[12]['length']
  assert said == (
    f'token 2 of {length} · log-probability −0.250 nats (p = 77.9 %)'
  )
  fill(viewer, 'shade', 'entropy')
  viewer.wait_for(
    "document.querySelector('.say').textContent",
    'entropies were not stored',
  )
  fill(viewer, 'shade', 'advantage')
  viewer.until("document.querySelectorAll('.up3').length > 2")
  assert set(
    viewer.evaluate(
      "Array.from(document.querySelectorAll('.t'), (e) => e.classList[1])"
    )
  ) == {'up3'}


def test_advantages_of_tokens(viewer):
  viewer.evaluate("location.hash = '#rollouts?open=16&shade=advantage'")
  viewer.until(OPEN)
  found = viewer.evaluate(
    "Array.from(document.querySelectorAll('.t'), (e) => e.classList[1])"
  )
  assert found[:4] == ['a0', 'up3', 'up4', 'a0']
  viewer.evaluate("document.querySelector('.text').focus()")
  viewer.press('ArrowRight', 'ArrowRight')
  assert viewer.texts('.say')[0].endswith(' · advantage +1.000')


def test_an_address_opens_a_view(chromium, address):
  query = '#rollouts?q=p1&v=w&open=17&beside=none&shade=none'
  tab = chromium.open(address + query)
  tab.until(OPEN)
  assert tab.texts('.panel h4') == ['step 1 · sample 1']
  assert tab.evaluate("document.getElementById('v-search').value") == 'p1'
  assert tab.evaluate('location.hash') == query
  # One that this page does not have.
  tab.evaluate("location.hash = '#rollouts?open=999&beside=7'")
  tab.until("!location.hash.includes('q=p1')")
  assert not tab.events('Runtime.exceptionThrown')
  tab.close()


# --- Roles, themes, sizes ---


def test_roles(viewer):
  found = viewer.call('Accessibility.getFullAXTree')['nodes']
  value = lambda node, key: node[key]['value'] if key in node else ''
  named = {
    (value(node, 'role'), value(node, 'name'))
    for node in found
    if not node['ignored']
  }
  roles = {role for role, _ in named}
  assert {'listbox', 'option', 'search', 'navigation', 'main'} <= roles
  assert ('searchbox', 'Problem') in named
  assert ('spinbutton', 'shortest') in named
  assert ('combobox', 'Order') in named
  # Charts have their titles and texts for names; controls all have one.
  charts = [name for role, name in named if role in ('img', 'image')]
  assert any(name.startswith('Accuracy and tokens Up and') for name in charts)
  for role, name in named:
    if role in ('button', 'checkbox', 'combobox', 'listbox', 'link'):
      assert name, role


def test_a_phone_scrolls_one_way(chromium, address):
  tab = chromium.open(address, browser.PHONE)
  tab.until(READY)
  width = 'document.documentElement.scrollWidth'
  assert tab.evaluate(width) == 360
  tab.evaluate(
    "document.querySelectorAll('details').forEach((d) => {d.open = true})"
  )
  assert tab.evaluate(width) == 360
  tab.evaluate('viewer.open()')
  tab.until(OPEN)
  inside = "document.querySelector('.inside')"
  assert tab.evaluate(f'{inside}.scrollWidth <= {inside}.clientWidth')
  assert tab.evaluate(width) == 360
  tab.close()


def test_themes(chromium, address):
  ground = 'getComputedStyle(document.body).backgroundColor'
  grounds = {}
  for scheme in ('light', 'dark'):
    tab = chromium.open(address, prefers_color_scheme=scheme)
    tab.until(READY)
    grounds[scheme] = tab.evaluate(ground)
    tab.evaluate("document.getElementById('theme').click()")
    assert tab.texts('#theme') == ['Theme: light']
    assert tab.evaluate(ground) == 'rgb(253, 253, 252)'
    tab.evaluate("document.getElementById('theme').click()")
    assert tab.evaluate(ground) == 'rgb(21, 23, 26)'
    tab.evaluate("document.getElementById('theme').click()")
    assert tab.evaluate(ground) == grounds[scheme]
    tab.close()
  assert grounds['light'] != grounds['dark']


def test_charts_need_no_script(chromium, address):
  tab = chromium.open('about:blank')
  tab.call('Emulation.setScriptExecutionDisabled', value=True)
  before = len(tab.events('Page.loadEventFired'))
  tab.call('Page.navigate', url=address)
  while len(tab.events('Page.loadEventFired')) == before:
    tab.call('Page.getFrameTree')
  tab.call('Emulation.setScriptExecutionDisabled', value=False)
  assert tab.evaluate(
    "document.querySelectorAll('figure path.line').length > 5"
  )
  sizes = tab.evaluate(
    "Array.from(document.querySelectorAll('figure > svg'), "
    '(e) => e.getBoundingClientRect().height)'
  )
  assert min(sizes) > 80
  assert tab.evaluate('typeof viewer') == 'undefined'
  tab.close()
