"""Which responses are counted, and which are shown."""

import math

import pytest

from lrm_jax import jsonl
from lrm_jax.errors import UserError
from lrm_jax.reporting import samples, workdirs
from tests.reporting import folders


def taken(files, limit):
  quota = samples.quotas(len(files), limit)
  return [quota(place, rows) for place, rows in enumerate(files)]


@pytest.mark.parametrize(
  ('files', 'limit', 'expected'),
  [
    ([10, 10, 10], 100, [10, 10, 10]),
    ([10, 10, 10], 9, [3, 3, 3]),
    # What the short one leaves is shared by those behind it.
    ([1, 10, 10], 9, [1, 4, 4]),
    ([10, 10, 10], 10, [3, 3, 4]),
    # Fewer than there are files: evenly, one each.
    ([10] * 6, 3, [1, 0, 1, 0, 1, 0]),
    ([10, 10], 0, [0, 0]),
    ([0, 5], 5, [0, 5]),
  ],
)
def test_quotas(files, limit, expected):
  assert taken(files, limit) == expected


def test_spread_is_even():
  assert samples.spread(10, 5) == [0, 2, 4, 6, 8]
  assert samples.spread(3, 3) == [0, 1, 2]
  assert samples.spread(3, 0) == []


def test_all_are_counted_and_some_are_shown(tmp_path):
  run = folders.write_run(tmp_path / 'run', steps=4)
  runs = workdirs.read_all([str(run)])
  found = samples.sources(runs)
  assert [(s.kind, s.step) for s in found] == [
    ('training', n) for n in range(1, 5)
  ]
  shown = []
  problems = samples.Problems()
  tallies = list(
    samples.gather(
      found, 8, problems, lambda *arguments: shown.append(arguments)
    )
  )
  assert [len(t.length) for t in tallies] == [8] * 4
  assert [t.shown for t in tallies] == [2] * 4
  assert [row['sample'] for _, _, row in shown] == [0, 0] * 4
  assert {place for _, place, _ in shown} == {0, 1}
  verdicts = [samples.VERDICTS[v] for v in tallies[0].verdict[:4]]
  assert verdicts == ['right', 'wrong', 'wrong', 'truncated']
  assert tallies[0].correct.sum() == 2
  assert tallies[0].advantage.tolist() == [1.5, -0.5, -0.5, -0.5] * 2


def test_rows_without_texts_are_counted_only(tmp_path):
  rows = folders.evaluation_rows()
  for name in ('response', 'response_ids', 'logp'):
    del rows[1][name]
  path = tmp_path / 'a.jsonl.gz'
  jsonl.write_rows(path, rows)
  shown = []
  source = samples.Source(0, 'before', 0, path)
  (tally,) = samples.gather(
    [source], 100, samples.Problems(), lambda *x: shown.append(x)
  )
  assert len(tally.length) == 6 and tally.texts == tally.shown == 5
  assert len(shown) == 5


def test_verdicts():
  row = folders.row()
  assert samples.verdict(row) == samples.RIGHT
  assert samples.verdict(row | {'truncated': True}) == samples.RIGHT
  wrong = row | {'correct': False}
  assert samples.verdict(wrong) == samples.WRONG
  assert samples.verdict(wrong | {'truncated': True}) == samples.TRUNCATED
  assert samples.verdict(row | {'verified': False}) == samples.UNVERIFIED
  del row['verified']
  assert samples.verdict(row) == samples.RIGHT


def test_a_problem_is_known_again_without_its_question():
  problems = samples.Problems()
  row = folders.row(id='1', answer='24')
  assert problems.place(row) == 0
  assert problems.place({k: v for k, v in row.items() if k != 'question'}) == 0
  # The same id in another data set.
  assert problems.place(row | {'question': 'another'}) == 1
  assert problems.place(row | {'answer': '25'}) == 2
  late = samples.Problems()
  assert late.place({'id': '1', 'answer': '24'}) == 0
  assert late.place(row) == 0
  assert late.rows == [{'id': '1', 'question': row['question'], 'answer': '24'}]


def test_rows_of_numbers_alone_are_of_the_problem_before_them():
  problems = samples.Problems()
  row, other = folders.row(id='1'), folders.row(id='1', question='another')
  alone = {'id': '1'}
  found = [problems.place(r) for r in (row, alone, other, alone, row, alone)]
  assert found == [0, 0, 1, 1, 0, 0]
  assert problems.place({'id': '2'}) == problems.place({'id': '2'}) == 2


def test_numbers_that_are_none():
  assert math.isnan(samples.number({'reward': None}, 'reward'))
  assert math.isnan(samples.number({}, 'reward'))
  assert math.isnan(samples.number({'reward': 10**400}, 'reward'))
  assert math.isnan(samples.number({'reward': math.inf}, 'reward'))
  assert samples.number({'reward': 1}, 'reward') == 1.0


@pytest.mark.parametrize(
  ('changes', 'fault'),
  [
    ({'verified': 1}, "'verified' is of another type"),
    ({'reward': 'x'}, "'reward' is of another type"),
    ({'sample': -1}, "'sample' is no whole number from 0 on"),
    ({'length': 1 << 40}, "'length' is no whole number from 0 on"),
    ({'response_ids': None}, "'response_ids' is of another type"),
    ({'response_ids': [1.5]}, "'response_ids' has what is no id of a token"),
    ({'logp': [0.0]}, "'logp' has not one number a token"),
    ({'entropy': ['x'] * 3}, "'entropy' has not one number a token"),
  ],
)
def test_damaged_rows_are_named(changes, fault, tmp_path):
  path = tmp_path / 'a.jsonl'
  jsonl.write_rows(path, [folders.row(), folders.row(**changes)])
  with pytest.raises(UserError) as error:
    samples.read(path)
  expected = (
    f'{path}: row 2: {fault}; give files as lrm train and lrm eval write'
  )
  assert str(error.value).startswith(expected)


def test_a_text_without_its_tokens(tmp_path):
  row = folders.row()
  del row['response_ids'], row['logp']
  jsonl.write_rows(tmp_path / 'a.jsonl', [row])
  with pytest.raises(UserError, match="'response' without 'response_ids'"):
    samples.read(tmp_path / 'a.jsonl')
