"""Benchmarks: from rows as they are published to the problems of a digest.

The rows below are short ones of the published files, or have their shape.
"""

import dataclasses
import io
import json
import re
import urllib.error
import urllib.request

import pytest
import tensorflow_datasets as tfds

from lrm_jax.data import benchmarks, sources
from lrm_jax.data.builders import benchmark as builder_lib
from lrm_jax.errors import UserError
from lrm_jax.structs import Problem
from tests.data.sources_test import DATA

WIKI = 'https://artofproblemsolving.com/wiki/index.php/'
CASES = {
  'gsm8k': (
    {'question': 'Two and 1232?', 'answer': 'So <<2+1232=1234>>\n#### 1,234'},
    Problem('gsm8k-test-0000', 'Two and 1232?', '1234', domain='arithmetic'),
  ),
  'math500': (
    {
      'problem': 'Evaluate $i^6$.',
      'solution': 'It is $\\boxed{-1}$.',
      'answer': '-1',
      'subject': 'Algebra',
      'level': 3,
      'unique_id': 'test/algebra/12.json',
    },
    Problem('math500-algebra-12', 'Evaluate $i^6$.', '-1', 3, 'Algebra'),
  ),
  'aime24': (
    {
      'id': 61,
      'problem': 'Find $xy$.',
      'answer': '025',
      'url': f'{WIKI}2024_AIME_I_Problems/Problem_2',
    },
    Problem('aime24-I-02', 'Find $xy$.', '25'),
  ),
  'aime25': (
    {
      'id': 104,
      'problem': 'Find N.',
      'answer': '735',
      'url': f'{WIKI}2025_AIME_II_Problems/Problem_15',
    },
    Problem('aime25-II-15', 'Find N.', '735'),
  ),
  'amc23': (
    {
      'id': 17,
      'problem': 'What is $a_{2023}?$',
      'answer': -1.0,
      'url': f'{WIKI}2023_AMC_12A_Problems/Problem_17',
    },
    Problem('amc-2023-12A-17', 'What is $a_{2023}?$', '-1'),
  ),
  'amc22_23': (
    {
      'id': 0,
      'problem': 'What is $m+n$?',
      'answer': '142.0',
      'url': f'{WIKI}2022_AMC_12B_Problems/Problem_1',
    },
    Problem('amc-2022-12B-01', 'What is $m+n$?', '142'),
  ),
  'minerva': (
    {
      'problem': 'Find $y$.',
      'solution': 'First \\boxed{2}, so $y=\\boxed{ e^{-t} \n}$.',
      'type': 'Differential Equations',
      'idx': 7,
    },
    Problem(
      'minerva-000', 'Find $y$.', 'e^{-t}', domain='Differential Equations'
    ),
  ),
  'olympiadbench': (
    {
      'id': 2021,
      'question': '\nFind all n.',
      'solution': ['They are 69 and 84.'],
      'final_answer': ['$69$,$84$'],
      'is_multiple_answer': True,
      'unit': None,
      'answer_type': 'Numerical',
      'error': None,
      'subfield': 'Number Theory',
    },
    Problem(
      'olympiadbench-2021', '\nFind all n.', '69,84', domain='Number Theory'
    ),
  ),
  'math_train': (
    {'problem': 'Find $a+b$.', 'answer': '0', 'solution': '...'},
    Problem('math_train_rllm-00000', 'Find $a+b$.', '0'),
  ),
}


def split_of(name):
  return next(reversed(benchmarks.BENCHMARKS[name].splits))


def parsed(name, *rows):
  text = '\n'.join(map(json.dumps, rows))
  return list(
    benchmarks.parse(benchmarks.BENCHMARKS[name], split_of(name), text)
  )


# --- Parsers ---


def test_there_is_a_case_for_every_benchmark():
  assert set(CASES) == set(benchmarks.BENCHMARKS)
  assert set(benchmarks.BENCHMARKS) < set(sources.NAMES)


@pytest.mark.parametrize('name', CASES)
def test_a_published_row(name):
  row, problem = CASES[name]
  assert parsed(name, row) == [problem]


def test_one_json_list_is_read_as_lines_are():
  row, problem = CASES['amc22_23']
  entry = benchmarks.BENCHMARKS['amc22_23']
  assert list(benchmarks.parse(entry, 'test', json.dumps([row]))) == [problem]


def test_line_separators_inside_texts():
  row = {'question': 'a\u2028b', 'answer': '#### 1'}
  entry, text = benchmarks.BENCHMARKS['gsm8k'], json.dumps(row)
  (found,) = benchmarks.parse(entry, 'train', f'{text}\n\n')
  assert found.question == 'a\u2028b'
  assert found.id == 'gsm8k-train-0000'


def test_rows_of_tests_are_left_out_of_math_train():
  row, _ = CASES['math_train']
  found = parsed('math_train', *[row] * 7474)
  assert len(found) == benchmarks.BENCHMARKS['math_train'].splits['train'].rows
  numbers = {int(problem.id[-5:]) for problem in found}
  assert numbers.isdisjoint({167, 2311, 7353})
  assert {0, 166, 168, 7473} <= numbers


@pytest.mark.parametrize('solution', ['no mark', 'empty ####', ''])
def test_solutions_without_an_answer(solution):
  with pytest.raises(ValueError, match='does not end with #### NUMBER'):
    benchmarks.final_answer(solution)


def test_answers_that_are_no_integers():
  row, _ = CASES['amc23']
  with pytest.raises(ValueError, match='2.5 is no integer'):
    parsed('amc23', row | {'answer': 2.5})


# --- The table ---


def test_every_file_is_at_a_fixed_commit_and_named_once():
  splits = [
    split
    for benchmark in benchmarks.BENCHMARKS.values()
    for split in benchmark.splits.values()
  ]
  for split in splits:
    assert re.search('/([0-9a-f]{40}|[0-9a-f]{8})/', split.url), split.url
    assert re.fullmatch('[0-9a-f]{64}', split.digest)
  for field in ('url', 'digest', 'file'):
    assert len({getattr(split, field) for split in splits}) == len(splits)


def test_published_checksums_are_of_files_in_the_table():
  infos = builder_lib.PublishedProblems.url_infos
  urls = {
    split.url
    for benchmark in benchmarks.BENCHMARKS.values()
    for split in benchmark.splits.values()
  }
  assert set(infos) <= urls
  sizes = sorted(info.size for info in infos.values())
  assert sizes == [446564, 749738, 4166206]


@pytest.mark.skipif(not DATA.is_dir(), reason=f'no benchmark data in {DATA}')
@pytest.mark.parametrize('name', CASES)
def test_local_copies_are_the_benchmarks(name):
  benchmark = benchmarks.BENCHMARKS[name]
  for split, told in benchmark.splits.items():
    problems = sources.load_problems(name, split=split, data_dir=str(DATA))
    assert len(problems) == told.rows
    assert benchmarks.digest_of(problems) == told.digest
    assert problems.name == f'{name}:{split}'


@pytest.mark.skipif(not DATA.is_dir(), reason=f'no benchmark data in {DATA}')
@pytest.mark.parametrize('name', CASES)
def test_published_rows_give_the_digest(name):
  """Rows are written again as they are published, from what is kept of them."""
  benchmark = benchmarks.BENCHMARKS[name]
  for split, told in benchmark.splits.items():
    kept = [
      json.loads(line)
      for line in (DATA / f'{told.file}.jsonl').read_text('utf-8').split('\n')
      if line
    ]
    text = '\n'.join(json.dumps(row) for row in as_published(name, kept))
    problems = list(benchmarks.parse(benchmark, split, text))
    assert benchmarks.digest_of(problems) == told.digest
    # A run goes on with either, so domains and levels agree too.
    local = sources.load_problems(name, split=split, data_dir=str(DATA))
    assert problems == list(local)


def as_published(name, rows):
  if name == 'gsm8k':
    for row in rows:
      yield {'question': row['question'], 'answer': row['solution']}
  elif name == 'math_train':
    number = 0
    for row in rows:
      while number < int(row['id'][-5:]):
        yield {'problem': 'left out', 'answer': ''}
        number += 1
      yield {'problem': row['question'], 'answer': row['answer']}
      number += 1
  else:
    for row in rows:
      raw = row['answer_raw'] if 'answer_raw' in row else row['answer']
      renamed = {'problem': row['question'], 'answer': raw}
      if name == 'olympiadbench':
        renamed = {'id': row['id'].split('-')[1], 'final_answer': [raw]}
      if name == 'minerva':
        renamed['type'] = row['course']
      yield row | renamed


# --- Local copies, downloads ---


@pytest.fixture
def tiny(monkeypatch, tmp_path):
  """`gsm8k` of one problem a split, whose files can be downloaded."""
  entry = benchmarks.BENCHMARKS['gsm8k']
  row, _ = CASES['gsm8k']
  splits, files = {}, {}
  for split, told in entry.splits.items():
    changed = row | {'question': f'{split}?'}
    (problem,) = benchmarks.parse(entry, split, json.dumps(changed))
    digest = benchmarks.digest_of([problem])
    splits[split] = dataclasses.replace(told, rows=1, digest=digest)
    files[split] = tmp_path / f'published_{split}'
    files[split].write_text(json.dumps(changed))
  small = dataclasses.replace(entry, splits=splits)
  monkeypatch.setitem(benchmarks.BENCHMARKS, 'gsm8k', small)
  monkeypatch.setattr(urllib.request, 'urlopen', lambda *_, **__: io.BytesIO())
  monkeypatch.setattr(
    tfds.download.DownloadManager, 'download', lambda self, urls: files
  )
  return files


def test_downloaded_once(tiny, tmp_path):
  folder = tmp_path / 'kept'
  for spec, split in (('gsm8k', 'test'), ('gsm8k:train', 'train')):
    (problem,) = sources.load_problems(spec, data_dir=str(folder))
    assert problem == Problem(
      f'gsm8k-{split}-0000', f'{split}?', '1234', domain='arithmetic'
    )
  tiny['test'].unlink()
  assert len(sources.load_problems('gsm8k:heldout', data_dir=folder)) == 1


def test_a_changed_source_is_refused(tiny, tmp_path):
  row = json.loads(tiny['test'].read_text())
  for text, message in (
    (json.dumps(row | {'question': 'another'}), 'has 1 problems with sha256'),
    (json.dumps({'question': 'q'}), r'not the published gsm8k \(KeyError'),
    ('<html>', r'not the published gsm8k \(JSONDecodeError'),
    ('', 'has 0 problems with sha256'),
  ):
    tiny['test'].write_text(text)
    with pytest.raises(UserError, match=message) as error:
      sources.load_problems('gsm8k', data_dir=str(tmp_path / 'kept'))
    assert 'give the path of a .jsonl file instead' in str(error.value)
    assert '\n' not in str(error.value)


def test_a_local_copy_is_taken_without_a_download(tiny, tmp_path):
  tiny['test'].unlink()
  row = {'id': 'gsm8k-test-0000', 'question': 'test?', 'answer': 1234}
  path = tmp_path / 'gsm8k_test.jsonl'
  path.write_text(json.dumps(row))
  problems = sources.load_problems('gsm8k', data_dir=str(tmp_path))
  assert [p.domain for p in problems] == ['arithmetic']
  assert not (tmp_path / 'published_problems').exists()


def test_another_local_copy_is_refused(tiny, tmp_path):
  path = tmp_path / 'gsm8k_test.jsonl'
  path.write_text(json.dumps({'id': 'x', 'question': 'test?', 'answer': '1'}))
  with pytest.raises(
    UserError, match='is not gsm8k:test .sha256 of its problems'
  ) as error:
    sources.load_problems('gsm8k', data_dir=str(tmp_path))
  assert f'give {path} itself as the data set to use it' in str(error.value)
  assert '\n' not in str(error.value)
  assert len(sources.load_problems(str(path))) == 1


@pytest.mark.parametrize(
  'failure',
  [
    ConnectionError('no\nroute'),
    tfds.download.DownloadError('status 404'),
    tfds.download.download_manager.NonMatchingChecksumError('bytes differ'),
  ],
)
def test_failed_download_is_one_line(tmp_path, monkeypatch, failure):
  def fail(*args, **kwargs):
    raise failure

  monkeypatch.setattr(urllib.request, 'urlopen', lambda *_, **__: io.BytesIO())
  monkeypatch.setattr(tfds.download.DownloadManager, 'download', fail)
  with pytest.raises(UserError, match='data set aime24: cannot be') as error:
    sources.load_problems('aime24', data_dir=tmp_path)
  assert '\n' not in str(error.value)


def test_no_network_fails_before_the_download(tmp_path, monkeypatch):
  def no_network(*args, **kwargs):
    raise urllib.error.URLError('name not known')

  def unreachable(*args, **kwargs):
    raise AssertionError('TFDS would retry for minutes')

  monkeypatch.setattr(urllib.request, 'urlopen', no_network)
  monkeypatch.setattr(tfds.download.DownloadManager, 'download', unreachable)
  with pytest.raises(UserError, match='name not known.*a .jsonl file') as error:
    sources.load_problems('math500', data_dir=tmp_path)
  message = 'keep a copy in the data directory (math500.jsonl), or give'
  assert message in str(error.value)
