"""Which answers are one class, by hand and by the verifier."""

import numpy as np
import pytest

from lrm_jax.evaluation import classes
from lrm_jax.rewards.pool import Grader


def same_value(pairs):
  """Equal as numbers."""
  return [float(a) == float(b) for a, b in pairs]


def test_classes_by_hand():
  extracted = [
    ['4', '5', None, '5.0', '4.0', '6'],
    ['1', '2', '3', '2', '1', '9'],
  ]
  correct = [[1, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0]]
  found = classes.classify(extracted, np.array(correct), same_value)
  assert found.tolist() == [[0, 1, -1, 1, 0, 2], [1, 2, 3, 2, 1, 4]]
  assert found.dtype == np.int64


def test_what_is_spelled_like_a_right_answer_is_one():
  """Such as a response that a guard has graded wrong."""
  found = classes.classify([['7', '7', '8']], np.array([[1, 0, 0]]), same_value)
  assert found.tolist() == [[0, 0, 1]]


def test_the_verifier_is_asked_once_for_each_pair():
  asked = []

  def equal(pairs):
    asked.append(pairs)
    return same_value(pairs)

  extracted = [
    ['1', '2', '1', '3'],
    ['1', '2', None, None],
    ['5', '5', '5', '5'],
  ]
  right = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]])
  classes.classify(extracted, right, equal)
  # None of right answers, none across problems, none twice.
  assert asked == [[('2', '1'), ('3', '1'), ('3', '2')]]


def test_equality_that_is_not_transitive_goes_by_the_first():
  equal = lambda pairs: [abs(int(a) - int(b)) < 2 for a, b in pairs]
  wrong = np.zeros((1, 3))
  assert classes.classify([['1', '2', '3']], wrong, equal).tolist() == [
    [1, 1, 2]
  ]
  assert classes.classify([['2', '1', '3']], wrong, equal).tolist() == [
    [1, 1, 1]
  ]


def test_no_answers_at_all():
  found = classes.classify([[None, None]], np.zeros((1, 2)), same_value)
  assert found.tolist() == [[-1, -1]]


@pytest.fixture(scope='module')
def grader():
  with Grader(1) as found:
    yield found


@pytest.mark.parametrize(
  ('answer', 'first', 'expected'),
  [
    ('1/2', '0.5', True),
    (r'\frac12', '0.5', True),
    ('3', '4', False),
    # Only algebra can tell.
    ('x^2+2x+1', '(x+1)^2', True),
    ('x^2+2x', '(x+1)^2', False),
    # What cannot stand in a box, or is too long.
    ('}{', '4', False),
    ('1' * 1001, '1' * 1001, False),
  ],
)
def test_the_verifier_says_what_is_equal(grader, answer, first, expected):
  pairs = [('1', '1'), (answer, first), ('1', '2')]
  assert classes.equal_answers(grader, pairs) == [True, expected, False]


def test_nobody_is_asked_about_nothing():
  assert classes.equal_answers(None, []) == []
