"""Pass rates, and the curriculum as probabilities."""

import functools
import json

import numpy as np
import pytest

from lrm_jax import assets
from lrm_jax.data import pass_rates
from lrm_jax.errors import UserError
from lrm_jax.objectives import curricula
from lrm_jax.structs import Problem

CURRICULUM = functools.partial(
  curricula.easy_upweight, lower=0.75, upper=1.0, factor=4.0
)


def problem(name, level=0):
  return Problem(name, 'question', '1', level=level)


def test_by_level_as_lrm_eval_writes_it(tmp_path):
  path = tmp_path / 'summary.json'
  rows = [{'level': 2, 'accuracy': 0.9}, {'level': 8, 'accuracy': 0.5}]
  path.write_text(json.dumps({'by_level': rows, 'accuracy': 0.7}))
  rates = pass_rates.load(path)
  assert (rates.by_level, rates.by_id) == ({2: 0.9, 8: 0.5}, {})
  problems = [problem('a', 5), problem('b', 8)]
  chance = pass_rates.chance(rates, CURRICULUM, problems)
  # Easy ones four times as often; a level that was not measured counts 1.
  assert chance(problem('a', 2)) == 1
  assert chance(problem('b', 8)) == 0.25
  assert chance(problem('c', 5)) == 0.25


def test_by_problem(tmp_path):
  path = tmp_path / 'rates.jsonl'
  path.write_text(
    '{"id": "easy", "pass_rate": 0.8}\n{"id": "solved", "pass_rate": 1.0}\n'
    '{"id": "never", "pass_rate": 0}\n'
  )
  rates = pass_rates.load(path)
  chance = pass_rates.chance(rates, CURRICULUM, [problem('easy')])
  found = [chance(problem(name)) for name in ('easy', 'solved', 'never', 'new')]
  assert found == [1, 0, 0.25, 0.25]


def test_uniform_takes_everything():
  rates = pass_rates.PassRates('file', {}, {2: 1.0})
  chance = pass_rates.chance(rates, curricula.uniform, [problem('a', 2)])
  assert chance(problem('any', 2)) == chance(problem('other')) == 1


def test_an_id_is_no_level(tmp_path):
  """Ids are text, as those of problems are; 2 is not level 2."""
  path = tmp_path / 'rates.jsonl'
  path.write_text('{"id": 1, "pass_rate": 1.0}\n{"id": 2, "pass_rate": 0.8}\n')
  rates = pass_rates.load(path)
  assert rates.of(problem('1', 2)) == 1.0
  assert np.isnan(rates.of(problem('7', 1)))


def test_a_file_about_other_problems():
  rates = pass_rates.PassRates('file', {'x': 0.5}, {})
  with pytest.raises(UserError, match='none of the training problems'):
    pass_rates.chance(rates, curricula.uniform, [problem('y'), problem('z')])


def test_other_rates_are_another_curriculum():
  one = pass_rates.PassRates('file', {'x': 0.5}, {})
  other = pass_rates.PassRates('file', {'x': 0.25}, {})
  moved = pass_rates.PassRates('elsewhere', {'x': 0.5}, {})
  assert one.fingerprint == moved.fingerprint != other.fingerprint


def test_those_of_the_tiny_lrm_come_with_it():
  rates = pass_rates.load(assets.resolve_file('tiny_lrm/pass_rates.json'))
  assert sorted(rates.by_level) == list(range(2, 9))
  # As the quickstart's first evaluation measured them: 0.953 at level 2.
  assert rates.by_level[2] == pytest.approx(0.953, abs=1e-3)


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('gone.json', None, 'no such file'),
    ('a.json', '{}', 'no pass rates'),
    ('b.json', '[', 'no pass rates'),
    ('c.json', '{"by_level": [{"level": 1}]}', 'no pass rates'),
    ('d.json', '{"by_level": []}', 'at least one'),
    ('e.json', '{"by_level": [{"level": 1, "accuracy": 2}]}', 'in .0, 1.'),
    ('f.jsonl', '{"id": "x"}', 'no pass rates'),
    ('g.jsonl', 'x', 'not JSON'),
    ('h.jsonl', '{"id": "x", "pass_rate": "often"}', 'no pass rates'),
  ],
)
def test_files_that_are_none(tmp_path, name, text, message):
  path = tmp_path / name
  if text is not None:
    path.write_text(text)
  with pytest.raises(UserError, match=message) as error:
    pass_rates.load(path)
  assert name in str(error.value) and '\n' not in str(error.value)


def test_a_curriculum_that_takes_nothing():
  with pytest.raises(UserError, match='the weight 0'):
    rates = pass_rates.PassRates('file', {}, {1: 0.5})
    nothing = lambda rates: np.zeros(len(rates))
    pass_rates.chance(rates, nothing, [problem('a', 1)])
