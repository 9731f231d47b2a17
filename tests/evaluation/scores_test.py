"""Scores, by hand."""

import math

import numpy as np
import pytest

from lrm_jax.evaluation import scores
from lrm_jax.structs import Problem
from tests.objectives import reference


def _rollouts(correct, length, thinking=None, truncated=None):
  return reference.rollouts(
    correct,
    length=length,
    thinking_length=length if thinking is None else thinking,
    truncated=truncated,
    tokens=1,
  )


def test_pass_rates_by_hand():
  problems = [Problem('a', '', ''), Problem('b', '', '')]
  found = scores.pass_rates(
    problems, _rollouts([[1, 0, 0, 0], [1, 1, 1, 1]], np.ones((2, 4)))
  )
  assert found == [
    {'id': 'a', 'pass_rate': 0.25, 'samples': 4},
    {'id': 'b', 'pass_rate': 1.0, 'samples': 4},
  ]


def test_summary_by_hand():
  summary = scores.summarize(
    _rollouts(
      [[1, 0], [1, 1]],
      [[10, 40], [20, 30]],
      thinking=[[8, 40], [10, 22]],
      truncated=[[False, True], [False, False]],
    )
  )
  assert summary == {
    'accuracy': 0.75,
    'response_tokens': 25.0,
    'thinking_tokens': 20.0,
    'truncated': 0.25,
    'tokens_per_correct': pytest.approx(100 / 3),
    'response_tokens_correct': 20.0,
    'response_tokens_wrong': 40.0,
  }
  assert all(type(value) is float for value in summary.values())


def test_nothing_correct():
  summary = scores.summarize(_rollouts([[0, 0]], [[3, 5]]))
  assert summary['accuracy'] == 0
  assert summary['tokens_per_correct'] == math.inf
  assert math.isnan(summary['response_tokens_correct'])
  assert summary['response_tokens_wrong'] == 4


def test_nothing_wrong():
  summary = scores.summarize(_rollouts([[1, 1]], [[3, 5]]))
  assert summary['tokens_per_correct'] == 4
  assert math.isnan(summary['response_tokens_wrong'])


def test_many_tokens_do_not_overflow():
  length = np.full((3, 2), 2**31 - 1)
  summary = scores.summarize(_rollouts(np.ones((3, 2)), length))
  assert summary['tokens_per_correct'] == 2**31 - 1


def test_levels_come_sorted_with_their_own_means():
  problems = [
    Problem(str(i), '?', '0', level=n) for i, n in enumerate([5, 2, 5])
  ]
  rollouts = _rollouts(
    [[1, 0], [1, 1], [0, 0]],
    [[10, 20], [4, 6], [30, 40]],
    truncated=[[False, True], [False, False], [True, True]],
  )
  assert scores.by_level(problems, rollouts) == [
    {
      'level': 2,
      'n': 2,
      'accuracy': 1.0,
      'response_tokens': 5.0,
      'truncated': 0.0,
    },
    {
      'level': 5,
      'n': 4,
      'accuracy': 0.25,
      'response_tokens': 25.0,
      'truncated': 0.75,
    },
  ]
