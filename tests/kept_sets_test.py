"""Truncation sampling in training: sets that are kept, stored and replayed."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax import (
  configuration,
  experiment,
  gathering,
  kept_sets,
  packing,
  rng,
  train_step,
  updating,
)
from lrm_jax.errors import UserError
from lrm_jax.gathering import Batch
from lrm_jax.models import output_head
from lrm_jax.models.config import ModelConfig
from lrm_jax.rewards.pool import Grader
from lrm_jax.sampler import settings
from lrm_jax.sampler.draw import NO_RULES
from lrm_jax.sampler.truncation_rules import Rules
from lrm_jax.structs import Rollouts
from tests import lookahead_test, rounds_test, tiny, train_step_test, train_test
from tests.train_step_test import MODEL, Case, V, case  # noqa: F401

ROOT = pathlib.Path(__file__).parents[1]

# Off, where a rule is compiled in and its number is this.
OFF = {'top_k': 0, 'top_p': 1.0, 'min_p': 0.0, 'typical': 1.0}
ON = {
  'top_p': {'top_p': 0.8},
  'top_k': {'top_k': 5},
  'min_p': {'min_p': 0.1},
  'top_p and top_k': {'top_p': 0.9, 'top_k': 20},
  'typical': {'typical': 0.6},
}


@pytest.fixture(scope='module')
def grader():
  with Grader() as pool:
    yield pool


@pytest.fixture(scope='module')
def built(grader):
  """A random model, whose laws are wide; its parameters stand still."""
  changes = {
    'model__path': tiny.model_directory(),
    'train__mini_batches': 1,
    'optimizer__learning_rate': 0.0,
    'train__truncation__most': 512,  # more than there are
    'train__truncation__top_p': 0.8,
    'train__truncation__top_k': 40,
    'train__truncation__min_p': 0.001,
    'train__truncation__typical': 0.99,
  }
  config = configuration.load(
    train_test.CONFIG, train_test.overrides(**changes)
  )
  return experiment.build(config, grader)


def sample(built, **numbers) -> Batch:
  """One batch under these rules; which of them are on is compiled in."""
  built.collector.sampler.rules = Rules(**OFF | numbers)
  problems = built.stream.take(built.config.train.problems)
  rollouts = built.collector.collect(
    built.params, problems, cap=24, key=rng.stream(0, 'sample'), temperature=1.0
  )
  reward = np.random.default_rng(0).normal(size=rollouts.length.shape)
  every = np.ones(reward.shape, bool)
  return Batch(
    problems,
    rollouts,
    reward.astype(np.float32),
    every,
    every,
    stats={},
    sampled=None,
  )


def forget(batch: Batch) -> Batch:
  """The batch as if nothing had been cut off."""
  rollouts = dataclasses.replace(batch.rollouts, kept_ids=None)
  return dataclasses.replace(batch, rollouts=rollouts)


def numbers_of(built, batch: Batch) -> dict[str, float]:
  """Metrics of the real update."""
  batch, credit = updating.credit(built, batch)
  return updating.wait(updating.update(built, batch, credit))[0]


@pytest.mark.parametrize('rule', ON)
def test_the_ratio_is_1_where_the_parameters_are_those_that_sampled(
  built, rule
):
  batch = sample(built, **ON[rule])
  kept, trained = batch.rollouts.kept_ids, batch.rollouts.mask > 0
  vocabulary = tiny.config().vocab_size
  assert kept.shape == (8, 4, 32, vocabulary)
  sizes = (kept[trained] >= 0).sum(-1)
  assert 1 < sizes.mean() < vocabulary / 2 and sizes.min() >= 1
  chosen = batch.rollouts.response_ids[..., None] == kept
  assert (chosen.sum(-1)[trained] == 1).all()
  found = numbers_of(built, batch)
  assert found['trained_tokens'] == trained.sum() > 300
  assert found['logp_gap_max'] < 1e-4
  assert found['ratio_mean'] == pytest.approx(1, abs=1e-5)
  # The reference is the policy still, and renormalised over the same sets.
  assert built.recipe.needs_reference
  assert found['kl'] == pytest.approx(0, abs=1e-6)
  assert 0 < found['entropy'] < np.log(sizes).mean()


def test_without_replay_the_ratio_is_the_mass_that_was_kept(built):
  """What a trainer has that takes the whole law for the sampler's.

  pi / mu is the mass of the kept set: 1 in no place where something was cut.
  """
  batch = sample(built, top_p=0.8)
  found = numbers_of(built, forget(batch))
  # A fifth too small at every token: little is kept beyond 0.8 of a wide law.
  assert 0.8 < found['ratio_mean'] < 0.82
  assert found['ratio_outside_0.2'] == 0
  assert found['logp_gap_max'] == pytest.approx(-np.log(0.8), abs=1e-3)
  assert numbers_of(built, batch)['ratio_mean'] == pytest.approx(1, abs=1e-5)


def test_the_old_policy_of_the_trainer_is_over_the_same_sets(built):
  """`train.old_logp='trainer'`: both sides of the ratio are its own."""
  batch = sample(built, top_p=0.8)
  built.config.train.old_logp = 'trainer'
  try:
    assert updating.score(built, batch).scored.gap < 1e-4
    assert updating.score(built, forget(batch)).scored.gap > 0.2
  finally:
    built.config.train.old_logp = 'sampler'


# --- The update, against formulas ---


def sets_of(rollouts: Rollouts, most: int = 6) -> np.ndarray:
  """Random sets of 0 to `most` ids; half of them without the token itself."""
  rng = np.random.default_rng(7)
  shape = (*rollouts.response_ids.shape, V)
  ids = rng.permuted(np.broadcast_to(np.arange(V), shape), axis=-1)
  ids = ids[..., :most].astype(np.int32)
  with_own = rng.random(shape[:-1]) < 0.5
  ids[..., 0] = np.where(with_own, rollouts.response_ids, ids[..., 0])
  ids[..., 1:][ids[..., 1:] == ids[..., :1]] = -1
  is_there = np.arange(most) < rng.integers(0, most + 1, shape[:-1])[..., None]
  return np.where(is_there, ids, -1)


@pytest.fixture(scope='module')
def kept_case(case) -> Case:  # noqa: F811
  kept_ids = sets_of(case.rollouts)
  return dataclasses.replace(
    case, rollouts=dataclasses.replace(case.rollouts, kept_ids=kept_ids)
  )


@pytest.mark.parametrize('recipe', ['dler', 'dot'])
@pytest.mark.parametrize('shared', [False, True])
def test_loss_and_gradient_are_those_of_laws_with_nothing_outside(
  kept_case, recipe, shared
):
  """Against log softmax of logits that are -1e9 outside of the set.

  One recipe looks at the whole mini-batch first; both have a reference.
  """
  train_step_test.test_loss_and_gradient_are_those_of_the_unpacked_formula(
    kept_case, recipe, shared
  )


@pytest.mark.slow
@pytest.mark.parametrize('recipe', ['dler', 'dot'])
def test_packing_does_not_change_the_update(kept_case, recipe):
  train_step_test.test_micro_batches_and_row_shapes_do_not_change_the_update(
    kept_case, recipe
  )


def test_score_is_what_the_update_computes(kept_case):
  rollouts = kept_case.rollouts
  score = train_step.make_score(MODEL, temperature=1.0, chunk=16)
  packed = packing.pack_groups(
    rollouts, kept_case.keep, rows=3, row_length=13, groups_per_micro_batch=4
  )
  found, _ = score(kept_case.params, packed, rollouts.mask, rollouts.kept_ids)
  expected = train_step_test.dense_logp(kept_case.params, rollouts)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  whole, _ = score(kept_case.params, packed, rollouts.mask)
  assert np.abs(whole - found).max() > 1


def test_a_set_beside_a_dropped_sample_stays_with_its_token(kept_case):
  """Sets of what is not trained are nowhere: any ids may stand there."""
  keep = kept_case.keep.copy()
  keep[1], keep[2, 1] = False, False
  clean, *_ = train_step_test.run_update(kept_case, keep=keep)
  rollouts = kept_case.rollouts
  other = np.where(keep[..., None, None], rollouts.kept_ids, 3)
  dirty = dataclasses.replace(
    kept_case, rollouts=dataclasses.replace(rollouts, kept_ids=other)
  )
  found, *_ = train_step_test.run_update(dirty, keep=keep)
  train_step_test.assert_same(found, clean, atol=0)


def test_derivatives_in_float64():
  """Of logp and entropy of tokens with sets, with one of one id, and none."""
  config = ModelConfig(
    vocab_size=11,
    d_model=5,
    n_layers=1,
    n_heads=1,
    n_kv_heads=1,
    head_dim=4,
    d_ff=4,
    tie_embeddings=False,
  )
  rng = np.random.default_rng(3)
  head = rng.normal(size=(5, 11)).astype(np.float32)
  hidden = rng.normal(size=(7, 5)).astype(np.float32)
  weights = rng.normal(size=(2, 7))
  targets = np.int32([0, 3, 10, 3, 9, 7, 2])
  sets = np.int32([[3, 9, -1, 5], [0, 1, 2, 10], [7, -1, -1, -1]])
  places = np.int32([1, 0, 1, -1, 0, 2, 0])
  temperature = 0.7

  def mine(head, hidden):
    found = output_head.token_logp(
      config,
      {'head': head},
      hidden,
      targets,
      temperature=temperature,
      chunk=3,
      law=kept_sets.law,
      sets=(sets, places),
    )
    return found, jnp.sum(jnp.stack(found) * weights)

  def formula(head, hidden):
    """Token by token; also what the sums are."""
    found = np.zeros((2, 7))
    for t, (target, at) in enumerate(zip(targets, places, strict=True)):
      ids = {int(target)} | (
        {int(i) for i in sets[at]} - {-1} if at >= 0 else set()
      )
      z = {i: hidden[t] @ head[:, i] / temperature for i in ids}
      total = np.log(sum(np.exp(x) for x in z.values()))
      found[0, t] = z[target] - total
      found[1, t] = -sum(np.exp(x - total) * (x - total) for x in z.values())
    return found, (found * weights).sum()

  arrays = [np.float64(head), np.float64(hidden)]
  found, _ = mine(head, hidden)
  np.testing.assert_allclose(found, formula(*arrays)[0], atol=1e-5)
  slopes = jax.grad(lambda *x: mine(*x)[1], argnums=(0, 1))(head, hidden)
  for number, (array, slope) in enumerate(zip(arrays, slopes, strict=True)):
    for at in np.ndindex(array.shape):
      ends = []
      for step in (1e-5, -1e-5):
        moved = [x.copy() for x in arrays]
        moved[number][at] += step
        ends.append(formula(*moved)[1])
      assert slope[at] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-4)


# --- Partial rollouts, checkpoints, refusals ---

PARTIAL = {
  'train__truncation__top_p': 0.8,
  'train__truncation__most': 32,
  'train__partial_tokens': 8,
  'train__in_flight': 12,
}


@pytest.mark.slow
def test_sets_stay_with_tokens_that_were_sampled_in_slices(grader):
  """Under parameters that stand still, stale tokens are those of a replay."""
  config = configuration.load(
    train_test.CONFIG,
    train_test.overrides(
      model__path=tiny.model_directory(), train__max_rounds=1, **PARTIAL
    ),
  )
  built = experiment.build(config, grader)
  batches = [gathering.gather(built, step) for step in (1, 2, 3)]
  rollouts = batches[-1].rollouts
  mask = rollouts.mask
  assert rollouts.stale.any()
  every = np.ones(rollouts.length.shape, bool)
  packed = updating.pack(built, rollouts, every)
  found, _ = built.programs.score(built.params, packed, mask, rollouts.kept_ids)
  assert (np.abs(found - rollouts.sampler_logp) * mask).max() < 1e-4
  # Nobody wants the sets of an evaluation.
  assert built.eval_collector.sampler.layout.kept == 0


@pytest.mark.long
def test_a_run_that_truncates_resumes_exactly(tmp_path, monkeypatch):
  """With groups in flight, whose sets are in the checkpoint."""
  # Not the one that is undone in there.
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(rounds_test, 'PARTIAL', PARTIAL)
    rounds_test.test_a_run_in_flight_resumes_exactly(tmp_path, monkeypatch)


@pytest.mark.long
def test_a_batch_ahead_keeps_its_sets(grader, tmp_path, monkeypatch):
  """Corrected against the trainer's own, and stopped while it waits."""
  rules = {'train__truncation__top_p': 0.8, 'train__truncation__most': 32}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(lookahead_test, 'CORRECTED', lookahead_test.CORRECTED | rules)
    lookahead_test.test_a_run_resumes_exactly_and_is_weighed(
      grader, tmp_path, monkeypatch
    )


@pytest.mark.parametrize(
  ('method', 'changes', 'text'),
  [
    (
      'grpo',
      {'top_p': 0.8},
      'train.truncation.top_p=0.8 needs a bound: an update renormalises over '
      'the ids that were kept, and they are stored for every token; give '
      'train.truncation.most, 1 to 512 (of a small vocabulary, all of it)',
    ),
    (
      'grpo',
      {'top_p': 0.8, 'most': 513},
      'train.truncation.most=513: so many ids would be stored for every token; '
      'give most, 1 to 512',
    ),
    (
      'grpo',
      {'top_k': 600},
      'train.truncation.top_k=600: so many ids would be stored for every '
      'token; give most, 1 to 512',
    ),
    (
      'dot',
      {'top_k': 20},
      "objective.revision.name='outlier_truncation' with train.truncation: "
      'what follows a removed piece was drawn behind another text, so nobody '
      "knows what would have been kept there; set the revision to 'unrevised', "
      'or the rules off',
    ),
    ('grpo', {'top_p': 0.0}, 'train.truncation.top_p=0.0 must be above 0 and'),
  ],
)
def test_what_cannot_be_replayed_is_refused(method, changes, text):
  overrides = [
    f'config.train.truncation.{name}={value}' for name, value in changes.items()
  ]
  path = ROOT / 'configs' / 'tiny' / f'{method}.py'
  config = configuration.load(path, overrides)
  with pytest.raises(UserError) as error:
    experiment.build(config, grader=None)
  assert str(error.value).startswith(text)


def test_top_k_alone_is_a_bound():
  law = settings.law({'top_k': 20, 'top_p': 0.9}, 'train')
  assert settings.stored(law, 'train') == (law.rules, 20, True)
  nothing = settings.law({'top_p': 1.0}, 'train')
  assert settings.stored(nothing, 'train') == (NO_RULES, None, False)
