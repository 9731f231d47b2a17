"""Demonstrations in the batches of a run, and the files they come from."""

import json

import jax
import numpy as np
import pytest

from lrm_jax import (
  checks,
  demonstrating,
  experiment,
  gathering,
  programs,
  updating,
)
from lrm_jax.data import demonstrated
from lrm_jax.errors import UserError
from lrm_jax.objectives import recipe
from lrm_jax.rewards.math_answer import grade_exact
from lrm_jax.rewards.pool import Grader
from lrm_jax.structs import Problem
from tests import bits, methods_test, rounds_test, tiny
from tests.objectives import reference


@pytest.fixture(scope='module')
def built():
  with Grader() as grader:
    yield experiment.build(methods_test.load('hpt'), grader)


def test_unsolved_groups_learn_the_demonstration(built):
  before = gathering.gather(built, 1)
  batch = demonstrating.put(built, before)
  solved = before.rollouts.correct.sum(1)
  taught = solved <= 2
  assert 0 < taught.sum() < len(taught)
  np.testing.assert_array_equal(batch.demonstrated, taught)
  assert batch.stats['demonstrated'] == taught.mean()
  for row in np.flatnonzero(taught):
    ids = built.demonstrations.of(batch.problems[row])
    length = batch.rollouts.length[row, 0]
    assert batch.rollouts.response_ids[row, 0, :length].tolist() == ids
    text = built.tokenizer.decode(ids)
    assert grade_exact(text, batch.problems[row].answer).correct
    assert batch.rollouts.think_closed[row, 0]
    assert 0 < batch.rollouts.thinking_length[row, 0] < length
    assert batch.keep[row].tolist() == [True, False, False, False]
  # The others are as they were.
  same = lambda tree: jax.tree.map(lambda x: x[~taught], tree)
  assert jax.tree.all(
    jax.tree.map(np.array_equal, same(batch.rollouts), same(before.rollouts))
  )
  batch, credit = updating.credit(built, updating.score(built, batch))
  for row in np.flatnonzero(taught):
    length = batch.rollouts.length[row, 0]
    np.testing.assert_allclose(
      credit.recorded[row, 0, :length], 1 / length, rtol=1e-6
    )
    assert not credit.recorded[row, 1:].any()
    # Of the trainer's graph, since nobody sampled it.
    logp = batch.rollouts.sampler_logp[row, 0, :length]
    assert np.isfinite(logp).all() and (logp <= 0).all()
  each = updating.wait(updating.update(built, batch, credit))
  assert each[0]['logp_gap_max'] < 1e-3 and not each[0]['skipped']


def test_a_recipe_without_them_changes_nothing(built):
  with Grader() as grader:
    plain = rounds_test.build(grader)
    batch = gathering.gather(plain, 1)
    assert demonstrating.put(plain, batch) is batch


def test_a_problem_without_one_keeps_its_samples(built, monkeypatch):
  none = demonstrated.Demonstrations(lambda problem: None, '')
  monkeypatch.setattr(built, 'demonstrations', none)
  before = gathering.gather(built, 2)
  batch = demonstrating.put(built, before)
  assert not batch.demonstrated.any() and batch.stats['demonstrated'] == 0
  np.testing.assert_array_equal(batch.keep, before.keep)


@pytest.mark.parametrize('path', [None, 'chain_arithmetic'])
def test_one_without_the_other(path):
  config = methods_test.load('grpo' if path else 'hpt')
  with config.unlocked():
    config.data.demonstrations = path
  name = config.objective.demonstration.name
  with Grader() as grader, pytest.raises(UserError) as error:
    experiment.build(config, grader)
  assert str(error.value) == (
    f'data.demonstrations={path!r} and objective.demonstration.name={name!r}: '
    'one is nothing without the other; give both or neither'
  )


def test_a_demonstration_is_compared_with_nothing():
  """Batch-wide advantages are those of the other groups alone."""
  config = methods_test.load('hpt')
  config.objective.advantage = dict(name='batch_token_whiten', eps=1e-8)
  credit = programs.make_credit(recipe.build(config))
  rng = np.random.default_rng(0)
  rollouts = reference.rollouts(
    rng.integers(0, 2, (3, 4)), length=rng.integers(1, 9, (3, 4)), tokens=8
  )
  keep = np.ones((3, 4), bool)
  keep[1, 1:] = False
  given = np.float32([0, 0.5, 0])
  found = [
    jax.device_get(credit(reward, keep, rollouts, None, given))
    for reward in (rollouts.correct, rollouts.correct + given[:, None])
  ]
  bits.assert_same(*found)
  (advantage,), mask = found[0]
  np.testing.assert_array_equal(mask, rollouts.mask * keep[..., None])
  length = rollouts.length[1, 0]
  np.testing.assert_allclose(advantage[1, 0, :length], 0.5 / length)
  others = keep & (given == 0)[:, None]
  only = credit(rollouts.correct, others, rollouts, None, None)
  np.testing.assert_allclose(
    np.asarray(only[0][0])[[0, 2]], advantage[[0, 2]], atol=1e-5
  )


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    (
      'hpt',
      'objective.demonstration with train.truncation: nobody knows what would '
      "have been kept beside a given response; set it to 'undemonstrated', or "
      'the rules off',
    ),
    (
      'gvm',
      "objective.curriculum.name='gvm' with train.truncation: its gradients "
      'are of the whole law, not of the one that is sampled; choose another '
      'curriculum, or set the rules off',
    ),
  ],
)
def test_what_does_not_go_with_truncation(name, message):
  config = methods_test.load(name)
  config.train.truncation.top_k = 5
  with pytest.raises(UserError) as error:
    checks.check_truncation(config, recipe.build(config))
  assert str(error.value) == message


# --- Files ---


def write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def test_a_file(tmp_path):
  tokenizer = tiny.tokenizer()
  rows = [{'id': 7, 'response': '1</think>2'}, {'id': 'b', 'response': '3'}]
  found = demonstrated.load(write(tmp_path / 'a.jsonl', rows), tokenizer, 9)
  expected = [*tokenizer.encode('1</think>2'), tokenizer.eos_ids[0]]
  assert found.of(Problem('7', '', '')) == expected
  assert found.of(Problem('c', '', '')) is None
  # Another text is another run.
  rows[1]['response'] = '4'
  other = demonstrated.load(write(tmp_path / 'b.jsonl', rows), tokenizer, 9)
  assert other.digest != found.digest


def test_files_that_cannot_be(tmp_path):
  tokenizer = tiny.tokenizer()
  empty = write(tmp_path / 'empty.jsonl', [])
  with pytest.raises(UserError) as error:
    demonstrated.load(empty, tokenizer, 9)
  assert str(error.value) == f'{empty}: has no rows; give at least one'
  long = write(tmp_path / 'long.jsonl', [{'id': 'a', 'response': '1 2 3'}])
  tokens = len(tokenizer.encode('1 2 3')) + 1
  with pytest.raises(UserError) as error:
    demonstrated.load(long, tokenizer, 2)
  assert str(error.value) == (
    f'data.demonstrations: that of a has {tokens} tokens; train.max_tokens '
    'allows 2; raise it or leave it out'
  )
