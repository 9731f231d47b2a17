"""All numbers of an evaluation, by hand."""

import json

import numpy as np
import pytest

from lrm_jax import workdir
from lrm_jax.evaluation import (
  describing,
  efficiency,
  intervals,
  stored,
  summary,
  votes,
)
from lrm_jax.structs import Problem
from tests.evaluation import stored_test

PROBLEMS = [
  Problem('a', '?', '12', level=2, domain='x'),
  Problem('b', '?', '3', level=1, domain='y'),
]


def make(**changes):
  """Right: 3 of 4. Two samples each of two problems."""
  fields = {
    'name': 'e',
    'settings': stored_test.SETTINGS | {'max_tokens': 20},
    'identity': {},
    'ids': ('a', 'b'),
    'correct': np.array([[True, True], [True, False]]),
    'verified': np.array([[True, True], [True, False]]),
    'length': np.array([[10, 12], [14, 20]]),
    'thinking_length': np.array([[5, 5], [10, 20]]),
    'truncated': np.array([[False, False], [False, True]]),
    'answer_class': np.array([[0, 0], [0, -1]]),
    'words': np.array([[8, 9], [10, 30]]),
    'characters': np.array([[2, 8], [1, 7]]),
  }
  return stored.Evaluation(**fields | changes)


def test_numbers_by_hand():
  found = summary.of_evaluation(make(), 2_000_000)
  assert found['accuracy'] == 0.75
  assert found['response_tokens'] == 14
  assert found['thinking_tokens'] == 10
  assert found['answer_tokens'] == 4
  assert found['truncated'] == 0.25
  assert found['unverified'] == 1
  assert found['tokens_per_correct'] == pytest.approx(56 / 3)
  assert found['response_tokens_correct'] == 12
  assert found['response_tokens_wrong'] == 20
  # Problem means 1 and 1/2, and 11 and 17: deviation / sqrt(2).
  assert found['accuracy_se'] == pytest.approx(0.25)
  assert found['response_tokens_se'] == pytest.approx(3)
  # Resamples of two problems.
  assert found['accuracy_interval'] == [0.5, 1.0]
  assert found['response_tokens_interval'] == [11, 17]
  assert found['pass_at_k'] == {1: 0.75, 2: 1.0}
  assert found['maj_at_k'] == {1: 0.75, 2: 1.0}
  # (15 + 15 + 10) / 20 / 4.
  assert found['auc']['value'] == pytest.approx(0.5)
  assert found['auc']['limit'] == 20
  assert found['auc']['budgets'][-1] == 20
  assert found['acu'] == pytest.approx(75 / (0.002 * 14))
  assert found['target_match'] is None


def test_numbers_are_those_of_the_functions():
  one = make()
  found = summary.of_evaluation(one)
  assert found['pass_at_k'] == votes.pass_curve(one.correct)
  assert found['maj_at_k'] == votes.maj_curve(one.answer_class)
  estimate = intervals.mean_interval(one.correct)
  assert found['accuracy_interval'] == [estimate.low, estimate.high]
  assert found['auc'] == efficiency.auc_curve(
    one.correct, one.thinking_length, 20
  )
  assert found['acu'] is None


def test_targets_in_tokens_and_in_words():
  asked = {'instruction': 'Use {target} tokens.', 'target': 10}
  one = make(settings=stored_test.SETTINGS | asked)
  found = summary.of_evaluation(one)['target_match']
  # 10 is one of Ruler's: up to 20, which all tokens are; words 30 is not.
  assert found == {
    'target': 10,
    'tokens': {'pm': 1.0, 'fm': 1.0},
    'words': {'pm': 0.75, 'fm': 0.75},
  }
  nothing = np.full((2, 2), -1)
  one = make(settings=stored_test.SETTINGS | asked, words=nothing)
  assert summary.of_evaluation(one)['target_match']['words'] is None
  # A level is no length.
  asked = {'instruction': 'Think {level}.', 'target': 2}
  one = make(settings=stored_test.SETTINGS | asked)
  assert summary.of_evaluation(one)['target_match'] is None


def test_numbers_of_problems():
  found = summary.of_problems(make(), PROBLEMS)
  # Minimal answers of 2 and 1: 0 and 6, 0 and 6; medians 3 of both domains.
  assert found['yap'] == {'score': 3.0, 'index': 3.0}
  assert [(x['level'], x['accuracy']) for x in found['by_level']] == [
    (1, 0.5),
    (2, 1.0),
  ]
  unknown = [Problem(p.id, p.question, p.answer) for p in PROBLEMS]
  assert summary.of_problems(make(), unknown)['by_level'] == []


def stored_summary(tmp_path, evaluation, **more):
  """As it is read back."""
  found = summary.of_evaluation(evaluation, 1000)
  found |= summary.of_problems(evaluation, PROBLEMS)
  found |= {'model': 'm', 'data': 'd', 'problems': 2, 'samples': 2} | more
  path = workdir.write_summary(tmp_path, found)
  return json.loads(path.read_text())


def lines(text):
  return [' '.join(line.split()) for line in text.splitlines()]


def test_the_table_of_one(tmp_path):
  found = lines(describing.one(stored_summary(tmp_path, make())))
  assert found[0] == 'm on d: 2 problems x 2 samples'
  for line in (
    'accuracy 75.0% 25.0 pp',
    '95 % interval 50.0% to 100.0%',
    'pass@2 100.0%',
    'maj@2 100.0%',
    'response tokens 14.0 3.0',
    'of right responses 12.0',
    'of wrong responses 20.0',
    'truncated 25.0%',
    'tokens per correct 18.7',
    'area under accuracy, budgets to 20 0.500',
    'unverified responses 1',
  ):
    assert line in found
  assert all(len(line) <= 80 for line in found)


def test_the_table_of_nothing_right(tmp_path):
  wrong = np.zeros((2, 2), bool)
  asked = {'instruction': '{target}', 'target': 10, 'max_tokens': 20}
  one = make(
    correct=wrong,
    answer_class=np.full((2, 2), -1),
    settings=stored_test.SETTINGS | asked,
  )
  found = lines(describing.one(stored_summary(tmp_path, one)))
  assert 'accuracy 0.0% 0.0 pp' in found
  assert 'tokens per correct -' in found
  assert 'of right responses -' in found
  assert 'within target 10 (precise, flexible) 100.0%, 100.0%' in found


def test_one_problem_with_one_sample(tmp_path):
  cut = {
    name: getattr(make(), name)[:1, :1]
    for name in (
      *('correct', 'verified', 'length', 'thinking_length', 'truncated'),
      *('answer_class', 'words', 'characters'),
    )
  }
  one = make(ids=('a',), **cut)
  found = summary.of_evaluation(one, 1000)
  assert found['pass_at_k'] == found['maj_at_k'] == {1: 1.0}
  assert np.isnan(found['accuracy_se'])
  found |= summary.of_problems(one, PROBLEMS[:1])
  found |= {'model': 'm', 'data': 'd', 'problems': 1, 'samples': 1}
  read = json.loads(workdir.write_summary(tmp_path, found).read_text())
  table = lines(describing.one(read))
  assert 'accuracy 100.0% -' in table
  assert '95 % interval -' in table
  assert not any('@' in line for line in table)


def test_the_numbers_above_several(tmp_path):
  (tmp_path / 'x').mkdir()
  one = stored_summary(tmp_path / 'x', make())
  other = one | {
    'problems': 30,
    'accuracy': 0.25,
    'accuracy_se': 0.2,
    'response_tokens': 50.0,
  }
  found = summary.of_data_sets({'one': one, 'other': other})
  assert found['problems'] == 32
  # Unweighted, whatever the numbers of problems.
  assert found['accuracy'] == 0.5
  assert found['response_tokens'] == 32
  assert found['tokens_per_correct'] == 64
  # sqrt(0.25^2 + 0.2^2) / 2.
  assert found['accuracy_se'] == pytest.approx(0.160078)
  assert found['sets'] == {'one': one, 'other': other}
  table = lines(describing.several(found['sets'], found))
  assert table[2:] == [
    'one 2 75.0% 25.0 pp 14.0 25.0% 18.7',
    'other 30 25.0% 20.0 pp 50.0 25.0% 18.7',
    'mean 32 50.0% 16.0 pp 32.0 25.0% 64.0',
  ]
  none = summary.of_data_sets({'one': one | {'accuracy_se': None}})
  assert none['accuracy_se'] is None
  nothing = summary.of_data_sets({'one': one | {'accuracy': 0.0}})
  assert nothing['tokens_per_correct'] is None
