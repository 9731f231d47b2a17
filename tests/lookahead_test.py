"""Batches that are sampled while the one before is trained."""

import dataclasses
import os
import signal

import jax
import numpy as np
import pytest

from lrm_jax import (
  configuration,
  errors,
  gathering,
  interrupts,
  lookahead,
  off_policy,
  resuming,
  updating,
)
from lrm_jax.errors import UserError
from lrm_jax.rewards.pool import Grader
from tests import (
  bits,
  eight_devices,
  incidents_test,
  methods_test,
  rounds_test,
  train_test,
)

AHEAD = {
  'train__batches_ahead': 1,
  'train__rollouts_every': 0,
  'sentinels__every': 3,
}
# Weighed by what the policy before the update says.
CORRECTED = AHEAD | {
  'train__old_logp': 'trainer',
  'objective__correction__name': 'token_truncated',
  'optimizer__learning_rate': 0.01,
}


@pytest.fixture(scope='module')
def grader():
  with Grader() as pool:
    yield pool


def build(grader, **changes):
  return rounds_test.build(grader, **AHEAD | changes)


def test_a_batch_is_that_of_the_parameters_before_the_update(grader, tmp_path):
  built, plain = build(grader), rounds_test.build(grader)
  first = lookahead.take(built, 1)
  assert (first.stats['steps_behind'], first.stats['stale_tokens']) == (0, 0)
  assert not first.rollouts.stale.any()
  _, credit = updating.credit(built, first)
  params = lookahead.copy(built, 1)
  updating.wait(updating.update(built, first, credit))
  with pytest.raises(AssertionError):
    bits.assert_same(jax.device_get(built.params), jax.device_get(params))
  tokens = built.sampled_tokens
  lookahead.sample(built, 2, params)
  # Counted when it is trained on.
  assert built.sampled_tokens == tokens == first.stats['sampled_tokens']
  second = lookahead.take(built, 2)
  assert built.waiting is None and built.sampled_tokens > tokens
  assert (second.stats['steps_behind'], second.stats['stale_tokens']) == (1, 1)
  np.testing.assert_array_equal(second.rollouts.stale, second.rollouts.length)
  # Without an update in between it is the same batch.
  gathering.gather(plain, 1)
  expected = gathering.gather(plain, 2)
  fresh = dataclasses.replace(second.rollouts, stale=expected.rollouts.stale)
  bits.assert_same(fresh, expected.rollouts)
  bits.assert_same(second.reward, expected.reward)
  assert built.stream.get_state() == plain.stream.get_state()


def test_the_last_step_samples_nothing_ahead(grader):
  built = build(grader, train__token_budget=100)
  assert lookahead.copy(built, built.config.train.steps) is None
  # What ends a run may be its tokens, too.
  assert lookahead.copy(built, 1) is not None
  built.sampled_tokens = 100
  assert lookahead.copy(built, 1) is None
  lookahead.sample(built, 4, None)
  assert built.waiting is None


def test_a_batch_that_waits_comes_back_from_a_checkpoint(grader):
  built = build(grader)
  lookahead.sample(built, 1, built.params)
  batch = dataclasses.replace(
    built.waiting.batch, stats={'reward': float('nan'), 'cap': 0.1}
  )
  waiting = lookahead.Waiting(batch, 7, 1)
  arrays, host = lookahead.get_state(waiting)
  nothing = built.collector.begin([resuming._NOBODYS], cap=0)
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(lookahead.like(host, nothing)) == shapes(arrays)
  again = lookahead.set_state(arrays, host)
  assert again.tokens == 7 and again.step == 1
  assert again.batch.problems == batch.problems
  assert np.isnan(again.batch.stats.pop('reward'))
  assert again.batch.stats == {'cap': 0.1}
  for name in ('rollouts', 'reward', 'keep', 'judged'):
    bits.assert_same(getattr(again.batch, name), getattr(batch, name))
  # Also what was sampled and is not in the batch, for its record.
  assert again.batch.sampled.problems == batch.sampled.problems
  bits.assert_same(again.batch.sampled[1:], batch.sampled[1:])
  assert lookahead.get_state(None) == ({}, None)
  assert lookahead.like(None, nothing) == {}
  assert lookahead.set_state({}, None) is None


@pytest.mark.slow
def test_a_run_resumes_exactly_and_is_weighed(grader, tmp_path, monkeypatch):
  """Four steps at once, and told to stop while each next batch is sampled."""
  whole = build(grader, **CORRECTED)
  rows, _ = incidents_test.advance(whole, tmp_path / 'whole')
  assert [row['steps_behind'] for row in rows] == [0, 1, 1, 1]
  assert [row['stale_tokens'] for row in rows] == [0, 1, 1, 1]
  # On policy but for rounding, and then off it.
  assert rows[0]['correction_mean'] == pytest.approx(1, abs=1e-5)
  assert all(abs(row['correction_mean'] - 1) > 1e-4 for row in rows[1:])
  assert all(row['correction_masked'] == 0 for row in rows)
  # Of what the parameters have just sampled: in the first step alone.
  assert 0 < rows[0]['logp_gap_max'] < 1e-4
  assert [row['logp_gap_max'] for row in rows[1:]] == [None] * 3
  assert rows[2]['replay_gap'] < 1e-4

  gather, stops = gathering.gather, []

  def gather_and_be_stopped(built, step):
    if step > 1:
      stops.append(step)
      os.kill(os.getpid(), signal.SIGTERM)
    return gather(built, step)

  monkeypatch.setattr(gathering, 'gather', gather_and_be_stopped)
  for done in (1, 2, 3):
    built = build(grader, **CORRECTED)
    with interrupts.Interrupts(), pytest.raises(errors.Stopped):
      incidents_test.advance(built, tmp_path / 'parts')
    # The step is whole, and the batch of the next was finished.
    assert int(built.state.step) == done
    assert built.waiting.step == done + 1
  built = build(grader, **CORRECTED)
  part, _ = incidents_test.advance(built, tmp_path / 'parts')
  assert stops == [2, 3, 4]
  for one, other in zip(rows, part, strict=True):
    for name in ('loss', 'grad_norm', 'sampled_tokens', 'correction_mean'):
      assert one[name] == other[name], name
  bits.assert_same(jax.device_get(built.state), jax.device_get(whole.state))


def test_several_passes_are_updates_against_the_same_policy(grader):
  """Two at once, or one after the other on the same targets."""
  changes = {'train__mini_batches': 1, 'optimizer__learning_rate': 0.01}
  one = rounds_test.build(grader, **changes)
  two = rounds_test.build(
    grader, **changes, train__passes=2, train__old_logp='trainer'
  )
  batch = updating.score(two, gathering.gather(two, 1))
  np.testing.assert_allclose(
    batch.scored.logp,
    batch.rollouts.sampler_logp * batch.rollouts.mask * batch.keep[..., None],
    atol=1e-4,
  )
  batch, credit = updating.credit(two, batch)
  assert credit.old_logp is batch.scored.logp
  # That of the sampler, measured by the pass before.
  assert credit.numbers == {'logp_gap_max': batch.scored.gap}
  each = updating.wait(updating.update(two, batch, credit))
  assert len(each) == 2
  assert each[0]['ratio_mean'] == pytest.approx(1, abs=1e-6)
  assert abs(each[1]['ratio_mean'] - 1) > 1e-4
  for _ in range(2):
    updating.wait(updating.update(one, batch, credit))
  bits.assert_same(
    jax.device_get(one.state.params), jax.device_get(two.state.params)
  )


def test_the_sampler_has_devices_of_its_own():
  done = eight_devices.run('tests.lookahead_test')
  assert done.stdout.split() == [
    'sampled',
    '4',
    '5',
    '6',
    '7',
    'trained',
    '0-3',
  ]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'train__batches_ahead': 2},
      'train.batches_ahead=2 must be 0, or 1 to sample the next batch while '
      'one is trained',
    ),
    (
      {
        'train__batches_ahead': 1,
        'train__partial_tokens': 8,
        'train__in_flight': 8,
      },
      'train.batches_ahead=1 with train.partial_tokens=8: responses in flight '
      'are ahead of their step already; set one of them to 0',
    ),
    (
      {'train__batches_ahead': 1},
      'sentinels.every=0 with train.batches_ahead=1: every batch is a step '
      'old when it is trained on, so nothing else compares sampler and '
      'trainer; give steps, such as 20',
    ),
    (
      {'train__sampler_devices': 1},
      'train.sampler_devices=1 of 1 devices: leave one or more to train on',
    ),
    (
      {'train__old_logp': 'behaviour'},
      "train.old_logp='behaviour' is not one of sampler, trainer",
    ),
    (
      {'objective__correction__name': 'token_truncated'},
      "objective.correction.name='token_truncated' with train.old_logp="
      "'sampler': ratios are against the sampler's law already, so there is "
      "nothing to correct; set train.old_logp='trainer'",
    ),
  ],
)
def test_settings_that_cannot_be(grader, changes, message):
  with pytest.raises(UserError) as error:
    rounds_test.build(grader, **changes)
  assert str(error.value) == message


@pytest.mark.parametrize('name', ['gvm', 'pcl'])
def test_curricula_that_look_at_the_policy(name):
  config = methods_test.load(name)
  with config.unlocked():
    config.train.sampler_devices = config.train.batches_ahead = 1
    config.sentinels.every = 1
  with pytest.raises(UserError) as error:
    off_policy.check(config)
  assert str(error.value) == (
    f"train.sampler_devices=1 with objective.curriculum.name='{name}': it "
    'looks at the policy with the devices that train; set it to 0, or choose '
    'another curriculum'
  )


def test_devices_for_the_sampler_that_would_wait():
  sizes = configuration.load(train_test.CONFIG).train
  with sizes.unlocked():
    sizes.sampler_devices = 2
  with pytest.raises(UserError) as error:
    off_policy._check_ahead(sizes)
  assert str(error.value) == (
    'train.sampler_devices=2 with train.batches_ahead=0: they would wait for '
    'the update, and the others for them; set train.batches_ahead=1'
  )
  with pytest.raises(UserError) as error:
    off_policy.check_sampler_devices(2, 8, 2)
  assert str(error.value) == (
    'train.sampler_devices=2 with 2 processes: parameters would have to be '
    'sent between them; set it to 0'
  )


def devices_of_a_run() -> str:
  """Where both halves of a step are, on eight devices."""
  with Grader() as grader:
    built = build(
      grader,
      train__sampler_devices=4,
      mesh__data=2,
      mesh__fsdp=2,
    )
    batch, credit = updating.credit(built, lookahead.take(built, 1))
    params = lookahead.copy(built, 1)
    numbers = updating.update(built, batch, credit)
    lookahead.sample(built, 2, params)
    assert updating.wait(numbers)[0]['logp_gap_max'] < 1e-4
    assert built.waiting.batch.rollouts.length.any()
  ids = lambda tree: sorted({d.id for d in jax.tree.leaves(tree)[0].devices()})
  assert ids(built.state.params) == list(range(4))
  return f'sampled {" ".join(map(str, ids(params)))} trained 0-3'


if __name__ == '__main__':
  print(devices_of_a_run())
