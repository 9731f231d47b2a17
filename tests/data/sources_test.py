"""Reading problems from files, generators and the shared benchmarks."""

import json
import os
import pathlib

import pytest

from lrm_jax.data import sources
from lrm_jax.errors import UserError
from lrm_jax.structs import Problem

ROOT = pathlib.Path(__file__).parents[2]
DATA = pathlib.Path(os.environ.get('LRM_DATA_DIR', ROOT.parent / 'shared/data'))
ROWS = {
  'gsm8k_test': 1319,
  'gsm8k_train': 7473,
  'math500': 500,
  'aime24': 30,
  'aime25': 30,
  'amc23': 40,
  'amc22_23': 83,
  'math_train': 7431,
  'minerva_math': 272,
  'olympiadbench': 675,
}


def write(directory, *rows, name='set.jsonl'):
  path = directory / name
  path.write_text(
    '\n'.join(r if isinstance(r, str) else json.dumps(r) for r in rows)
  )
  return str(path)


def row(**fields):
  return {'question': 'q', 'answer': 'a', **fields}


def test_every_field(tmp_path):
  path = write(
    tmp_path,
    row(id='x', level=3, subject='Algebra', source='ignored'),
    '',
    row(answer=-7, level='Level 5', course='', domain='physics'),
    row(id=12, level=None, subfield='Geometry'),
  )
  problems = sources.load_problems(path)
  assert list(problems) == [
    Problem('x', 'q', 'a', 3, 'Algebra'),
    Problem('set-000001', 'q', '-7', 5, 'physics'),
    Problem('12', 'q', 'a', 0, 'Geometry'),
  ]


@pytest.mark.parametrize(
  ('level', 'expected'), [('4', 4), (4.0, 4), ('level 2', 2), ('Level ?', 0)]
)
def test_levels_of_rows(tmp_path, level, expected):
  assert sources.read_jsonl(write(tmp_path, row(level=level)))[0].level == (
    expected
  )


@pytest.mark.parametrize(
  ('bad', 'message'),
  [
    ({'answer': 'a'}, "no 'question'"),
    ({'question': 'q'}, "no 'answer'"),
    (row(answer=None), "no 'answer'"),
    (row(answer=' '), 'expected a non-empty text'),
    (row(answer=['a']), r"answer is \['a'\]"),
    (row(question=3), 'question is 3'),
    (row(level='hard'), "level is 'hard'"),
    (row(level=2.5), 'level is 2.5'),
    (row(level=True), 'level is True'),
    (row(level=-1), 'level is -1'),
    (row(level=float('nan')), 'level is nan'),
    (row(level=float('inf')), 'level is inf'),
    (row(level=10**12), 'level is 1000000000000'),
    ('[' * 100_000, 'not JSON'),
    (row(id='one'), 'is also on line 1'),
    (row(question='\ud800'), 'half a surrogate pair'),
    ('[1]', 'JSON list'),
    ('{"question":', 'not JSON'),
  ],
)
def test_bad_rows_are_named_by_line(tmp_path, bad, message):
  path = write(tmp_path, row(id='one'), '', bad)
  with pytest.raises(UserError, match=message) as error:
    sources.load_problems(path)
  assert str(error.value).startswith(f'{path}:3: ')
  assert '\n' not in str(error.value)


def test_unusable_files(tmp_path):
  with pytest.raises(UserError, match='No such file'):
    sources.load_problems(str(tmp_path / 'none.jsonl'))
  with pytest.raises(UserError, match='has no problems'):
    sources.load_problems(write(tmp_path, '', ''))
  (tmp_path / 'latin.jsonl').write_bytes('{"question": "é"}'.encode('latin1'))
  with pytest.raises(UserError, match='not UTF-8'):
    sources.load_problems(str(tmp_path / 'latin.jsonl'))


def test_line_separators_inside_texts(tmp_path):
  line = json.dumps(row(question='a\u2028b'), ensure_ascii=False)
  path = write(tmp_path, line)
  assert sources.load_problems(path)[0].question == 'a\u2028b'


def test_random_access_and_limit(tmp_path):
  path = write(tmp_path, *(row(id=str(i)) for i in range(5)))
  assert len(sources.load_problems(path, limit=9)) == 5
  problems = sources.load_problems(path, limit=3)
  assert [p.id for p in problems] == ['0', '1', '2']
  assert problems[-1].id == '2'
  for outside in (3, -4):
    with pytest.raises(IndexError):
      problems[outside]
  for limit in (0, -1):
    with pytest.raises(UserError, match=f'limit is {limit}'):
      sources.load_problems(path, limit=limit)


@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    ('gsm9k', "'gsm9k': expected .* gsm8k, math500, .* chain_arithmetic"),
    ('', 'expected the path'),
    ('gsm8k:dev', "no split 'dev'; it has train, test"),
    ('gsm8k:test:3', 'has no levels'),
    ('gsm8k:test:3:4', 'expected the path'),
    ('chain_arithmetic:dev', "no split 'dev'; it has train, heldout"),
    ('chain_arithmetic:train:x', "levels 'x'"),
    ('chain_arithmetic:train:5-2', "levels '5-2'"),
    ('chain_arithmetic:train:900', "levels '900'"),
  ],
)
def test_bad_specs(spec, message):
  with pytest.raises(UserError, match=message) as error:
    sources.load_problems(spec)
  assert '\n' not in str(error.value)


def test_generated_problems():
  train = sources.load_problems('chain_arithmetic', split='train')
  heldout = sources.load_problems('chain_arithmetic')
  assert (len(train), len(heldout)) == (1_000_000, 4096)
  assert heldout.name == 'chain_arithmetic:heldout'
  assert heldout[3] == sources.load_problems('chain_arithmetic:heldout')[3]
  assert train[123] == train[123]
  assert train[123].id != heldout[123].id
  assert train[999_999].id.endswith('999999')


def test_generated_levels():
  for spec, allowed in (('3', {3}), ('2-4', {2, 3, 4})):
    problems = sources.load_problems(
      f'chain_arithmetic:train:{spec}', limit=100
    )
    assert {problem.level for problem in problems} == allowed


@pytest.mark.skipif(not DATA.is_dir(), reason=f'no benchmark data in {DATA}')
@pytest.mark.parametrize('name', sorted(ROWS))
def test_shared_benchmarks(name):
  problems = sources.load_problems(str(DATA / f'{name}.jsonl'))
  assert len(problems) == ROWS[name]
  assert len({problem.id for problem in problems}) == ROWS[name]
  if name == 'math500':
    assert {problem.level for problem in problems} == {1, 2, 3, 4, 5}
    assert len({problem.domain for problem in problems}) == 7
