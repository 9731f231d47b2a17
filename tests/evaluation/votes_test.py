"""avg@k, pass@k and maj@k: by hand, and over every subset."""

import itertools

import numpy as np
import pytest

from lrm_jax.evaluation import votes


def every_subset(row, k, judge):
  """The mean of a judgement over all C(n, k) choices of k samples."""
  found = [judge(chosen) for chosen in itertools.combinations(row, k)]
  return sum(found) / len(found)


def majority(chosen):
  """Whether class 0 leads, shared with those that lead too."""
  counts = {}
  for each in chosen:
    if each >= 0:
      counts[each] = counts.get(each, 0) + 1
  most = max(counts.values(), default=0)
  leaders = [each for each, count in counts.items() if count == most]
  return (0 in leaders) / len(leaders) if leaders else 0.0


def verdicts(right, n):
  return np.array([[True] * right + [False] * (n - right)])


def test_pass_at_k_by_hand():
  # 1 - C(13, 4) / C(16, 4) = 1 - 715 / 1820.
  assert votes.pass_at_k(verdicts(3, 16), 4) == pytest.approx(0.6071428571)
  # 1 - C(2, 2) / C(4, 2) = 5/6 and 0: their mean.
  both = np.concatenate([verdicts(2, 4), verdicts(0, 4)])
  assert votes.pass_at_k(both, 2) == pytest.approx(5 / 12)


@pytest.mark.parametrize('n', [1, 2, 5, 8])
def test_pass_at_k_over_every_subset(n):
  for right in range(n + 1):
    row = verdicts(right, n)
    for k in range(1, n + 1):
      expected = every_subset(row[0], k, lambda chosen: float(any(chosen)))
      assert votes.pass_at_k(row, k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_one_is_the_accuracy_and_pass_at_n_is_any():
  correct = np.random.default_rng(0).random((50, 7)) < 0.3
  assert votes.pass_at_k(correct, 1) == pytest.approx(correct.mean())
  assert votes.pass_at_k(correct, 7) == pytest.approx(correct.any(1).mean())
  assert votes.avg_at_k(correct) == pytest.approx(correct.mean())


def test_pass_at_k_of_very_many_samples_stays_in_range():
  correct = verdicts(1, 100_000)
  assert votes.pass_at_k(correct, 50_000) == pytest.approx(0.5)
  # Fewer wrong ones than are chosen.
  assert votes.pass_at_k(verdicts(50_001, 100_000), 50_000) == 1.0


def test_maj_at_k_by_hand():
  # Two of three right: any two samples are both right (1 choice of 3: counts
  # 1) or one right and one wrong (2 choices: a tie, 1/2 each).
  row = np.array([[0, 0, 1]])
  assert votes.maj_at_k(row, 1) == pytest.approx(2 / 3)
  assert votes.maj_at_k(row, 2) == pytest.approx((1 + 0.5 + 0.5) / 3)
  assert votes.maj_at_k(row, 3) == 1.0
  # Three lead with two votes each; who says nothing votes for nobody.
  row = np.array([[0, 0, 1, 1, 2, 2, 3, -1, -1, -1]])
  assert votes.maj_at_k(row, 10) == pytest.approx(1 / 3)


@pytest.mark.parametrize('seed', range(4))
def test_maj_at_k_over_every_subset(seed):
  rng = np.random.default_rng(seed)
  for _ in range(25):
    n, most = int(rng.integers(1, 10)), int(rng.integers(0, 5))
    row = rng.integers(-1, most + 1, n)
    for k in range(1, n + 1):
      expected = every_subset(row.tolist(), k, majority)
      assert votes.maj_at_k(row[None], k) == pytest.approx(expected, abs=1e-12)


def test_maj_at_k_against_many_draws():
  """More samples than there is time for all subsets of: 6e8 of them."""
  rng = np.random.default_rng(1)
  row = np.array([0] * 10 + [1] * 8 + [2] * 6 + list(range(3, 9)) + [-1] * 2)
  draws = [majority(rng.permutation(row)[:10]) for _ in range(20_000)]
  error = np.std(draws) / np.sqrt(len(draws))
  found = votes.maj_at_k(row[None], 10)
  assert abs(found - np.mean(draws)) < 4 * error
  assert error < 0.004


def test_the_numbers_of_classes_do_not_matter():
  rows = np.array([[0, 7, 7, -1, 3], [0, 1, 1, -1, 2]])
  for k in range(1, 6):
    one, other = (votes.maj_at_k(row[None], k) for row in rows)
    assert one == other


@pytest.mark.parametrize('value', [-1, 1])
def test_nothing_right(value):
  row = np.full((2, 6), value)
  assert [votes.maj_at_k(row, k) for k in (1, 3, 6)] == [0, 0, 0]
  assert votes.pass_at_k(row == 0, 3) == 0


def test_everything_right():
  row = np.zeros((2, 6), int)
  for k in (1, 3, 6):
    assert votes.maj_at_k(row, k) == pytest.approx(1, abs=1e-12)
    assert votes.pass_at_k(row == 0, k) == 1


def test_one_sample_of_one_problem():
  assert votes.pass_curve(np.array([[True]])) == {1: 1.0}
  assert votes.maj_curve(np.array([[-1]])) == {1: 0.0}


def test_curves_have_powers_of_two_and_all():
  assert votes.powers(6) == [1, 2, 4, 6]
  assert votes.powers(8) == [1, 2, 4, 8]
  correct = np.random.default_rng(0).random((5, 6)) < 0.5
  curve = votes.pass_curve(correct)
  assert curve == {k: votes.pass_at_k(correct, k) for k in (1, 2, 4, 6)}
  rows = np.where(correct, 0, 1)
  curve = votes.maj_curve(rows)
  assert curve == {k: votes.maj_at_k(rows, k) for k in (1, 2, 4, 6)}


def test_of_too_many_samples_only_all_vote():
  rows = np.zeros((1, votes.MOST_SAMPLES + 1), int)
  assert votes.maj_curve(rows) == {votes.MOST_SAMPLES + 1: 1.0}
  with pytest.raises(ValueError, match='k < n up to 1000'):
    votes.maj_at_k(rows, 2)
  # The largest that can be counted neither overflows nor loses digits.
  rows = np.array([[0, 1] * 500])
  assert votes.maj_at_k(rows, 500) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize('k', [0, 4])
def test_more_samples_than_there_are(k):
  with pytest.raises(ValueError, match=f'k={k} of 3 samples'):
    votes.pass_at_k(verdicts(1, 3), k)
  with pytest.raises(ValueError, match=f'k={k} of 3 samples'):
    votes.maj_at_k(np.zeros((1, 3), int), k)
