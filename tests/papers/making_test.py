"""Which runs need which, and what becomes of one that fails."""

import pathlib

import pytest

from lrm_jax import configuration
from lrm_jax.errors import UserError
from lrm_jax.papers import jobs, making
from lrm_jax.papers.paper import Paper, Run
from tests.papers import made_up

CONFIG = 'configs/quickstart.py'
PAPER = Paper(
  name='dler',
  runs=(
    Run('da_dler', CONFIG, start='dler', changes={'train.steps': 2}),
    Run('dler', CONFIG, seeds=(0, 1, 2)),
    Run('large', CONFIG, start='tiny_lrm_large', seeds=(0,)),
  ),
  claims=(),
  models={'tiny_lrm_large': 'configs/tiny_lrm_large.py'},
  evaluation={'eval.problems': 4},
)


def test_models_then_runs_then_those_behind_them():
  runs = pathlib.Path('runs')
  models, first, second = making.stages(PAPER, runs)
  assert [job.folder for job in models] == ['tiny_lrm_large_seed0']
  assert models[0].verb == 'sft'
  # One of each first.
  assert [job.folder for job in first] == [
    'dler_seed0',
    'large_seed0',
    'dler_seed1',
    'dler_seed2',
  ]
  assert [job.folder for job in second] == [
    f'da_dler_seed{i}' for i in range(3)
  ]
  assert dict(second[1].changes) == {
    'model.path': runs / 'dler_seed1' / 'model',
    'eval.problems': 4,
    'train.steps': 2,
  }
  large = dict(first[1].changes)['model.path']
  assert large == runs / 'tiny_lrm_large_seed0' / 'model'
  assert dict(first[0].changes)['model.path'] == 'tiny_lrm'
  assert f'--config={jobs.ROOT / CONFIG}' in first[0].command(runs)


def test_a_circle_is_refused():
  runs = (Run('a', CONFIG, start='b'), Run('b', CONFIG, start='a'))
  paper = Paper('p', runs, ())
  with pytest.raises(UserError, match='start from each other: a, b'):
    making.stages(paper, pathlib.Path('runs'))


def test_a_start_without_the_seed_is_refused():
  runs = (Run('a', CONFIG, start='b'), Run('b', CONFIG, seeds=(0,)))
  paper = Paper('p', runs, ())
  with pytest.raises(UserError, match='a has seed 1, and b, from which it st'):
    making.stages(paper, pathlib.Path('runs'))


def test_what_is_done_is_not_made_again(tmp_path):
  paper = Paper('p', (Run('dler', CONFIG, seeds=(0, 1)),), ())
  for seed in (0, 1):
    _finish(tmp_path, seed)
  found = making.make(paper, tmp_path)
  assert [(r['name'], r['seed']) for r in found] == [('dler', 0), ('dler', 1)]


def test_what_is_done_otherwise_is_refused(tmp_path):
  for key, value in {'train.steps': 2, 'eval.problems': 7}.items():
    _finish(tmp_path / key, 0)
    paper = Paper('p', (Run('dler', CONFIG, changes={key: value}),), ())
    with pytest.raises(UserError) as error:
      making.make(paper, tmp_path / key)
    assert str(error.value) == (
      f'{tmp_path / key / "dler_seed0"}: was trained with other settings '
      f'({key}); move it away to train it anew'
    )


def _finish(runs, seed):
  """A finished run of CONFIG, which began from a model elsewhere."""
  overrides = [f'config.seed={seed}', 'config.model.path=elsewhere']
  config = configuration.load(jobs.ROOT / CONFIG, overrides).to_dict()
  made_up.write(runs / f'dler_seed{seed}', seed=seed, config=config)


def test_the_words_of_a_run_that_failed(tmp_path):
  paper = Paper('p', (Run('lost', 'configs/nowhere.py', seeds=(0,)),), ())
  with pytest.raises(UserError, match="nowhere.py' does not exist"):
    making.make(paper, tmp_path)
