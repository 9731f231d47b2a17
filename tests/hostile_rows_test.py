"""Rows and numbers that a stranger wrote; ids that look like paths."""

import ast
import gzip
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from lrm_jax import (
  errors,
  gathering,
  goodput,
  jsonl,
  main,
  metrics,
  records,
  workdir,
)
from lrm_jax.data import pass_rates, sources
from lrm_jax.data.builders import base, jsonl_benchmark
from lrm_jax.evaluation import run_evaluation
from lrm_jax.structs import Problem
from tests import tiny
from tests.checkpoints.hf_models import refusal
from tests.objectives import reference

ROOT = pathlib.Path(__file__).parents[1]
PATHS = ('../../x', '/etc/x', 'a/../../b', '..', 'x\0y', '$(touch y)', '~/x')


# Compressed rows.


def write_bomb(path, member, times):
  """Equal members one behind the other, which unpack to one text."""
  path.write_bytes(gzip.compress(member, 9, mtime=0) * times)
  return path


def test_one_line_that_never_ends(tmp_path, monkeypatch):
  monkeypatch.setattr(jsonl, '_MOST_LINE', 1000)
  path = write_bomb(tmp_path / 'a.jsonl.gz', b'{"a": 1}\n' + b' ' * 1001, 1)
  message = refusal(jsonl.read_rows, path)
  assert f'{path}:2: longer than 1000 bytes; each line must be' in message
  plain = tmp_path / 'a.jsonl'
  plain.write_bytes(b'{"a": 1}\n' + b' ' * 999 + b'\n{"a": 2}')
  assert jsonl.read_rows(plain) == [{'a': 1}, {'a': 2}]


def test_more_rows_than_a_file_has(tmp_path, monkeypatch):
  monkeypatch.setattr(jsonl, '_MOST_UNPACKED', 10_000)
  rows = b'{"a": 1}\n' * 100_000
  path = write_bomb(tmp_path / 'a.jsonl.gz', rows, 1)
  message = refusal(jsonl.read_rows, path)
  assert 'unpacked more than 200 times as large as the file; where' in message
  assert 'gunzip' in message
  plain = tmp_path / 'a.jsonl'
  plain.write_bytes(rows)
  assert len(jsonl.read_rows(plain)) == 100_000
  # Text that repeats itself is no bomb.
  path = tmp_path / 'b.jsonl.gz'
  jsonl.write_rows(path, [{'text': f'wait {i} ' * 50} for i in range(5000)])
  assert len(jsonl.read_rows(path)) == 5000


def test_four_gigabytes_in_four_megabytes(tmp_path):
  """By a command that has no room for them."""
  path = write_bomb(tmp_path / 'a.jsonl.gz', b' ' * (1 << 24), 256)
  command = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({1 << 30}, {1 << 30}))
from lrm_jax import main
sys.exit(main.main(['lrm', 'grade', '--input={path}', '--output=out']))
"""
  done = subprocess.run(
    [sys.executable, '-c', command],
    cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  assert done.returncode == 2, done.stderr
  assert ':1: longer than 67108864 bytes' in done.stderr
  assert done.stderr.count('\n') == 1


# Numbers.


@pytest.mark.parametrize(
  ('name', 'text', 'words'),
  [
    ('a.json', '[' * 100_000, 'no pass rates (ValueError: nested too deep'),
    ('b.json', '{"by_level": null}', 'no pass rates (TypeError'),
    ('c.json', '{"by_level": [{"level": 1e999, "accuracy": 1}]}', 'no pass'),
    ('d.json', '{"by_level": [{"level": 1, "accuracy": NaN}]}', 'has nan;'),
    ('e.jsonl', '{"id": 1, "pass_rate": 1' + '0' * 400 + '}', 'no pass rates'),
    ('f.jsonl', '{"id": 1, "pass_rate": Infinity}', 'has inf; pass rates must'),
    ('g.jsonl', '{"id": 1, "pass_rate": -1}', 'has -1.0; pass rates must be'),
  ],
)
def test_rates_that_are_none(tmp_path, name, text, words):
  (tmp_path / name).write_text(text)
  assert words in refusal(pass_rates.load, tmp_path / name)


@pytest.mark.parametrize(
  'text', ['[' * 100_000, '{"verb": 1}', '', '\xff', '{"verb": 1, "config": 2}']
)
def test_a_config_json_that_no_run_wrote(tmp_path, text):
  path = tmp_path / 'config.json'
  path.write_text(text, 'latin-1')
  message = refusal(workdir.read_record, path)
  assert 'was not written by lrm train or lrm sft; choose another' in message


@pytest.mark.parametrize(
  'text', ['[' * 100_000, '{"started": "x"}', '[1]', '', '{"started": 9e99}']
)
def test_a_start_that_cannot_be(tmp_path, text):
  (tmp_path / 'start.json').write_text(text)
  message = refusal(goodput.first_start, tmp_path, 100.0)
  assert 'start.json: does not say when the run was started; remove' in message


@pytest.mark.parametrize('text', ['[' * 100_000, '{}', '[1]', '', '{"step": '])
def test_an_evaluation_that_was_damaged(tmp_path, text):
  path = tmp_path / 'before.json'
  assert run_evaluation.read(path) is None
  path.write_text(text)
  message = refusal(run_evaluation.read, path)
  assert 'not the summary of an evaluation; remove it, and the run' in message


@pytest.mark.parametrize('line', ['{"step": 6, "a"', '[7]', '{}', '\0' * 9])
def test_metrics_that_were_damaged(tmp_path, line):
  """A line cut short is the last; one in the middle is not passed over."""
  path = tmp_path / 'metrics.jsonl'
  good = '{"step": 5}\n'
  path.write_text(good + line)
  metrics._drop_after(path, 9)
  assert path.read_text() == good
  path.write_text(good + line + '\n{"step": 7}\n')
  message = refusal(metrics._drop_after, path, 9)
  assert message == (
    f'{path}:2: not the metrics of a step; mend or remove that line'
  )
  assert '{"step": 7}' in path.read_text()


def test_rows_of_problems_that_are_none(tmp_path):
  path = tmp_path / 'a.jsonl'
  good = '{"question": "q", "answer": "a"}\n'
  for line, words in (
    ('[' * 100_000, 'a.jsonl:2: not JSON ('),
    ('{"question": "q", "answer": ' + '9' * 5000 + '}', ':2: not JSON ('),
    ('{"question": "q", "answer": NaN}', 'answer is nan; expected a non-empty'),
    (
      '{"question": "q", "answer": 1, "level": 1e999}',
      "level is inf; expected an integer or 'Level 5'",
    ),
  ):
    path.write_text(good + line)
    assert words in refusal(sources.read_jsonl, path)


# Prepared data.


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A data set that TFDS has stored: (its folder, how it is opened)."""
  folder = tmp_path_factory.mktemp('prepared')
  rows = [{'question': f'q{i} ' * 50, 'answer': str(i)} for i in range(200)]
  jsonl.write_rows(folder / 'a.jsonl', rows)

  def read():
    builder = jsonl_benchmark.JsonlBenchmark(
      path=folder / 'a.jsonl', data_dir=folder / 'tfds'
    )
    return [base.to_problem(e) for e in base.prepared(builder, 'test')]

  expected = read()
  assert len(expected) == 200
  (path,) = (folder / 'tfds').rglob('*.array_record*')
  return path, read, expected


@pytest.fixture
def kept(prepared):
  """The same, put right again afterwards."""
  files = {p: p.read_bytes() for p in prepared[0].parent.iterdir()}
  yield prepared
  for path, content in files.items():
    path.write_bytes(content)


@pytest.mark.parametrize('size', [0, 10, 1 << 16, (1 << 17) - 1])
def test_prepared_data_that_were_cut(kept, size):
  path, read, _ = kept
  os.truncate(path, size)
  message = refusal(read)
  assert 'jsonl_benchmark: what was prepared in' in message
  assert 'is damaged (' in message and 'remove that folder' in message


def test_prepared_data_with_a_wrong_byte(kept):
  """No byte can change a problem: it is noticed, or belongs to none."""
  path, read, expected = kept
  good, noticed = path.read_bytes(), 0
  for place in (0, 70, 130, 200, 300, 1 << 16, (1 << 16) + 30, len(good) - 3):
    changed = bytearray(good)
    changed[place] ^= 0x55
    path.write_bytes(bytes(changed))
    try:
      assert read() == expected
    except errors.UserError as error:
      assert 'is damaged (' in str(error)
      noticed += 1
  assert noticed >= 4


@pytest.mark.parametrize('content', [None, b'{', b'\xff', b'[]'])
def test_what_is_said_of_prepared_data_is_damaged(kept, content):
  path, read, _ = kept
  info = path.with_name('dataset_info.json')
  info.unlink() if content is None else info.write_bytes(content)
  message = refusal(read)
  assert 'is damaged (' in message and str(path.parents[3]) in message


# Ids and texts never become paths.


def test_ids_that_look_like_paths_name_no_file(tmp_path):
  """What a command writes is its output, whatever the ids are."""
  folder = tmp_path / 'a' / 'b' / 'c'
  folder.mkdir(parents=True)
  rows = [
    {'id': name, 'response': rf'\boxed{{{name}}}', 'answer': name}
    for name in PATHS
  ]
  jsonl.write_rows(folder / 'in.jsonl', rows)
  files = (f'--input={folder / "in.jsonl"}', f'--output={folder / "out.jsonl"}')
  assert main.main(['lrm', 'grade', *files]) == 0
  rows = jsonl.read_rows(folder / 'out.jsonl')
  assert [row['id'] for row in rows] == list(PATHS)
  files = sorted(p.name for p in tmp_path.rglob('*') if p.is_file())
  assert files == ['in.jsonl', 'out.jsonl', 'summary.json']
  assert [p.name for p in tmp_path.iterdir()] == ['a']


def test_rollouts_are_named_after_their_step(tmp_path):
  """Not after problems; and the rows keep their ids as they are."""
  b = len(PATHS)
  rollouts = reference.rollouts(np.ones((b, 1)), length=np.ones((b, 1)))
  ones = np.ones((b, 1), np.int32)
  fields = {
    'problems': [Problem(name, '../q', '../a') for name in PATHS],
    'rollouts': rollouts,
    'reward': ones,
    'keep': ones,
    'judged': ones,
  }
  rounds, chosen = np.zeros(b, int), np.arange(b - 1)
  sampled = gathering.Sampled(**fields, rounds=rounds, chosen=chosen)
  problems, rollouts = gathering.take(fields['problems'], rollouts, chosen)
  trained = [x[:-1] for x in (ones, ones, ones)]
  batch = gathering.Batch(problems, rollouts, *trained, {}, sampled)
  advantage = np.ones((b - 1, 1, 1))
  run = tmp_path / 'a' / 'b'
  run.mkdir(parents=True)
  records.write_step(run, tiny.tokenizer(), batch, advantage, 7)
  (path,) = (p for p in tmp_path.rglob('*') if p.is_file())
  assert path == run / 'rollouts' / 'step_000007.jsonl.gz'
  assert [row['id'] for row in jsonl.read_rows(path)] == list(PATHS)


# What is never run.

# As functions, and as modules, arguments or methods too.
BUILTINS = {'eval', 'exec', 'compile', '__import__'}
FORBIDDEN = {
  *('pickle', 'cPickle', 'dill', 'marshal', 'dlopen'),
  *('shelve', 'joblib', 'cloudpickle', 'yaml', 'system', 'popen', 'execv'),
  *('runpy', 'import_module', 'spec_from_file_location'),
  *('allow_pickle', 'shell', 'trust_remote_code'),
}
# A config is a program of the user's own; verbs are a table of ours; bare
# scripts load the file beside them that takes their rights away.
ALLOWED = {
  'lrm_jax/data/template_worker.py': {'spec_from_file_location'},
  'lrm_jax/rewards/worker.py': {'spec_from_file_location'},
  # Files beside it, and modules of the installed package, by literal names.
  'lrm_jax/rewards/gym_worker.py': {
    'spec_from_file_location',
    'import_module',
  },
  # Of `experiments/` beside the package, by name.
  'lrm_jax/commands/table.py': {'runpy'},
  'lrm_jax/configuration.py': {'runpy'},
  'lrm_jax/main.py': {'import_module'},
}


def test_only_a_config_is_run():
  """Names that could turn data into code are in no other module."""
  found = set()
  for path in sorted((ROOT / 'lrm_jax').rglob('*.py')):
    name = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
      words, forbidden = set(), FORBIDDEN
      if isinstance(node, ast.Name):
        words = {node.id}
        forbidden = forbidden | BUILTINS
      elif isinstance(node, ast.Attribute):
        words = {node.attr}
      elif isinstance(node, ast.keyword):
        words = {node.arg}
      elif isinstance(node, (ast.Import, ast.ImportFrom)):
        words = {part for a in node.names for part in a.name.split('.')}
        words |= set(str(getattr(node, 'module', '')).split('.'))
      words &= forbidden - (ALLOWED[name] if name in ALLOWED else set())
      found |= {f'{name}:{node.lineno} {word}' for word in words}
  assert not found


# What a terminal is sent.


def test_a_message_is_one_line_of_text():
  text = 'a\n b\x1b[2J\x07\u202e ' + 'x' * 10_000 + ' cure'
  line = errors.one_line(errors.UserError(text))
  assert line.startswith('a b\\x1b[2J\\x07\\u202e xx') and len(line) < 2100
  assert line.isprintable() and line.endswith(' cure')
  assert errors.one_line(errors.UserError('é ∑ "quotes"')) == 'é ∑ "quotes"'
