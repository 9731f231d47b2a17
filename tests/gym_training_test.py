"""Training and evaluation on a task of reasoning-gym, end to end."""

import gzip
import importlib.util
import json
import pathlib

import pytest

from lrm_jax import jsonl, main
from lrm_jax.tokenization import base

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / 'experiments' / 'gym'
TASK = 'gym:chain_sum?max_digits=1,max_terms=4'
pytestmark = pytest.mark.skipif(
  importlib.util.find_spec('reasoning_gym') is None,
  reason="reasoning-gym is not installed: pip install 'lrm_jax[gym]'",
)


def run(verb, workdir, config, keys):
  flags = [f'--config.{key}={value}' for key, value in keys.items()]
  return main.main(
    ['lrm', verb, f'--config={config}', f'--workdir={workdir}', *flags]
  )


def script(name):
  spec = importlib.util.spec_from_file_location(name, FOLDER / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope='module')
def start(tmp_path_factory):
  """A model that can spell the task, and nothing else."""
  folder = tmp_path_factory.mktemp('gym')
  rows = folder / 'rows.jsonl'
  jsonl.write_rows(rows, script('data').rows(300))
  keys = {
    'data.train': rows,
    'tokenizer.path': rows,
    'model.new.d_model': 16,
    'model.new.n_layers': 1,
    'model.new.scan_unroll': 1,
    'model.new.n_heads': 2,
    'model.new.head_dim': 8,
    'model.new.d_ff': 24,
    'stages.a_rows.steps': 2,
    'stages.a_rows.rows': 2,
  }
  assert run('sft', folder / 'start', FOLDER / 'sft.py', keys) == 0
  return folder / 'start' / 'model'


def test_demonstrations_end_in_the_answer_they_were_given():
  found = script('data').rows(100)
  ends = [row['response'].rpartition('</think>')[2] for row in found]
  right = [
    end == rf'\boxed{{{row["answer"]}}}'
    for end, row in zip(ends, found, strict=True)
  ]
  # Most; some slip.
  assert 60 < sum(right) < 100


def test_a_vocabulary_of_rows_spells_what_the_task_asks(start):
  tokenizer = base.load(start)
  text = 'State the final answer to the following arithmetic problem: 4 + 3 ='
  assert tokenizer.decode(tokenizer.encode(text)) == text


def test_two_steps(start, tmp_path):
  keys = {
    'model.path': start,
    'model.scan_unroll': 1,
    'train.steps': 2,
    'train.problems': 2,
    'train.samples': 2,
    'train.max_rounds': 1,
    'train.rows': 4,
    'train.rollouts_every': 1,
    'sampler.slots': 4,
    'eval.problems': 2,
    'eval.samples': 2,
    'eval.max_tokens': 16,
  }
  assert run('train', tmp_path, FOLDER / 'train.py', keys) == 0
  summary = json.loads((tmp_path / 'summary.json').read_text())
  assert summary['steps'] == 2
  with gzip.open(tmp_path / 'rollouts' / 'step_000001.jsonl.gz', 'rt') as file:
    rows = [json.loads(line) for line in file]
  assert {row['id'][:20] for row in rows} == {'gym-chain_sum-train-'}
  # The same problems come again when the run goes on.
  assert run('train', tmp_path, FOLDER / 'train.py', keys) == 0


def test_evaluation_by_name(start, tmp_path):
  flags = ['--n=2', '--max_tokens=8', '--limit=3', f'--workdir={tmp_path}']
  assert (
    main.main(['lrm', 'eval', f'--model={start}', f'--data={TASK}', *flags])
    == 0
  )
  rows = jsonl.read_rows(tmp_path / 'pass_rates.jsonl')
  assert [row['id'][:22] for row in rows] == ['gym-chain_sum-heldout-'] * 3


def test_a_vocabulary_that_cannot_spell_a_task_is_refused(tmp_path, capsys):
  keys = {'data.train': 'gym:gcd'}
  config = ROOT / 'configs' / 'quickstart.py'
  assert run('train', tmp_path / 'run', config, keys) == 2
  message = capsys.readouterr().err.strip().splitlines()[-1]
  assert 'problem gym-gcd-train-0-000000: the vocabulary of the' in message
  assert "model cannot spell '(', ')', '.', 'C', 'D', 'F', 'G'" in message
  assert 'take a model that can, or other problems' in message
  assert not (tmp_path / 'run').exists()
