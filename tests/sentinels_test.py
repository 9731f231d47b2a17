"""Replays and alarms in runs: they change nothing, and end what is broken."""

import dataclasses

import jax
import pytest

from lrm_jax import errors, resuming, sentinels
from lrm_jax.rewards.pool import Grader
from tests import bits, incidents_test, rounds_test

TIMED = ('seconds', 'per_second', 'mfu', 'goodput', 'compilations')


@pytest.fixture(scope='module')
def grader():
  with Grader() as pool:
    yield pool


@pytest.fixture(scope='module')
def programs(grader):
  """Compiled once."""
  return rounds_test.build(grader).programs


def build(grader, programs, **changes):
  built = rounds_test.build(
    grader,
    train__steps=3,
    train__checkpoint_every=100,
    train__rollouts_every=0,
    **changes,
  )
  built.programs = programs
  return built


def plain(row):
  """What a step found, without how long it took."""
  return {
    name: value
    for name, value in row.items()
    if not any(word in name for word in (*TIMED, 'replay_gap'))
  }


@pytest.mark.parametrize(
  'changes',
  [
    {},
    pytest.param(
      {'train__partial_tokens': 8, 'train__in_flight': 12},
      marks=pytest.mark.slow,
    ),
  ],
)
def test_a_replay_changes_nothing(grader, programs, tmp_path, changes):
  watched = build(grader, programs, sentinels__every=2, **changes)
  rows, reason = incidents_test.advance(watched, tmp_path / 'watched')
  assert reason is None
  assert ['replay_gap' in row for row in rows] == [False, True, False]
  assert 0 < rows[1]['replay_gap'] < 1e-4
  alone = build(grader, programs, **changes)
  others, _ = incidents_test.advance(alone, tmp_path / 'alone')
  assert list(map(plain, rows)) == list(map(plain, others))
  bits.assert_same(jax.device_get(watched.state), jax.device_get(alone.state))
  assert watched.stream.get_state() == alone.stream.get_state()
  assert watched.sampled_tokens == alone.sampled_tokens


def test_the_same_problem_gives_the_same_gap(grader, programs):
  built = build(grader, programs)
  assert sentinels.replay(built) == sentinels.replay(built)


def shifted(scored, nats):
  logp, entropy = scored
  return logp + nats, entropy


def test_a_trainer_that_differs_ends_the_run(grader, programs, tmp_path):
  """At the start nothing is done; later the steps so far are saved."""
  off = dataclasses.replace(
    programs, score=lambda *args: shifted(programs.score(*args), 0.25)
  )
  built = build(grader, off, sentinels__every=1)
  start = jax.device_get(built.state)
  with pytest.raises(errors.CheckFailed) as failed:
    sentinels.at_start(built)
  for words in ('replay_gap 2.5e-01', 'train.logp_gap_limit=0.001', 'step 0'):
    assert words in str(failed.value)
  bits.assert_same(jax.device_get(built.state), start)
  assert built.alarms.reasons == []
  # Later: not at the start, but after the second step.
  built = build(grader, off, sentinels__every=2)
  calls = []
  built.programs = dataclasses.replace(
    programs,
    score=lambda *args: shifted(
      programs.score(*args), 0.25 * (calls.append(args) or len(calls) > 1)
    ),
  )
  rows, reason = incidents_test.advance(built, tmp_path)
  assert len(rows) == 2 and 'saved step 2' in reason
  assert rows[1]['replay_gap'] == pytest.approx(0.25, abs=1e-3)


def test_a_gap_in_a_step_ends_the_run_and_saves_it(grader, programs, tmp_path):
  """In one line, as the replay's; the same command with more room goes on."""
  update = programs.update

  def apart(*args):
    is_second = int(args[0].step) == 1
    state, values = update(*args)
    return state, values | {'logp_gap_max': 0.5 if is_second else 1e-5}

  off = dataclasses.replace(programs, update=apart)
  apart.start = lambda *args: None
  rows, reason = incidents_test.advance(build(grader, off), tmp_path)
  assert len(rows) == 2 and rows[1]['logp_gap_max'] == 0.5
  told = (
    'logp_gap_max 5.0e-01 > train.logp_gap_limit=0.001 at step 2: sampler and '
    'trainer differ on what was sampled; look at what changed in model, '
    'sampler or devices'
  )
  assert reason == f'{told}; saved step 2'
  again = build(grader, programs)
  rows, reason = incidents_test.advance(again, tmp_path)
  assert len(rows) == 3 and reason is None


def test_an_alarm_ends_the_run_and_is_remembered(grader, programs, tmp_path):
  limit = {'sentinels__entropy_max': 1e-6}
  built = build(grader, programs, sentinels__patience=2, **limit)
  rows, reason = incidents_test.advance(built, tmp_path)
  assert len(rows) == 2
  for words in (
    'entropy 0.',
    '> sentinels.entropy_max=1e-06 for 2 steps, at step 2; look at',
    'saved step 2',
  ):
    assert words in reason, reason
  # It is a third step, and not the first one of another start.
  again = build(grader, programs, sentinels__patience=3, **limit)
  rows, reason = incidents_test.advance(again, tmp_path)
  assert len(rows) == 3 and 'for 3 steps, at step 3' in reason
  assert 'sentinels' in resuming.mutable_keys(again.config)


def test_nothing_is_looked_at_unless_asked_for(grader, programs, monkeypatch):
  monkeypatch.setattr(sentinels, 'replay', lambda _: pytest.fail('a replay'))
  built = build(grader, programs)
  sentinels.at_start(built)
  assert sentinels.inspect(built, 6) == {}
  built = build(grader, programs, sentinels__every=4)
  assert sentinels.inspect(built, 6) == {}
  monkeypatch.setattr(sentinels, 'replay', lambda _: 1e-5)
  assert sentinels.inspect(built, 8) == {'replay_gap': 1e-5}


def test_a_gap_that_is_no_number(grader, programs, monkeypatch):
  built = build(grader, programs, sentinels__every=1)
  monkeypatch.setattr(sentinels, 'replay', lambda _: float('nan'))
  with pytest.raises(errors.CheckFailed, match='replay_gap nan'):
    sentinels.at_start(built)


def test_weights_of_one_device_have_no_copies(grader, programs):
  built = build(grader, programs)
  assert built.mesh is None
  sentinels.check_weights(built, 0)
