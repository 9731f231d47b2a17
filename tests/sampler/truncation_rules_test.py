"""Numbers of truncation rules, as users write them."""

import math

import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.sampler import truncation_rules
from lrm_jax.sampler.truncation_rules import Rules


def parse(settings, most=512):
  return truncation_rules.parse(settings, most, 'sampler')


@pytest.mark.parametrize(
  ('name', 'value', 'message'),
  [
    ('top_p', 0, r'top_p=0 must be above 0 and at most 1 \(1: off\)'),
    ('top_p', 1.5, 'top_p=1.5 must be above 0 and at most 1'),
    ('top_p', math.nan, 'top_p=nan must be'),
    ('top_p', '0.9', "top_p='0.9' must be above 0"),
    ('top_p', True, 'top_p=True must be'),
    ('top_p', None, 'top_p=None must be'),
    ('top_k', -1, r'top_k=-1 must be a whole number of at least 1 \(0: off\)'),
    ('top_k', 20.0, 'top_k=20.0 must be a whole number'),
    ('top_k', 513, 'top_k=513 is more than the most=512 ids'),
    ('min_p', 1.1, r'min_p=1.1 must be from 0 to 1 \(0: off\)'),
    ('typical', 0.0, 'typical=0.0 must be above 0'),
    ('epsilon', 1.0, 'epsilon=1.0 must be at least 0 and below 1'),
    ('eta', -1e-3, 'eta=-0.001 must be at least 0'),
    ('top_n_sigma', -1.0, r'top_n_sigma=-1.0 must be above 0 \(0, inf: off\)'),
    ('top_h', 1.01, 'top_h=1.01 must be above 0'),
    ('top_h_cumulative', math.inf, 'top_h_cumulative=inf must be above 0'),
    ('topp', 0.9, 'topp is not a truncation rule; known are top_n_sigma, '),
  ],
)
def test_bad_numbers_are_refused_in_one_line(name, value, message):
  with pytest.raises(UserError, match=f'^sampler.{message}') as error:
    parse({name: value})
  assert '\n' not in str(error.value)


def test_neutral_numbers_turn_rules_off():
  settings = {
    'top_n_sigma': math.inf,
    'top_h': 1.0,
    'top_h_cumulative': 1,
    'min_p': 0.0,
    'top_k': 0,
    'top_p': 1.0,
    'typical': 1.0,
    'epsilon': 0.0,
    'eta': 0,
  }
  assert set(settings) == set(Rules._fields)
  assert parse(settings) == parse({}) == Rules()


def test_numbers_are_taken_over():
  settings = {'top_k': 512, 'top_p': 0.95, 'min_p': np.float32(0.5)}
  assert parse(settings) == Rules(**settings)
  assert parse({'top_k': 100_000}, most=None) == Rules(top_k=100_000)


def test_rows_without_a_rule_get_its_neutral_number():
  rows = [parse({'top_k': 5}), parse({}), parse({'top_p': 0.5, 'top_k': 2})]
  found = truncation_rules.stack(rows)
  np.testing.assert_array_equal(found.top_k, [5, 0, 2])
  np.testing.assert_array_equal(found.top_p, [1, 1, 0.5])
  assert found.top_k.dtype == np.int32 and found.top_p.dtype == np.float32
  on = {name for name in Rules._fields if getattr(found, name) is not None}
  assert on == {'top_k', 'top_p'}
  assert truncation_rules.stack([Rules(), Rules()]) == Rules()
