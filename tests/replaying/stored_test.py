"""Stored rollouts come back as they were; what is none is refused."""

import dataclasses

import numpy as np
import pytest

from lrm_jax import gathering, jsonl, records
from lrm_jax.errors import UserError
from lrm_jax.gathering import Batch, Sampled, Scored
from lrm_jax.replaying import stored
from lrm_jax.rewards import guards
from lrm_jax.structs import Problem
from tests import bits, tiny
from tests.objectives import reference

N, G, T = 5, 3, 6
PROBLEMS = [Problem(f'p{i % 4}', f'q{i}', f'{i}', i) for i in range(N)]


def sampled(seed=0):
  """Five groups of two rounds, of which the batch has three."""
  rng = np.random.default_rng(seed)
  length = rng.integers(1, T + 1, (N, G))
  inside = np.arange(T) < length[..., None]
  rollouts = reference.rollouts(
    rng.integers(0, 2, (N, G)),
    length=length,
    tokens=T,
    prompt_ids=rng.integers(1, 30, (N, 2)),
    prompt_length=np.full(N, 2),
    response_ids=rng.integers(3, 30, (N, G, T)) * inside,
    sampler_logp=np.where(inside, -rng.exponential(1.0, (N, G, T)), 0),
    forced=inside & (rng.random((N, G, T)) < 0.2),
    truncated=rng.random((N, G)) < 0.5,
    think_closed=rng.random((N, G)) < 0.5,
    answered=rng.random((N, G)) < 0.5,
    verified=rng.random((N, G)) < 0.8,
    removed=rng.integers(0, 3, (N, G)),
    stale=rng.integers(0, 3, (N, G)),
    cap=rng.integers(3, 9, N),
    target=rng.integers(0, 9, N),
    step=rng.integers(1, 4, N),
    problem_index=[0, 1, 2, 3, 0],
    measures={'paragraphs': rng.random((N, G))},
    guards={name: rng.random((N, G)) < 0.3 for name in guards.GUARDS},
  )
  reward = rng.normal(size=(N, G)).astype(np.float32)
  keep = np.array([[True] * G, [False] * G, *[[True] * G] * 3])
  rounds = np.array([0, 0, 0, 1, 1])
  fields = (reward, keep, rollouts.verified, rounds, np.array([2, 0, 3]))
  return Sampled(PROBLEMS, rollouts, *fields)


def batch_of(found, scored=None):
  rows = found.chosen
  problems, rollouts = gathering.take(found.problems, found.rollouts, rows)
  values = (x[rows] for x in (found.reward, found.keep, found.judged))
  return Batch(problems, rollouts, *values, {}, found, scored)


def write(folder, batch, step=4):
  advantage = np.random.default_rng(1).normal(size=(3, G, T))
  advantage = (advantage * batch.rollouts.mask).astype(np.float32)
  records.write_step(folder, tiny.tokenizer(), batch, advantage, step)
  path = stored.find(str(folder))[-1]
  return path, records.sample_advantage(advantage, batch.rollouts, batch.keep)


def test_everything_that_recipes_read_comes_back_to_the_bit(tmp_path):
  found = sampled()
  path, means = write(tmp_path, batch_of(found))
  step = stored.read(path)
  bits.assert_same(step.rollouts, found.rollouts)
  assert step.number == 4 and step.batch == 3
  assert step.problems == PROBLEMS
  np.testing.assert_array_equal(step.rounds, found.rounds)
  rounds = [rows.tolist() for rows in step.each_round()]
  assert rounds == [[0, 1, 2], [3, 4]]
  reward = np.where(found.judged, found.reward, np.nan)
  np.testing.assert_array_equal(step.reward, reward)
  # In the places of all groups; nobody computed those of the others.
  expected = np.full((N, G), np.nan)
  expected[found.chosen] = means
  np.testing.assert_array_equal(step.advantage, expected)
  assert step.kept.any(1).tolist() == [True, False, True, True, False]
  assert not step.is_scored.any()
  text = tiny.tokenizer().decode(
    found.rollouts.response_ids[1, 2, : found.rollouts.length[1, 2]]
  )
  assert step.texts[1][2] == text


def test_advantages_of_tokens_are_stored_where_they_differ(tmp_path):
  found = sampled()
  found.keep[0, 1] = False
  batch = batch_of(found)
  mask = batch.rollouts.mask
  one = (np.ones((3, G, T), np.float32) * 0.5) * mask
  rows = records.step_rows(tiny.tokenizer(), batch, one, 1)
  assert not [row for row in rows if 'token_advantages' in row]
  each = (np.arange(1, T + 1, dtype=np.float32) * np.ones((3, G, 1))) * mask
  rows = records.step_rows(tiny.tokenizer(), batch, each, 1)
  for row, values, keep in zip(
    rows, each.reshape(-1, T), batch.keep.ravel(), strict=True
  ):
    values = values[: row['length']]
    differ = keep and len(set(values[values != 0])) > 1
    assert ('token_advantages' in row) == differ
    if differ:
      np.testing.assert_array_equal(row['token_advantages'], values)
  assert any('token_advantages' in row for row in rows)


def test_what_the_trainer_said_and_what_nobody_knows(tmp_path):
  found = sampled()
  found.rollouts.sampler_logp[1, 0, 0] = np.nan
  found.keep[0, 1] = False
  values = np.random.default_rng(2).random((2, 3, G, T)).astype(np.float32)
  scored = Scored(values[0], values[1], 0.0)
  path, _ = write(tmp_path, batch_of(found, scored))
  step = stored.read(path)
  assert np.isnan(step.rollouts.sampler_logp[1, 0, 0])
  assert np.isnan(step.rollouts.sampler_logp).sum() == 1
  known = step.is_scored
  assert known[[0, 2, 3]].sum() == 3 * G - 1
  assert not known[0, 1] and not known[[1, 4]].any()
  inside = np.arange(T) < found.rollouts.length[..., None]
  expected = np.zeros((N, G, T), np.float32)
  expected[found.chosen] = scored.entropy
  expected = expected * inside * known[..., None]
  np.testing.assert_array_equal(step.entropy, expected)
  assert (step.old_logp != step.entropy).any()


def test_files_are_found_by_step(tmp_path):
  run, found = tmp_path / 'run', batch_of(sampled())
  for number in (10, 9, 2):
    records.write_step(
      run, tiny.tokenizer(), found, np.zeros((3, G, T)), number
    )
  names = [f'step_{n:06d}.jsonl.gz' for n in (2, 9, 10)]
  assert [p.name for p in stored.find(str(run))] == names
  folder = run / 'rollouts'
  assert [p.name for p in stored.find(str(folder))] == names
  two = f'{folder / names[2]},{folder / names[0]}'
  assert [p.name for p in stored.find(two)] == [names[2], names[0]]
  with pytest.raises(UserError, match='no step_NNNNNN.jsonl.gz is there'):
    stored.find(str(tmp_path / 'nothing'))


def change(path, edit):
  rows = jsonl.read_rows(path)
  rows = edit(rows)
  jsonl.write_rows(path, rows)


def refusal(path):
  with pytest.raises(UserError) as error:
    stored.read(path)
  assert '\n' not in str(error.value)
  assert str(error.value).startswith(f'{path}: ')
  return str(error.value)


def test_files_of_an_earlier_version_are_refused(tmp_path):
  path, _ = write(tmp_path, batch_of(sampled()))
  change(
    path, lambda rows: [{k: r[k] for k in r if k != 'round'} for r in rows]
  )
  message = refusal(path)
  assert (
    "rows have no 'round', which recipes need; an earlier version" in message
  )
  assert 'give rollouts of lrm train of this version' in message


EDITS = {
  'of several steps': {'step': 9},
  'of different room': {'room': 7},
  'row 2: samples are not counted from 0': {'sample': 5},
  'row 2: not of the problem of its group': {'id': 'other'},
  "row 2: 'cap' is missing or of another type": {'cap': '3'},
  'tokens in a room of 0': {'room': 0},
  "row 2: 'logp' has not one number a token": {'logp': []},
  'has what is no whole number': {'forced': [-1]},
  'forced tokens beyond the end': {'forced': [99]},
  'a measure is no number': {'measures': {'paragraphs': 'x'}},
  'too large': {'stale': 10**400},
}


@pytest.mark.parametrize('message', EDITS)
def test_rows_that_somebody_changed_are_refused(tmp_path, message):
  path, _ = write(tmp_path, batch_of(sampled()))
  change(path, lambda r: [r[0], r[1] | EDITS[message], *r[2:]])
  found = refusal(path)
  assert message in found
  assert 'not rollouts as lrm train writes them' in found


@pytest.mark.parametrize(
  ('edit', 'message'),
  [
    (lambda rows: [], 'no rows'),
    (lambda rows: rows[:-1], 'groups of different sizes'),
    (lambda rows: rows[G:], 'the groups of the batch are not all there'),
  ],
)
def test_rows_that_are_gone_are_missed(tmp_path, edit, message):
  path, _ = write(tmp_path, batch_of(sampled()))
  change(path, edit)
  assert message in refusal(path)


def test_given_responses_are_refused(tmp_path):
  """They stand where others were sampled."""
  found = dataclasses.replace(
    batch_of(sampled()), demonstrated=np.array([0, 0.5, 0], np.float32)
  )
  path, _ = write(tmp_path, found)
  rows = jsonl.read_rows(path)
  given = [(row['row'], row['sample']) for row in rows if row['demonstrated']]
  assert given == [(1, 0)]
  assert 'has responses that were given and not sampled (HPT)' in refusal(path)


def test_problems_with_different_numbers_of_responses_are_refused(tmp_path):
  found = sampled()
  found.rollouts.length[4, 1] = 0  # never asked for
  found.rollouts.truncated[4, 1] = False
  path, _ = write(tmp_path, batch_of(found))
  message = refusal(path)
  assert 'problems have different numbers of responses (GVM)' in message
