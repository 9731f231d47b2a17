"""Result tables: arithmetic and layout."""

from lrm_jax.reporting import tables

_BEFORE = {
  'accuracy': 0.5,
  'response_tokens': 200.0,
  'thinking_tokens': 180.0,
  'truncated': 0.05,
}
_AFTER = {
  'accuracy': 0.6,
  'response_tokens': 90.0,
  'thinking_tokens': 81.0,
  'truncated': 0.0,
}


def test_before_after_by_hand():
  # 200 / 0.5 = 400 and 90 / 0.6 = 150 tokens per correct answer: -62.5 %.
  assert tables.before_after(_BEFORE, _AFTER).splitlines() == [
    '                    before  after    change',
    '------------------  ------  -----  --------',
    'accuracy             50.0%  60.0%  +10.0 pp',
    'response tokens      200.0   90.0    -55.0%',
    'thinking tokens      180.0   81.0    -55.0%',
    'truncated             5.0%   0.0%   -5.0 pp',
    'tokens per correct   400.0  150.0    -62.5%',
  ]


def test_nothing_right_has_no_tokens_per_correct():
  wrong = {**_BEFORE, 'accuracy': 0.0}
  for pair in ((wrong, _AFTER), (_BEFORE, wrong)):
    last = tables.before_after(*pair).splitlines()[-1].split()
    assert last[-1] == '-'
  assert tables.before_after(wrong, _AFTER).splitlines()[-1].split()[3:] == [
    '-',
    '150.0',
    '-',
  ]


def test_markdown_has_the_same_cells():
  text = tables.before_after(_BEFORE, _AFTER, tables.markdown)
  lines = text.splitlines()
  assert lines[0] == '|  | before | after | change |'
  assert lines[1] == '| :--- | ---: | ---: | ---: |'
  assert lines[2] == '| accuracy | 50.0% | 60.0% | +10.0 pp |'
  assert len(lines) == 7


def test_by_level_keeps_order_and_fits_a_terminal():
  levels = [
    {'level': 2, 'n': 1000, 'accuracy': 0.25, 'response_tokens': 12.34},
    {'level': 1, 'n': 8, 'accuracy': 1.0, 'response_tokens': 1234.5},
  ]
  assert tables.by_level(levels).splitlines() == [
    'level     n  accuracy  response tokens',
    '-----  ----  --------  ---------------',
    '2      1000     25.0%             12.3',
    '1         8    100.0%           1234.5',
  ]


def test_table_without_rows_is_its_header():
  assert tables.by_level([]).splitlines()[0].startswith('level  n')
