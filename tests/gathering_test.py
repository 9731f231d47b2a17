"""Phases 1 to 5 on the embedded tiny LRM."""

import dataclasses

import jax
import numpy as np
import pytest

from lrm_jax import experiment, gathering, train
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


def test_oversampling_fills_whole_batches_of_the_sampler(grader):
  built = build('dot', grader)
  # 1.5 at first: 6 problems, and the sampler takes 4 at a time.
  assert gathering.problems_to_draw(built) == 8
  gathering.record_pass_rate(built, 0.25)  # factor 4
  assert gathering.problems_to_draw(built) == 16
  rates = built.memory.take([])['predictive'].shared['pass_rate']
  assert np.isnan(rates[:-1]).all() and rates[-1] == 0.25
  gathering.record_pass_rate(built, 1.0)
  # mean 0.625, deviation 0.375: 1.375 / 0.625 = 2.2, 8.8 problems.
  assert gathering.problems_to_draw(built) == 8
  plain = build('grpo', grader)
  gathering.record_pass_rate(plain, 0.25)
  assert gathering.problems_to_draw(plain) == 4


def test_a_step_samples_what_the_prediction_says(grader):
  built = build('dot', grader)
  batch = gathering.gather(built, 1)
  assert batch.stats['sampled_groups'] == 8
  assert len(batch.problems) == 4
  kept = batch.keep.any(1)
  assert (np.sort(kept)[::-1] == kept).all()  # kept groups come first
  rates = built.memory.take([])['predictive'].shared['pass_rate']
  assert rates[-1] == pytest.approx(batch.stats['kept_groups'] / 8)
  assert built.sampled_tokens == batch.stats['sampled_tokens'] > 0


def test_revised_tokens_were_sampled_and_count(grader):
  built = build('lc_r1', grader)
  seen = []
  collect = built.collector.collect

  @dataclasses.dataclass(frozen=True)
  class Spy:
    inner: object

    def collect(self, *arguments, **options):
      seen.append(collect(*arguments, **options))
      return seen[-1]

    def revise(self, *arguments):
      return self.inner.revise(*arguments)

  built.collector = Spy(built.collector)
  batch = gathering.gather(built, 1)
  assert batch.stats['revised'] > 0
  assert batch.stats['sampled_tokens'] == seen[0].length.sum()
  assert batch.rollouts.length.sum() < seen[0].length.sum()
  # What follows the cut is scored by the trainer's own graph.
  assert np.isnan(batch.rollouts.sampler_logp).any()
  known = ~np.isnan(batch.rollouts.sampler_logp)
  scored = train.score_spliced(built, batch).rollouts.sampler_logp
  mask = batch.rollouts.mask * batch.keep[..., None] > 0
  assert np.isfinite(scored[mask]).all()
  # A logarithm of a probability, and not of 1 everywhere.
  assert (scored[mask & ~known] <= 0).all()
  assert (scored[mask & ~known] < -0.1).any()
  # Those the sampler knows stay as they are, so the gap is still measured.
  np.testing.assert_array_equal(
    scored[known], batch.rollouts.sampler_logp[known]
  )
  ours = train.pack(built, batch.rollouts, batch.keep)
  whole = built.programs.score(built.state.params, ours, mask.astype('f4'))
  gap = np.abs(np.asarray(whole) - scored)[mask & known].max()
  numbers, _ = train.update(built, train.score_spliced(built, batch))
  assert 0 < float(numbers[0]['logp_gap_max']) == pytest.approx(gap, rel=1e-3)


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
