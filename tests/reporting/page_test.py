"""The page as a whole: what it lets in, and that it is whole."""

import base64
import hashlib
import pathlib
import re

import pytest

from lrm_jax.reporting import page
from lrm_jax.reporting.markup import element
from lrm_jax.reporting.page import Section
from tests.reporting.markup_test import ATTACKS, read

FOLDER = pathlib.Path(page.__file__).parent / 'page'
SECTION = Section('summary', 'Summary', 'text', [element('p', {}, 'x')])


def sha(text):
  digest = hashlib.sha256(text.encode()).digest()
  return f"'sha256-{base64.b64encode(digest).decode()}'"


def test_only_its_own_scripts_and_styles_run():
  text = page.render('t', 's', [], [SECTION], {'index': 'QUJD'})
  (meta,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
  found = meta.replace('&#x27;', "'")
  assert "default-src 'none'" in found and 'unsafe' not in found
  assert "base-uri 'none'" in found and 'http' not in found
  scripts = re.findall(r'<script>(.*?)</script>', text, re.DOTALL)
  assert len(scripts) == 1 + len(page.SCRIPTS)
  for script in scripts:
    assert sha(script) in found
  (style,) = re.findall(r'<style>(.*?)</style>', text, re.DOTALL)
  assert f'style-src {sha(style)}' in found
  # Attributes with styles or scripts would be refused.
  assert not re.search(r'<[^>]+ (style|on\w+)=', text.split('<body>')[1])


def test_nothing_comes_from_outside():
  text = page.render('t', 's', ['n'], [SECTION], {'index': 'QUJD'})
  for name in ('src', 'href', 'action', 'data'):
    for value in re.findall(rf'\s{name}="([^"]*)"', text):
      assert value.startswith('#')
  assert '@import' not in text and not re.search(r'url\((?!"?#)', text)
  for name in ('fetch(', 'XMLHttpRequest', 'WebSocket', 'import(', 'eval('):
    assert name not in text


def test_sources_are_short_and_write_text_only():
  sources = sorted(FOLDER.iterdir())
  assert {path.suffix for path in sources} == {'.js', '.css'}
  names = {path.name for path in sources}
  assert names == {*page.STYLES, *page.SCRIPTS, 'theme.js'}
  for path in sources:
    text = path.read_text('utf-8')
    assert text.count('\n') < 400
    # What would end the element that it stands in.
    assert '</' not in text and '<!--' not in text
    assert max(map(len, text.splitlines())) <= 80, path.name
  scripts = ''.join((FOLDER / n).read_text('utf-8') for n in page.SCRIPTS)
  for name in ('innerHTML', 'outerHTML', 'insertAdjacent', 'document.write'):
    assert name not in scripts


@pytest.mark.parametrize('attack', ATTACKS)
def test_names_of_a_stranger(attack):
  section = Section('summary', attack, attack, [element('p', {}, attack)])
  plain = Section('summary', 'x', 'x', [element('p', {}, 'x')])
  hostile = page.render(attack, attack, [attack], [section], {})
  harmless = page.render('x', 'x', ['x'], [plain], {})
  tags = lambda text: [name for name, _ in read(text).tags]
  assert tags(hostile) == tags(harmless)
  hostile.encode('utf-8')


def test_empty_sections_are_left_out():
  empty = Section('time', 'Time', '', [])
  text = page.render('t', 's', [], [SECTION, empty], {})
  assert 'id="summary"' in text and 'id="time"' not in text
  assert '#time' not in text
  # Without rollouts there is no viewer, and no script of it.
  assert 'v-list' not in text and 'class Viewer' not in text


def test_equal_input_gives_equal_pages():
  pages = [page.render('t', 's', [], [SECTION], {'index': 'A'}) for _ in '12']
  assert pages[0] == pages[1]
