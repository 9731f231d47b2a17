"""A fork goes on as its source did, or says what it does otherwise."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import pytest

from lrm_jax import (
  compilation,
  configuration,
  experiment,
  forking,
  gathering,
  identity,
  jsonl,
  resuming,
  train,
)
from lrm_jax import workdir as run_folder
from lrm_jax.data import fingerprints
from lrm_jax.errors import UserError
from lrm_jax.rewards.pool import Grader
from tests import bits, train_test

# A recipe that remembers problems, and groups in flight.
CONFIG = train_test.ROOT / 'configs' / 'tiny' / 'hapo.py'
SIZES = {
  'data.train': 'chain_arithmetic:train:2-3',
  'data.eval': 'chain_arithmetic:heldout:2-3',
  'data.train_problems': 0,
  'train.steps': 4,
  'train.problems': 4,
  'train.samples': 4,
  'train.mini_batches': 1,
  'train.max_rounds': 1,
  'train.max_tokens': 24,
  'objective.budget.cap': 24,
  'train.rows': 8,
  'train.row_length': 64,
  'train.groups': 2,
  'train.checkpoint_every': 2,
  'train.keep_checkpoints': 3,
  'train.partial_tokens': 8,
  'train.in_flight': 6,
  'sampler.slots': 32,
  'eval.problems': 4,
  'eval.samples': 2,
  'eval.max_tokens': 24,
}


@pytest.fixture(scope='module')
def grader():
  with Grader() as pool:
    yield pool


def load(config=CONFIG, **changes):
  keys = SIZES | {k.replace('__', '.'): v for k, v in changes.items()}
  words = [f'config.{key}={value}' for key, value in keys.items()]
  return configuration.load(str(config), words)


def begin(workdir, grader, fork_from=None, config=None, programs=None):
  """(experiment, checkpoints) as `train.run` has them before its steps."""
  if config is None:
    config = load()
  built = experiment.build(config, grader)
  if programs is not None:
    built.programs = programs  # Not compiled again.
  origin = forking.origin(workdir, fork_from, config)
  mutable = resuming.mutable_keys(config)
  run_folder.open_run(workdir, config, 'train', mutable, origin)
  checkpoints = resuming.open_checkpoints(workdir, config)
  forking.begin(built, checkpoints, origin)
  resuming.restore(built, checkpoints)
  return built, checkpoints


def go(workdir, *args, **options):
  """The experiment after its last step."""
  built, checkpoints = begin(workdir, *args, **options)
  train.train(built, workdir, checkpoints, compilation.CompileWatch())
  checkpoints.close()
  return built


def everything(built):
  """All that steps change, but for times."""
  memory, ids = built.memory.get_state()
  flights = [(f.problems, f.step, f.number) for f in built.flights]
  arrays = [f.rollouts for f in built.flights]
  plain = built.stream.get_state(), ids, flights, built.sampled_tokens
  return (built.state, built.params, memory, arrays), plain


def assert_equal(found, expected):
  bits.assert_same(everything(found)[0], everything(expected)[0])
  assert everything(found)[1] == everything(expected)[1]


@pytest.fixture(scope='module')
def source(grader, tmp_path_factory):
  """(folder, experiment) of a run with checkpoints 2 and 4.

  It samples for both; the update, slow to compile, is a stand-in.
  """
  workdir = tmp_path_factory.mktemp('source')
  built, checkpoints = begin(workdir, grader)
  for step in (2, 4):
    gathering.gather(built, step)
    moved = jax.tree.map(lambda x: x + x, built.state)
    moved = dataclasses.replace(moved, step=jnp.int32(step))
    experiment.set_state(built, moved)
    resuming.save(built, checkpoints)
  checkpoints.close()
  assert built.flights and len(built.memory)
  return workdir, built


def untimed(workdir):
  timed = ('seconds', 'per_second', 'mfu', 'goodput', 'compilations')
  return [
    {k: v for k, v in row.items() if not any(word in k for word in timed)}
    for row in jsonl.read_rows(workdir / 'metrics.jsonl')
  ]


@pytest.mark.slow
def test_the_same_config_goes_on_bit_for_bit(grader, tmp_path):
  workdir = tmp_path / 'source'
  straight = go(workdir, grader)
  fork = tmp_path / 'fork'
  text = f'{workdir}/checkpoints/2'
  found = go(fork, grader, text, programs=straight.programs)
  assert_equal(found, straight)
  assert straight.flights and len(straight.memory)
  assert [row['step'] for row in untimed(fork)] == [3, 4]
  assert untimed(fork) == untimed(workdir)[2:]
  record = run_folder.read_record(fork / 'config.json')
  assert record['forked_from'] == {
    'workdir': str(workdir),
    'step': 2,
    'fingerprint': identity.fingerprint(load(), resuming.mutable_keys(load())),
  }
  # Started again, it is a run of its own: no flag, no old folder.
  shutil.rmtree(fork / 'checkpoints' / '4')
  moved = workdir.rename(tmp_path / 'moved')
  try:
    again, checkpoints = begin(fork, grader, programs=straight.programs)
    assert int(again.state.step) == 2
    assert untimed(fork) == []
    train.train(again, fork, checkpoints, compilation.CompileWatch())
    checkpoints.close()
    assert_equal(again, straight)
    assert untimed(fork) == untimed(moved)[2:]
    # The same flag resumes too; another source does not.
    for same in (text, str(workdir)):
      assert forking.origin(fork, same, load())['step'] == 2
  finally:
    moved.rename(workdir)
  with pytest.raises(UserError, match='was forked from step 2, not 4'):
    forking.origin(fork, f'{workdir}/checkpoints/4', load())
  with pytest.raises(UserError, match='is no fork of'):
    forking.origin(fork, str(fork), load())
  with pytest.raises(UserError, match='is no fork of'):
    forking.origin(workdir, str(fork), load())


def test_the_folder_of_a_run_is_its_newest_whole_checkpoint(
  source, tmp_path, capsys
):
  workdir, _ = source
  shutil.copytree(workdir, tmp_path / 'run')
  assert forking.origin(tmp_path / 'a', str(workdir), load())['step'] == 4
  damaged = tmp_path / 'run' / 'checkpoints' / '4' / 'host' / 'metadata'
  damaged.write_text('{}')
  found = forking.origin(tmp_path / 'a', str(tmp_path / 'run'), load())
  assert found['step'] == 2
  assert 'checkpoint 4 is not whole (host' in capsys.readouterr().err
  assert damaged.exists()  # Another's folder is left as it is.
  with pytest.raises(UserError, match=r'checkpoint 4 is not whole \(host'):
    forking.origin(
      tmp_path / 'a', str(tmp_path / 'run' / 'checkpoints' / '4'), load()
    )
  assert not (tmp_path / 'a').exists()


def test_a_start_that_was_killed_in_between_begins_the_fork_again(
  source, grader, tmp_path
):
  workdir, straight = source
  fork = tmp_path / 'fork'
  config = load()
  origin = forking.origin(fork, f'{workdir}/checkpoints/2', config)
  run_folder.open_run(fork, config, 'train', (), origin)
  found, checkpoints = begin(fork, grader, programs=straight.programs)
  checkpoints.close()
  assert int(found.state.step) == 2 and found.flights


@pytest.mark.parametrize(
  ('changes', 'word'),
  [
    ({'model.param_dtype': 'bfloat16'}, 'model.param_dtype (was "float32"'),
    ({'lora.rank': 2}, 'lora.rank (was 0, now 2)'),
    ({'optimizer.name': 'muon'}, 'optimizer.name (was "adamw", now "muon")'),
    ({'model.path': 'other'}, 'model.path (was "tiny_lrm", now "other")'),
  ],
)
def test_another_model_or_optimizer_is_refused(source, tmp_path, changes, word):
  workdir, _ = source
  config = load()
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  with pytest.raises(UserError) as info:
    forking.origin(tmp_path / 'fork', str(workdir), config)
  message = str(info.value)
  assert 'the optimizer must be those of that run: ' in message
  assert word in message and 'as model.path' in message
  assert not (tmp_path / 'fork').exists()


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('nothing', 'is no folder of a run; give one of lrm train'),
    ('sft', 'is a run of lrm sft; give one of lrm train'),
    ('checkpoints/3', 'no checkpoint of step 3; allowed: 2, 4'),
    ('empty', 'no checkpoint yet'),
    ('a/model', 'was not written by .*; give --fork-from a folder of a run of'),
  ],
)
def test_what_is_no_run_is_refused(source, tmp_path, text, words):
  for name, verb in (('sft', 'sft'), ('empty', 'train')):
    run_folder.open_run(tmp_path / name, load(), verb)
  (tmp_path / 'a' / 'model').mkdir(parents=True)
  (tmp_path / 'a' / 'model' / 'config.json').write_text('{}')
  place = source[0] if text == 'checkpoints/3' else tmp_path
  with pytest.raises(UserError, match=words) as info:
    forking.origin(tmp_path / 'fork', str(place / text), load())
  assert '\n' not in str(info.value)


def lines_of(capsys):
  err = capsys.readouterr().err.splitlines()
  return [line for line in err if line.startswith('lrm: fork')]


def test_another_recipe_begins_its_memory_anew(
  source, grader, tmp_path, capsys
):
  """And what is the same goes on: place in the data, optimizer, counters."""
  workdir, straight = source
  config = load(train_test.ROOT / 'configs' / 'tiny' / 'alp.py')
  capsys.readouterr()
  found, checkpoints = begin(
    tmp_path / 'fork', grader, f'{workdir}/checkpoints/4', config
  )
  checkpoints.close()
  said = lines_of(capsys)
  assert said == [
    'lrm: fork: the memory of hapo is left behind; the recipe has no hapo'
  ]
  bits.assert_same(found.state, straight.state)
  assert found.memory.get_state()[0] == {}
  assert found.stream.get_state() == straight.stream.get_state()
  assert found.sampled_tokens == straight.sampled_tokens
  assert len(found.flights) == len(straight.flights)
  assert found.seconds == 0


def test_another_learning_rate_says_nothing(source, grader, tmp_path, capsys):
  workdir, straight = source
  before = sorted(workdir.rglob('*'))
  config = load(optimizer__learning_rate=1e-5)
  found, checkpoints = begin(tmp_path / 'fork', grader, str(workdir), config)
  checkpoints.close()
  assert_equal(found, straight)
  assert lines_of(capsys) == []
  assert sorted(workdir.rglob('*')) == before


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    (
      {'data__train': 'chain_arithmetic:train:2-4'},
      [
        'the data begins anew: data.train (was',
        'groups in flight are left behind',
      ],
    ),
    (
      {'seed': 7},
      ['the data begins anew: data seed is 7', 'groups in flight are left'],
    ),
    (
      {'train__samples': 2},
      ['groups in flight are left behind: train.samples (was 4, now 2)'],
    ),
    (
      {'train__partial_tokens': 0, 'train__in_flight': 0},
      ['groups in flight are left behind: train.in_flight (was 6, now 0)'],
    ),
  ],
)
def test_other_data_begin_anew(
  source, grader, tmp_path, capsys, changes, words
):
  workdir, straight = source
  found, checkpoints = begin(
    tmp_path / 'fork', grader, str(workdir), load(**changes)
  )
  checkpoints.close()
  said = lines_of(capsys)
  assert len(said) == len(words)
  for line, word in zip(said, words, strict=True):
    assert word in line
  is_anew = 'the data' in words[0]
  assert (found.stream.get_state()['position'] == 0) == is_anew
  assert found.flights == []
  bits.assert_same(found.state, straight.state)
  memory, ids = straight.memory.get_state()
  bits.assert_same(found.memory.get_state()[0], memory)


def test_other_problems_and_prompts_behind_the_same_names(
  source, grader, tmp_path, capsys, monkeypatch
):
  contents = fingerprints.of_run

  def other(*args):
    return contents(*args) | {'data.train': 'a' * 64, 'tokenizer': 'b' * 64}

  monkeypatch.setattr(fingerprints, 'of_run', other)
  found, checkpoints = begin(tmp_path / 'fork', grader, str(source[0]))
  assert lines_of(capsys) == [
    'lrm: fork: the data begins anew: data.train holds other problems than it '
    'did',
    'lrm: fork: prompts change: another tokenizer or chat template',
    'lrm: fork: 2 groups in flight are left behind: their prompts are the old '
    'ones',
  ]
  assert found.stream.get_state()['position'] == 0 and found.flights == []
  # What it goes on from is its own from now on.
  host = checkpoints.restore_host(checkpoints.latest_step())
  assert host['contents'] == found.contents
  checkpoints.close()
