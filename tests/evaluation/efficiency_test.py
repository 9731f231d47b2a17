"""Scores of efficiency: by hand, and as sums written out."""

import math

import numpy as np
import pytest

from lrm_jax.evaluation import efficiency


@pytest.mark.parametrize(
  ('accuracy', 'tokens', 'weights', 'expected'),
  [
    # Half as long, a tenth better: 1 * 0.5 + 3 * 0.1.
    (0.88, 500, (1, 3, 5), 0.8),
    # Half as long, a tenth worse: 0.5 - 5 * 0.1 and 0.5 - 10 * 0.1.
    (0.72, 500, (1, 3, 5), 0.0),
    (0.72, 500, (1, 3, 10), -0.5),
    # A fifth longer, as accurate.
    (0.8, 1200, (2, 3, 5), -0.4),
    (0.8, 1000, (1, 3, 5), 0.0),
  ],
)
def test_aes_by_hand(accuracy, tokens, weights, expected):
  found = efficiency.aes(accuracy, tokens, 0.8, 1000, weights)
  assert found == pytest.approx(expected)


def test_aes_comes_with_its_weights():
  found = efficiency.all_aes(0.72, 500, 0.8, 1000)
  assert found == {'1,3,5': pytest.approx(0.0), '1,3,10': pytest.approx(-0.5)}


def test_aes_without_a_right_answer_to_compare_with():
  assert math.isnan(efficiency.aes(0.5, 10, 0.0, 10, (1, 3, 5)))


def test_acu_is_that_of_the_paper():
  """QwQ-32B on GSM8K in CoT-Valve: 95.1 % with 741 tokens is 0.40 per 100."""
  found = 100 * efficiency.acu(0.951, 32_000_000_000, 741)
  assert found == pytest.approx(0.401, abs=5e-4)
  assert math.isnan(efficiency.acu(0.5, 10, 0))


def sum_of_budgets(correct, thinking, limit):
  """The sum, as the paper writes it: over budgets, then over responses."""
  total = 0.0
  for budget in range(limit + 1):
    for row, tokens in zip(correct, thinking, strict=True):
      for is_right, count in zip(row, tokens, strict=True):
        total += bool(is_right and count < budget) / np.size(correct)
  return total / limit


def test_auc_by_hand():
  correct, thinking = np.array([[1, 1], [0, 1]]), np.array([[0, 4], [0, 99]])
  # (1 + (10 - 4) / 10 + 0 + 0) / 4.
  assert efficiency.auc(correct, thinking, 10) == pytest.approx(0.4)


@pytest.mark.parametrize('limit', [1, 7, 40])
def test_auc_is_the_sum_over_budgets(limit):
  rng = np.random.default_rng(limit)
  correct = rng.random((6, 3)) < 0.6
  thinking = rng.integers(0, 50, (6, 3))
  found = efficiency.auc(correct, thinking, limit)
  assert found == pytest.approx(sum_of_budgets(correct, thinking, limit))


def test_auc_of_the_extremes():
  ones = np.ones((2, 2))
  assert efficiency.auc(ones, np.zeros((2, 2), int), 5) == 1
  assert efficiency.auc(ones, np.full((2, 2), 5), 5) == 0
  assert efficiency.auc(0 * ones, np.zeros((2, 2), int), 5) == 0
  with pytest.raises(ValueError, match='limit=0; at least 1 token'):
    efficiency.auc(ones, ones, 0)


def test_the_curve_has_its_budgets():
  correct, thinking = np.array([[1, 1, 0, 1]]), np.array([[0, 4, 1, 8]])
  found = efficiency.auc_curve(correct, thinking, 8)
  assert found['limit'] == 8
  assert found['budgets'] == list(range(9))
  # Fewer than the budget: what thinks 8 tokens is never within 8.
  assert found['accuracy'] == [0, *[0.25] * 4, *[0.5] * 4]
  assert found['value'] == efficiency.auc(correct, thinking, 8)
  many = efficiency.auc_curve(correct, thinking, 32_000)
  assert (many['budgets'][0], many['budgets'][-1]) == (0, 32_000)
  assert len(many['budgets']) == len(many['accuracy']) == 17


@pytest.mark.parametrize(
  ('target', 'flexible', 'inside', 'outside'),
  [
    (10, False, (1, 20), (0, 21)),
    (80, False, (71, 90), (70, 91)),
    (80, True, (61, 100), (60, 101)),
    (150, False, (131, 170), (130, 171)),
    (300, True, (201, 400), (200, 401)),
    (700, False, (631, 770), (630, 771)),
    (math.inf, False, (801, 10**6), (800, 0)),
    (math.inf, True, (801, 10**6), (800, 0)),
    # None of Ruler's: a tenth and a fifth.
    (1000, False, (901, 1100), (900, 1101)),
    (1000, True, (801, 1200), (800, 1201)),
  ],
)
def test_intervals_are_open_below_and_closed_above(
  target, flexible, inside, outside
):
  low, high = efficiency.ruler_interval(target, flexible)
  assert all(low < length <= high for length in inside)
  assert not any(low < length <= high for length in outside)


def test_target_match_by_hand():
  lengths = np.array([[60, 61], [70, 71], [90, 100]])
  found = efficiency.target_match(lengths, 80)
  # 71 and 90; 61, 70, 71, 90 and 100.
  assert found == {'pm': pytest.approx(2 / 6), 'fm': pytest.approx(5 / 6)}
  with pytest.raises(ValueError, match='target=0'):
    efficiency.target_match(lengths, 0)


def test_yap_by_hand():
  scores = efficiency.yap_score(np.array([[5, 20], [1, 2]]), [[3], [4]])
  assert scores.tolist() == [[2, 17], [0, 0]]
  # Medians 2 and 30, whatever the number of responses.
  found = efficiency.yap_index({'a': [0, 2, 90], 'b': [30]})
  assert found == 16
