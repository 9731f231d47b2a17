"""Credit: by hand, the loops, and what gets none."""

import functools
import math

import jax
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import credit, tables
from tests.objectives import reference
from tests.objectives.reference import conflicts as expected_conflicts
from tests.objectives.reference import credit as expected_credit

EXPECTED = vars(expected_conflicts) | vars(expected_credit)
KEYWORDS = {
  'as_it_is': {},
  'gtpo': {'entropy_limit': 0.7, 'entropy_scale': 0.1},
  'gtpo_released': {'entropy_limit': 0.7, 'entropy_scale': 0.1},
  'd3s': {
    'rollouts_first': 0.4,
    'rollouts_last': 0.9,
    'tokens_first': 0.3,
    'tokens_last': 1.0,
    'steps': 10,
  },
  'stratified': {
    'measure': 'paragraphs',
    'width': 2.0,
    'share': 0.8,
    'eps': 1e-6,
  },
  'copo': {
    'sharpness': 5.0,
    'middle': 1.0,
    'consistency': 1.0,
    'eps': 1e-6,
  },
}
EAGER = {
  name: functools.partial(tables.CREDIT[name], **keywords)
  for name, keywords in KEYWORDS.items()
}
EVERY = {name: jax.jit(function) for name, function in EAGER.items()}


def random(seed, step=4):
  """Three groups of four; the first sample is dropped."""
  rng = np.random.default_rng(seed)
  shape, tokens = (3, 4), 6
  # Responses that begin and end alike often enough.
  ids = rng.integers(0, 2, (*shape, tokens)) * (rng.random((*shape, 1)) < 0.7)
  rollouts = reference.rollouts(
    correct=rng.integers(0, 2, shape),
    length=rng.integers(1, tokens + 1, shape),
    tokens=tokens,
    response_ids=ids,
    step=np.full(3, step),
    measures={
      'paragraphs': rng.integers(0, 5, shape),
      'answer_class': rng.integers(-1, 2, shape),
    },
  )
  mask = rollouts.mask
  mask[0, 0] = 0
  advantage = np.float32(rng.normal(size=shape)[..., None] * mask)
  entropy = np.float32(rng.exponential(0.6, (*shape, tokens)) * mask)
  return rollouts, advantage, mask, entropy


def group(words, advantages, **fields):
  """One group of responses that are spelled; an advantage each."""
  length = max(map(len, words))
  rollouts = reference.rollouts(
    correct=[np.greater(advantages, 0)],
    length=[[len(word) for word in words]],
    response_ids=[[[*map(ord, word.ljust(length))] for word in words]],
    **fields,
  )
  advantage = np.float32(advantages)[None, :, None] * rollouts.mask
  return rollouts, advantage, rollouts.mask


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('seed', range(4))
def test_equals_the_loops(name, seed):
  given = random(seed)
  found, kept = EVERY[name](*given)
  expected, expected_mask = EXPECTED[name](*given, **KEYWORDS[name])
  assert len(found) == len(expected)
  for one, other in zip(found, expected, strict=True):
    assert one.dtype == np.float32
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(kept, expected_mask)
  assert np.abs(expected[0]).max() > 0.1


@pytest.mark.parametrize('name', EVERY)
def test_groups_may_come_in_any_order(name):
  """Samples too; what is dropped may be anything."""
  rollouts, advantage, mask, entropy = random(1)
  order = np.array([2, 0, 1])
  samples = np.array([3, 1, 0, 2])
  turn = lambda x: x[order][:, samples] if x.ndim > 1 else x[order]
  problems = ('prompt_ids',)
  turned = type(rollouts)(
    **{
      field: value[order] if field in problems else jax.tree.map(turn, value)
      for field, value in vars(rollouts).items()
    }
  )
  found, kept = EVERY[name](rollouts, advantage, mask, entropy)
  again, others = EVERY[name](
    turned, turn(advantage), turn(mask), turn(entropy)
  )
  np.testing.assert_array_equal(turn(np.asarray(kept)), others)
  for one, other in zip(found, again, strict=True):
    np.testing.assert_allclose(turn(np.asarray(one)), other, atol=1e-5)


@pytest.mark.parametrize('name', EVERY)
def test_nothing_to_train_is_no_advantage(name):
  rollouts, advantage, mask, entropy = random(2)
  empty = np.zeros_like(mask)
  found, kept = EVERY[name](rollouts, advantage * 0, empty, entropy * 0)
  assert not np.asarray(kept).any()
  for one in found:
    np.testing.assert_array_equal(np.asarray(one) * empty, 0)
    assert np.isfinite(one).all()


# --- D3S ---


def chosen(values, share, tokens=1.0, entropy=None):
  """Which of one group's responses of one token stay."""
  rollouts, advantage, mask = group(['x'] * len(values), values)
  keys = {'rollouts_first': share, 'tokens_first': tokens}
  entropy = mask if entropy is None else np.float32(entropy)[None, :, None]
  _, kept = credit.d3s(
    rollouts,
    advantage,
    mask,
    entropy,
    rollouts_last=share,
    tokens_last=tokens,
    steps=1,
    **keys,
  )
  return np.flatnonzero(np.asarray(kept)).tolist()


def test_d3s_takes_both_ends():
  assert chosen([1, 0.5, -0.25, -3], 0.5) == [0, 3]
  # Variances of {1, -3, -2} and {1, 0.9, -3}: 2.89 and 3.47.
  assert chosen([1, 0.9, -3, -2], 0.75) == [0, 1, 2]
  assert chosen([1, 0.5, -0.25, -3], 1.0) == [0, 1, 2, 3]


def test_d3s_takes_the_tokens_with_the_largest_product():
  # |A| H: 1, 1.5, 0.5, 3.
  assert chosen([1, 0.5, -0.25, -3], 1.0, 0.5, [1, 3, 2, 1]) == [1, 3]


def test_d3s_relaxes_with_the_steps():
  counts = []
  for step in (1, 6, 11, 50):
    rollouts, advantage, mask, entropy = random(0, step)
    keys = KEYWORDS['d3s'] | {'tokens_first': 1.0}
    _, kept = credit.d3s(rollouts, advantage, mask, entropy, **keys)
    counts.append(int(np.asarray(kept).any(-1).sum()))
  # Of 11: ceil(4.4), ceil(0.65 * 11), ceil(9.9), and no further.
  assert counts == [5, 8, 10, 10]


# --- Stratified ---


def test_stratified_by_hand():
  # Strata {0, 1} and {2}; of the first mean 0, deviation sqrt 2.
  rollouts, advantage, mask = group(
    ['x', 'x', 'x'], [1, -1, 0.5], measures={'paragraphs': [[0, 1, 2]]}
  )
  (found,), _ = credit.stratified(
    rollouts,
    advantage,
    mask,
    None,
    measure='paragraphs',
    width=2.0,
    share=0.5,
    eps=0.0,
  )
  half = math.sqrt(0.5) / 2
  np.testing.assert_allclose(
    np.ravel(found), [half + 0.5, -half - 0.5, 0.25], rtol=1e-6
  )


def test_stratified_is_of_the_rewards_themselves():
  """Whatever the group's own mean and scale were."""
  rollouts, advantage, mask, _ = random(3)
  keys = KEYWORDS['stratified'] | {'share': 1.0, 'eps': 0.0}
  (one,), _ = credit.stratified(rollouts, advantage, mask, None, **keys)
  (other,), _ = credit.stratified(
    rollouts, (3 * advantage + 7) * mask, mask, None, **keys
  )
  np.testing.assert_allclose(one, other, atol=1e-4)


# --- COPO ---


def test_copo_by_hand():
  """Two groups: one agrees on a wrong answer, one is split."""
  rollouts = reference.rollouts(
    correct=[[0, 0], [1, 0]],
    length=[[1, 1], [1, 1]],
    measures={'answer_class': [[5, 5], [1, 2]]},
  )
  advantage = np.float32([[[0], [0]], [[1], [-1]]])
  (local, others), _ = credit.copo(
    rollouts,
    advantage,
    rollouts.mask,
    None,
    sharpness=math.log(3),
    middle=1.0,
    eps=0.0,
  )
  # H = 0 and 1 bit, w = 1/4 and 1/2. g = 0 and 1/2 (1 - 1/2 * 1) = 1/4, whose
  # deviation is 1/4 / sqrt 2: G = -+1 / sqrt 2.
  np.testing.assert_allclose(np.ravel(local), [0, 0, 0.5, -0.5], rtol=1e-6)
  each = math.sqrt(0.5)
  expected = [-0.75 * each] * 2 + [0.5 * each] * 2
  np.testing.assert_allclose(np.ravel(others), expected, rtol=1e-5)


def test_copo_without_other_groups_is_local():
  rollouts, advantage, mask = group(
    ['x', 'x'], [1, -1], measures={'answer_class': [[1, 2]]}
  )
  (local, others), _ = credit.copo(
    rollouts, advantage, mask, None, sharpness=20.0, middle=0.5
  )
  np.testing.assert_array_equal(others, 0)
  np.testing.assert_allclose(np.ravel(local), [1, -1], rtol=1e-4)


@pytest.mark.parametrize(
  ('name', 'keys', 'message'),
  [
    ('gtpo', {'entropy_limit': -1.0}, 'gtpo: entropy_limit = -1.0; give at '),
    (
      'gtpo_released',
      {'entropy_scale': -1.0},
      'gtpo_released: entropy_scale = -1.0; give at least 0',
    ),
    ('d3s', {'rollouts_first': 0.0}, 'd3s: rollouts_first = 0.0; give one ab'),
    ('d3s', {'tokens_last': 1.5}, 'd3s: tokens_last = 1.5; give one above 0'),
    ('d3s', {'steps': 0}, 'd3s: steps = 0; give at least 1'),
    ('stratified', {'width': 0.0}, 'stratified: width = 0.0; give one above'),
    ('stratified', {'share': 2.0}, 'stratified: share = 2.0; give one from 0'),
    (
      'stratified',
      {'measure': 'words'},
      "config.objective.credit.stratified: reads the measure 'words', and ",
    ),
    ('copo', {'consistency': 2.0}, 'copo: consistency = 2.0; give one from 0'),
    ('copo', {'sharpness': -1.0}, 'copo: sharpness = -1.0; give at least 0'),
  ],
)
def test_numbers_that_cannot_be(name, keys, message):
  with pytest.raises(UserError) as error:
    tables.CREDIT[name](*random(0), **KEYWORDS[name] | keys)
  assert str(error.value).startswith(message)


def test_equal_responses_of_any_length_stay_equal():
  """A mean of float32 depends on how many it is of; that must not count."""
  length = np.array([[1, 7, 100, 333, 999, 4095, 2, 3, 4, 5, 6, 4096]])
  rollouts = reference.rollouts(
    correct=np.zeros(length.shape),
    length=length,
    measures={'paragraphs': [[0] * 6 + [1] * 6]},
  )
  values = np.float32([[0.1] * 6 + [-1.2345678] * 6])
  advantage = values[..., None] * rollouts.mask
  (found,), _ = credit.stratified(
    rollouts,
    advantage,
    rollouts.mask,
    None,
    measure='paragraphs',
    width=1.0,
    share=1.0,
    eps=0.0,
  )
  np.testing.assert_array_equal(found, 0)
