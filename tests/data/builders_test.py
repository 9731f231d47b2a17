"""TFDS builders, offline, without TensorFlow."""

import hashlib
import io
import json
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
import tensorflow_datasets as tfds

from lrm_jax.data import sources
from lrm_jax.data.builders import (
  base,
  chain_arithmetic,
  gsm8k,
  jsonl_benchmark,
)
from lrm_jax.errors import UserError
from lrm_jax.structs import Problem
from tests.data.sources_test import DATA, ROOT

ROWS = {
  'train': [('Two and 1232 clips?', 'So <<2+1232=1234>>\n#### 1,234')],
  'test': [('Owes 5?', 'He owes\n#### -5'), ('π?', '####  3 ')],
}


def problems_of(builder, split):
  return [base.to_problem(e) for e in base.prepared(builder, split)]


@pytest.fixture
def local_gsm8k(tmp_path, monkeypatch):
  """A directory in the published layout, with matching checksums."""
  infos = {}
  for split, rows in ROWS.items():
    lines = [json.dumps({'question': q, 'answer': a}) for q, a in rows]
    content = ''.join(f'{line}\n' for line in lines).encode()
    (tmp_path / f'{split}.jsonl').write_bytes(content)
    infos[f'{gsm8k._URL}{split}.jsonl'] = tfds.download.checksums.UrlInfo(
      size=len(content),
      checksum=hashlib.sha256(content).hexdigest(),
      filename=f'{split}.jsonl',
    )
  monkeypatch.setattr(gsm8k.Gsm8k, 'url_infos', infos)
  return tmp_path


def test_gsm8k_from_local_files(local_gsm8k):
  data_dir = local_gsm8k / 'tfds'
  builder = gsm8k.Gsm8k(local_path=local_gsm8k, data_dir=data_dir)
  assert problems_of(builder, 'train') == [
    Problem(
      'gsm8k-train-0000', 'Two and 1232 clips?', '1234', domain='arithmetic'
    )
  ]
  test = problems_of(builder, 'test')
  assert [(p.id, p.question, p.answer) for p in test] == [
    ('gsm8k-test-0000', 'Owes 5?', '-5'),
    ('gsm8k-test-0001', 'π?', '3'),
  ]
  # Prepared once, it is found by name without the local files.
  (local_gsm8k / 'test.jsonl').unlink()
  source = sources.load_problems('gsm8k', data_dir=data_dir)
  assert list(source) == test
  assert source.name == 'gsm8k:test'
  assert len(sources.load_problems('gsm8k:train', data_dir=data_dir)) == 1


def test_gsm8k_refuses_other_files(local_gsm8k):
  builder = gsm8k.Gsm8k(local_path=local_gsm8k, data_dir=local_gsm8k / 'tfds')
  path = local_gsm8k / 'train.jsonl'
  path.write_bytes(path.read_bytes() + b'\n')
  with pytest.raises(UserError, match='train.jsonl: has sha256'):
    base.prepared(builder, 'train')
  path.unlink()
  with pytest.raises(UserError, match='train.jsonl: no such file'):
    base.prepared(builder, 'train')


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
  with pytest.raises(UserError, match='gsm8k_problems: cannot be') as error:
    sources.load_problems('gsm8k', data_dir=tmp_path)
  assert '\n' not in str(error.value)


def test_no_network_fails_before_the_download(tmp_path, monkeypatch):
  def no_network(*args, **kwargs):
    raise urllib.error.URLError('name not known')

  def unreachable(*args, **kwargs):
    raise AssertionError('TFDS would retry for minutes')

  monkeypatch.setattr(urllib.request, 'urlopen', no_network)
  monkeypatch.setattr(tfds.download.DownloadManager, 'download', unreachable)
  with pytest.raises(UserError, match='name not known.*a .jsonl file instead'):
    sources.load_problems('gsm8k', data_dir=tmp_path)


def test_published_checksums_are_read():
  infos = gsm8k.Gsm8k.url_infos
  assert {f'{gsm8k._URL}{split}.jsonl' for split in ROWS} == set(infos)
  assert sorted(info.size for info in infos.values()) == [749738, 4166206]


@pytest.mark.skipif(not DATA.is_dir(), reason=f'no benchmark data in {DATA}')
def test_gsm8k_published_files(tmp_path):
  # The shared data keep questions and solutions verbatim, so the published
  # files can be written again and must pass their checksums.
  for split in ROWS:
    rows = (DATA / f'gsm8k_{split}.jsonl').read_text().split('\n')[:-1]
    with open(tmp_path / f'{split}.jsonl', 'w', encoding='utf-8') as file:
      for row in map(json.loads, rows):
        line = {'question': row['question'], 'answer': row['solution']}
        file.write(json.dumps(line) + '\n')
  builder = gsm8k.Gsm8k(local_path=tmp_path, data_dir=tmp_path / 'tfds')
  for split in ROWS:
    expected = sources.read_jsonl(DATA / f'gsm8k_{split}.jsonl')
    found = problems_of(builder, split)
    assert [(p.id, p.question, p.answer) for p in found] == [
      (p.id, p.question, p.answer) for p in expected
    ]


@pytest.mark.parametrize('solution', ['no mark', 'empty ####', ''])
def test_solutions_without_an_answer(solution):
  with pytest.raises(UserError, match='expected "#### NUMBER"'):
    gsm8k.final_answer(solution)


def test_jsonl_benchmark_follows_the_content(tmp_path):
  path = tmp_path / 'mine.jsonl'
  rows = [{'question': f'q{i}', 'answer': i, 'level': i} for i in range(12)]
  for count in (12, 3):  # the second build must not answer from the first
    path.write_text('\n'.join(json.dumps(row) for row in rows[:count]))
    builder = jsonl_benchmark.JsonlBenchmark(path=path, data_dir=tmp_path)
    assert problems_of(builder, 'test') == sources.read_jsonl(path)
  with pytest.raises(UserError, match='No such file'):
    jsonl_benchmark.JsonlBenchmark(path='none.jsonl', data_dir=tmp_path)


def test_chain_arithmetic_equals_the_generator(tmp_path):
  sizes = {'train_size': 5, 'heldout_size': 4, 'data_dir': tmp_path}
  for levels, suffix in ((None, ''), ('2-3', ':2-3')):
    builder = chain_arithmetic.ChainArithmetic(levels=levels, **sizes)
    for split, count in (('train', 5), ('heldout', 4)):
      spec = f'chain_arithmetic:{split}{suffix}'
      expected = list(sources.load_problems(spec, limit=count))
      assert problems_of(builder, split) == expected


def test_preparing_keeps_stdout_clean(tmp_path, capsys):
  path = tmp_path / 'mine.jsonl'
  path.write_text('{"question": "q", "answer": "a"}')
  builder = jsonl_benchmark.JsonlBenchmark(path=path, data_dir=tmp_path)
  base.prepared(builder, 'test')
  assert capsys.readouterr().out == ''


def test_tfds_is_imported_only_when_used():
  code = (
    'import sys; from lrm_jax.data import sources, pipeline; '
    'sys.exit("tensorflow_datasets" in sys.modules)'
  )
  assert (
    subprocess.run(
      [sys.executable, '-c', code], cwd=ROOT, check=False
    ).returncode
    == 0
  )
