"""Bonuses: by hand, the loops, and what gets nothing."""

import functools

import jax
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import bonuses
from tests.objectives import reference
from tests.objectives.reference import bonuses as expected_bonuses

# Small n-grams, so that random responses repeat some.
KEYWORDS = {
  'repetition': {'n': 3, 'penalty': -0.05, 'discount': 0.9},
  'close_thinking': {},
}
EAGER = {
  name: functools.partial(getattr(bonuses, name), **keywords)
  for name, keywords in KEYWORDS.items()
}
EVERY = {name: jax.jit(function) for name, function in EAGER.items()}


def random(seed, tokens=20):
  rng = np.random.default_rng(seed)
  shape = (3, 4)
  length = rng.integers(1, tokens + 1, shape)
  prefix = rng.integers(-1, 3, shape)
  rollouts = reference.rollouts(
    correct=rng.integers(0, 4, shape) > 0,
    length=length,
    tokens=tokens,
    response_ids=rng.integers(0, 2, (*shape, tokens)),
    thinking_length=rng.integers(0, length),
    think_closed=rng.integers(0, 4, shape) > 0,
    removed=np.where(prefix < 0, 0, rng.integers(0, 9, shape)),
    measures={'answer_prefix': prefix},
  )
  mask = rollouts.mask
  mask[0, 0] = 0
  return rollouts, mask


def letters(text, **fields):
  return reference.rollouts(
    correct=[[1]],
    length=[[len(text)]],
    response_ids=[[[ord(letter) for letter in text]]],
    **fields,
  )


def closed(thinking, removed, prefix, **fields):
  """A right response of ten tokens as a revision left it."""
  values = {'correct': [[1]], 'length': [[10]]} | fields
  return reference.rollouts(
    thinking_length=[[thinking]],
    removed=[[removed]],
    measures={'answer_prefix': [[prefix]]},
    **values,
  )


def test_repetition_literal():
  # abc again at 3, so p is -1/2 on tokens 3, 4 and 5. Backwards: 0 behind
  # it, -1/2, -1/2 - 1/4, -1/2 - 3/8, and then halved.
  rollouts = letters('abcabcd')
  bonus = bonuses.repetition(
    rollouts, rollouts.mask, n=3, penalty=-0.5, discount=0.5
  )
  np.testing.assert_array_equal(
    bonus, [[[-0.109375, -0.21875, -0.4375, -0.875, -0.75, -0.5, 0]]]
  )
  assert bonus.dtype == np.float32


@pytest.mark.parametrize(
  ('discount', 'expected'),
  [(0.0, [0, 0, -1, -1, 0]), (1.0, [-2, -2, -2, -1, 0])],
)
def test_repetition_without_memory_and_without_fading(discount, expected):
  rollouts = letters('ababc')
  bonus = bonuses.repetition(
    rollouts, rollouts.mask, n=2, penalty=-1.0, discount=discount
  )
  np.testing.assert_array_equal(bonus, [[expected]])


def test_repetition_defaults():
  # 300 times the same token: all but the first are in a repeated 40-gram, so
  # k tokens before the end the sum is -0.05 (1 - 0.99^k) / 0.01.
  rollouts = letters('a' * 300)
  defaults = jax.jit(bonuses.repetition)
  bonus = defaults(rollouts, rollouts.mask)
  left = np.minimum(300 - np.arange(300), 299)
  expected = -5 * (1 - 0.99**left)
  expected[0] *= 0.99  # one token before the first penalty
  np.testing.assert_allclose(bonus[0, 0], expected, rtol=1e-5)
  assert bonus.min() > -5
  for length in (40, 41):
    rollouts = letters('a' * length)
    assert defaults(rollouts, rollouts.mask).any() == (length > 40)


def test_repetition_of_right_and_wrong_alike():
  rollouts = reference.rollouts(
    correct=[[1, 0, 0]], length=[[4, 4, 4]], truncated=[[0, 0, 1]]
  )
  bonus = np.asarray(bonuses.repetition(rollouts, rollouts.mask, n=2))
  assert (bonus < 0).all()
  np.testing.assert_array_equal(bonus[0, 1:], bonus[0, :2])


@pytest.mark.parametrize(
  ('thinking', 'removed', 'prefix', 'expected'),
  [
    (6, 2, 6, 0.25),  # 1 - 6/8
    (1, 9, 1, 0.9),
    (6, 0, 6, 0.0),  # the answer came at the very end
    (6, 0, 2, 0.0),  # nothing was removed
    (6, 0, -1, -1.0),  # never reached
    (0, 0, -1, -1.0),  # nothing was thought
    (0, 0, 0, 0.0),
    (9, 1, 9, 0.1),  # `</think>` is the last token
  ],
)
def test_close_thinking_literals(thinking, removed, prefix, expected):
  rollouts = closed(thinking, removed, prefix)
  bonus = bonuses.close_thinking(rollouts, rollouts.mask)
  values = np.zeros((1, 1, 10), np.float32)
  values[..., thinking] = expected
  np.testing.assert_allclose(bonus, values, rtol=1e-6)
  assert bonus.dtype == np.float32


@pytest.mark.parametrize('prefix', [4, -1])
@pytest.mark.parametrize(
  'fields',
  [
    {'correct': [[0]]},
    {'think_closed': [[0]]},
    {'think_closed': [[0]], 'thinking': 10},
  ],
)
def test_close_thinking_of_wrong_and_unclosed(fields, prefix):
  fields = {'thinking': 4} | fields
  rollouts = closed(removed=5, prefix=prefix, **fields)
  assert not bonuses.close_thinking(rollouts, rollouts.mask).any()


def test_close_thinking_needs_its_measure():
  rollouts = reference.rollouts(correct=[[1]], length=[[3]])
  with pytest.raises(UserError) as error:
    bonuses.close_thinking(rollouts, rollouts.mask)
  assert str(error.value) == (
    'config.objective.bonuses.close_thinking: reads the measure '
    "'answer_prefix', and those taken are none; "
    'add it to config.objective.measures'
  )


@pytest.mark.parametrize('discount', [-0.1, 1.1, float('nan')])
def test_repetition_refuses_a_discount_outside_0_to_1(discount):
  rollouts = letters('ab')
  with pytest.raises(UserError) as error:
    bonuses.repetition(rollouts, rollouts.mask, discount=discount)
  assert str(error.value) == f'repetition: discount = {discount}; give 0 to 1'


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_equals_the_loops(name, seed):
  rollouts, mask = random(seed)
  function = getattr(expected_bonuses, name)
  expected = function(rollouts, mask, **KEYWORDS[name])
  assert np.abs(expected).max() > 0.1
  np.testing.assert_allclose(
    EVERY[name](rollouts, mask), expected, rtol=1e-5, atol=1e-6
  )


@pytest.mark.parametrize('name', EVERY)
def test_jit_equals_eager(name):
  rollouts, mask = random(0, tokens=8)
  assert EVERY[name](rollouts, mask).any()
  np.testing.assert_allclose(
    EVERY[name](rollouts, mask), EAGER[name](rollouts, mask), rtol=1e-6
  )


@pytest.mark.parametrize('name', EVERY)
def test_nothing_outside_the_mask(name):
  rollouts, mask = random(1)
  mask[..., [2, 7]] = 0  # holes too
  bonus = np.asarray(EVERY[name](rollouts, mask))
  assert bonus.any()
  assert not bonus[mask == 0].any()
  assert not np.asarray(EVERY[name](rollouts, 0 * mask)).any()


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('correct', [0, 1])
@pytest.mark.parametrize('samples', [1, 4])
def test_degenerate_groups_are_finite(name, correct, samples):
  shape = (2, samples)
  rollouts = reference.rollouts(
    correct=np.full(shape, correct),
    length=np.ones(shape),
    tokens=20,
    truncated=np.ones(shape),
    think_closed=np.zeros(shape),
    measures={'answer_prefix': np.full(shape, -1)},
  )
  bonus = np.asarray(EVERY[name](rollouts, rollouts.mask))
  assert bonus.shape == (*shape, 20)
  assert not bonus.any()
