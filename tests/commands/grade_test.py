"""`lrm grade` from its flags to its files."""

import json

import pytest
from absl import flags

from lrm_jax import jsonl
from lrm_jax.commands import grade
from lrm_jax.errors import UserError

_ROWS = [
  {'response': r'so</think>\boxed{\sqrt{8}}', 'answer': r'2\sqrt2', 'id': 'a'},
  {'response': r'so</think>\boxed{4}', 'answer': 5, 'truncated': False},
  {'response': '<think>so', 'answer': '5'},
  {'response': 'The answer is 0.5.', 'answer': 0.5},
  {'response': r'\boxed{' + '1' * 2000 + '}', 'answer': '1'},
]


def _run(tmp_path, *arguments, source='in.jsonl', target='out.jsonl'):
  values = flags.FlagValues()
  grade.define_flags(values)
  files = (f'--input={tmp_path / source}', f'--output={tmp_path / target}')
  values(['lrm grade', *files, *arguments])
  grade.run(values)


def test_rows_gain_verdicts_and_keep_their_fields(tmp_path, capsys):
  jsonl.write_rows(tmp_path / 'in.jsonl', _ROWS)
  _run(tmp_path, '--timeout=60', target='new/out.jsonl.gz')
  rows = jsonl.read_rows(tmp_path / 'new' / 'out.jsonl.gz')
  expected = [
    (True, r'\sqrt{8}', 'ok'),
    (False, '4', 'ok'),
    (False, None, 'no_answer'),
    (True, '0.5', 'ok'),
    (False, '1' * 2000, 'too_long'),
  ]
  for row, before, (correct, extracted, status) in zip(
    rows, _ROWS, expected, strict=True
  ):
    verdict = {'correct': correct, 'extracted': extracted, 'status': status}
    assert row == before | verdict
  summary = json.loads((tmp_path / 'new' / 'summary.json').read_text())
  assert summary.pop('seconds') > 0
  assert summary == {
    'verb': 'grade',
    'rows': 5,
    'correct': 2,
    'accuracy': 0.4,
    'statuses': {'ok': 3, 'no_answer': 1, 'timeout': 0, 'too_long': 1},
  }
  printed = capsys.readouterr().out
  assert '2 of 5 correct (40.0%); 1 no_answer, 1 too_long' in printed
  assert str(tmp_path / 'new' / 'out.jsonl.gz') in printed


def test_open_thinking_can_be_refused(tmp_path):
  jsonl.write_rows(
    tmp_path / 'in.jsonl', [{'response': r'\boxed{5} hmm', 'answer': '5'}]
  )
  _run(tmp_path)
  assert jsonl.read_rows(tmp_path / 'out.jsonl')[0]['correct']
  _run(tmp_path, '--require_closed_think')
  (row,) = jsonl.read_rows(tmp_path / 'out.jsonl')
  assert (row['correct'], row['status']) == (False, 'no_answer')


def test_no_rows(tmp_path):
  (tmp_path / 'in.jsonl').write_text('\n')
  _run(tmp_path)
  assert (tmp_path / 'out.jsonl').read_text() == ''
  summary = json.loads((tmp_path / 'summary.json').read_text())
  assert (summary['rows'], summary['accuracy']) == (0, None)


@pytest.mark.parametrize(
  'line, message',
  [
    ('{"response": "5"}', ":2: no field 'answer'"),
    ('{"answer": "5"}', ":2: no field 'response'"),
    ('{"response": 5, "answer": "5"}', ":2: field 'response' is a JSON number"),
    ('{"response": "5", "answer": null}', ":2: field 'answer' is a JSON null"),
    ('{"response": "5", ', ':2: not JSON'),
  ],
)
def test_a_bad_row_leaves_nothing_behind(tmp_path, line, message):
  good = json.dumps(_ROWS[1])
  (tmp_path / 'in.jsonl').write_text(f'{good}\n{line}\n')
  with pytest.raises(UserError, match=message):
    _run(tmp_path, target='new/out.jsonl')
  assert [path.name for path in tmp_path.iterdir()] == ['in.jsonl']


def test_files_that_cannot_be(tmp_path):
  with pytest.raises(UserError, match='no such file'):
    _run(tmp_path)
  jsonl.write_rows(tmp_path / 'in.jsonl', _ROWS[1:2])
  with pytest.raises(UserError, match='--output=.*not summary.json'):
    _run(tmp_path, target='summary.json')
  with pytest.raises(UserError, match='--output=.*must be a file'):
    _run(tmp_path, target='.')
  with pytest.raises(UserError, match='is no folder in which you may write'):
    _run(tmp_path, target='in.jsonl/out.jsonl')
  # A folder in which not even root may write.
  with pytest.raises(UserError, match=r"'/proc' is no folder in which you may"):
    _run(tmp_path, target='/proc/out.jsonl')
  with pytest.raises(UserError, match='timeout: received 0'):
    _run(tmp_path, '--timeout=0')
  assert [path.name for path in tmp_path.iterdir()] == ['in.jsonl']


def test_the_files_are_required(tmp_path):
  values = flags.FlagValues()
  grade.define_flags(values)
  with pytest.raises(flags.IllegalFlagValueError, match='input'):
    values(['lrm grade', '--output=x.jsonl'])
