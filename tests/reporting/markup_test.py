"""Whatever a text is, it stays text."""

import html.parser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_jax.reporting import markup
from lrm_jax.reporting.markup import Markup, element

ATTACKS = (
  '</script><script>alert(1)</script>',
  '<!-- -->',
  '<img src=x onerror=alert(1)>',
  '"><svg onload=alert(1)>',
  "' onmouseover='alert(1)",
  '&lt;b&gt; &amp;',
  ']]>',
  'a\u2028b\u2029c',
  '\ud800 half',
  'nul \x00',
  '\u202egnp.exe',
  '__proto__',
)
# Halves of pairs too.
TEXTS = st.text(st.characters()) | st.sampled_from(ATTACKS)


class Reader(html.parser.HTMLParser):
  """What a browser would see."""

  def __init__(self):
    super().__init__(convert_charrefs=True)
    self.tags, self.text, self.others = [], '', []

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, attrs))

  def handle_data(self, data):
    self.text += data

  def handle_comment(self, data):
    self.others.append(data)

  handle_decl = handle_pi = unknown_decl = handle_comment


def read(text):
  reader = Reader()
  reader.feed(text)
  reader.close()
  return reader


@given(TEXTS, TEXTS)
def test_texts_and_attributes_come_back(text, title):
  made = element('p', {'title': title, 'hidden': True, 'id': None}, text)
  found = read(made)
  assert found.tags == [
    ('p', [('title', markup.visible(title)), ('hidden', None)])
  ]
  assert found.text == markup.visible(text)
  assert not found.others
  # A file in UTF-8 can hold it, and nothing in it reorders its neighbours.
  made.encode('utf-8')
  assert not set(made) & set('\x00\u2028\u2029\u202e\u2066\ufeff')


@given(st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=3))
def test_tables_have_their_cells_and_no_others(rows):
  found = read(markup.table('c', ('a', 'b'), rows))
  cells = [tag for tag, _ in found.tags if tag in ('th', 'td')]
  assert len(cells) == 2 + 2 * len(rows)
  assert found.text == 'cab' + ''.join(
    markup.visible(cell) for row in rows for cell in row
  )


def test_what_is_not_seen_is_written_by_its_number():
  assert markup.visible('a\x00\u202e\ud800\n') == 'a\\u0000\\u202e\\ud800\n'
  assert markup.visible('é 數 🙂') == 'é 數 🙂'


def test_markup_inside_is_not_escaped_again():
  assert (
    element('p', {}, element('b', {}, '<'), '&') == '<p><b>&lt;</b>&amp;</p>'
  )
  assert markup.join(['<', Markup('<')]) == '&lt;<'
  assert element('br', {}) == '<br>'
  # A str again, whatever it was made of.
  assert markup.join([Markup('<') + '<']) == '&lt;&lt;'


def test_numbers_are_short():
  made = element('line', {'x1': 1.23456, 'x2': -0.001, 'y1': 3.0, 'y2': 7})
  assert made == '<line x1="1.23" x2="0" y1="3" y2="7"></line>'


@pytest.mark.parametrize('name', ['', 'a b', 'a>', '1a', 'on=x'])
def test_names_are_never_data(name):
  with pytest.raises(ValueError, match='no name'):
    element(name, {})
  with pytest.raises(ValueError, match='no name'):
    element('p', {name: ''})
