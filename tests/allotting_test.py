"""Different numbers of responses to problems: who is not there is nowhere."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax import (
  choosing,
  experiment,
  gathering,
  incidents,
  jsonl,
  programs,
  records,
  responses,
  rng,
  rounds,
  unverified,
  updating,
)
from lrm_jax.evaluation import scores
from lrm_jax.models import output_head, transformer
from lrm_jax.objectives import allocation
from lrm_jax.rewards.pool import Grader
from tests import bits, methods_test
from tests.models import tiny
from tests.objectives import reference

COUNT = np.array([4, 0, 1, 2])


@pytest.fixture(scope='module')
def grader():
  with Grader() as pool:
    yield pool


def build(grader, name='gvm', **changes):
  config = methods_test.load(name)
  with config.unlocked():
    for key, value in changes.items():
      config.update_from_flattened_dict({key.replace('__', '.'): value})
  return experiment.build(config, grader)


def sample(built, problems, begun):
  with built.collector.open(built.params) as collection:
    key = rng.stream(0, 'any')
    return collection.take(
      collection.add(problems, begun, key=key, temperature=1.0)
    )


def drop(rollouts, count):
  """As if only so many responses had been asked for."""
  there = np.arange(rollouts.length.shape[1]) < count[:, None]
  return dataclasses.replace(
    rollouts,
    length=rollouts.length * there,
    truncated=rollouts.truncated & there,
  )


# --- Sampling ---


@pytest.mark.slow
def test_those_that_are_there_are_what_they_are_among_all(grader):
  built = build(grader)
  some = built.stream.take(4)
  begun = built.collector.begin(some, cap=48)
  whole = sample(built, some, begun)
  assert whole.there.all()
  part = sample(built, some, responses.first(begun, COUNT))
  there = np.arange(4) < COUNT[:, None]
  np.testing.assert_array_equal(part.there, there)
  np.testing.assert_array_equal(part.length[~there], 0)
  assert not part.correct[~there].any() and not part.mask[~there].any()
  for name in ('response_ids', 'length', 'sampler_logp', 'correct', 'answered'):
    found, want = getattr(part, name), getattr(whole, name)
    np.testing.assert_array_equal(found[there], want[there], err_msg=name)


def test_a_response_of_which_nothing_is_sampled_yet_is_there():
  begun = reference.rollouts(
    np.zeros((1, 3)), length=np.zeros((1, 3)), truncated=[[1, 1, 1]], tokens=2
  )
  assert begun.there.all()
  part = responses.first(begun, 2)
  assert part.there.tolist() == [[True, True, False]]
  # It is over and has its verdict; the others are neither.
  over = responses.is_over(part, np.array([2]))
  assert over.tolist() == [[False, False, True]]
  assert responses.is_graded(part).tolist() == over.tolist()
  assert begun.there.all()  # not changed


# --- What reads rollouts ---


def hand_made():
  return drop(
    reference.rollouts(
      [[1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]],
      length=[[4, 8, 2, 6]] * 4,
      truncated=[[0, 1, 0, 1]] * 4,
      tokens=8,
    ),
    COUNT,
  )


def test_means_are_over_those_that_are_there():
  summary = scores.summarize(hand_made())
  # Right are 3, 1 and 1 of 4, 1 and 2; lengths 4 8 2 6, 4 and 4 8.
  assert summary['accuracy'] == pytest.approx(5 / 7)
  assert summary['response_tokens'] == pytest.approx(36 / 7)
  assert summary['truncated'] == pytest.approx(3 / 7)
  assert summary['tokens_per_correct'] == pytest.approx(36 / 5)


def test_a_reward_does_not_see_who_is_not_there(grader):
  """Whatever stands in their places."""
  built = build(grader)
  some = built.stream.take(4)
  found = []
  for correct in (0.0, 1.0):
    rollouts = hand_made()
    there = rollouts.there
    rollouts = dataclasses.replace(
      rollouts, correct=np.where(there, rollouts.correct, correct)
    )
    reward, keep, judged = gathering.shape(built, some, rollouts)
    np.testing.assert_array_equal(judged, there)
    # A group of one has nothing to compare with.
    np.testing.assert_array_equal(
      keep, unverified.usable(there) & (COUNT > 1)[:, None]
    )
    stats = gathering.sampling_stats(rollouts, reward, keep, judged, 8)
    assert stats['reward'] == pytest.approx(5 / 7)
    assert stats['sampled_tokens'] == 36
    assert stats['unverified'] == 0
    (credit,), mask = built.programs.credit(reward, keep, rollouts)
    found.append([reward[judged], keep, *jax.device_get((credit, mask)), stats])
  one, other = found
  for x, y in zip(one[:-1], other[:-1], strict=True):
    np.testing.assert_array_equal(x, y)
  assert one[-1] == other[-1]
  # (1, 0, 1, 1) and (0, 1) are compared among themselves.
  advantage = one[2][..., 0]
  assert advantage[0, 1] < 0 < advantage[0, 0]
  assert advantage[3, 0] == pytest.approx(-advantage[3, 1])
  assert not advantage[[1, 2]].any() and not advantage[3, 2:].any()


def test_rows_are_of_those_that_are_there(grader):
  built = build(grader)
  some = built.stream.take(4)
  rollouts = hand_made()
  reward = np.arange(16.0).reshape(4, 4)
  batch = gathering.Batch(
    some, rollouts, reward, np.ones((4, 4)), rollouts.there, {}, None
  )
  rows = records.step_rows(built.tokenizer, batch, np.ones((4, 4, 8)), 1)
  want = [(p.id, g) for p, n in zip(some, COUNT, strict=True) for g in range(n)]
  assert [(row['id'], row['sample']) for row in rows] == want
  assert [row['length'] for row in rows] == [4, 8, 2, 6, 4, 4, 8]
  assert [row['reward'] for row in rows] == [0, 1, 2, 3, 8, 12, 13]
  bad = incidents.sample_rows(built, batch, np.ones((4, 4, 8)), 1, [0])
  assert [row['reward'] for row in bad] == [0, 1, 2, 3, 8, 12, 13]


# --- Gradients with respect to the input embeddings ---


@pytest.mark.parametrize('is_tied', [False, True])
def test_norms_of_gradients(is_tied):
  """One row after the other, with the whole matrix as the parameter."""
  config = tiny.make_config(tie_embeddings=is_tied, scale_embeddings=is_tied)
  params = transformer.init_params(config, jax.random.key(0))
  params = jax.tree.map(lambda x: 4 * x, params)
  generator = np.random.default_rng(0)
  # Few ids: every one of them occurs several times in a row.
  ids = generator.integers(3, 9, (3, 9)).astype(np.int32)
  length = np.array([9, 6, 4])
  segments = (np.arange(9) < length[:, None]).astype(np.int32)
  trained = (np.arange(9) >= 2) & (np.arange(9) < length[:, None] - 1)
  trained[0, 4] = False
  make = programs.make_gradients(config, temperature=0.7, chunk=5)
  found = make(params, ids, segments, trained)

  def loss(table, row):
    n = length[row]
    one = ids[row : row + 1, :n]
    at = jnp.arange(n, dtype=jnp.int32)[None]
    inputs = params | {'embedding': table}
    hidden, _ = transformer.apply(config, inputs, one, at, jnp.ones_like(at))
    # The head is not this parameter, tied or not.
    scores = output_head.logits(config, params, hidden)[0] / 0.7
    logp = jax.nn.log_softmax(scores)[jnp.arange(n - 1), one[0, 1:]]
    return -jnp.sum(logp * trained[row, : n - 1])

  for row in range(3):
    slope = jax.grad(loss)(params['embedding'], row)
    want = np.linalg.norm(np.asarray(slope, np.float64))
    assert want > 0.1
    np.testing.assert_allclose(found[row], want, rtol=2e-5)


def test_a_row_of_nothing_has_no_gradient():
  config = tiny.make_config()
  params = transformer.init_params(config, jax.random.key(0))
  make = programs.make_gradients(config, temperature=1.0, chunk=5)
  nothing = np.zeros((2, 5), np.int32)
  np.testing.assert_array_equal(
    make(params, nothing, nothing, nothing.astype(bool)), [0, 0]
  )


@pytest.mark.slow
def test_gradients_of_rollouts(grader):
  """Of right responses; the tokens that were forced are not counted."""
  built = build(grader)
  some = built.stream.take(8)
  rollouts = sample(built, some, built.collector.begin(some, cap=48))
  assert 8 < rollouts.right.sum() < 32  # two calls, and wrong ones
  norms = rounds.gradients(built, rollouts)
  np.testing.assert_array_equal(norms > 0, rollouts.right)
  b, g = np.argwhere(rollouts.right)[-1]
  prompt, n = rollouts.prompt_length[b], rollouts.length[b, g]
  whole = np.concatenate(
    [rollouts.prompt_ids[b, :prompt], rollouts.response_ids[b, g, :n]]
  )
  trained = np.arange(prompt + n) >= prompt - 1
  trained[-1] = False
  ones = np.ones_like(whole)
  want = built.programs.gradients(
    built.params, whole[None], ones[None], trained[None]
  )
  np.testing.assert_allclose(norms[b, g], want[0], rtol=1e-4)
  forced = rollouts.forced.copy()
  forced[b, g, 2] = True
  again = dataclasses.replace(rollouts, forced=forced)
  assert rounds.gradients(built, again)[b, g] != norms[b, g]


# --- GVM ---


def curriculum(samples=2, room=4):
  part = functools.partial(
    allocation.gvm, probes=2, samples=samples, alpha=1e-3, beta=2.0
  )
  return choosing.Gvm(part, room)


def test_probes_become_numbers_of_responses():
  probed = drop(
    reference.rollouts(
      [[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0]],
      length=np.ones((4, 4)),
      verified=[[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1]],
    ),
    np.array([2, 2, 2, 2]),
  )
  gradient = np.array([[1, 3, 9, 9], [4, 9, 9, 9], [9, 9, 9, 9], [2, 9, 9, 9]])
  gvm = curriculum(room=8)
  count = gvm.allot(probed, gradient)
  # p is 1, 1/2, 0 and, of one verdict, 1; G is 2, 4, none and 2.
  want = allocation.gvm(
    np.array([1, 0.5, 0, 1]), np.array([2, 4, 0, 2]), 8, **gvm._part.keywords
  )
  np.testing.assert_array_equal(count, want)
  assert count.sum() == 8 and count[2] == 0
  told = gvm.verified(None, None, None, None)
  assert told == {
    'curriculum_probe_accuracy': 0.625,
    'curriculum_no_samples': 0.25,
    'curriculum_samples_max': count.max(),
  }


@pytest.mark.slow
def test_a_step_of_gvm(grader, tmp_path):
  built = build(grader)
  fresh = build(grader)
  want = [p.id for p in fresh.stream.take(4)]
  batch = gathering.gather(built, 1)
  there = batch.rollouts.there
  assert there.sum() == 2 * 4
  assert len(set(there.sum(1).tolist())) > 1
  assert sorted(p.id for p in batch.problems) == sorted(want)
  assert batch.stats['probe_tokens'] > 0
  tokens = int(batch.rollouts.length.sum())
  assert batch.stats['sampled_tokens'] == tokens + batch.stats['probe_tokens']
  assert built.sampled_tokens == batch.stats['sampled_tokens']
  assert not batch.keep[~there].any() and not batch.judged[~there].any()
  batch, credit = updating.credit(built, batch)
  assert not credit.recorded[~there].any()
  (values,) = updating.wait(updating.update(built, batch, credit))
  assert values['trained_tokens'] == batch.rollouts.length[batch.keep].sum()
  records.write_step(tmp_path, built.tokenizer, batch, credit.recorded, 1)
  rows = jsonl.read_rows(tmp_path / 'rollouts' / 'step_000001.jsonl.gz')
  assert len(rows) == there.sum()


@pytest.mark.slow
def test_probes_are_other_samples_than_those_of_the_step(grader):
  built = build(grader, objective__curriculum__samples=4)
  seen = []
  allot = built.curriculum.allot
  built.curriculum.allot = lambda probed, gradient: (
    seen.append(probed) or allot(probed, gradient)
  )
  batch = gathering.gather(built, 1)
  (probed,) = seen
  assert probed.there.sum(1).tolist() == [2] * 4
  # The batch has its kept groups first.
  drawn = [p.id for p in build(grader).stream.take(4)]
  order = [drawn.index(p.id) for p in batch.problems]
  both = probed.there[order] & batch.rollouts.there
  ids = probed.response_ids[order]
  same = (ids == batch.rollouts.response_ids).all(-1)
  assert both.any() and not same[both].all()


@pytest.mark.slow
def test_as_many_of_all_is_what_it_would_be_without(grader):
  """Where everybody gets the whole room, nothing is masked."""
  one = build(grader, objective__curriculum__samples=4)
  one.curriculum.allot = lambda probed, gradient: np.full(4, 4)
  one.curriculum.verified = lambda *shown: {}
  other = build(grader)
  other.curriculum = choosing.Curriculum()
  found, want = (gathering.gather(x, 1) for x in (one, other))
  bits.assert_same(found.rollouts, want.rollouts)
  bits.assert_same(found.reward, want.reward)
  for name in ('accuracy', 'reward', 'response_tokens', 'truncated', 'revised'):
    assert found.stats[name] == want.stats[name]
