"""Whole runs of `lrm train` on the embedded tiny LRM, a few steps each."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal

import jax
import numpy as np
import pytest

from lrm_jax import configuration, errors, jsonl, main, metrics, train
from lrm_jax.checkpoints import huggingface
from lrm_jax.evaluation import run_evaluation
from lrm_jax.models import transformer
from lrm_jax.objectives import tables
from lrm_jax.sampler import run
from lrm_jax.tokenization import base

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = str(ROOT / 'configs' / 'quickstart.py')
SMALL = {
  'data.train': 'chain_arithmetic:train:2-3',
  'data.eval': 'chain_arithmetic:heldout:2-3',
  'train.steps': 4,
  'train.problems': 8,
  'train.samples': 4,
  'train.mini_batches': 2,
  'train.max_tokens': 32,
  'objective.budget.cap': 32,
  'train.rows': 8,
  'train.row_length': 80,
  'train.groups': 2,
  'train.checkpoint_every': 3,
  'train.rollouts_every': 2,
  'sampler.slots': 64,
  'eval.problems': 8,
  'eval.samples': 2,
  'eval.max_tokens': 48,
}


def overrides(**changes) -> list[str]:
  keys = SMALL | {k.replace('__', '.'): v for k, v in changes.items()}
  return [f'config.{key}={value}' for key, value in keys.items()]


def flags(**changes) -> list[str]:
  return [f'--{override}' for override in overrides(**changes)]


def start(workdir, **changes):
  config = configuration.load(CONFIG, overrides(**changes))
  train.run(config, pathlib.Path(workdir))


def lrm(*words) -> int:
  return main.main(['lrm', *map(str, words)])


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('finished')
  start(workdir)
  return workdir


def test_summary_has_the_stable_keys(finished):
  summary = json.loads((finished / 'summary.json').read_text())
  assert summary['verb'] == 'train'
  assert summary['steps'] == 4
  assert summary['config']['train']['steps'] == 4
  assert summary['seconds'] > 0
  for name in ('tokens_per_second', 'model_flops_per_second_per_device', 'mfu'):
    assert set(summary[name]) == {'sample', 'update'}
  # Nobody says what a CPU could do.
  assert set(summary['mfu'].values()) == {None}
  assert 0 < summary['goodput'] < 1
  for when in ('before', 'after'):
    names = ('accuracy', 'response_tokens', 'thinking_tokens', 'truncated')
    for name in names:
      assert np.isfinite(summary[when][name]), (when, name)
    assert 0 <= summary[when]['accuracy'] <= 1
    assert summary[when]['thinking_tokens'] < summary[when]['response_tokens']
  assert summary['device'] == jax.devices()[0].device_kind


def test_sampler_and_trainer_agree_at_every_step(finished):
  rows = jsonl.read_rows(finished / 'metrics.jsonl')
  assert [row['step'] for row in rows] == [1, 2, 3, 4]
  for row in rows:
    assert 0 <= row['logp_gap_max'] < 1e-4
    assert row['kept_groups'] > 0
  summary = json.loads((finished / 'summary.json').read_text())
  assert summary['logp_gap_max'] == max(row['logp_gap_max'] for row in rows)


def test_throughput_is_written_at_every_step(finished):
  rows = jsonl.read_rows(finished / 'metrics.jsonl')
  for row in rows:
    for part, seconds in (
      ('', row['seconds_update'] + row['seconds_record']),
      ('_sample', row['sample_seconds']),
    ):
      work = row[f'model_flops{part if part else "_update"}']
      rate = work / seconds / jax.device_count()
      name = f'model_flops_per_second_per_device{part}'
      assert row[name] == pytest.approx(rate, rel=1e-9)
    assert 'mfu' not in row
    assert 0 < row['goodput'] < 1
  summary = json.loads((finished / 'summary.json').read_text())
  assert summary['goodput'] == rows[-1]['goodput']


def test_nothing_is_compiled_after_the_first_step(finished):
  rows = jsonl.read_rows(finished / 'metrics.jsonl')
  assert rows[0]['compilations'] > 0
  assert rows[0]['compilations'] == rows[-1]['compilations']


def test_rollouts_have_one_line_a_sample(finished):
  folder = finished / 'rollouts'
  assert sorted(p.name for p in folder.iterdir()) == [
    'step_000002.jsonl.gz',
    'step_000004.jsonl.gz',
  ]
  rows = jsonl.read_rows(folder / 'step_000002.jsonl.gz')
  seen = jsonl.read_rows(finished / 'metrics.jsonl')[1]
  # The groups that were dropped are there too.
  assert len(rows) == seen['sampled_groups'] * 4 >= 8 * 4
  assert sum(row['row'] is not None for row in rows) == 8 * 4
  for row in rows:
    if row['row'] is None:
      assert row['advantage'] is None and not row['kept']
    assert row['step'] == 2
    assert row['length'] == len(row['response_ids']) == len(row['logp'])
    assert row['reward'] in (0, 1)
    assert row['reward'] <= row['correct']
    assert row['thinking_length'] <= row['length'] <= 32
  values = [row['advantage'] for row in rows if row['kept']]
  assert min(values) < 0 < max(values)


def test_pictures_events_and_model_are_there(finished):
  assert (finished / 'curves.png').read_bytes().startswith(b'\x89PNG')
  assert list((finished / 'tensorboard').iterdir())
  config, params = huggingface.load(finished / 'model')
  _, before = huggingface.load(ROOT / 'lrm_jax' / 'assets' / 'tiny_lrm')
  moved = [
    np.abs(a - b).max()
    for a, b in zip(
      jax.tree.leaves(params), jax.tree.leaves(before), strict=True
    )
  ]
  assert config.n_layers == 2
  assert max(moved) > 1e-3


@pytest.fixture
def interrupt_at(monkeypatch):
  """Sends Ctrl-C to this process while the samples after a step are made."""

  def install(step):
    shown, wait = metrics.Progress.update, run.wait
    left = []

    def update(self, done, fields):
      shown(self, done, fields)
      if done == step and self._description == 'train':
        left.extend(range(3))

    def look(*args, **keywords):
      if left and not left.pop():
        os.kill(os.getpid(), signal.SIGINT)
      return wait(*args, **keywords)

    monkeypatch.setattr(metrics.Progress, 'update', update)
    monkeypatch.setattr(run, 'wait', look)

  yield install


@pytest.mark.slow
def test_resume_after_ctrl_c_is_exact(
  finished, tmp_path, interrupt_at, monkeypatch
):
  """Stopped after step 2, between two regular checkpoints, and continued."""
  interrupt_at(2)
  with pytest.raises(errors.Stopped, match='resumable at step 2: give the'):
    start(tmp_path)
  assert len(jsonl.read_rows(tmp_path / 'metrics.jsonl')) == 2
  monkeypatch.undo()
  shutil.copytree(tmp_path, tmp_path / 'changed')
  start(tmp_path)
  assert_went_on(tmp_path, finished)
  # What may change between two starts changes no number.
  start(
    tmp_path / 'changed',
    train__checkpoint_every=1,
    train__keep_checkpoints=1,
    train__keep_best=1,
    train__best_metric='reward',
    train__rollouts_every=0,
    train__logp_gap_limit=1.0,
    eval__every=1,
  )
  assert_went_on(tmp_path / 'changed', finished)
  kept = jsonl.read_rows(finished / 'metrics.jsonl')[1:]
  best = max(kept, key=lambda row: (row['reward'], row['step']))['step']
  names = {path.name for path in (tmp_path / 'changed/checkpoints').iterdir()}
  assert {'4', str(best)} <= names and len(names) <= 2


def assert_went_on(workdir, finished):
  """The model and the numbers of a run are those of another, to the bit."""
  _, straight = huggingface.load(finished / 'model')
  _, resumed = huggingface.load(workdir / 'model')
  jax.tree.map(np.testing.assert_array_equal, straight, resumed)
  timed = ('seconds', 'per_second', 'mfu', 'goodput', 'compilations')
  for a, b in zip(
    jsonl.read_rows(finished / 'metrics.jsonl'),
    jsonl.read_rows(workdir / 'metrics.jsonl'),
    strict=True,
  ):
    for name in a:
      if not any(word in name for word in timed):
        assert a[name] == b[name], (a['step'], name)


@pytest.mark.slow
def test_an_evaluation_that_was_stopped_is_made_up_for(tmp_path, monkeypatch):
  """The checkpoint of its step is there, and the run goes on after that."""
  evaluate = run_evaluation.evaluate

  def stop(built, workdir, name, step):
    if name == 'step_000002':
      raise errors.Stopped('now')
    return evaluate(built, workdir, name, step)

  sizes = {'eval__every': 2, 'eval__problems': 2, 'train__steps': 3}
  with monkeypatch.context() as patch:
    patch.setattr(run_evaluation, 'evaluate', stop)
    with pytest.raises(errors.Stopped, match='resumable at step 2: give the'):
      start(tmp_path, **sizes)
  path = tmp_path / 'evaluation' / 'step_000002.json'
  assert not path.exists()
  start(tmp_path, **sizes)
  assert json.loads(path.read_text())['step'] == 2
  rows = jsonl.read_rows(tmp_path / 'metrics.jsonl')
  assert [row['step'] for row in rows] == [1, 2, 3]


def test_finished_run_is_not_trained_again(finished, capsys):
  before = (finished / 'metrics.jsonl').read_bytes()
  seconds = json.loads((finished / 'summary.json').read_text())['seconds']
  start(finished)
  assert (finished / 'metrics.jsonl').read_bytes() == before
  assert 'tokens per correct' in capsys.readouterr().out
  again = json.loads((finished / 'summary.json').read_text())['seconds']
  assert again == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
  'changes, words',
  [
    ({'train.stepz': 3}, ('train.stepz', 'train.steps')),
    ({'model.path': 'no/such/model'}, ('no/such/model', 'tiny_lrm')),
    ({'data.train': 'no_such_data'}, ('no_such_data', 'chain_arithmetic')),
    ({'data.train': 'empty.jsonl'}, ('empty.jsonl',)),
    ({'data.max_prompt_tokens': 1000}, ('window', '1024')),
    ({'train.row_length': 60}, ('train.row_length', '72')),
    ({'train.rows': 2}, ('train.rows', 'group')),
    ({'train.mini_batches': 3}, ('train.mini_batches', '8')),
    ({'objective.budget.cap': 33}, ('objective.budget', '32')),
    ({'objective.advantage.name': 'grop'}, ('grop', 'group')),
    ({'optimizer.schedule': 'cosin'}, ('cosin', 'cosine')),
    ({'objective.budget.cap': 0}, ('budget', 'cap = 0')),
    ({'objective.loss.low': -1}, ('low', '-1')),
    ({'train.temperature': 0}, ('train.temperature',)),
    ({'train.groups': 0}, ('train.groups',)),
    ({'model.param_dtype': 'float16'}, ('model.param_dtype', 'float32')),
  ],
)
def test_bad_input_is_one_line_and_writes_nothing(
  changes, words, tmp_path, capsys, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  pathlib.Path('empty.jsonl').write_text('')
  keys = SMALL | changes
  code = lrm(
    'train',
    f'--config={CONFIG}',
    '--workdir=run',
    *(f'--config.{key}={value}' for key, value in keys.items()),
  )
  error = capsys.readouterr().err
  assert code == 2
  assert error.startswith('lrm: error: ') and error.count('\n') == 1
  for word in words:
    assert word in error
  assert not pathlib.Path('run').exists()


def test_prompt_beyond_its_limit_is_named(tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  row = {'id': 'long-1', 'question': 'Start=1 ' * 30, 'answer': '1'}
  pathlib.Path('long.jsonl').write_text(json.dumps(row) + '\n')
  code = lrm(
    'train',
    f'--config={CONFIG}',
    '--workdir=run',
    *flags(data__eval='long.jsonl'),
  )
  error = capsys.readouterr().err
  assert code == 2
  assert 'long-1' in error and 'max_prompt_tokens' in error
  assert not pathlib.Path('run').exists()


def test_workdir_of_another_config_is_refused(finished, capsys):
  before = sorted(p.name for p in finished.iterdir())
  code = lrm(
    'train',
    f'--config={CONFIG}',
    f'--workdir={finished}',
    *flags(optimizer__learning_rate=0.5),
  )
  assert code == 2
  assert 'optimizer.learning_rate' in capsys.readouterr().err
  assert sorted(p.name for p in finished.iterdir()) == before


def test_budgets_and_rounds_never_compile_again(tmp_path, monkeypatch):
  """A cap that changes at every step, and rounds that come and go."""

  def sawtooth(step, *, cap: int):
    return cap - 5 * (step % 3)

  monkeypatch.setitem(tables.BUDGETS, 'constant', sawtooth)
  start(tmp_path, train__steps=6, train__max_rounds=3)
  rows = jsonl.read_rows(tmp_path / 'metrics.jsonl')
  assert [row['cap'] for row in rows] == [27, 22, 32, 27, 22, 32]
  assert rows[1]['compilations'] == rows[-1]['compilations']


@pytest.mark.slow
def test_longer_run_is_evaluated_again(tmp_path):
  start(tmp_path, train__steps=1)
  first = json.loads((tmp_path / 'summary.json').read_text())
  start(tmp_path, train__steps=2)
  second = json.loads((tmp_path / 'summary.json').read_text())
  assert (first['after']['step'], second['after']['step']) == (1, 2)
  assert second['before'] == first['before']
  assert second['seconds'] > first['seconds']


@pytest.mark.slow
def test_checkpoint_of_another_shape_is_refused(tmp_path, capsys, monkeypatch):
  """The model behind the same path has been replaced by a wider one."""
  monkeypatch.chdir(tmp_path)
  source = ROOT / 'lrm_jax' / 'assets' / 'tiny_lrm'
  config, params = huggingface.load(source)
  huggingface.save('model', config, params, tokenizer=base.load(source))
  start('run', train__steps=1, model__path='model')
  wider = dataclasses.replace(config, d_ff=config.d_ff + 8)
  params = transformer.init_params(wider, jax.random.key(0))
  huggingface.save('model', wider, params, tokenizer=base.load(source))
  code = lrm(
    'train',
    f'--config={CONFIG}',
    '--workdir=run',
    *flags(train__steps=1, model__path='model'),
  )
  assert code == 2
  assert 'checkpoint 1 does not fit' in capsys.readouterr().err


@pytest.mark.slow
def test_learning_shortens_responses(tmp_path):
  """Twenty steps of DLER on levels 2 and 3: a third of the tokens go."""
  start(
    tmp_path,
    train__steps=20,
    train__mini_batches=1,
    train__problems=16,
    train__samples=8,
    train__rows=16,
    train__groups=4,
    eval__problems=32,
    eval__samples=4,
    eval__max_tokens=256,
    sampler__slots=128,
  )
  summary = json.loads((tmp_path / 'summary.json').read_text())
  before, after = summary['before'], summary['after']
  assert after['response_tokens'] < 0.67 * before['response_tokens']
  assert after['accuracy'] > before['accuracy'] - 0.05
