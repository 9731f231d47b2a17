"""Whitened tokens: by hand, and the loops.

What they share with the other advantages is tested in `advantages_test.py`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import whitening
from tests.objectives import reference
from tests.objectives.reference import whitening as expected_whitening

DISCOUNTED = functools.partial(whitening.return_whiten, gamma=0.5)


def test_batch_token_whiten_literal():
  # Three tokens with a = 1/2 and one with -1/2. Mean 1/4, deviations 1/4 and
  # -3/4, sum of squares 3/4, unbiased variance 1/4: divide by 1/2.
  reward = jnp.array([[1.0, 0.0]])
  mask = jnp.array([[[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]])
  np.testing.assert_allclose(
    whitening.batch_token_whiten(reward, mask),
    [[[0.5, 0.5, 0.5], [-1.5, 0.0, 0.0]]],
    rtol=1e-6,
  )


def test_batch_token_whiten_moves_ties_off_zero():
  # The same group and a tie with one token each: a = 0 on two tokens. Mean
  # 1/6, sum of squares 4/4 - 6/36 = 5/6, variance 1/6: ties get
  # -1/6 * sqrt(6) = -1 / sqrt(6) = -0.408248.
  reward = jnp.array([[1.0, 0.0], [1.0, 1.0]])
  mask = jnp.array([[[1, 1, 1], [1, 0, 0]], [[1, 0, 0], [1, 0, 0]]])
  advantage = np.asarray(whitening.batch_token_whiten(reward, mask))
  np.testing.assert_allclose(advantage[1, :, 0], [-0.408248] * 2, rtol=1e-5)


def test_return_whiten_literal():
  # Returns 1/4, 1/2, 1 of the right one and 0 of the wrong one, with gamma
  # 1/2. Mean 7/16, sum of squares 21/16 - 4 (7/16)^2 = 35/64, variance 35/192,
  # deviation .426956.
  reward = jnp.array([[1.0, 0.0]])
  mask = jnp.array([[[1, 1, 1, 0], [1, 0, 0, 0]]])
  expected = np.array([[[-3, 1, 9, 0], [-7, 0, 0, 0]]]) / 16 / 0.426956
  np.testing.assert_allclose(DISCOUNTED(reward, mask), expected, rtol=1e-5)


def test_returns_count_trained_tokens():
  # Tokens that are not trained lie between and before: 1/2, 1 and 0.
  reward = jnp.array([[1.0, 0.0]])
  gaps = jnp.array([[[0, 1, 0, 1], [0, 0, 1, 0]]])
  prefix = jnp.array([[[1, 1, 0, 0], [1, 0, 0, 0]]])
  spread = np.asarray(DISCOUNTED(reward, gaps))
  packed = np.asarray(DISCOUNTED(reward, prefix))
  np.testing.assert_allclose(spread[0, 0, [1, 3]], packed[0, 0, :2])
  np.testing.assert_allclose(spread[0, 1, 2], packed[0, 1, 0])


def test_a_gamma_of_0_rewards_the_last_token_alone():
  reward, mask = jnp.array([[1.0, 0.0]]), jnp.ones((1, 2, 3))
  advantage = whitening.return_whiten(reward, mask, gamma=0.0)
  assert np.asarray(advantage > 0).tolist() == [
    [[False, False, True], [False, False, False]]
  ]


@pytest.mark.parametrize(
  ('name', 'keywords'),
  [
    ('batch_token_whiten', {'eps': 0.5}),
    ('return_whiten', {'gamma': 0.9, 'eps': 0.5}),
    ('return_whiten', {'gamma': 0.0, 'eps': 1e-8}),
  ],
)
def test_equals_the_loops(name, keywords):
  mask = reference.batch(0)[-1]
  reward = np.random.default_rng(0).normal(0, 1, mask.shape[:2])
  reward = reward.astype(np.float32)
  function = functools.partial(getattr(whitening, name), **keywords)
  np.testing.assert_allclose(
    jax.jit(function)(reward, mask),
    getattr(expected_whitening, name)(reward, mask, **keywords),
    rtol=1e-5,
    atol=1e-6,
  )


@pytest.mark.parametrize(
  ('name', 'keywords', 'message'),
  [
    ('batch_token_whiten', {'eps': -1.0}, 'eps = -1.0; give at least 0'),
    ('return_whiten', {'eps': -1.0}, 'eps = -1.0; give at least 0'),
    ('return_whiten', {'gamma': 1.5}, 'gamma = 1.5; give one from 0 to 1'),
    ('return_whiten', {'gamma': -0.5}, 'gamma = -0.5; give one from 0 to 1'),
  ],
)
def test_refused(name, keywords, message):
  function = functools.partial(getattr(whitening, name), **keywords)
  with pytest.raises(UserError, match=f'^{name}: {message}$'):
    function(jnp.ones((1, 2)), jnp.ones((1, 2, 3)))
