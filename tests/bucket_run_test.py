"""Whole runs into a bucket write what runs into a folder write."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from lrm_jax import distributed, jsonl, locking, main, metrics
from lrm_jax.checkpoints import huggingface
from tests import sft_test, train_test

TIMED = ('seconds', 'per_second', 'compilations', 'goodput', 'started')
EXACT = ('.jsonl.gz', '.png', '.safetensors', '.model', 'config.json')


def train(workdir) -> int:
  words = train_test.flags(train__steps=3, train__checkpoint_every=2)
  words.append('--config.train.rollouts_every=1')
  return main.main(
    ['lrm', 'train', f'--config={train_test.CONFIG}', f'--workdir={workdir}']
    + words
  )


@pytest.fixture(scope='module')
def here(tmp_path_factory):
  """The folder where commands are started; none of them may write there."""
  folder = tmp_path_factory.mktemp('here')
  before = pathlib.Path.cwd()
  os.chdir(folder)
  yield folder
  os.chdir(before)


@pytest.fixture(scope='module')
def local(tmp_path_factory):
  """The folder of a whole run."""
  workdir = tmp_path_factory.mktemp('local')
  assert train(workdir) == 0
  return workdir


@pytest.fixture(scope='module')
def remote(store, here):
  """The place of the objects of a run that was stopped, and went on."""
  shown = metrics.Progress.update

  def update(self, done, fields):
    shown(self, done, fields)
    if done == 1 and self._description == 'train':
      os.kill(os.getpid(), signal.SIGINT)

  metrics.Progress.update = update
  try:
    assert train('gs://bucket/runs/train') == 0
  finally:
    metrics.Progress.update = shown
  stopped = store.names('runs/train/')
  assert 'checkpoints/1/commit_success.txt' in stopped
  assert 'metrics.jsonl' in stopped and 'summary.json' not in stopped
  assert train('gs://bucket/runs/train') == 0
  return 'runs/train/'


def names_of(found):
  """Without what orbax calls its files, and numbers of processes and times."""
  return {
    'tensorboard/events' if name.startswith('tensorboard/') else name
    for name in found
    if not name.startswith('checkpoints/')
  }


def untimed(value):
  """Without what a clock said, all the way down."""
  if isinstance(value, dict):
    return {
      key: untimed(item)
      for key, item in value.items()
      if not any(word in key for word in TIMED)
    }
  return value


def assert_same(store, place, folder):
  """All files are there, with equal contents, and no others but the lock."""
  files = [path for path in folder.rglob('*') if path.is_file()]
  # A bucket has none, nor has an evaluation.
  files = [path for path in files if path != folder / locking.NAME]
  names = names_of(path.relative_to(folder).as_posix() for path in files)
  assert names_of(store.names(place)) == names
  exact = [name for name in names if name.endswith(EXACT)]
  assert len(exact) > 3
  for name in exact:
    assert store.read(place + name) == (folder / name).read_bytes(), name
  for name in names:
    if name.endswith('.json'):
      a, b = store.read(place + name), (folder / name).read_bytes()
      assert untimed(json.loads(a)) == untimed(json.loads(b)), name
  lines = store.read(f'{place}metrics.jsonl').splitlines()
  rows = [json.loads(line) for line in lines]
  local = jsonl.read_rows(folder / 'metrics.jsonl')
  assert list(map(untimed, rows)) == list(map(untimed, local))


@pytest.mark.slow
def test_a_run_in_a_bucket_is_that_in_a_folder(store, remote, local, here):
  assert_same(store, remote, local)
  assert not list(here.iterdir())


@pytest.mark.slow
def test_it_goes_on_where_it_was_stopped(store, remote):
  written = [n for n in store.writes if n.startswith(f'{remote}rollouts/')]
  steps = [f'{remote}rollouts/step_{n:06d}.jsonl.gz' for n in (1, 2, 3)]
  assert written == steps
  assert store.writes.count(f'{remote}evaluation/before.json') == 1


@pytest.mark.slow
def test_no_checkpoint_is_ahead_of_the_metrics(store, remote):
  """A machine that is taken away between the two would lose rows."""
  rows = store.writes.index(f'{remote}metrics.jsonl')
  assert rows < store.writes.index(f'{remote}checkpoints/1/commit_success.txt')


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(store, remote):
  rows = store.read(f'{remote}metrics.jsonl')
  count = len(store.writes)
  assert train('gs://bucket/runs/train') == 0
  assert store.read(f'{remote}metrics.jsonl') == rows
  assert not any('rollouts/' in name for name in store.writes[count:])


@pytest.mark.slow
def test_the_model_can_be_read(store, remote, tmp_path):
  for name in store.names(f'{remote}model/'):
    (tmp_path / name).write_bytes(store.read(f'{remote}model/{name}'))
  _, params = huggingface.load(tmp_path)
  assert np.isfinite(params['embedding']).all()


@pytest.mark.long
def test_a_new_model_in_a_bucket_is_that_in_a_folder(store, here, tmp_path):
  """`lrm sft`: the vocabulary, the model and its card."""
  groups = sft_test.NEW_MODEL, sft_test.EVALUATED
  assert sft_test._run('gs://bucket/runs/sft', *groups) == 0
  assert sft_test._run(tmp_path, *groups) == 0
  assert_same(store, 'runs/sft/', tmp_path)
  assert not list(here.iterdir())


def test_an_evaluation_in_a_bucket_is_that_in_a_folder(store, here, tmp_path):
  words = ['--model=tiny_lrm', '--data=chain_arithmetic:heldout:2-3']
  words += ['--limit=4', '--n=2', '--max_tokens=16']
  for workdir in ('gs://bucket/runs/eval', tmp_path):
    assert main.main(['lrm', 'eval', *words, f'--workdir={workdir}']) == 0
  name = 'rollouts.jsonl.gz'
  rates = 'pass_rates.jsonl'
  assert store.names('runs/eval/') == [rates, name, 'summary.json']
  for each in (rates, name):
    assert store.read(f'runs/eval/{each}') == (tmp_path / each).read_bytes()
  # What is read there is what was written there.
  target = 'gs://bucket/runs/eval/graded.jsonl'
  words = [f'--input=gs://bucket/runs/eval/{name}', f'--output={target}']
  assert main.main(['lrm', 'grade', *words]) == 0
  rows, graded = (jsonl.read_rows(p) for p in (tmp_path / name, target))
  for row, again in zip(rows, graded, strict=True):
    assert row['correct'] == again['correct']
  assert not list(here.iterdir())


@pytest.mark.long
def test_two_processes_share_a_bucket(store, tmp_path):
  """Both read the vocabulary that one wrote, and write their checkpoints."""
  address = 'gs://bucket/runs/shared'
  keys = sft_test.SMALL | sft_test.NEW_MODEL | {'mesh.data': 2}
  with socket.socket() as free:
    free.bind(('localhost', 0))
    coordinator = f'localhost:{free.getsockname()[1]}'
  environment = os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'PYTHONPATH': str(train_test.ROOT),
    distributed.COORDINATOR: coordinator,
    distributed.COUNT: '2',
  }
  running = [
    subprocess.Popen(
      [sys.executable, '-m', 'lrm_jax.main', 'sft']
      + [f'--config={sft_test.CONFIG}', f'--workdir={address}']
      + [f'--config.{key}={value}' for key, value in keys.items()],
      env=environment | {distributed.INDEX: str(index)},
      cwd=tmp_path,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for index in range(2)
  ]
  said = [each.communicate()[0] for each in running]
  assert [each.returncode for each in running] == [0, 0], said
  names = store.names('runs/shared/')
  assert {'tokenizer/tokenizer.model', 'model/model.safetensors'} <= {*names}
  assert 'checkpoints/5/commit_success.txt' in names
  for process in range(2):
    parts = f'checkpoints/5/state/ocdbt.process_{process}/'
    assert any(name.startswith(parts) for name in names)
  # Once each: only the main process writes.
  assert store.writes.count('runs/shared/summary.json') == 1
  assert not list(tmp_path.iterdir())
