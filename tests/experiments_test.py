"""The unattended experiment: its jobs, and the table of made-up runs."""

import collections
import importlib.util
import json
import pathlib
import sys

import pytest

from lrm_jax import configuration
from lrm_jax.objectives import recipe

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / 'experiments' / 'objectives'


def load(name):
  spec = importlib.util.spec_from_file_location(name, FOLDER / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


run, table = load('run'), load('table')


def test_every_method_once_and_the_headline_with_three_seeds():
  seeds = collections.defaultdict(list)
  for name, seed in run.plan():
    seeds[name].append(seed)
  methods = {path.stem for path in (ROOT / 'configs' / 'tiny').glob('*.py')}
  assert methods - {'__init__', 'setting'} <= set(seeds)
  assert len(set(run.HEADLINE)) == 12
  for name, found in seeds.items():
    assert found == ([0, 1, 2] if name in run.HEADLINE else [0])


@pytest.mark.parametrize('name', run.controls())
def test_a_control_is_a_recipe_at_the_same_cost(name):
  path = run.config_path(name)
  assert path.parent.name == 'controls'
  config = configuration.load(path)
  recipe.build(config)
  usual = configuration.load(ROOT / 'configs' / 'tiny' / 'grpo.py')
  assert config.train.token_budget == usual.train.token_budget > 0


def make_run(root, name, accuracy, finished=True):
  workdir = root / name
  workdir.mkdir()
  rows = [
    {
      'step': step,
      'accuracy': accuracy,
      'response_tokens': 50.0,
      'cap': 96,
      'sample_seconds': 1.0,
      'update_seconds': 2.0 if step > 2 else 90.0,
      'entropy': None if step == 6 else 0.1,
      'revised': 0.0,
      'sampled_tokens': 100,
    }
    for step in range(1, 7)
  ]
  text = '\n'.join(map(json.dumps, rows))
  (workdir / 'metrics.jsonl').write_text(text + '\n')
  evaluation = {
    'accuracy': accuracy,
    'accuracy_se': 0.01,
    'response_tokens': 40.0,
    'tokens_per_correct': 50.0,
    'response_tokens_correct': 39.0,
    'response_tokens_wrong': None,
    'truncated': 0.02,
  }
  summary = {
    'steps': 6,
    'sampled_tokens': 600,
    'before': evaluation | {'response_tokens': 117.0, 'accuracy': 0.77},
    'after': evaluation,
    'logp_gap_max': 1e-5,
  }
  if finished:
    (workdir / 'summary.json').write_text(json.dumps(summary))


def test_the_table_of_runs(tmp_path, monkeypatch, capsys):
  make_run(tmp_path, 'dler_seed0', 0.9)
  make_run(tmp_path, 'dler_seed1', 0.8)
  make_run(tmp_path, 'grpo_seed0', 0.7)
  make_run(tmp_path, 'kimi_seed0', 0.7, finished=False)
  make_run(tmp_path, 'hapo_seed0', 0.7, finished=False)
  (tmp_path / 'hapo_seed0.failed').write_text('FloatingPointError: loss | inf')
  monkeypatch.setattr(table, 'HERE', tmp_path)
  monkeypatch.setattr(sys, 'argv', ['table.py', str(tmp_path)])
  table.main()
  printed = capsys.readouterr()
  assert 'kimi_seed0: not finished' in printed.err
  header, _, dler, grpo, hapo = printed.out.strip().split('\n')
  cells = [cell.strip() for cell in dler.strip('|').split('|')]
  assert len(cells) == len(header.strip('|').split('|'))
  # The mean of 90 and 80, and 1.96 standard errors of one point.
  assert cells[:4] == ['dler', '2', '85.0 ± 2.0', '90.0 80.0']
  assert cells[7:] == ['39.0 / -', '2.0 %', '0.100', '3.0', '6']
  assert grpo.startswith('| grpo |')
  story = 'FAILED after 6 steps: FloatingPointError: loss / inf'
  assert hapo.startswith('| hapo_seed0 |') and story in hapo
  assert hapo.count('|') == header.count('|')
  results = json.loads((tmp_path / 'results.json').read_text())
  assert [r['method'] for r in results] == ['dler', 'dler', 'grpo']
  assert (tmp_path / 'front.png').stat().st_size > 10_000
