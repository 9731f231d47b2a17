"""Truncation at the ends of its ranges, and what is compiled."""

import functools

import jax
import numpy as np
import pytest

from lrm_jax.models.output_head import ABSENT
from lrm_jax.sampler import truncation
from lrm_jax.sampler.truncation_rules import Rules
from tests.sampler import truncation_cases as cases

# --- The ends ---


@pytest.mark.parametrize('absent', [ABSENT, -np.inf])
@pytest.mark.parametrize('name', cases.NUMBERS)
def test_ids_that_do_not_exist_change_nothing(name, absent):
  scores = cases.laws(50, 40, 6)
  padded = np.pad(scores, ((0, 0), (0, 24)), constant_values=absent)
  rules = Rules(**{name: cases.NUMBERS[name][0]})
  for temperature in (1e-3, 1.0, 1e6):
    found = cases.as_sets(cases.truncate(padded, temperature, rules, most=None))
    whole = cases.as_sets(cases.truncate(scores, temperature, rules, most=None))
    for ours, theirs in zip(found, whole, strict=True):
      assert ours.keys() == theirs.keys()
      np.testing.assert_allclose(
        list(ours.values()), list(theirs.values()), atol=1e-5
      )


def test_without_rules_ids_that_do_not_exist_are_not_kept():
  scores = np.float32([ABSENT, 1, ABSENT, 2])
  kept = cases.truncate(scores, 1.0, Rules(), most=3)
  np.testing.assert_array_equal(kept.ids[:2], [3, 1])
  np.testing.assert_array_equal(kept.is_kept, [True, True, False])
  np.testing.assert_allclose(kept.mass, 1, rtol=1e-6)


@pytest.mark.parametrize(
  ('settings', 'expected'),
  [
    ({'top_k': 3}, 8),
    ({'top_p': 0.3}, 3),  # 0, 1/8, 2/8 come before
    ({'min_p': 1.0}, 8),
    ({'typical': 0.1}, 8),
    ({'epsilon': 0.9}, 8),
    ({'eta': 0.9}, 8),
    ({'top_n_sigma': 0.01}, 8),
    ({'top_n_sigma': np.inf}, 8),
    ({'top_h': 0.7}, 4),  # ln 4 / ln 8 = 2/3
    ({'top_h_cumulative': 0.45}, 3),  # 3/8
  ],
)
def test_equal_logits(settings, expected):
  """Rules that count take the lower ids, the others all."""
  kept = cases.kept_by(np.full(8, 7.0), **settings)
  assert kept == list(range(expected))


@pytest.mark.parametrize('name', cases.NUMBERS)
def test_a_certain_token(name):
  """0 ln 0 is 0."""
  scores = np.where(np.arange(6) == 4, 500.0, 0.0)
  number = 0.5 if name != 'top_k' else 1
  kept = cases.truncate(
    np.float32(scores), 1.0, Rules(**{name: number}), most=None
  )
  assert cases.as_sets(kept) == [{4: 0.0}]
  assert kept.mass == 1


@pytest.mark.parametrize('name', cases.NUMBERS)
@pytest.mark.parametrize('temperature', [1e-30, 1e-3, 1e6, 1e30])
def test_extreme_temperatures(name, temperature):
  scores = cases.laws(50, 40, 7)
  rules = Rules(**{name: cases.NUMBERS[name][0]})
  kept = cases.truncate(scores, np.float32(temperature), rules, most=None)
  assert np.all(np.any(kept.is_kept, axis=-1))
  assert np.all(kept.mass > 0) and not np.any(np.isnan(kept.logp))
  total = np.sum(np.exp(kept.logp), axis=-1)
  np.testing.assert_allclose(total, 1, rtol=1e-5)
  if temperature == 1e-30:
    np.testing.assert_array_equal(kept.logp[:, 0], 0)


def test_temperature_zero_is_the_law_at_one():
  """In its own row alone."""
  scores = cases.laws(4, 30)
  rules = Rules(top_p=0.8)
  found = cases.truncate(scores, np.float32([0, 0.5, 0, 1]), rules, most=None)
  expected = cases.truncate(
    scores, np.float32([1, 0.5, 1, 1]), rules, most=None
  )
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  np.testing.assert_array_equal(found.ids[:, 0], scores.argmax(axis=-1))


@pytest.mark.parametrize('name', ['top_p', 'top_h', 'top_h_cumulative'])
@pytest.mark.parametrize('number', [0.1, 0.9, 0.999999, 1 - 2**-24])
def test_prefixes_have_no_holes(name, number):
  """Tails of ids whose probability is smaller than the rounding of a sum."""
  scores = np.zeros((2, 50_000), np.float32)
  scores[:, :3] = [[16, 15, 14], [25, 24, 23]]
  scores -= np.linspace(0, 1e-3, scores.shape[1], dtype=np.float32)
  kept = cases.truncate(scores, 1.0, Rules(**{name: number}), most=None).is_kept
  count = np.sum(kept, axis=-1, keepdims=True)
  np.testing.assert_array_equal(kept, np.arange(50_000) < count)
  assert np.all(count >= 1)


@pytest.mark.parametrize('name', ['top_p', 'top_h', 'top_h_cumulative'])
def test_prefixes_of_random_laws_have_no_holes(name):
  """Sums that are equal but for rounding go up and down along some rows."""
  scores = cases.laws(200, 2000, 11)
  for number in np.linspace(0.05, 0.999999, 24, dtype=np.float32):
    rules = Rules(**{name: number})
    kept = cases.truncate(scores, 1.0, rules, most=None).is_kept
    count = np.sum(kept, axis=-1, keepdims=True)
    np.testing.assert_array_equal(kept, np.arange(2000) < count)


def test_the_mass_of_all_is_not_above_one():
  """The two sums of it are of different orders."""
  mass = cases.truncate(cases.laws(1000, 60, 13), 1.0, Rules(), most=None).mass
  assert np.all(mass <= 1)
  np.testing.assert_allclose(mass, 1, rtol=1e-6)


def test_top_k_beyond_the_bound_and_the_vocabulary():
  assert cases.kept_by(cases.HALVES, most=2, top_k=4) == [0, 2]
  assert cases.kept_by(cases.HALVES, top_k=400) == [0, 1, 2, 3]
  # Equal to the third, but the bound is there first.
  assert cases.kept_by(cases.HALVES, most=3, top_k=3) == [0, 1, 2]


def test_a_bound_below_one_is_refused():
  with pytest.raises(ValueError, match='most=0 must be at least 1'):
    truncation.truncate(np.zeros(4, np.float32), 1.0, Rules(), 0)


# --- Compilation ---


def test_new_numbers_do_not_compile():
  traces = []

  @functools.partial(jax.jit, static_argnames='most')
  def counted(scores, temperature, rules, most):
    traces.append(rules)
    return truncation.truncate(scores, temperature, rules, most)

  scores = cases.laws(6, 30)
  sizes = set()
  for k, p in ((1, 0.1), (5, 0.5), (0, 1.0)):
    rules = Rules(
      top_k=np.full(6, k, np.int32), top_p=np.full(6, p, np.float32)
    )
    kept = counted(scores, np.full(6, 0.5 + p, np.float32), rules, most=20)
    sizes.add(int(np.sum(kept.is_kept)))
  assert len(traces) == 1 and len(sizes) == 3
  counted(scores, np.ones(6, np.float32), rules._replace(top_k=None), most=20)
  assert len(traces) == 2


def test_rules_that_are_off_are_not_computed():
  text = lambda rules: str(
    jax.make_jaxpr(lambda z: truncation.truncate(z, 1.0, rules, None))(
      cases.laws(2, 8)
    )
  )
  assert 'cumsum' not in text(Rules(min_p=0.1))
  assert 'cumsum' in text(Rules(top_p=0.1))


@pytest.mark.parametrize('most', [None, 5])
def test_there_is_one_sort(most):
  rules = Rules(**cases.MILD)
  jaxpr = str(
    jax.make_jaxpr(lambda z: truncation.truncate(z, 1.0, rules, most))(
      cases.laws(2, 8)
    )
  )
  assert jaxpr.count('top_k[') == 1 and 'sort[' not in jaxpr


@pytest.mark.skipif(
  jax.default_backend() != 'cpu', reason='names are of XLA CPU'
)
@pytest.mark.parametrize('shape', [(4, 2000), (2, 2, 2000)])
@pytest.mark.parametrize('settings', [{}, {'top_p': 0.9}, cases.MILD])
def test_a_bound_spares_the_sort_of_the_vocabulary(settings, shape):
  """XLA turns top_k into a sort of all when it can merge a slice into it."""
  program = jax.jit(
    lambda scores: truncation.truncate(scores, 1.0, Rules(**settings), 64)
  )
  text = program.lower(np.zeros(shape, np.float32)).compile().as_text()
  assert ' sort(' not in text and 'TopK' in text


def test_zero_comes_before_minus_zero():
  scores = np.float32([-0.0, 0.0, -0.0, 0.0])
  for most in (None, 3):
    kept = cases.truncate(scores, 1.0, Rules(), most=most)
    np.testing.assert_array_equal(kept.ids, [1, 3, 0, 2][:most])
  # Equal all the same, for a rule that does not count.
  assert cases.kept_by(scores, top_k=1) == [0, 1, 2, 3]
