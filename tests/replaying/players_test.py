"""What training recorded comes out again to the bit; other recipes differ."""

import dataclasses
import functools

import numpy as np
import pytest

from lrm_jax import experiment, gathering
from lrm_jax.errors import UserError
from lrm_jax.gathering import Scored
from lrm_jax.replaying import players, stored
from lrm_jax.rewards.pool import Grader
from tests import methods_test, tiny
from tests.replaying import stored_test

# A recipe with memory; one that fills its batch in several rounds; partial
# rollouts; verdicts that are missing; one that goes by entropies, corrected.
RUNS = {
  'memory': ('hapo', {'data.train_problems': 6}),
  'rounds': ('dler', {'train.max_rounds': 3, 'train.problems': 8}),
  'partial': ('dapo', {'train.partial_tokens': 8, 'train.in_flight': 12}),
  'unverified': ('dler', {}),
  'entropy': (
    'grpo',
    {
      'objective.credit.name': 'gtpo',
      'objective.correction.name': 'token_masked',
      'train.old_logp': 'trainer',
    },
  ),
}


def config_of(run):
  name, changes = RUNS[run]
  config = methods_test.load(name)
  with config.unlocked():
    config.train.steps, config.train.rollouts_every = 3, 1
    config.train.checkpoint_every = 100
    config.update_from_flattened_dict(changes)
  return config


@pytest.fixture(scope='module')
def grader():
  with Grader() as pool:
    yield pool


@pytest.fixture(scope='module')
def recorded(grader, tmp_path_factory):
  """(config, steps) of a run; each is made once."""

  @functools.cache
  def make(run):
    folder, config = tmp_path_factory.mktemp(run), config_of(run)
    with pytest.MonkeyPatch.context() as patch:
      if run == 'unverified':
        patch.setattr(gathering, 'revise', lose_verdicts)
      methods_test.advance(experiment.build(config, grader), folder)
    return config, [stored.read(p) for p in stored.find(str(folder))]

  return make


def lose_verdicts(experiment, problems, rollouts):
  """One of the first group, and all but one of the second."""
  verified = rollouts.verified.copy()
  verified[0, 0] = verified[1, 1:] = False
  correct = rollouts.correct * verified
  return dataclasses.replace(rollouts, verified=verified, correct=correct)


def replay(config, steps):
  player = players.make('it', config)
  return player, [players.play(player, step) for step in steps]


@pytest.mark.slow
@pytest.mark.parametrize('run', RUNS)
def test_what_training_recorded_comes_out_to_the_bit(recorded, run):
  config, steps = recorded(run)
  assert [step.number for step in steps] == [1, 2, 3]
  player, found = replay(config, steps)
  for step, played in zip(steps, found, strict=True):
    same = {'reward': 0, 'advantage': 0, 'kept': 0}
    assert players.differences(step, played) == same
    # Nothing is the same for want of numbers.
    trained = step.advantage[step.kept]
    assert trained.size and (trained != 0).any()
    places = [step.problems[i].id for i in played.chosen]
    assert [p.id for p in played.batch.problems] == places
  assert player.notes == []
  # Each run has what it is here for.
  if run == 'rounds':
    assert max(step.rounds.max() for step in steps) > 0
    assert any(np.isnan(step.advantage).any() for step in steps)
  if run == 'partial':
    assert any(step.rollouts.stale.any() for step in steps)
  if run == 'unverified':
    assert all(np.isnan(step.reward[1]).any() for step in steps)
  if run == 'entropy':
    assert all(step.is_scored.any() for step in steps)


@pytest.mark.slow
def test_memory_is_that_of_the_steps_before(recorded):
  """Forgetting between steps, the numbers are others."""
  config, steps = recorded('memory')
  changed = 0
  for step in steps:
    _, (played,) = replay(config, [step])
    changed += sum(players.differences(step, played).values())
  assert changed > 0


@pytest.mark.slow
def test_another_recipe_is_another(recorded):
  _, steps = recorded('rounds')
  _, found = replay(config_of('memory'), steps)
  for step, played in zip(steps, found, strict=True):
    assert players.differences(step, played)['advantage'] > 0


# --- Without a run ---


@pytest.fixture
def step(tmp_path):
  path, _ = stored_test.write(
    tmp_path, stored_test.batch_of(stored_test.sampled())
  )
  return stored.read(path)


def load(name, **changes):
  config = methods_test.load(name)
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config


def test_a_recipe_that_goes_by_entropies_needs_them(step):
  config = load('grpo', **{'objective.credit.name': 'gtpo'})
  with pytest.raises(UserError) as error:
    players.play(players.make('it', config), step)
  assert str(error.value) == (
    'it: its objective.credit reads what the policy says of the responses, and '
    'the rollouts of step 4 do not have that; give the model that sampled them '
    'as --model, or leave the recipe out'
  )
  shape = step.old_logp.shape
  low, high = (
    players.play(
      players.make('it', config),
      step,
      Scored(np.zeros(shape, np.float32), np.full(shape, x, np.float32), 0.0),
    )
    for x in (0.1, 5.0)
  )
  # Above its limit of entropy nothing is pushed.
  assert not high.credit.recorded.any() and low.credit.recorded.any()


def test_measures_are_taken_again_or_are_as_stored(step):
  # Of the text: with the keys of this recipe, whatever is stored.
  stepper = players.make('it', load('step_pruner'))
  names = {part.name for part in stepper.recipe.measures}
  assert names == {'longest_paragraph', 'paragraphs'}
  with pytest.raises(UserError, match="'longest_paragraph' is not in the roll"):
    players.measure(stepper, step, None)
  known = dataclasses.replace(
    step.rollouts,
    measures={
      'longest_paragraph': np.full(step.kept.shape, 7, np.float32),
      'paragraphs': np.full(step.kept.shape, -1, np.float32),
    },
  )
  step = dataclasses.replace(step, rollouts=known)
  found = players.measure(stepper, step, None)
  assert (found['longest_paragraph'] == 7).all()
  assert (found['paragraphs'] >= 0).all()
  assert stepper.notes == [
    "the measure 'longest_paragraph' is as stored, with its keys"
  ]
  found = players.measure(stepper, step, tiny.tokenizer())
  assert (found['longest_paragraph'] != 7).any()


@pytest.mark.parametrize(
  ('name', 'note'),
  [
    ('dot', 'a revision is not applied: responses count as stored'),
    (
      'laser_d',
      'what a monitor would teach is missing: no samples of it are stored',
    ),
    ('l1', 'targets are not set: those of the stored prompts count'),
  ],
)
def test_what_is_not_as_in_training_is_said(step, name, note):
  player = players.make(name, load(name))
  assert player.notes == [note]
  players.play(player, step)
  # The stored caps are 3 to 8 tokens, those of the configs 48.
  assert player.notes == [
    note,
    'the budget is another: caps and truncated responses are as stored',
  ]
