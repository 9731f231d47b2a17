"""Demonstrations: which groups, and what their tokens get."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import aggregate, demonstrations, losses
from tests.objectives import reference
from tests.objectives.reference import demonstrations as expected


def batch(seed=0):
  rng = np.random.default_rng(seed)
  correct = rng.random((6, 4)) < np.linspace(0, 1, 6)[:, None]
  return reference.rollouts(correct, length=rng.integers(1, 6, (6, 4)))


def test_undemonstrated():
  found = demonstrations.undemonstrated(batch())
  np.testing.assert_array_equal(found, expected.undemonstrated(batch()))


@pytest.mark.parametrize('solved', [0, 2])
def test_gate(solved):
  rollouts = batch()
  found = demonstrations.gate(rollouts, solved=solved, coefficient=0.3)
  np.testing.assert_allclose(found, expected.gate(rollouts, solved, 0.3))
  assert 0 < (np.asarray(found) > 0).sum() < 6


def test_teach_equals_the_loops():
  rollouts = batch(1)
  mask = rollouts.mask
  rng = np.random.default_rng(2)
  given = [np.float32(rng.normal(size=mask.shape) * mask) for _ in range(2)]
  coefficient = np.float32([0.3, 0, 0, 1, 0, 0])
  mask[[0, 3], 1:] = 0
  found = demonstrations.teach(tuple(given), mask, coefficient)
  wanted = expected.teach(given, mask, coefficient)
  for one, other in zip(found, wanted, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_loss_is_a_mean_likelihood_that_counts_as_one_group():
  """0.5 * mean(-logp) / Q, Q = 2 groups, however many responses the other."""
  mask = np.float32([[[1, 1, 1], [0, 0, 0]], [[1, 0, 0], [1, 1, 0]]])
  logp = jnp.float32([[[-1, -2, -6], [0] * 3], [[-1, 0, 0], [-1, -1, 0]]])
  (advantage,) = demonstrations.teach(
    (np.zeros_like(mask),), mask, np.float32([0.5, 0])
  )

  def loss(logp):
    values = losses.likelihood(logp, logp, advantage, mask)
    return jnp.sum(values * aggregate.question_sum(mask))

  np.testing.assert_allclose(loss(logp), 0.5 * 3 / 2, rtol=1e-6)
  np.testing.assert_allclose(
    jax.grad(loss)(logp)[0, 0], -0.5 / 3 / 2, rtol=1e-6
  )


@pytest.mark.parametrize(
  ('keys', 'message'),
  [
    ({'coefficient': 0.0}, 'gate: coefficient = 0.0; give one above 0'),
    ({'solved': -1}, 'gate: solved = -1; give at least 0'),
  ],
)
def test_numbers_that_cannot_be(keys, message):
  with pytest.raises(UserError) as error:
    demonstrations.gate(batch(), **keys)
  assert str(error.value) == message
