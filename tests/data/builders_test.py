"""TFDS builders, offline, without TensorFlow."""

import json
import subprocess
import sys

import pytest

from lrm_jax.data import sources
from lrm_jax.data.builders import (
  base,
  chain_arithmetic,
  jsonl_benchmark,
)
from lrm_jax.errors import UserError
from tests.data.sources_test import ROOT


def problems_of(builder, split):
  return [base.to_problem(e) for e in base.prepared(builder, split)]


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
