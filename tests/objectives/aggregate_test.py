"""Aggregation: the denominators, and cutting into micro-batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import aggregate, losses
from tests.objectives import reference
from tests.objectives.reference import aggregate as expected_aggregate

EAGER = {
  'token_mean': aggregate.token_mean,
  'sequence_mean': aggregate.sequence_mean,
  'sequence_sum': aggregate.sequence_sum,
  'fixed_length': functools.partial(aggregate.fixed_length, length=5),
  'question_mean': aggregate.question_mean,
  'question_sum': aggregate.question_sum,
}
EVERY = {name: jax.jit(function) for name, function in EAGER.items()}

# Responses of 3, 1 and 0 tokens (the last one dropped), and a padded column:
# 4 tokens, 2 responses.
MASK = np.array([[[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]], np.float32)


@pytest.mark.parametrize(
  ('name', 'long', 'short'),
  [
    ('token_mean', 1 / 4, 1 / 4),
    ('sequence_mean', 1 / 6, 1 / 2),  # 1 / (2 * 3), 1 / (2 * 1)
    ('sequence_sum', 1 / 2, 1 / 2),
    ('fixed_length', 1 / 10, 1 / 10),  # 1 / (2 * 5)
    ('question_mean', 1 / 4, 1 / 4),  # one group of 4
    ('question_sum', 1 / 2, 1 / 2),  # one group of 2 responses
  ],
)
def test_literals(name, long, short):
  expected = [[[long] * 3 + [0], [short, 0, 0, 0], [0] * 4]]
  weights = EVERY[name](MASK)
  assert weights.dtype == jnp.float32
  np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_question_mean_counts_groups_with_trained_tokens():
  # 4 tokens, none, and 1: two groups.
  mask = np.concatenate([MASK, 0 * MASK, 0 * MASK])
  mask[2, 1, 0] = 1
  weights = np.asarray(aggregate.question_mean(mask))
  np.testing.assert_allclose(weights[0], MASK[0] / 8)
  assert not weights[1].any()
  assert weights[2, 1, 0] == weights[2].sum() == 1 / 2


def test_question_sum_counts_a_group_as_one():
  # Two responses, none, and one: each of the first counts half of the last.
  mask = np.concatenate([MASK, 0 * MASK, 0 * MASK])
  mask[2, 1, :2] = 1
  weights = np.asarray(aggregate.question_sum(mask))
  np.testing.assert_allclose(weights[0], MASK[0] / 4)
  assert not weights[1].any()
  np.testing.assert_allclose(weights[2], mask[2] / 2)


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('seed', [0, 1])
def test_equals_the_loops(name, seed):
  values, *_, mask = reference.batch(seed)
  keywords = {'length': 5} if name == 'fixed_length' else {}
  np.testing.assert_allclose(
    np.sum(values * EVERY[name](mask)),
    getattr(expected_aggregate, name)(values, mask, **keywords),
    rtol=1e-6,
  )


@pytest.mark.parametrize('name', EVERY)
def test_padding_and_dropped_samples_change_nothing(name):
  *_, mask = reference.batch(0)
  padded = np.pad(mask, [(0, 2), (0, 1), (0, 3)])
  weights = EVERY[name](padded)
  np.testing.assert_array_equal(
    np.asarray(weights)[:3, :4, :6], EVERY[name](mask)
  )
  np.testing.assert_allclose(
    np.sum(np.asarray(weights)),
    np.sum(np.asarray(EVERY[name](mask))),
    rtol=1e-6,
  )


@pytest.mark.parametrize(
  'name', ['token_mean', 'sequence_mean', 'question_mean']
)
def test_means_have_weights_that_sum_to_1(name):
  *_, mask = reference.batch(0)
  weights = np.asarray(EVERY[name](mask))
  np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)


@pytest.mark.parametrize('name', EVERY)
def test_micro_batches_give_the_loss_of_the_whole(name):
  logp, old_logp, _, advantage, mask = reference.batch(0)

  def loss(logp, weights, start, stop):
    rows = slice(start, stop)
    values = losses.ppo_clip(
      logp[rows], old_logp[rows], advantage[rows], mask[rows]
    )
    return jnp.sum(values * weights)

  weights = EVERY[name](mask)
  both = jax.jit(jax.value_and_grad(loss), static_argnums=(2, 3))
  whole, gradient = both(logp, weights, 0, 3)
  first, first_gradient = both(logp, weights[:1], 0, 1)
  rest, rest_gradient = both(logp, weights[1:], 1, 3)
  np.testing.assert_allclose(first + rest, whole, rtol=1e-5)
  np.testing.assert_allclose(
    first_gradient + rest_gradient, gradient, rtol=1e-5, atol=1e-8
  )

  # What goes wrong with denominators of the micro-batches themselves.
  first, _ = both(logp, EVERY[name](mask[:1]), 0, 1)
  rest, _ = both(logp, EVERY[name](mask[1:]), 1, 3)
  assert abs((first + rest) / 2 - whole) > 1e-3


@pytest.mark.parametrize('name', EVERY)
def test_members_of_a_group_may_be_permuted(name):
  *_, mask = reference.batch(0)
  order = np.array([2, 0, 3, 1])
  np.testing.assert_array_equal(
    EVERY[name](mask[:, order]), np.asarray(EVERY[name](mask))[:, order]
  )


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('shape', [(2, 3, 4), (1, 1, 1), (2, 3, 0)])
def test_empty_mask(name, shape):
  weights = EVERY[name](np.zeros(shape, np.float32))
  assert weights.shape == shape
  assert not weights.any()


@pytest.mark.parametrize('name', EVERY)
def test_one_token(name):
  weights = EVERY[name](np.ones((1, 1, 1), np.float32))
  expected = 1 / 5 if name == 'fixed_length' else 1
  np.testing.assert_allclose(weights, [[[expected]]], rtol=1e-6)


@pytest.mark.parametrize('name', EVERY)
def test_jit_equals_eager(name):
  np.testing.assert_allclose(EVERY[name](MASK), EAGER[name](MASK), rtol=1e-6)


@pytest.mark.parametrize('name', EVERY)
def test_a_mask_may_be_bool(name):
  np.testing.assert_array_equal(EVERY[name](MASK > 0), EVERY[name](MASK))


def test_fixed_length_needs_a_length():
  message = '^fixed_length: length = 0 response tokens; give at least 1$'
  with pytest.raises(UserError, match=message):
    aggregate.fixed_length(MASK, length=0)
