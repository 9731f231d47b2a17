"""Recipes that are refused, and what every table must hold."""

import dataclasses
import inspect

import pytest

from configs import efficient
from lrm_jax.errors import UserError
from lrm_jax.objectives import recipe as recipes
from lrm_jax.objectives import tables
from tests.objectives.recipe_cases import dler

TABLES = tables.PARTS
PARTS = ', '.join(TABLES)


def choices(part):
  return ', '.join(TABLES[part])


@pytest.mark.parametrize(
  ('parts', 'message'),
  [
    (
      {'loss': {'name': 'gspo'}},
      "config.objective.aggregate = 'token_mean': gspo is defined with "
      'sequence_mean; use that',
    ),
    (
      {'loss': {'name': 'discriminative_ratio'}},
      "config.objective.advantage = 'batch_token_whiten': "
      'discriminative_ratio is defined with class_share; use that',
    ),
    (
      {
        'loss': {'name': 'discriminative_likelihood'},
        'advantage': {'name': 'class_share'},
      },
      "config.objective.aggregate = 'token_mean': discriminative_likelihood "
      'is defined with question_mean; use that',
    ),
    (
      {
        'loss': {'name': 'discriminative_likelihood'},
        'advantage': {'name': 'class_share'},
        'aggregate': {'name': 'question_mean'},
        'bonuses': {'repetition': {}},
      },
      'config.objective.bonuses = repetition: discriminative_likelihood takes '
      'its classes from the sign of the advantage; leave them out',
    ),
    (
      {'shaping': {'tldr': {'short': 1.0, 'medium': 0.5, 'long': 0.0}}},
      "config.objective.target = 'no_target': tldr is defined with "
      'level_target; use that',
    ),
    (
      {'shaping': {'outcome': {}, 'l1_exact': {}}},
      "config.objective.target = 'no_target': l1_exact rewards the tokens "
      'that the prompt asks for; choose another target',
    ),
    (
      {
        'shaping': {'l1_max': {}},
        'target': {'name': 'level_target'},
      },
      "config.objective.target = 'level_target': l1_max rewards the tokens "
      'that the prompt asks for; choose another target',
    ),
    (
      {'shaping': {'triangular': {}}},
      "config.objective.target = 'no_target': triangular rewards the tokens "
      'that the prompt asks for; choose another target',
    ),
    (
      {
        'budget': efficient.rmt(9, 0.5, 4, room=8, weight=0.5).budget,
        'target': {'name': 'share_of_cap', 'times': 2, 'room': 9},
      },
      'config.objective.target.room = 9: with a budget of room = 8 prompts '
      'would not ask for the budget; give the same number',
    ),
    (
      {'regularizers': {'kl_hinge': {'coefficient': 0.5}}},
      'config.objective.regularizers.kl_hinge: its gradient is that of the '
      "constraint with coefficient=1 and aggregate='token_mean' only; beta "
      'scales it',
    ),
    (
      {'bonuses': {'close_thinking': {}}},
      "config.objective.revision = 'unrevised': close_thinking is defined "
      'with compress_thinking; use that',
    ),
  ],
)
def test_parts_that_need_others(parts, message):
  with pytest.raises(UserError) as error:
    recipes.build(dler(**parts))
  assert str(error.value) == message


@pytest.mark.parametrize(
  ('parts', 'message'),
  [
    (
      {'advantage': {'name': 'grup'}},
      "config.objective.advantage: no function is named 'grup'; choose from "
      + choices('advantage'),
    ),
    (
      {'loss': {'low': 0.2}},
      f"config.objective.loss: no key 'name'; choose from {choices('loss')}",
    ),
    (
      {'loss': {'name': 'ppo_clip', 'lo': 0.2}},
      "config.objective.loss: unknown key 'lo'; ppo_clip takes low, high, dual",
    ),
    (
      {'aggregate': {'name': 'token_mean', 'length': 3}},
      "config.objective.aggregate: unknown key 'length'; token_mean takes no "
      'keys',
    ),
    (
      {'aggregate': {'name': 'fixed_length'}},
      "config.objective.aggregate: no key 'length'; fixed_length needs length",
    ),
    (
      {'budget': {'name': 'constant'}},
      "config.objective.budget: no key 'cap'; constant needs cap",
    ),
    (
      {'shaping': {'truncate': {}}},
      "config.objective.shaping: no function is named 'truncate'; choose from "
      + choices('shaping'),
    ),
    (
      {'shaping': {'truncation': {'stop': 0.0}}},
      "config.objective.shaping: unknown key 'stop'; truncation takes "
      'stop_properly',
    ),
    (
      {'shaping': {}},
      'config.objective.shaping = {}: nothing to reward; choose one or more '
      f'of {choices("shaping")}',
    ),
    (
      {'shaping': {'truncation': 0.1}},
      'config.objective.shaping.truncation = 0.1: not a section; give a dict '
      'of keys',
    ),
    (
      {'selection': 'all_groups'},
      "config.objective.selection = 'all_groups': not a section; give a dict "
      'of keys',
    ),
    (
      {'regularizers': {'kl_k4': {}}},
      "config.objective.regularizers: no function is named 'kl_k4'; choose "
      f'from {choices("regularizers")}',
    ),
    (
      {'regularizers': {'kl_k2': {}}},
      "config.objective.regularizers.kl_k2: no key 'coefficient'; give a "
      'number (0 for off)',
    ),
    (
      {'regularizers': {'kl_k2': {'coefficient': 0.1, 'd': 1}}},
      "config.objective.regularizers: unknown key 'd'; kl_k2 takes no keys",
    ),
    (
      {'regularizers': {'kl_k2': {'coefficient': '0.1'}}},
      "config.objective.regularizers.kl_k2.coefficient = '0.1': give a value "
      'of type float',
    ),
    (
      {'loss': {'name': 'ppo_clip', 'low': True}},
      'config.objective.loss: ppo_clip.low = True: give a value of type float',
    ),
    (
      {'budget': {'name': 'constant', 'cap': 96.0}},
      'config.objective.budget: constant.cap = 96.0: give a value of type int',
    ),
    (
      {'advantages': {'name': 'group'}},
      f"config.objective: unknown key 'advantages'; a recipe takes {PARTS}",
    ),
  ],
)
def test_mistakes_are_named_in_one_line(parts, message):
  with pytest.raises(UserError) as error:
    recipes.build(dler(**parts))
  assert str(error.value) == message


def test_a_missing_part_is_named():
  config = dler()
  del config.objective.loss
  with pytest.raises(UserError) as error:
    recipes.build(config)
  assert str(error.value) == (
    f"config.objective: no key 'loss'; a recipe needs {PARTS}"
  )


def test_a_whole_number_is_a_good_float():
  recipe = recipes.build(dler(regularizers={'kl_k2': {'coefficient': 1}}))
  assert recipe.regularizers[0].coefficient == 1


def test_building_leaves_the_config_alone():
  config = dler()
  before = config.to_dict()
  recipes.build(config)
  assert config.to_dict() == before


def test_every_part_has_a_table():
  fields = [field.name for field in dataclasses.fields(recipes.Recipe)]
  assert list(TABLES) == fields


@pytest.mark.parametrize('part', TABLES)
def test_every_function_is_named_documented_and_typed(part):
  for name, function in TABLES[part].items():
    assert function.__name__ == name
    assert function.__doc__
    for parameter in inspect.signature(function).parameters.values():
      if parameter.kind is parameter.KEYWORD_ONLY:
        assert parameter.annotation in (bool, float, int, str, tuple)
