"""Partial rollouts on the embedded tiny LRM."""

import json
import pathlib

import jax
import numpy as np
import pytest

from lrm_jax import (
  configuration,
  experiment,
  flops,
  gathering,
  jsonl,
  resuming,
  rounds,
  updating,
)
from lrm_jax.errors import UserError
from lrm_jax.rewards.pool import Grader
from tests import train_test

PARTIAL = {'train__partial_tokens': 8, 'train__in_flight': 12}


@pytest.fixture(scope='module')
def grader():
  with Grader() as pool:
    yield pool


def build(grader, **changes):
  config = configuration.load(
    train_test.CONFIG, train_test.overrides(**changes)
  )
  return experiment.build(config, grader)


@pytest.mark.slow
def test_groups_in_flight_say_what_whole_ones_would(grader):
  """Parameters that stand still, three steps: only the order differs."""
  built = build(grader, **PARTIAL)
  taken = [gathering.gather(built, step) for step in (1, 2, 3)]
  begun = [len(set(b.rollouts.step.tolist())) for b in taken]
  # Steps train on groups of earlier ones; otherwise this would show nothing.
  assert begun[-1] > 1
  for batch in taken:
    for step in set(batch.rollouts.step.tolist()):
      rows = np.flatnonzero(batch.rollouts.step == step)
      found = jax.tree.map(lambda x: x[rows], batch.rollouts)  # noqa: B023
      # The n-th flight of a step has a key of its own.
      whole = [
        built.collector.collect(
          built.params,
          [batch.problems[row] for row in rows],
          cap=found.cap,
          key=rounds.key(built, step, number),
          temperature=1.0,
          step=step,
        )
        for number in range(2)
      ]
      same = [(w.response_ids == found.response_ids).all((1, 2)) for w in whole]
      assert (np.sum(same, 0) == 1).all()
      for name in ('length', 'truncated', 'correct', 'thinking_length'):
        want = np.where(same[0][:, None], *(getattr(w, name) for w in whole))
        np.testing.assert_array_equal(getattr(found, name), want, err_msg=name)
      logp = np.where(same[0][:, None, None], *(w.sampler_logp for w in whole))
      np.testing.assert_allclose(found.sampler_logp, logp, atol=2e-5)


def test_every_problem_of_the_stream_is_trained_on_once_or_in_flight(grader):
  built = build(grader, train__max_rounds=1, **PARTIAL)
  batches = [gathering.gather(built, step) for step in (1, 2, 3, 4)]
  seen = [p.id for batch in batches for p in batch.problems]
  waiting = [p.id for flight in built.flights for p in flight.problems]
  drawn = build(grader).stream.take(len(seen) + len(waiting))
  assert sorted(seen + waiting) == sorted(p.id for p in drawn)
  assert len(seen) == 4 * 8 and len(waiting) == 12 - 8
  for batch in batches:
    assert batch.stats['in_flight'] >= 12 - 8


def test_tokens_are_counted_in_the_step_that_sampled_them(grader):
  built = build(grader, train__max_rounds=1, **PARTIAL)
  batches = [gathering.gather(built, step) for step in (1, 2, 3)]
  trained = sum(int(batch.rollouts.length.sum()) for batch in batches)
  waiting = sum(int(f.rollouts.length.sum()) for f in built.flights)
  counted = sum(batch.stats['sampled_tokens'] for batch in batches)
  assert counted == trained + waiting == built.sampled_tokens
  assert waiting > 0
  # So are FLOPs: the parts of a response add up to the whole.
  sampled = [batch.rollouts for batch in batches]
  sampled += [flight.rollouts for flight in built.flights]
  work = sum(batch.stats['model_flops_sample'] for batch in batches)
  assert work == sum(
    flops.decode(built.model, r.prompt_length, r.length) for r in sampled
  )


def test_stale_tokens_are_flagged(grader):
  built = build(grader, train__max_rounds=1, **PARTIAL)
  first = gathering.gather(built, 1)
  assert (first.rollouts.stale == 0).all() and first.stats['stale_tokens'] == 0
  before = {
    p.id: flight.rollouts.length[row]
    for flight in built.flights
    for row, p in enumerate(flight.problems)
  }
  second = gathering.gather(built, 2)
  old = second.rollouts.step == 1
  assert old.any() and not old.all()
  assert (second.rollouts.stale[~old] == 0).all()
  for b in np.flatnonzero(old):
    np.testing.assert_array_equal(
      second.rollouts.stale[b], before[second.problems[b].id]
    )
  stale, length = second.rollouts.stale.sum(), second.rollouts.length.sum()
  assert second.stats['stale_tokens'] == stale / length > 0


def test_stale_tokens_have_the_log_probabilities_of_their_sampler(grader):
  """After an update: fresh tokens agree with the trainer, stale ones do not."""
  built = build(
    grader, train__max_rounds=1, optimizer__learning_rate=0.01, **PARTIAL
  )
  batch = gathering.gather(built, 1)
  batch, credit = updating.credit(built, batch)
  updating.wait(updating.update(built, batch, credit))
  batch = gathering.gather(built, 2)
  rollouts = batch.rollouts
  mask = rollouts.mask * batch.keep[..., None]
  packed = updating.pack(built, rollouts, batch.keep)
  scored, _ = jax.device_get(built.programs.score(built.params, packed, mask))
  gap = np.abs(scored - rollouts.sampler_logp) * mask
  stale = np.arange(gap.shape[-1]) < rollouts.stale[..., None]
  assert gap[stale].max() > 1e-2
  assert gap[~stale].max() < 1e-4
  # So the alarm of the step looks at fresh ones only.
  batch, credit = updating.credit(built, batch)
  numbers = updating.update(built, batch, credit)
  each = updating.wait(numbers)
  assert updating.read(each)['logp_gap_max'] < 1e-4
  assert updating.is_gap_within(each, 1e-4)


@pytest.mark.slow
def test_a_run_in_flight_resumes_exactly(tmp_path, monkeypatch):
  whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
  train_test.start(whole, **PARTIAL)
  save = resuming.save

  def save_and_stop(built, checkpoints, *more):
    save(built, checkpoints, *more)
    assert built.flights
    if int(built.state.step) == 2:
      checkpoints.close()
      raise KeyboardInterrupt

  monkeypatch.setattr(resuming, 'save', save_and_stop)
  with pytest.raises(KeyboardInterrupt):
    train_test.start(stopped, **PARTIAL, train__checkpoint_every=1)
  monkeypatch.undo()
  train_test.start(stopped, **PARTIAL, train__checkpoint_every=1)
  rows = [jsonl.read_rows(path / 'metrics.jsonl') for path in (whole, stopped)]
  for one, other in zip(*rows, strict=True):
    for name in ('loss', 'grad_norm', 'sampled_tokens', 'stale_tokens'):
      assert one[name] == other[name], name
  assert rows[0][-1]['stale_tokens'] > 0
  summaries = [
    json.loads(pathlib.Path(path, 'summary.json').read_text())
    for path in (whole, stopped)
  ]
  assert summaries[0]['after']['accuracy'] == summaries[1]['after']['accuracy']


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'train__in_flight': 7}, 'train.in_flight=7 .* at least train.problems=8'),
    (
      {'train__in_flight': 8, 'train__rounds_ahead': 1},
      'train.rounds_ahead=1 .* set one of them to 0',
    ),
    ({'train__partial_tokens': -1}, 'train.partial_tokens=-1'),
    (
      {'train__partial_tokens': 10_000, 'train__in_flight': 8},
      'train.partial_tokens=10000 is more than .* train.max_tokens=',
    ),
  ],
)
def test_settings_that_cannot_be(grader, changes, message):
  with pytest.raises(UserError, match=message):
    build(grader, **{'train__partial_tokens': 8} | changes)
