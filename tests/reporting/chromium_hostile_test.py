"""The page in a browser: a stranger's texts, and fifty thousand rollouts."""

import json

import pytest

from lrm_jax import jsonl, main
from lrm_jax.commands import report
from lrm_jax.reporting import (
  grouping,
  page,
  pieces,
  samples,
  store,
  workdirs,
)
from tests.reporting import folders
from tests.reporting.chromium_test import COUNT, OPEN, READY
from tests.reporting.markup_test import ATTACKS

HOSTILE = [*ATTACKS, 'x' * 1_000_000]


@pytest.fixture(scope='module')
def address(tmp_path_factory):
  """A page without a stranger."""
  folder = folders.write_run(tmp_path_factory.mktemp('runs') / 'dler')
  assert main.main(['lrm', 'report', str(folder)]) == 0
  return f'file://{folder}/report.html'


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
  for index, text in enumerate(HOSTILE):
    tab.evaluate(f"location.hash = '#rollouts?open={index}&beside=none'")
    tab.wait_for(
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
  assert '"><img src=x onerror=alert(1)>' in tab.texts('h1')[0]
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
  """A page of 50,000 rollouts of 20 to 40 tokens, with all sections.

  Its tables and charts are those of three runs of 300 steps, whose files
  `lrm report` would read; the rollouts are put in beside them.
  """
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
  folder = tmp_path_factory.mktemp('large')
  runs = workdirs.read_all(
    [
      str(folders.write_run(folder / name, steps=300, rows=True))
      for name in ('a', 'b', 'c')
    ]
  )
  tallies = list(
    samples.gather(
      samples.sources(runs), 0, samples.Problems(), lambda *_: None
    )
  )
  sections = report.sections_of(runs, tallies, grouping.of_runs(runs))
  assert all(part.body or part.figures for part in sections)
  path = folder / 'report.html'
  text = page.render('large', '', [], sections, held.blobs(header, problems))
  path.write_text(text, 'utf-8')
  return f'file://{path}'


def test_first_paint_of_fifty_thousand(chromium, large):
  tab = chromium.open(large)
  tab.until(READY)
  painted = "performance.getEntriesByName('first-contentful-paint')"
  tab.until(f'{painted}.length === 1')
  assert tab.evaluate(f'{painted}[0].startTime') < 2000
  # With its charts and tables.
  assert tab.evaluate("document.querySelectorAll('figure').length") > 20
  assert tab.evaluate("document.querySelectorAll('table').length") > 20
  tab.wait_for(COUNT, '50,000 of 50,000 responses')
  rows = "document.querySelectorAll('.row').length"
  assert tab.evaluate(rows) < 60
  tab.evaluate("document.getElementById('v-list').focus()")
  tab.press('End')
  assert tab.evaluate('viewer.list.place') == 49_999
  for share in range(10):
    tab.evaluate(
      f'viewer.ui.list.scrollTop = {share} / 10 * viewer.ui.list.scrollHeight'
    )
    # What can be seen is drawn: the row in the middle of the box.
    tab.until(
      '(() => { const b = viewer.ui.list.getBoundingClientRect(); '
      'const e = document.elementsFromPoint(b.left + 9, b.top + 99); '
      'return innerHeight < b.top + 99 '
      "|| e.some((x) => x.matches('.row')); })()"
    )
  assert tab.evaluate(rows) < 60
  active = tab.evaluate("viewer.ui.list.getAttribute('aria-activedescendant')")
  assert active == 'row-49999'
  tab.press('Enter')
  tab.until(OPEN)
  tab.wait_for(
    "document.getElementById('v-position').textContent",
    '50,000 of 50,000',
  )
  # Few chunks of many are unpacked.
  assert tab.evaluate('viewer.store.chunks.size') == 1
  assert tab.evaluate('viewer.store.head.chunks.length') > 100
  tab.close()
