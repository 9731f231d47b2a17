"""Alarms on rows by hand."""

import math

import ml_collections
import pytest

from configs import default
from lrm_jax import alarms, errors
from lrm_jax.errors import UserError

LIMITS = default.get_config().sentinels.to_dict()
ROW = {
  'entropy': 0.4,
  'kl': 0.01,
  'response_tokens': 60.0,
  'truncated': 0.25,
  'accuracy': 0.5,
}


def test_by_default_nothing_trips():
  assert alarms.tripped(ROW, LIMITS) == []
  extremes = {
    'entropy': 0.0,
    'kl': 1e30,
    'response_tokens': 0.0,
    'truncated': 1.0,
    'accuracy': 0.0,
  }
  assert alarms.tripped(extremes, LIMITS) == []


@pytest.mark.parametrize(
  ('name', 'limit', 'within'),
  [
    ('entropy_min', 0.41, 0.4),
    ('entropy_max', 0.39, 0.4),
    ('kl_max', 0.005, 0.01),
    ('tokens_min', 61.0, 60.0),
    ('tokens_max', 59.0, 60.0),
    ('truncated_max', 0.2, 0.25),
    ('accuracy_min', 0.6, 0.5),
  ],
)
def test_each_limit_trips_alone(name, limit, within):
  assert alarms.tripped(ROW, LIMITS | {name: limit}) == [name]
  assert alarms.tripped(ROW, LIMITS | {name: within}) == []
  column = alarms.ALARMS[name][0]
  limits = LIMITS | {name: limit}
  for value in (None, math.nan):
    assert alarms.tripped(ROW | {column: value}, limits) == []
  row = {key: value for key, value in ROW.items() if key != column}
  assert alarms.tripped(row, limits) == []


def test_a_number_that_is_infinite_is_beyond():
  limits = LIMITS | {'kl_max': 1.0}
  assert alarms.tripped(ROW | {'kl': math.inf}, limits) == ['kl_max']


def test_steps_in_a_row():
  """Beyond, beyond, none, beyond, within, beyond: 1, 2, 2, 3, none, 1."""
  limits = LIMITS | {'entropy_min': 0.3, 'tokens_max': 100.0}
  count, found = {}, []
  for entropy in (0.1, 0.2, math.nan, 0.1, 0.4, 0.2):
    count = alarms.count(count, ROW | {'entropy': entropy}, limits)
    found.append(count)
  assert found == [
    {'entropy_min': 1},
    {'entropy_min': 2},
    {'entropy_min': 2},
    {'entropy_min': 3},
    {},
    {'entropy_min': 1},
  ]


def test_they_go_on_from_a_checkpoint():
  first = alarms.Alarms(2, {'kl_max': 4}, ['a reason'])
  other = alarms.Alarms()
  other.set_state(first.get_state())
  assert other == alarms.Alarms(2, {'kl_max': 4}, [])


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'every': -1}, 'sentinels.every=-1'),
    ({'patience': 0}, 'sentinels.patience=0 must be at least 1'),
    ({'entropy_min': 2.0, 'entropy_max': 1.0}, 'entropy_min=2.0 is above'),
    ({'tokens_min': 9.0, 'tokens_max': 8.0}, 'tokens_min=9.0 is above'),
    ({'kl_max': math.nan}, 'sentinels.kl_max must be a number, or inf'),
  ],
)
def test_sentinels_that_cannot_be(changes, words):
  alarms.check(ml_collections.ConfigDict(LIMITS))
  with pytest.raises(UserError, match=words):
    alarms.check(ml_collections.ConfigDict(LIMITS | changes))


def test_reasons_are_told_once_and_together():
  found = alarms.Alarms()
  assert alarms.joined(found) is None
  found.reasons = [errors.CheckFailed('a 1'), errors.CheckFailed('b 2')]
  assert alarms.joined(found) == 'a 1; b 2'
  assert alarms.joined(found) is None
