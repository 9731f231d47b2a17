"""The page in a browser: it works, and nothing of what a model wrote runs."""

import functools
import json

import pytest

from lrm_jax import jsonl, main
from lrm_jax.reporting import page, pieces, samples, store
from tests import browser
from tests.reporting import folders
from tests.reporting.markup_test import ATTACKS

pytestmark = pytest.mark.skipif(
  browser.find() is None,
  reason='needs a Chromium: apt-get install chromium (.ci/run does)',
)
READY = 'window.viewer !== undefined'
OPEN = "document.querySelector('#v-dialog[open] .panel') !== null"
COUNT = "document.getElementById('v-count').textContent"
HOSTILE = [*ATTACKS, 'x' * 1_000_000]


@pytest.fixture(scope='module')
def chromium():
  with browser.Browser() as found:
    yield found


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


def texts(tab, selector):
  """The texts of all elements of a selector."""
  return tab.evaluate(
    f'Array.from(document.querySelectorAll({json.dumps(selector)}), '
    '(e) => e.textContent)'
  )


def wait_for(tab, expression, expected):
  tab.until(f'{expression} === {json.dumps(expected)}')


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
  wait_for(viewer, COUNT, f'{len(rows)} of {len(rows)} responses')
  fill(viewer, 'search', 'e1')
  wait_for(viewer, COUNT, f'4 of {len(rows)} responses')
  assert viewer.evaluate('location.hash') == '#rollouts?q=e1'
  viewer.evaluate("document.querySelector('[name=v-verdict]').click()")
  wait_for(viewer, COUNT, f'3 of {len(rows)} responses')
  viewer.evaluate("document.getElementById('v-reset').click()")
  wait_for(viewer, COUNT, f'{len(rows)} of {len(rows)} responses')
  assert viewer.evaluate("document.getElementById('v-search').value") == ''


def test_before_and_after_stand_side_by_side(viewer):
  viewer.evaluate("document.getElementById('v-list').focus()")
  viewer.press('Enter')
  viewer.until(OPEN)
  titles = texts(viewer, '.panel h4')
  assert titles == ['before · sample 0', 'after · sample 0']
  assert texts(viewer, '.panel .text') == [folders.WRONG, folders.RIGHT]
  assert texts(viewer, '#v-problem dd') == [
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
  wait_for(
    viewer, "document.getElementById('v-position').textContent", '2 of 36'
  )
  viewer.press('ArrowRight', 'ArrowLeft', 'k')
  wait_for(
    viewer, "document.getElementById('v-position').textContent", '1 of 36'
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
  assert 'nats' in texts(viewer, '#v-legend .unit')[0]
  viewer.evaluate("document.querySelector('.text').focus()")
  viewer.press('ArrowRight', 'ArrowRight')
  (said,) = texts(viewer, '.say')
  length = rows[12]['length']
  assert said == (
    f'token 2 of {length} · log-probability −0.250 nats (p = 77.9 %)'
  )
  fill(viewer, 'shade', 'entropy')
  wait_for(
    viewer,
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


def test_an_address_opens_a_view(chromium, address):
  query = '#rollouts?q=p1&v=w&open=17&beside=none&shade=none'
  tab = chromium.open(address + query)
  tab.until(OPEN)
  assert texts(tab, '.panel h4') == ['step 1 · sample 1']
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
    assert texts(tab, '#theme') == ['Theme: light']
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


# --- Strangers ---


@pytest.fixture(scope='module')
def attacked(tmp_path_factory):
  """A page with attacks in all texts of a run, its folder's name too."""
  name = '"><img src=x onerror=alert(1)>'
  folder = tmp_path_factory.mktemp('runs') / name
  folders.write_run(folder, steps=1)
  rows = [
    folders.training_row(
      1, id=text[:2000], question=text[:2000], answer=text[:2000]
    )
    | {'response': text}
    for text in HOSTILE
  ]
  jsonl.write_rows(folder / 'rollouts' / 'step_000001.jsonl.gz', rows)
  config = json.loads((folder / 'config.json').read_text())
  config['config']['model']['path'] = '</script><script>alert(1)</script>'
  jsonl.write_json(folder / 'config.json', config)
  target = folder.parent / 'report.html'
  assert main.main(['lrm', 'report', str(folder), f'--output={target}']) == 0
  return f'file://{target}'


def test_attacks_are_texts(chromium, attacked):
  tab = chromium.open(attacked)
  tab.until(READY)
  shown = functools.partial(texts, tab)
  for index, text in enumerate(HOSTILE):
    tab.evaluate(f"location.hash = '#rollouts?open={index}&beside=none'")
    wait_for(
      tab,
      "document.getElementById('v-position').textContent",
      f'{index + 1} of {len(HOSTILE)}',
    )
    more = "document.querySelector('.text .more')"
    while tab.evaluate(f'{more} !== null'):
      tab.evaluate(f'{more}.click()')
    # To the last unit: halves of pairs, NUL, marks of direction.
    expected = json.dumps(text)
    assert tab.evaluate(
      f"document.querySelector('.text').textContent === {expected}"
    ), ascii(text[:40])
    assert tab.evaluate(
      "document.querySelectorAll('#v-problem dd')[1].textContent === "
      f'{json.dumps(text[:2000])}'
    )
    inside = "document.querySelectorAll('#rollouts :is(img, script, svg, b)')"
    assert tab.evaluate(f'{inside}.length') == 0
  assert 'U+202E' in tab.evaluate(
    "visibleParts('\\u202e').map(([t]) => codeOf(t)).join()"
  )
  assert '"><img src=x onerror=alert(1)>' in shown('h1')[0]
  assert not tab.events('Page.javascriptDialogOpening')
  assert not tab.events('Runtime.exceptionThrown')
  # A violation of the policy would be logged: nothing even tried.
  assert not tab.events('Log.entryAdded')
  requests = {
    e['request']['url'] for e in tab.events('Network.requestWillBeSent')
  }
  assert {url.partition('#')[0] for url in requests} <= {
    attacked,
    'about:blank',
  }
  tab.close()


def test_the_policy_lets_nothing_in_and_runs_nothing_else(chromium, address):
  tab = chromium.open(address)
  tab.until(READY)
  tab.evaluate(
    "(() => { const s = document.createElement('script'); "
    "s.textContent = 'window.ran = true'; document.body.append(s); "
    "const i = new Image(); i.src = 'https://example.com/x.png'; "
    'document.body.append(i); })()'
  )
  assert tab.evaluate('window.ran') is None
  assert (
    tab.evaluate(
      "fetch('https://example.com').then(() => 'came', () => 'refused')"
    )
    == 'refused'
  )
  said = ' '.join(e['entry']['text'] for e in tab.events('Log.entryAdded'))
  assert 'Content Security Policy' in said
  # It is told of as a request, and refused before it is one.
  assert not [
    e
    for e in tab.events('Network.responseReceived')
    if 'example.com' in e['response']['url']
  ]
  failed = tab.events('Network.loadingFailed')
  assert failed and {e['blockedReason'] for e in failed} == {'csp'}
  tab.close()


# --- Fifty thousand ---


@pytest.fixture(scope='module')
def large(tmp_path_factory):
  """A page of 50,000 rollouts of 20 to 40 tokens."""
  cutter = pieces.Cutter(folders.tokenizer())
  held = store.Store([cutter])
  rows, problems = folders.step_rows(1, problems=500, samples=10), []
  for index in range(50_000):
    row = rows[index % len(rows)]
    held.add(0, samples.Source(0, 'training', 1, None), index // 10, row)
    if index % 10 == 0:
      problems.append(row | {'id': f'p{index}'})
  header = {
    'runs': ['large'],
    'sources': [{'run': 0, 'kind': 'training', 'step': 1}],
    'reasons': [''],
  }
  path = tmp_path_factory.mktemp('large') / 'report.html'
  text = page.render('large', '', [], [], held.blobs(header, problems))
  path.write_text(text, 'utf-8')
  return f'file://{path}'


def test_first_paint_of_fifty_thousand(chromium, large):
  tab = chromium.open(large)
  tab.until(READY)
  paint = tab.evaluate(
    "performance.getEntriesByName('first-contentful-paint')[0].startTime"
  )
  assert paint < 2000
  wait_for(tab, COUNT, '50,000 of 50,000 responses')
  rows = "document.querySelectorAll('.row').length"
  assert tab.evaluate(rows) < 60
  tab.evaluate("document.getElementById('v-list').focus()")
  tab.press('End')
  assert tab.evaluate('viewer.list.place') == 49_999
  assert tab.evaluate(rows) < 60
  active = tab.evaluate("viewer.ui.list.getAttribute('aria-activedescendant')")
  assert active == 'row-49999'
  tab.press('Enter')
  tab.until(OPEN)
  wait_for(
    tab,
    "document.getElementById('v-position').textContent",
    '50,000 of 50,000',
  )
  # Few chunks of many are unpacked.
  assert tab.evaluate('viewer.store.chunks.size') == 1
  assert tab.evaluate('viewer.store.head.chunks.length') > 100
  tab.close()
