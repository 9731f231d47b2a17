"""Phases 1 to 5 on the embedded tiny LRM."""

import dataclasses

import jax
import numpy as np
import pytest

from lrm_jax import experiment, gathering, rollout, rounds, updating
from lrm_jax.objectives import oversampling
from lrm_jax.rewards.pool import Grader
from lrm_jax.structs import Memory
from tests import methods_test


@pytest.fixture(scope='module')
def grader():
  with Grader() as pool:
    yield pool


def build(name, grader, **changes):
  config = methods_test.load(name)
  with config.unlocked():
    for key, value in changes.items():
      config.update_from_flattened_dict({key.replace('__', '.'): value})
  return experiment.build(config, grader)


def test_oversampling_draws_what_is_predicted(grader):
  built = build('dot', grader)
  # 1.5 at first.
  assert rounds.problems_to_draw(built) == 6
  gathering.record_pass_rate(built, 0.25)  # factor 4
  assert rounds.problems_to_draw(built) == 16
  rates = built.memory.take([])['predictive'].shared['pass_rate']
  assert np.isnan(rates[:-1]).all() and rates[-1] == 0.25
  gathering.record_pass_rate(built, 1.0)
  # mean 0.625, deviation 0.375: 1.375 / 0.625 = 2.2, 8.8 problems.
  assert rounds.problems_to_draw(built) == 8
  plain = build('grpo', grader)
  gathering.record_pass_rate(plain, 0.25)
  assert rounds.problems_to_draw(plain) == 4
  eight = build('dot', grader, train__problems=16)
  gathering.record_pass_rate(eight, 0.7)  # 1 / 0.7: 22.9 problems
  assert rounds.problems_to_draw(eight) == 24  # in quarters of a batch


def test_a_step_samples_what_the_prediction_says(grader):
  built = build('dot', grader)
  batch = gathering.gather(built, 1)
  assert batch.stats['sampled_groups'] == 6
  assert len(batch.problems) == 4
  kept = batch.keep.any(1)
  assert (np.sort(kept)[::-1] == kept).all()  # kept groups come first
  rates = built.memory.take([])['predictive'].shared['pass_rate']
  assert rates[-1] == pytest.approx(batch.stats['kept_groups'] / 6)
  assert built.sampled_tokens == batch.stats['sampled_tokens'] > 0


def test_rounds_begun_ahead_change_nothing_but_the_time(grader):
  """What was sampled in vain is given back."""
  settings = {'train__max_rounds': 3, 'train__problems': 4}
  plain = build('dler', grader, **settings)
  ahead = build('dler', grader, train__rounds_ahead=2, **settings)
  rounds = []
  for step in (1, 2, 3):
    one, other = gathering.gather(plain, step), gathering.gather(ahead, step)
    # How full the slots were is all that may differ.
    for stats in (one.stats, other.stats):
      for name in ('rows_used', 'kv_bytes_per_token', 'prefill_used'):
        del stats[name]
    assert one.stats == other.stats
    rounds.append(one.stats['sampled_groups'] // 4)
    for mine, theirs in zip(
      jax.tree.leaves((one.rollouts, one.reward, one.keep)),
      jax.tree.leaves((other.rollouts, other.reward, other.keep)),
      strict=True,
    ):
      np.testing.assert_array_equal(mine, theirs)
    assert plain.stream.get_state() == ahead.stream.get_state()
  # Otherwise nothing was given back, or nothing was used.
  assert min(rounds) < 3 and max(rounds) > 1


def test_revised_tokens_were_sampled_and_count(grader, monkeypatch):
  built = build('lc_r1', grader)
  seen = []
  take = rollout.Collection.take
  monkeypatch.setattr(
    rollout.Collection,
    'take',
    lambda *args: seen.append(take(*args)) or seen[-1],
  )
  batch = gathering.gather(built, 1)
  assert batch.stats['revised'] > 0
  assert batch.stats['sampled_tokens'] == seen[0].length.sum()
  assert batch.rollouts.length.sum() < seen[0].length.sum()
  # What follows the cut is scored by the trainer's own graph.
  assert np.isnan(batch.rollouts.sampler_logp).any()
  known = ~np.isnan(batch.rollouts.sampler_logp)
  scored = updating.score(built, batch).rollouts.sampler_logp
  mask = batch.rollouts.mask * batch.keep[..., None] > 0
  assert np.isfinite(scored[mask]).all()
  # A logarithm of a probability, and not of 1 everywhere.
  assert (scored[mask & ~known] <= 0).all()
  assert (scored[mask & ~known] < -0.1).any()
  # Those the sampler knows stay as they are, so the gap is still measured.
  np.testing.assert_array_equal(
    scored[known], batch.rollouts.sampler_logp[known]
  )
  # Half a nat at one token stands far above what two programs round apart.
  wrong = tuple(np.argwhere(mask & known)[0])
  batch.rollouts.sampler_logp[wrong] -= 0.5
  batch, credit = updating.credit(built, updating.score(built, batch))
  numbers = updating.update(built, batch, credit)
  assert float(numbers[0]['logp_gap_max']) == pytest.approx(0.5, abs=1e-4)


def test_the_monitor_comes_every_so_often_and_is_never_trained_on(grader):
  built = build('laser_d', grader, train__monitor_every=3)
  ids = {problem.id for problem in built.monitor_problems}
  assert len(ids) == 4
  drawn = {problem.id for problem in built.stream.take(50)}
  assert not ids & drawn
  calls = []
  real = built.programs.observe
  built.programs = dataclasses.replace(
    built.programs,
    observe=lambda *a: calls.append(len(a[0].length)) or real(*a),
  )
  for step in range(1, 8):
    gathering.monitor(built, step)
  assert calls == [4, 4, 4]  # steps 1, 4 and 7
  assert built.sampled_tokens > 0
  lengths = built.memory.take([])['laser_d'].shared['adaptive_length']
  assert (lengths < 256).any()


def test_only_the_part_with_the_window_is_written(grader):
  built = build('dot', grader)
  before = jax.tree.map(np.array, built.memory.get_state()[0])
  gathering.record_pass_rate(built, 0.5)
  expected = oversampling.record(before['predictive'], 0.5)
  assert isinstance(expected, Memory)
  np.testing.assert_array_equal(
    built.memory.get_state()[0]['predictive'].shared['pass_rate'],
    expected.shared['pass_rate'],
  )


def test_the_token_budget_ends_a_run(grader, tmp_path):
  built = build('grpo', grader, train__token_budget=1500)
  rows = methods_test.advance(built, tmp_path)
  counts = np.cumsum([row['sampled_tokens'] for row in rows])
  assert counts[-2] < 1500 <= counts[-1] == built.sampled_tokens
  assert 1 < len(rows) < 20
  # Started again there is nothing left to do.
  assert len(methods_test.advance(built, tmp_path)) == len(rows)
