"""Skipped updates of runs: counted, written, and the end of them."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from lrm_jax import (
  compilation,
  errors,
  incidents,
  jsonl,
  resuming,
  train,
  updating,
)
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.rewards.pool import Grader
from tests import bits, rounds_test, sft_test


@pytest.mark.parametrize(
  ('skipped', 'before', 'expected'),
  [
    ([], 3, (3, 3)),
    ([False], 3, (0, 3)),
    ([True], 3, (4, 4)),
    ([True, False, True, True], 1, (2, 2)),
    # The worst is in the middle of a step.
    ([True, True, False, True], 1, (1, 3)),
  ],
)
def test_in_row_by_hand(skipped, before, expected):
  assert incidents.in_row(skipped, before) == expected


def numbers(gap, skipped, loss=1.0):
  return {
    'loss': loss,
    'grad_norm': loss,
    'logp_gap_max': gap,
    'skipped': skipped,
    'model_flops_update': 5,
  }


def test_an_update_whose_result_is_not_finite():
  """Its own numbers are; the reason is told all the same."""
  config = type('Config', (), {'max_skipped': 2})
  made, skipped = numbers(1e-4, 0.0), numbers(1e-4, 1.0, 0.25)
  line = incidents.stop_line([made, skipped], 2, 'train.', config, 9, 'there')
  assert str(line) == (
    '2 updates in a row skipped, the last at step 9: loss 0.25, grad_norm '
    '0.25, and what the optimizer makes of them is not finite; '
    'train.max_skipped is 2; what they trained on is in there'
  )
  assert [incidents._told(x)['not_finite'] for x in (made, skipped)] == [
    [],
    ['result'],
  ]
  lost = numbers(1e-4, 1.0, float('nan'))
  line = incidents.stop_line([lost], 2, 'train.', config, 9, 'there')
  assert 'optimizer' not in str(line)


def test_numbers_of_a_step_with_skipped_updates():
  nan = float('nan')
  each = [numbers(nan, 1.0, nan), numbers(1e-4, 0.0), numbers(0.5, 0.0)]
  found = updating.read(each)
  assert found['skipped'] == 1 and found['model_flops_update'] == 15
  # Behind the second update the parameters are others.
  assert found['logp_gap_max'] == 1e-4
  assert np.isnan(found['loss'])
  assert updating.is_gap_within(each, 1e-3)
  # Nobody knows how far apart sampler and trainer are.
  each = [numbers(nan, 1.0)]
  assert np.isnan(updating.read(each)['logp_gap_max'])
  assert updating.is_gap_within(each, 1e-3)
  # Nor where there was no update.
  assert updating.read([]) == {} and updating.is_gap_within([], 1e-3)


@pytest.mark.parametrize(
  'each',
  [
    [numbers(0.5, 0.0)],
    [numbers(float('nan'), 0.0)],
    [numbers(0.5, 1.0), numbers(1e-4, 0.0)],
    [numbers(float('nan'), 1.0), numbers(0.5, 0.0)],
  ],
)
def test_the_gap_is_still_an_alarm(each):
  assert not updating.is_gap_within(each, 1e-3)


# --- Runs ---


@pytest.fixture(scope='module')
def grader():
  with Grader() as pool:
    yield pool


@pytest.fixture(scope='module')
def programs(grader):
  """Compiled once."""
  return rounds_test.build(grader).programs


def build(grader, programs, poisoned, **changes):
  """An experiment with a NaN for problem 1 in the steps given.

  That is of the second mini-batch; with None, of problems 0 and 1.
  """
  built = rounds_test.build(
    grader, train__checkpoint_every=100, train__rollouts_every=0, **changes
  )

  def credit(*args):
    (advantage,), mask = jax.device_get(programs.credit(*args))
    rollouts = args[2]
    step, advantage = int(rollouts.step[0]), np.array(advantage)
    if step in poisoned:
      for row in poisoned[step]:
        advantage[row, 0, 0] = np.nan
    return (advantage,), mask

  built.programs = dataclasses.replace(programs, credit=credit)
  return built


def advance(built, workdir):
  """Trains; the rows of metrics, and why it ended."""
  checkpoints = RunCheckpoints(workdir, keep=2)
  if checkpoints.latest_step() is not None:
    resuming.restore(built, checkpoints)
  reason = None
  try:
    train.train(built, workdir, checkpoints, compilation.CompileWatch())
    checkpoints.close()
  except errors.CheckFailed as failed:
    reason = str(failed)
  return jsonl.read_rows(workdir / 'metrics.jsonl'), reason


def test_one_bad_mini_batch(grader, programs, tmp_path):
  built = build(grader, programs, {2: [1]}, train__steps=3)
  rows, reason = advance(built, tmp_path)
  assert reason is None
  assert [row['skipped'] for row in rows] == [0, 1, 0]
  assert rows[1]['loss'] is None and rows[0]['loss'] is not None
  assert all(row['reward'] is not None for row in rows)
  assert built.alarms.skipped_in_row == 0
  # Of the four or more updates of Adam one was none.
  counts = [x for x in jax.tree.leaves(built.state.opt_state) if x.ndim == 0]
  assert {int(x) for x in counts} == {5}

  folder = tmp_path / 'incidents'
  assert {path.name for path in folder.iterdir()} == {
    'step_000002.json',
    'step_000002.jsonl.gz',
  }
  header = json.loads((folder / 'step_000002.json').read_text())
  assert header['step'] == 2 and header['mini_batches'] == [1]
  assert header['skipped_in_row'] == 1
  good, bad = header['updates']
  assert good['skipped'] == 0 and good['not_finite'] == []
  assert bad['skipped'] == 1 and bad['loss'] is None
  assert {'loss', 'grad_norm'} <= set(bad['not_finite'])
  assert header['parameters_not_finite'] == []
  samples = jsonl.read_rows(folder / 'step_000002.jsonl.gz')
  # Every other one of eight groups of four.
  assert [row['sample'] for row in samples] == [0, 1, 2, 3] * 4
  first, *others = samples
  assert first['not_finite'] == ['advantage'] and first['advantage'] is None
  assert not any(row['not_finite'] for row in others)
  assert {row['mini_batch'] for row in samples} == {1}
  assert all(row['response_ids'] and row['prompt_ids'] for row in samples)


def test_too_many_in_a_row_and_going_on(grader, programs, tmp_path):
  every = [0, 1]
  bad = {2: every, 3: every, 4: every}
  built = build(grader, programs, bad, train__steps=5, train__max_skipped=4)
  start = jax.device_get(built.state.params)
  rows, reason = advance(built, tmp_path)
  assert [row['skipped'] for row in rows] == [0, 2, 2]
  for words in (
    '4 updates in a row skipped, the last at step 3',
    'loss nan',
    'train.max_skipped is 4',
    str(tmp_path / 'incidents' / 'step_000003.jsonl.gz'),
    'saved step 3',
  ):
    assert words in reason, reason
  kept = jax.device_get((built.state.params, built.state.opt_state))
  with pytest.raises(AssertionError):
    bits.assert_same(kept[0], start)

  # The same again: one skipped step more, and the count goes on.
  again = build(grader, programs, bad, train__steps=5, train__max_skipped=6)
  rows, reason = advance(again, tmp_path)
  assert '6 updates in a row' in reason and 'step 4' in reason
  bits.assert_same(
    jax.device_get((again.state.params, again.state.opt_state)), kept
  )
  # What is done again leaves what it found the first time.
  cured = build(grader, programs, {}, train__steps=5, train__max_skipped=6)
  rows, reason = advance(cured, tmp_path)
  assert reason is None and [row['step'] for row in rows] == [1, 2, 3, 4, 5]
  assert cured.alarms.skipped_in_row == 0
  with pytest.raises(AssertionError):
    bits.assert_same(jax.device_get(cured.state.params), kept[0])


def test_nothing_is_overwritten(tmp_path):
  paths = [
    incidents.write_incident(tmp_path, 3, {'n': n}, [{'n': n}])
    for n in range(3)
  ]
  assert [path.name for path in paths] == [
    'step_000003.jsonl.gz',
    'step_000003_2.jsonl.gz',
    'step_000003_3.jsonl.gz',
  ]
  for n, path in enumerate(paths):
    assert jsonl.read_rows(path) == [{'n': n}]
    header = path.with_name(path.name.replace('.jsonl.gz', '.json'))
    assert json.loads(header.read_text()) == {'n': n}


def test_the_parameters_that_are_not_finite_are_named():
  tree = {'a': np.ones(2), 'b': {'c': np.array([1, np.inf]), 'd': np.zeros(1)}}
  assert incidents.not_finite(tree) == ['b/c']


@pytest.mark.parametrize('value', [0, -1])
def test_a_run_must_allow_one(grader, value):
  words = f'train.max_skipped={value} must be at least 1 update'
  with pytest.raises(errors.UserError, match=words):
    rounds_test.build(grader, train__max_skipped=value)
  assert 'train.max_skipped' in resuming.mutable_keys(
    rounds_test.build(grader).config
  )


@pytest.mark.slow
def test_a_supervised_run_ends_too(tmp_path, monkeypatch, capsys):
  """Rows without a token to train on, from the second step on."""
  pack = sft_test.packing.pack_demonstrations
  calls = []

  def empty(*args, **keywords):
    rows, mask, cursor = pack(*args, **keywords)
    calls.append(rows)
    return rows, mask * (len(calls) == 1), cursor

  monkeypatch.setattr(sft_test.packing, 'pack_demonstrations', empty)
  keys = sft_test.NEW_MODEL | {'max_skipped': 2}
  assert sft_test._run(tmp_path, keys) == 1
  error = capsys.readouterr().err
  assert 'check failed: 2 updates in a row skipped, the last at step 3' in error
  assert 'saved step 3' in error
  rows = jsonl.read_rows(tmp_path / 'metrics.jsonl')
  assert [row['skipped'] for row in rows] == [0, 1, 1]
  assert [row['loss'] is None for row in rows] == [False, True, True]
  found = jsonl.read_rows(tmp_path / 'incidents' / 'step_000003.jsonl.gz')
  assert [row['token_ids'] for row in found] == calls[2].tokens.tolist()
  assert all(row['trained'] == [] for row in found)
  monkeypatch.undo()
  # A good one behind it, and the count begins anew.
  assert sft_test._run(tmp_path, keys) == 0
  rows = jsonl.read_rows(tmp_path / 'metrics.jsonl')
  assert [row['skipped'] for row in rows] == [0, 1, 1, 0, 0]
