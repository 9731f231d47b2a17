"""`lrm eval` with a tiny random model, and with responses made by hand."""

import gzip
import json
import pathlib

import numpy as np
import pytest

from lrm_jax import choosing, configuration, main
from lrm_jax.commands import loading
from lrm_jax.data import sources
from lrm_jax.objectives import recipe
from lrm_jax.sampler.samples import untruncated
from tests import bits, tiny
from tests.sampler import fake

ROOT = pathlib.Path(__file__).parents[2]
PROBLEMS = [
  {
    'id': f'p{i}',
    'question': f'Start={i} a:+1',
    'answer': i + 1,
    'level': level,
  }
  for i, level in enumerate([2, 1, 2])
]


def _write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


@pytest.fixture
def data(tmp_path):
  return _write(tmp_path / 'problems.jsonl', PROBLEMS)


def _evaluate(capsys, data, workdir, *flags, model=None):
  """Exit code, stdout, stderr."""
  model = tiny.model_directory() if model is None else model
  code = main.main(
    [
      'lrm',
      'eval',
      f'--model={model}',
      f'--data={data}',
      f'--workdir={workdir}',
      '--n=2',
      '--max_tokens=12',
      *flags,
    ]
  )
  return code, *capsys.readouterr()


def _read(workdir):
  with gzip.open(workdir / 'rollouts.jsonl.gz', 'rt') as file:
    rows = [json.loads(line) for line in file]
  return rows, json.loads((workdir / 'summary.json').read_text())


class Answers(fake.FakeSampler):
  """Says 77, but the first sample of a problem with an even start is right."""

  def __init__(self, samples, prompts):
    super().__init__(samples, max_tokens=12)
    self.groups = min(32, prompts)

  def respond(self, prompt_ids, prompt_length, **options):
    tokenizer = tiny.tokenizer()
    shape = (len(prompt_ids), self.samples)
    ids = np.zeros((*shape, 12), np.int32)
    length = np.zeros(shape, np.int32)
    for b, g in np.ndindex(shape):
      start = tokenizer.decode(prompt_ids[b, : prompt_length[b]])
      start = int(start.split('Start=')[1].split()[0])
      answer = start + 1 if start % 2 == 0 and g == 0 else 77
      text = f'{"=" * (start % 4)}</think>\\boxed{{{answer}}}'
      response = [*tokenizer.encode(text), tokenizer.eos_ids[0]]
      ids[b, g, : len(response)] = response
      length[b, g] = len(response)
    no = np.zeros(shape, bool)
    thinking = length - 4
    return untruncated(ids, -np.ones(ids.shape), length, no, ~no, thinking)


@pytest.fixture
def fake(monkeypatch):
  monkeypatch.setattr(
    loading,
    'make_sampler',
    lambda model, flags, samples, prompts, width: Answers(samples, prompts),
  )


def test_the_numbers_are_those_of_the_rollouts(capsys, tmp_path, data):
  workdir = tmp_path / 'runs' / 'eval'
  code, out, _ = _evaluate(capsys, data, workdir, '--batch=2')
  assert code == 0
  rows, summary = _read(workdir)
  assert [(row['id'], row['sample']) for row in rows] == [
    (f'p{i}', g) for i in range(3) for g in range(2)
  ]
  assert [row['answer'] for row in rows] == ['1', '1', '2', '2', '3', '3']
  for key, field in (
    ('accuracy', 'correct'),
    ('response_tokens', 'length'),
    ('thinking_tokens', 'thinking_length'),
    ('truncated', 'truncated'),
  ):
    assert summary[key] == pytest.approx(np.mean([r[field] for r in rows]))
  assert summary['verb'] == 'eval'
  assert summary['model'] == str(tiny.model_directory())
  assert summary['data'] == str(data)
  assert (summary['problems'], summary['samples']) == (3, 2)
  assert (summary['max_tokens'], summary['temperature']) == (12, 1.0)
  assert summary['tokens_per_second'] > 0
  assert 0 < summary['compile_seconds'] < summary['seconds']
  assert summary['device']
  assert f'{summary["response_tokens"]:.1f}' in out

  again = tmp_path / 'again'
  _evaluate(capsys, data, again, '--batch=2', '--seed=0')
  name = 'rollouts.jsonl.gz'
  assert bits.digests(again)[name] == bits.digests(workdir)[name]


def test_table_and_summary_by_hand(capsys, tmp_path, data, fake):
  code, out, _ = _evaluate(capsys, data, tmp_path / 'run')
  assert code == 0
  rows, summary = _read(tmp_path / 'run')
  assert [int(row['correct']) for row in rows] == [1, 0, 0, 0, 1, 0]
  # Problem means 1/2, 0, 1/2: variance 1/12 (ddof 1), over 3 problems.
  assert summary['accuracy'] == pytest.approx(1 / 3)
  assert summary['accuracy_se'] == pytest.approx(1 / 6)
  tokens = sum(row['length'] for row in rows)
  assert summary['tokens_per_correct'] == pytest.approx(tokens / 2)
  assert [(x['level'], x['n'], x['accuracy']) for x in summary['by_level']] == [
    (1, 2, 0.0),
    (2, 4, 0.5),
  ]
  lines = [' '.join(line.split()) for line in out.splitlines()]
  assert lines[0].endswith('problems.jsonl: 3 problems x 2 samples')
  assert 'accuracy 33.3% 16.7 pp' in lines
  assert f'tokens per correct {tokens / 2:.1f}' in lines
  assert any(line.startswith('level n accuracy') for line in lines)
  assert any(line.startswith('2 4 50.0%') for line in lines)
  assert lines[-1].startswith(f'{tmp_path / "run"}: summary.json')


def test_a_curriculum_reads_the_pass_rates(capsys, tmp_path, data, fake):
  """From `lrm eval` to what a run draws."""
  _evaluate(capsys, data, tmp_path / 'run')
  path = tmp_path / 'run' / 'pass_rates.jsonl'
  assert [json.loads(line) for line in path.read_text().splitlines()] == [
    {'id': 'p0', 'pass_rate': 0.5, 'samples': 2},
    {'id': 'p1', 'pass_rate': 0.0, 'samples': 2},
    {'id': 'p2', 'pass_rate': 0.5, 'samples': 2},
  ]
  config = configuration.load(ROOT / 'configs' / 'tiny' / 'frugal.py')
  with config.unlocked():
    config.data.pass_rates = str(path)
    config.objective.curriculum.lower = 0.5
    config.objective.curriculum.factor = 4.0
  stream = choosing.make_stream(
    config, recipe.build(config), sources.load_problems(str(data))
  )
  drawn = [problem.id for problem in stream.take(900)]
  # 4 : 1 : 4.
  assert drawn.count('p1') == pytest.approx(100, abs=30)
  assert drawn.count('p0') == pytest.approx(400, abs=60)


def test_without_levels_and_without_a_correct_answer(capsys, tmp_path, fake):
  row = {'question': 'Start=1 a:+1', 'answer': '2'}
  data = _write(tmp_path / 'one.jsonl', [row])
  code, out, _ = _evaluate(capsys, data, tmp_path / 'run')
  assert code == 0
  _, summary = _read(tmp_path / 'run')
  assert summary['by_level'] == []
  assert summary['tokens_per_correct'] is None
  assert summary['accuracy_se'] is None
  lines = [' '.join(line.split()) for line in out.splitlines()]
  assert 'accuracy 0.0% -' in lines
  assert 'tokens per correct -' in lines
  assert not any(line.startswith('level') for line in lines)


def test_generated_problems_are_held_out_and_limited(capsys, tmp_path, fake):
  for limit, flags in ((256, []), (5, ['--limit=5'])):
    workdir = tmp_path / str(limit)
    _evaluate(capsys, 'chain_arithmetic:test:1-1', workdir, *flags)
    rows, summary = _read(workdir)
    assert summary['problems'] == limit
    assert len(rows) == 2 * limit
    assert all(row['id'].startswith('chain-heldout-1-') for row in rows)


def test_limit_takes_the_first_rows(capsys, tmp_path, data, fake):
  _evaluate(capsys, data, tmp_path / 'run', '--limit=2')
  rows, _ = _read(tmp_path / 'run')
  assert [row['id'] for row in rows] == ['p0', 'p0', 'p1', 'p1']


def test_the_instruction_is_in_the_prompt(capsys, tmp_path, data, fake):
  _evaluate(capsys, data, tmp_path / 'run', '--instruction=12 34')
  rows, _ = _read(tmp_path / 'run')
  prompt = tiny.tokenizer().decode(rows[0]['prompt_ids'])
  assert 'a:+1\n12 34' in prompt.replace(' ⁇ ', '\n')


def _fails(capsys, tmp_path, data, *flags, model=None, workdir='new/run'):
  """The one line of a command that must fail and write nothing."""
  before = sorted(tmp_path.rglob('*'))
  code, out, err = _evaluate(
    capsys, data, tmp_path / workdir, *flags, model=model
  )
  assert (code, out) == (2, '')
  assert err.startswith('lrm: error: ')
  assert err.count('\n') == 1
  assert sorted(tmp_path.rglob('*')) == before
  return err


@pytest.mark.parametrize(
  'name, message',
  [
    ('absent.jsonl', 'No such file'),
    ('empty.jsonl', 'has no problems'),
    ('unknown', "data set 'unknown'"),
    ('chain_arithmetic:nosuch', 'no split'),
  ],
)
def test_data_that_cannot_be_used(capsys, tmp_path, monkeypatch, name, message):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'empty.jsonl').write_text('')
  assert message in _fails(capsys, tmp_path, name)


def test_other_mistakes(capsys, tmp_path, data):
  fails = lambda *flags, **kwargs: _fails(
    capsys, tmp_path, data, *flags, **kwargs
  )
  assert 'no such directory' in fails(model=tmp_path / 'absent')
  assert 'problem p0: prompt longer than' in fails('--max_tokens=120')
  assert '--limit' in fails('--limit=0')
  assert '--temperature=inf' in fails('--temperature=inf')
  assert 'is no folder' in fails(workdir='problems.jsonl')
  assert 'is no folder' in fails(workdir='problems.jsonl/run')
  (tmp_path / 'config.json').write_text('{}')
  assert 'holds a run or a model' in fails(workdir='.')


def test_max_tokens_must_be_stated(capsys, tmp_path, data):
  code = main.main(
    ['lrm', 'eval', '--model=m', f'--data={data}', f'--workdir={tmp_path}']
  )
  assert code == 2
  assert '--max_tokens is missing' in capsys.readouterr().err
