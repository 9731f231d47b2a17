"""Experiments that compare ways in a folder of configs: jobs and tables."""

import importlib.util
import json
import pathlib
import sys

import pytest

from lrm_jax.papers import jobs as jobs_lib

ROOT = pathlib.Path(__file__).parents[1]
EXPERIMENTS = ROOT / 'experiments'


def load(path):
  name = f'comparison_{path.parent.name}_{path.stem}'
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # for dataclasses
  spec.loader.exec_module(module)
  return module


stability = load(EXPERIMENTS / 'stability' / 'table.py')
curricula = load(EXPERIMENTS / 'curricula' / 'table.py')


@pytest.mark.parametrize('name', ['stability', 'curricula'])
def test_every_config_of_a_folder_with_every_seed(name):
  configs = ROOT / 'configs' / name
  jobs = jobs_lib.of_folder(configs, seeds=(0, 1, 2))
  stems = {path.stem for path in configs.glob('*.py')}
  stems -= {'__init__', 'setting'}
  assert len(jobs) == 3 * len(stems) and {job.name for job in jobs} == stems
  # One of each first, so that a table can be looked at early.
  assert {job.seed for job in jobs[: len(stems)]} == {0}
  command = jobs[-1].command(pathlib.Path('runs'))
  assert command[1:4] == ['-m', 'lrm_jax.main', 'train']
  assert '--config.seed=2' in command


def run(root, name, **summary):
  workdir = root / name
  (workdir / 'evaluation').mkdir(parents=True)
  rows = [
    {
      'step': step,
      'accuracy': 0.5,
      'entropy': None if step == 4 else 0.1 * step,
      'response_tokens': 20.0,
      'grad_norm': 1.0,
      'sampled_tokens': 1000,
      'sampled_groups': 4,
      'kept_groups': 3,
      'seconds_choose': 0.25,
      'sample_seconds': 1.0,
      'update_seconds': 9.0 if step < 3 else 2.0,
    }
    for step in range(1, 9)
  ]
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  (workdir / 'metrics.jsonl').write_text(text)
  before = {'accuracy': 0.8}
  after = {'accuracy_se': 0.02, 'response_tokens': 21.0} | summary
  (workdir / 'summary.json').write_text(
    json.dumps({'before': before, 'after': after, 'seconds': 9.0})
  )
  for step, accuracy in ((0, 0.8), (2, 0.9), (4, 0.86), (6, 0.89), (8, 0.9)):
    path = workdir / 'evaluation' / f'{step}.json'
    path.write_text(json.dumps({'step': step, 'accuracy': accuracy}))


def test_the_table_of_collapse(tmp_path):
  run(tmp_path, 'grpo_seed0', accuracy=0.39)
  run(tmp_path, 'grpo_seed1', accuracy=0.41)
  (tmp_path / 'grpo_seed2').mkdir()  # not finished
  found = stability.read(tmp_path)
  assert [each['seed'] for each in found['grpo']] == [0, 1]
  # Below half of 80 % is a collapse.
  assert stability.row('grpo', found['grpo']) == (
    '| grpo | 80.0 | 40.0 | 39 41 | 1 of 2 | 21 | 0.80 |'
  )
  stability.draw(found, tmp_path / 'collapse.png')
  assert (tmp_path / 'collapse.png').stat().st_size > 1000


def test_the_table_of_curricula(tmp_path):
  run(tmp_path, 'dump_seed0', accuracy=0.9)
  (run_,) = curricula.read(tmp_path)['dump']
  # 90 % and 86 % at steps 2 and 4; not twice 90 % before the end.
  assert curricula.arrival(run_, 0.85) == (2, 2000)
  assert curricula.arrival(run_, 0.88) == (6, 6000)
  assert curricula.arrival(run_, 0.75) == (0, 0)
  assert curricula.arrival(run_, 0.95) is None
  run_['sampled_total'] = run_['sampled'][-1]
  assert curricula.row('dump', [run_], 0.85) == (
    '| dump | 2 | 2 | 90.0 | 8 | 75 % | 0.250 | 3.00 |'
  )
