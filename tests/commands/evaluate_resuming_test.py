"""`lrm eval` that was stopped, and started again in the same folder."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time

import jax
import pytest

from lrm_jax import jsonl, locking, main, storage
from lrm_jax.commands import evaluate, loading
from lrm_jax.evaluation import chunks, stored
from tests import tiny
from tests.commands import evaluate_test

PROBLEMS = [
  {'id': f'p{i}', 'question': f'Start={i} a:+1', 'answer': i + 1, 'level': 1}
  for i in range(5)
]
# What a clock has no part in.
RESULTS = ('rollouts.jsonl.gz', 'pass_rates.jsonl')
TIMED = ('seconds', 'tokens_per_second', 'compile_seconds')


@pytest.fixture
def data(tmp_path):
  path = tmp_path / 'problems.jsonl'
  jsonl.write_rows(path, PROBLEMS)
  return path


@pytest.fixture
def fake(monkeypatch):
  """Responses of no model; how many batches were asked for."""
  asked = []

  class Counting(evaluate_test.Answers):
    def respond(self, prompt_ids, prompt_length, **options):
      asked.append(len(prompt_ids))
      return super().respond(prompt_ids, prompt_length, **options)

  monkeypatch.setattr(
    loading,
    'make_sampler',
    lambda model, flags, samples, **_: Counting(samples, flags.batch),
  )
  return asked


def words(data, workdir, *more):
  return [
    *('lrm', 'eval', f'--model={tiny.model_directory()}', f'--data={data}'),
    *(f'--workdir={workdir}', '--n=2', '--max_tokens=12', '--batch=2', *more),
  ]


def start(*arguments):
  return main.main(words(*arguments))


def results(workdir):
  summary = json.loads((workdir / 'summary.json').read_text())
  return (
    *((workdir / name).read_bytes() for name in RESULTS),
    {key: value for key, value in summary.items() if key not in TIMED},
  )


def names(workdir):
  return sorted(x.name for x in workdir.iterdir() if x.name != '.lock')


class Killed(BaseException):
  """As sudden as a kill, for this process."""


def killing(monkeypatch, module, name, after):
  """Lets a function be the last thing that happens, in one of its calls."""
  real, calls = getattr(module, name), []

  def function(*arguments, **keywords):
    calls.append(name)
    if len(calls) > after:
      raise Killed
    return real(*arguments, **keywords)

  monkeypatch.setattr(module, name, function)


@pytest.mark.parametrize('done', [0, 1, 2])
def test_it_goes_on_with_the_next_chunk(
  monkeypatch, tmp_path, data, fake, done
):
  assert start(data, tmp_path / 'whole') == 0
  assert fake == [2, 2, 1]
  fake.clear()
  with monkeypatch.context() as patch:
    killing(patch, chunks, 'write', done)
    with pytest.raises(Killed):
      start(data, tmp_path / 'cut')
  folder = tmp_path / 'cut' / 'chunks'
  there = ['000000.jsonl.gz', '000002.jsonl.gz'][:done] + ['started.json']
  assert names(folder) == there
  # What a kill leaves of a file.
  (folder / '.000004.jsonl.gz.7.part').write_bytes(b'half')
  fake.clear()
  assert start(data, tmp_path / 'cut') == 0
  assert fake == [2, 2, 1][done:]
  assert results(tmp_path / 'cut') == results(tmp_path / 'whole')
  assert names(tmp_path / 'cut') == sorted([*RESULTS, 'summary.json'])


@pytest.mark.parametrize(
  ('module', 'name'),
  [
    # All chunks are there, and nothing else; before the rates; before and
    # after the summary.
    (evaluate.jsonl, 'write_rows'),
    (evaluate.scores, 'pass_rates'),
    (evaluate.workdir, 'write_summary'),
    (chunks, 'remove'),
  ],
)
def test_it_may_be_killed_at_its_end(
  monkeypatch, capsys, tmp_path, data, fake, module, name
):
  assert start(data, tmp_path / 'whole') == 0
  with monkeypatch.context() as patch:
    # The rows of three chunks are written before those of all.
    killing(patch, module, name, 3 if name == 'write_rows' else 0)
    with pytest.raises(Killed):
      start(data, tmp_path / 'cut')
  fake.clear()
  assert start(data, tmp_path / 'cut') == 0
  assert fake == []
  assert results(tmp_path / 'cut') == results(tmp_path / 'whole')
  assert names(tmp_path / 'cut') == sorted([*RESULTS, 'summary.json'])


def test_what_has_ended_prints_its_table_again(
  monkeypatch, capsys, tmp_path, data, fake
):
  assert start(data, tmp_path / 'run') == 0
  first = capsys.readouterr().out.splitlines()
  before = {x: x.stat().st_mtime_ns for x in (tmp_path / 'run').iterdir()}
  fake.clear()
  # No model is even loaded.
  monkeypatch.setattr(loading, 'load', None)
  # Nor does it matter how many prompts would be sampled at once.
  assert start(data, tmp_path / 'run', '--batch=5') == 0
  again = capsys.readouterr().out.splitlines()
  assert again[:-1] == first[:-1]
  assert 'nothing was left to sample' in again[-1]
  assert fake == []
  found = {x: x.stat().st_mtime_ns for x in (tmp_path / 'run').iterdir()}
  assert found == before


def test_other_batches_go_on_too(monkeypatch, tmp_path, data, fake):
  """Who has too little memory takes fewer prompts at once and loses nothing."""
  assert start(data, tmp_path / 'whole') == 0
  with monkeypatch.context() as patch:
    killing(patch, chunks, 'write', 1)
    with pytest.raises(Killed):
      start(data, tmp_path / 'cut')
  fake.clear()
  assert start(data, tmp_path / 'cut', '--batch=1') == 0
  assert fake == [1, 1, 1]
  assert results(tmp_path / 'cut') == results(tmp_path / 'whole')


CHANGES = {
  '--temperature=0.5': 'settings.temperature (was 1.0, now 0.5)',
  '--n=3': 'settings.samples (was 2, now 3)',
  '--max_tokens=16': 'settings.max_tokens (was 12, now 16)',
  '--seed=1': 'seed (was 0, now 1)',
  '--instruction=Be brief.': 'settings.instruction (was "", now "Be brief.")',
  '--truncation=top_k=3': 'settings.truncation.top_k (was absent, now 3)',
  '--stop=x': 'settings.stop (was [], now ["x"])',
  '--dtype=bfloat16': 'identity.dtype (was "float32", now "bfloat16")',
  '--limit=3': 'settings.problems (was 5, now 3)',
}


@pytest.mark.parametrize('is_finished', [False, True])
@pytest.mark.parametrize('flag', CHANGES)
def test_other_flags_are_refused(
  monkeypatch, capsys, tmp_path, data, fake, flag, is_finished
):
  with monkeypatch.context() as patch:
    if not is_finished:
      killing(patch, chunks, 'write', 1)
      with pytest.raises(Killed):
        start(data, tmp_path / 'run')
    else:
      start(data, tmp_path / 'run')
  files = {
    x: x.read_bytes() for x in (tmp_path / 'run').rglob('*') if x.is_file()
  }
  capsys.readouterr()
  monkeypatch.setattr(loading, 'load', None)
  assert start(data, tmp_path / 'run', flag) == 2
  error = capsys.readouterr().err
  assert error.startswith(
    f"lrm: error: --workdir='{tmp_path / 'run'}' holds an evaluation with "
    'other flags: '
  )
  assert CHANGES[flag] in error
  assert error.endswith(
    'give the same flags to go on with it, delete the folder to begin anew, or '
    'choose another --workdir\n'
  )
  assert error.count('\n') == 1
  assert files == {
    x: x.read_bytes() for x in (tmp_path / 'run').rglob('*') if x.is_file()
  }


def test_other_data_and_another_model_of_the_same_names(
  capsys, tmp_path, data, fake
):
  assert start(data, tmp_path / 'run') == 0
  jsonl.write_rows(data, [row | {'answer': 0} for row in PROBLEMS])
  assert start(data, tmp_path / 'run') == 2
  assert 'settings.data (was "' in capsys.readouterr().err
  jsonl.write_rows(data, PROBLEMS)
  model = tmp_path / 'model'
  model.mkdir()
  for path in tiny.model_directory().iterdir():
    (model / path.name).write_bytes(path.read_bytes())
  flag = f'--model={model}'
  assert start(data, tmp_path / 'other', flag) == 0
  # A space in a file is another file.
  config = model / 'config.json'
  config.write_text(config.read_text() + ' ')
  assert start(data, tmp_path / 'other', flag) == 2
  assert 'identity.checksum (was "' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['summary.json', 'rollouts.jsonl.gz'])
@pytest.mark.parametrize('text', ['{"verb": "eval"}', 'x'])
def test_what_something_else_left_is_not_replaced(
  capsys, tmp_path, data, fake, name, text
):
  path = tmp_path / 'run' / name
  path.parent.mkdir()
  path.write_text(text)
  assert start(data, tmp_path / 'run') == 2
  assert capsys.readouterr().err == (
    f"lrm: error: --workdir='{tmp_path / 'run'}' holds {name} of an earlier "
    'version or of something else; delete the folder to begin anew, or choose '
    'another --workdir\n'
  )
  assert path.read_text() == text


@pytest.mark.parametrize(
  'change',
  [
    lambda rows: [],
    lambda rows: rows[:-1],
    lambda rows: [rows[0] | {'id': 'p9'}, *rows[1:]],
  ],
)
def test_a_chunk_of_other_problems(
  monkeypatch, capsys, tmp_path, data, fake, change
):
  with monkeypatch.context() as patch:
    killing(patch, chunks, 'write', 2)
    with pytest.raises(Killed):
      start(data, tmp_path / 'run')
  path = tmp_path / 'run' / 'chunks' / '000002.jsonl.gz'
  jsonl.write_rows(path, change(jsonl.read_rows(path)))
  assert start(data, tmp_path / 'run') == 2
  assert (
    f"'{path}': not 2 samples of each problem from 'p2' on; delete the file, "
    'and they are sampled again'
  ) in capsys.readouterr().err
  path.unlink()
  assert start(data, tmp_path / 'run') == 0


def test_rows_have_the_answer_and_its_class(tmp_path, data, fake):
  """Sample 0 of an even start is right; all others say 77."""
  assert start(data, tmp_path / 'run') == 0
  with gzip.open(tmp_path / 'run' / 'rollouts.jsonl.gz', 'rt') as file:
    rows = [json.loads(line) for line in file]
  assert [(row['extracted'], row['class']) for row in rows] == [
    *(('1', 0), ('77', 1), ('77', 1), ('77', 1), ('3', 0), ('77', 1)),
    *(('77', 1), ('77', 1), ('5', 0), ('77', 1)),
  ]
  assert [row['question'] for row in rows[::2]] == [
    row['question'] for row in PROBLEMS
  ]
  found = stored.read(str(tmp_path / 'run'), texts=True)
  assert found.rows[4][1] == rows[-1]
  summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
  sizes = [x.size for x in jax.tree.leaves(tiny.params(tiny.config()))]
  assert summary['parameters'] == sum(sizes)
  # One of two votes is a tie: (1/2 + 0 + 1/2 + 0 + 1/2) / 5.
  assert summary['maj_at_k'] == pytest.approx({'1': 0.3, '2': 0.3})
  assert summary['pass_at_k'] == pytest.approx({'1': 0.3, '2': 0.6})


def test_two_at_once_are_kept_apart(monkeypatch, capsys, tmp_path, data, fake):
  with locking.held(storage.as_path(tmp_path / 'run')):
    assert start(data, tmp_path / 'run') == 2
  assert 'is in use by process' in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_that_is_killed(tmp_path):
  """The sampler itself: the bytes of what follows are those of one go."""
  data = 'chain_arithmetic:test:2-3'
  flags = ['--limit=12', '--batch=2', '--max_tokens=48']
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  assert start(data, whole, *flags) == 0
  command = [
    sys.executable,
    '-m',
    'lrm_jax.main',
    *words(data, cut, *flags)[1:],
  ]
  process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
  deadline = time.monotonic() + 300
  while len(list(cut.glob('chunks/*.jsonl.gz'))) < 2:
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.01)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  assert 2 <= len(list(cut.glob('chunks/*.jsonl.gz'))) < 6
  assert not (cut / 'summary.json').exists()
  assert start(data, cut, *flags) == 0
  assert results(cut) == results(whole)
