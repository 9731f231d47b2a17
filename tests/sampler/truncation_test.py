"""Truncation rules: by hand, and against loops in float64."""

import itertools

import jax
import numpy as np
import pytest

from lrm_jax.sampler import truncation
from lrm_jax.sampler.truncation_rules import Rules
from tests.sampler import truncation_cases as cases
from tests.sampler import truncation_reference as reference

# --- By hand ---


@pytest.mark.parametrize(
  ('settings', 'expected'),
  [
    ({}, [0, 1, 2, 3]),
    # The mass before each is 0, 1/2, 3/4, 7/8.
    ({'top_p': 0.45}, [2]),
    ({'top_p': 0.7}, [0, 2]),
    ({'top_p': 0.8}, [0, 1, 2]),
    ({'top_p': 0.9}, [0, 1, 2, 3]),
    # Of that mass or more.
    ({'top_p': 0.5}, [2]),
    ({'top_p': 0.75}, [0, 2]),
    # At least 0.15, 0.2, 0.3.
    ({'min_p': 0.2}, [0, 1, 2, 3]),
    ({'min_p': 0.3}, [0, 2]),
    ({'min_p': 0.6}, [2]),
    # The third equals the fourth.
    ({'top_k': 1}, [2]),
    ({'top_k': 2}, [0, 2]),
    ({'top_k': 3}, [0, 1, 2, 3]),
    # |1, 2, 3, 3 - 1.75| = 0.75, 0.25, 1.25, 1.25: the second comes first,
    # and without the likeliest.
    ({'typical': 0.2}, [0]),
    ({'typical': 0.3}, [0, 2]),
    ({'typical': 0.74}, [0, 2]),
    ({'typical': 0.75}, [0, 2]),
    ({'typical': 0.76}, [0, 1, 2, 3]),
    ({'epsilon': 0.1}, [0, 1, 2, 3]),
    ({'epsilon': 0.2}, [0, 2]),
    ({'epsilon': 0.25}, [0, 2]),
    ({'epsilon': 0.9}, [2]),
    # exp(-H) = 0.2973. sqrt(0.3) * 0.2973 = 0.163; with all of it under the
    # root it would be 0.299, and drop 1/4.
    ({'eta': 0.3}, [0, 2]),
    # sqrt(0.13) * 0.2973 = 0.107, where 0.13 would drop 1/8.
    ({'eta': 0.13}, [0, 1, 2, 3]),
    # sqrt(0.99) * 0.2973 = 0.296.
    ({'eta': 0.99}, [2]),
    # Entropies of the prefixes: 0, 0.6365, 0.9557, 1.2130.
    ({'top_h': 0.51}, [2]),
    ({'top_h': 0.53}, [0, 2]),
    ({'top_h': 0.78}, [0, 2]),
    ({'top_h': 0.80}, [0, 1, 2]),
    # Their parts of the sum: 0.5, 1, 1.375 and 1.75 of 1.75.
    ({'top_h_cumulative': 0.1}, [2]),
    ({'top_h_cumulative': 0.56}, [2]),
    ({'top_h_cumulative': 0.58}, [0, 2]),
    ({'top_h_cumulative': 0.77}, [0, 2]),
    ({'top_h_cumulative': 0.80}, [0, 1, 2]),
  ],
)
def test_by_hand(settings, expected):
  assert cases.kept_by(cases.HALVES, **settings) == expected


@pytest.mark.parametrize('temperature', [0.1, 1.0, 10.0])
@pytest.mark.parametrize(
  ('n', 'expected'), [(0.1, [1]), (1.5, [0, 1]), (2.2, [0, 1, 2, 3])]
)
def test_top_n_sigma_by_hand(n, expected, temperature):
  """Mean 2, squares 0 + 4 + 1 + 1: of a divisor of 3 the deviation is 1.414.

  4 - 1.5 * 1.414 = 1.88. A divisor of 4 would make 2.16, and keep one id. The
  temperature plays no part.
  """
  logits = [2, 4, 1, 1]
  assert cases.kept_by(logits, temperature, top_n_sigma=n) == expected


def test_what_is_returned_by_hand():
  kept = cases.truncate(
    np.float32(cases.HALVES), 1.0, Rules(top_p=0.7), most=None
  )
  np.testing.assert_array_equal(kept.ids, [2, 0, 1, 3])
  np.testing.assert_array_equal(kept.is_kept, [True, True, False, False])
  np.testing.assert_allclose(kept.logp[:2], np.log([2 / 3, 1 / 3]), rtol=1e-6)
  np.testing.assert_array_equal(kept.logp[2:], -np.inf)
  np.testing.assert_allclose(kept.mass, 0.75, rtol=1e-6)
  assert (kept.ids.dtype, kept.logp.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize(
  ('settings', 'temperature', 'expected'),
  [
    # 4/7 and 3/7 are left, and 4/7 is enough; 0.4 was not.
    ({'top_k': 2, 'top_p': 0.5}, 1.0, [0]),
    # min-p leaves 4/7, 3/7; top-k first would do the same, top-p first not.
    ({'min_p': 0.6, 'top_p': 0.55}, 1.0, [0]),
    # 4/9, 3/9, 2/9 are left by top-p: 2/9 is above 0.21, 0.2 was not.
    ({'top_p': 0.85, 'epsilon': 0.21}, 1.0, [0, 1, 2]),
    # The squares' law is 16, 9, 4, 1 of 30: 0.53, 0.3, 0.13, 0.03.
    ({'top_p': 0.5}, 0.5, [0]),
    ({'epsilon': 0.1}, 0.5, [0, 1, 2]),
  ],
)
def test_each_rule_sees_the_law_renormalised(settings, temperature, expected):
  logits = np.log([0.4, 0.3, 0.2, 0.1])
  assert cases.kept_by(logits, temperature, **settings) == expected


def test_typical_then_epsilon_keeps_the_likeliest_of_what_is_left():
  """Typical may have dropped the likeliest of all.

  H = 1.504 and -ln p = 0.916, 1.833, 1.897, 1.897, 1.966: the nearest are 1,
  then 2 and 3 together. They are left with 0.348, 0.326 and 0.326.
  """
  logits = np.log([0.4, 0.16, 0.15, 0.15, 0.14])
  assert cases.kept_by(logits, typical=0.2) == [1, 2, 3]
  assert cases.kept_by(logits, typical=0.2, epsilon=0.33) == [1]
  assert cases.kept_by(logits, typical=0.2, epsilon=0.5) == [1]
  assert cases.kept_by(logits, typical=0.2, eta=0.99) == [1]


def test_typical_finds_the_exact_bound():
  """Distances of 2 + i / 2^20, some four roundings apart.

  The first has 0.667 of the mass, each other one 0.033.
  """
  logits = np.append(0, -3 - np.arange(10) * 2.0**-20)
  assert cases.kept_by(logits, typical=0.78) == [0, 1, 2, 3, 4]


def test_the_bound_is_the_first_rule():
  """Of 0.4, 0.3, 0.2, 0.1 the two largest are 4/7 and 3/7."""
  logits = np.log([0.1, 0.4, 0.2, 0.3])
  kept = cases.truncate(np.float32(logits), 1.0, Rules(top_p=0.5), most=2)
  np.testing.assert_array_equal(kept.ids, [1, 3])
  np.testing.assert_array_equal(kept.is_kept, [True, False])
  np.testing.assert_allclose(kept.mass, 0.4, rtol=1e-6)
  # But not for the deviation, which is of all: 0.19 without the others.
  assert cases.kept_by([2, 4, 1, 1], most=2, top_n_sigma=1.5) == [0, 1]


# --- Against the reference ---


@pytest.mark.parametrize('most', [None, 20, 500])
@pytest.mark.parametrize('name', cases.NUMBERS)
def test_one_rule(name, most):
  scores = cases.laws(100, 60)
  for number in cases.NUMBERS[name]:
    cases.assert_is_reference(scores, 1.3, {name: number}, most)


def test_the_order_is_that_of_the_fields():
  assert tuple(truncation._RULES) == Rules._fields == tuple(reference.NEUTRAL)
  assert set(cases.NUMBERS) == set(Rules._fields)


@pytest.mark.parametrize('most', [None, 30])
def test_all_rules_at_once(most):
  cases.assert_is_reference(cases.laws(200, 60, 1), 0.8, cases.MILD, most)


@pytest.mark.parametrize(
  ('first', 'second'), [*itertools.combinations(cases.NUMBERS, 2)]
)
def test_pairs_of_rules(first, second):
  """In one program: the others are on, at their neutral numbers."""
  settings = {k: float(v) for k, v in reference.NEUTRAL.items()}
  settings |= {first: cases.MILD[first], second: cases.MILD[second]}
  settings['top_k'] = np.int32(settings['top_k'])
  cases.assert_is_reference(cases.laws(40, 60, 2), 1.0, settings)


def test_every_row_has_its_own_numbers():
  rows = 90
  random = np.random.default_rng(3)
  settings = {}
  for name, mild in cases.MILD.items():
    choices = [reference.NEUTRAL[name], mild, cases.NUMBERS[name][0]]
    kind = np.int32 if name == 'top_k' else np.float32
    settings[name] = random.choice(choices, rows).astype(kind)
  temperature = random.uniform(0.3, 2, rows).astype(np.float32)
  cases.assert_is_reference(cases.laws(rows, 60, 3), temperature, settings)


def test_leading_axes_are_rows():
  scores = cases.laws(24, 30)
  settings = Rules(top_k=np.arange(1, 25), typical=np.linspace(0.1, 1, 24))
  flat = cases.truncate(scores, 1.0, settings, most=16)
  fold = lambda x: x.reshape(2, 3, 4, *x.shape[1:])
  found = cases.truncate(
    fold(scores), np.ones((2, 3, 4)), jax.tree.map(fold, settings), most=16
  )
  jax.tree.map(np.testing.assert_array_equal, found, jax.tree.map(fold, flat))


@pytest.mark.parametrize('name', cases.NUMBERS)
def test_neutral_numbers_leave_all(name):
  scores = cases.laws(50, 300) * 5
  neutral = reference.NEUTRAL[name]
  # None of these ids is so unlikely that its float32 probability is not 0.
  found = cases.truncate(scores, 0.5, Rules(**{name: neutral}), most=None)
  expected = cases.truncate(scores, 0.5, Rules(), most=None)
  assert np.all(found.is_kept)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_top_h_is_the_longest_prefix_that_the_entropy_allows():
  """By the definition, over all prefixes, without the greedy search."""
  scores = cases.laws(200, 30, 4)
  found = cases.as_sets(
    cases.truncate(scores, 1.0, Rules(top_h=0.7), most=None)
  )
  sizes = set()
  for row, kept in zip(scores.astype(np.float64), found, strict=True):
    p = np.sort(np.exp(row) / np.exp(row).sum())[::-1]
    entropies = []
    for size in range(1, len(p) + 1):
      q = p[:size] / p[:size].sum()
      entropies.append(-np.sum(q * np.log(q)))
    allowed = [h <= 0.7 * entropies[-1] for h in entropies]
    assert len(kept) == sum(allowed) == max(np.flatnonzero(allowed)) + 1
    sizes.add(len(kept))
  assert len(sizes) > 4


@pytest.mark.parametrize('temperature', [0.7, 1.0, 2.0])
@pytest.mark.parametrize('alpha', [0.2, 0.3, 0.4, 0.5, 0.8])
def test_top_h_is_the_greedy_search_of_the_paper(alpha, temperature):
  """Token by token: add, measure, and take the last one back to stop."""
  scores = cases.laws(1000, 30, 10)
  kept = cases.truncate(scores, temperature, Rules(top_h=alpha), most=None)
  sizes = set()
  for row, found in zip(scores, cases.as_sets(kept), strict=True):
    weights = np.exp(row.astype(np.float64) / temperature)
    law = dict(enumerate(weights / weights.sum()))
    limit = alpha * reference.entropy(law)
    chosen = []
    for best in np.argsort(-row, kind='stable').tolist():
      chosen.append(best)
      entropy = reference.entropy(reference.normalized(law, chosen))
      if entropy > limit:
        chosen.pop()
        break
    assert set(found) == set(chosen)
    sizes.add(len(chosen))
  assert len(sizes) > 1


def test_the_cumulative_rule_keeps_more_than_the_paper():
  scores = cases.laws(500, 300, 5)
  count = lambda **rule: np.mean(
    np.sum(
      cases.truncate(scores, 1.0, Rules(**rule), most=100).is_kept, axis=-1
    )
  )
  assert 1.5 < count(top_h_cumulative=0.4) / count(top_h=0.4) < 3
