"""Advantages: published numbers, the loops, and what breaks them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.objectives import advantages
from tests.objectives import reference
from tests.objectives.reference import advantages as expected_advantages

EAGER = {
  'group': advantages.group,
  'group_population': functools.partial(advantages.group, ddof=0, eps=1e-4),
  'group_mean': advantages.group_mean,
  'batch_token_whiten': advantages.batch_token_whiten,
}
EVERY = {name: jax.jit(function) for name, function in EAGER.items()}
REFERENCES = {
  'group': functools.partial(expected_advantages.group, ddof=1, eps=1e-6),
  'group_population': functools.partial(expected_advantages.group, ddof=0, eps=1e-4),
  'group_mean': expected_advantages.group_mean,
  'batch_token_whiten': functools.partial(
    expected_advantages.batch_token_whiten, eps=1e-8
  ),
}


def random(seed=0):
  rng = np.random.default_rng(seed)
  mask = reference.batch(seed)[-1]
  return rng.normal(0, 1, mask.shape[:2]).astype(np.float32), mask


# One right answer of eight. The mean is 1/8, so the deviations are 7/8 and
# -1/8 and the sum of squares is 49/64 + 7/64 = 7/8. The deviation is
# sqrt(7/8 / 7) = 0.353553 with ddof 1, sqrt(7/8 / 8) = 0.330719 with ddof 0.
@pytest.mark.parametrize(
  ('ddof', 'eps', 'right', 'wrong'),
  [
    (1, 1e-6, 2.474867, -0.353552),  # .875 / .353554 (verl, tunix)
    (1, 1e-4, 2.474174, -0.353453),  # .875 / .353653 (TRL)
    (0, 1e-4, 2.644952, -0.377850),  # .875 / .330819
    (0, 0.0, 2.645751, -0.377964),  # sqrt(7), -1 / sqrt(7)
  ],
)
def test_group_of_eight_with_one_right(ddof, eps, right, wrong):
  reward = jnp.array([[1.0] + [0.0] * 7])
  advantage = advantages.group(reward, jnp.ones((1, 8, 1)), ddof=ddof, eps=eps)
  np.testing.assert_allclose(advantage, [[right] + [wrong] * 7], atol=2e-6)


def test_group_mean_of_eight_with_one_right():
  reward = jnp.array([[1.0] + [0.0] * 7])
  advantage = advantages.group_mean(reward, jnp.ones((1, 8, 1)))
  np.testing.assert_array_equal(advantage, [[0.875] + [-0.125] * 7])


def test_eps_decides_near_ties():
  # Rewards i * 1e-5, i = 0..7: the top is 3.5e-5 above the mean, the
  # deviation is sqrt(6) * 1e-5 = 2.449e-5 (sum of squares 42, over 7).
  reward = jnp.arange(8, dtype=jnp.float32)[None] * 1e-5
  mask = jnp.ones((1, 8, 1))
  for eps, top in [(1e-9, 1.4288), (1e-6, 1.3728), (1e-4, 0.2811)]:
    advantage = advantages.group(reward, mask, eps=eps)
    np.testing.assert_allclose(advantage[0, 7], top, atol=1e-4)


def test_batch_token_whiten_literal():
  # Three tokens with a = 1/2 and one with -1/2. Mean 1/4, deviations 1/4 and
  # -3/4, sum of squares 3/4, unbiased variance 1/4: divide by 1/2.
  reward = jnp.array([[1.0, 0.0]])
  mask = jnp.array([[[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]])
  np.testing.assert_allclose(
    EVERY['batch_token_whiten'](reward, mask),
    [[[0.5, 0.5, 0.5], [-1.5, 0.0, 0.0]]],
    rtol=1e-6,
  )


def test_batch_token_whiten_moves_ties_off_zero():
  # The same group and a tie with one token each: a = 0 on two tokens. Mean
  # 1/6, sum of squares 4/4 - 6/36 = 5/6, variance 1/6: ties get
  # -1/6 * sqrt(6) = -1 / sqrt(6) = -0.408248.
  reward = jnp.array([[1.0, 0.0], [1.0, 1.0]])
  mask = jnp.array([[[1, 1, 1], [1, 0, 0]], [[1, 0, 0], [1, 0, 0]]])
  advantage = np.asarray(EVERY['batch_token_whiten'](reward, mask))
  np.testing.assert_allclose(advantage[1, :, 0], [-0.408248] * 2, rtol=1e-5)


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_equals_the_loops(name, seed):
  reward, mask = random(seed)
  expected = REFERENCES[name](reward, mask)
  assert np.abs(expected).max() > 0.5
  np.testing.assert_allclose(
    EVERY[name](reward, mask), expected, rtol=1e-6, atol=1e-6
  )


@pytest.mark.parametrize('name', EVERY)
def test_dropped_equals_sliced(name):
  reward, _ = random()
  mask = np.ones((*reward.shape, 6), np.float32)
  mask[:, 1:3] = 0
  result = EVERY[name](reward, mask)
  kept = np.array([0, 3])
  expected = EVERY[name](reward[:, kept], mask[:, kept])
  np.testing.assert_allclose(
    np.asarray(result)[:, kept], expected, rtol=1e-6, atol=1e-6
  )
  assert not np.asarray(result)[:, 1:3].any()


@pytest.mark.parametrize('name', EVERY)
def test_reward_of_a_dropped_sample_is_not_read(name):
  reward, mask = random()
  assert not mask[0, 0].any()
  dirty = reward.copy()
  dirty[0, 0] = np.nan
  np.testing.assert_array_equal(
    EVERY[name](dirty, mask), EVERY[name](reward, mask)
  )


@pytest.mark.parametrize('name', EVERY)
def test_members_of_a_group_may_be_permuted(name):
  reward, mask = random()
  order = np.array([3, 0, 2, 1])
  np.testing.assert_allclose(
    EVERY[name](reward[:, order], mask[:, order]),
    np.asarray(EVERY[name](reward, mask))[:, order],
    rtol=1e-6,
    atol=1e-6,
  )


@pytest.mark.parametrize('name', ['group', 'group_population', 'group_mean'])
def test_groups_do_not_see_each_other(name):
  reward, mask = random()
  alone = [
    np.asarray(EVERY[name](reward[b : b + 1], mask[b : b + 1]))[0]
    for b in range(len(reward))
  ]
  np.testing.assert_allclose(
    EVERY[name](reward, mask), alone, rtol=1e-6, atol=1e-6
  )


@pytest.mark.parametrize('name', EVERY)
def test_jit_equals_eager(name):
  reward, mask = random()
  np.testing.assert_allclose(
    EVERY[name](reward, mask), EAGER[name](reward, mask), rtol=1e-6, atol=1e-6
  )


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize(
  'case', ['all_right', 'all_wrong', 'tenths', 'one_sample', 'empty_mask']
)
def test_nothing_to_compare_gives_exactly_0(name, case):
  samples = 1 if case == 'one_sample' else 16
  value = {'all_wrong': 0.0, 'tenths': 0.1}.get(case, 1.0)
  reward = np.full((2, samples), value, np.float32)
  if case in ('one_sample', 'empty_mask'):
    reward[0] = 0
  mask = np.zeros((2, samples, 3), np.float32)
  if case != 'empty_mask':
    mask[..., 0], mask[0, 0] = 1, 1  # one-token responses and a longer one
  assert not np.asarray(EVERY[name](reward, mask)).any()


def test_a_tie_is_0_without_eps():
  # The float32 mean of eight 0.1s is not 0.1.
  reward = jnp.full((1, 8), 0.1)
  advantage = advantages.group(reward, jnp.ones((1, 8, 1)), eps=0.0)
  assert not advantage.any()


@pytest.mark.parametrize('name', EVERY)
def test_right_is_above_and_wrong_below_zero(name):
  # One-token responses: no group is longer, so no mean is moved.
  reward = jnp.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
  mask = jnp.ones((2, 3, 1))
  advantage = advantages.per_token(EVERY[name](reward, mask), mask)
  np.testing.assert_array_equal(
    np.sign(advantage[..., 0]), [[1, -1, -1], [1, -1, -1]]
  )


def test_per_token():
  mask = jnp.array([[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]])
  expected = [[[2.0, 2.0, 0.0], [-3.0, 0.0, 0.0]]]
  by_sample = jnp.array([[2.0, -3.0]])
  np.testing.assert_array_equal(advantages.per_token(by_sample, mask), expected)
  by_token = jnp.array([[[2.0, 2.0, jnp.nan], [-3.0, 5.0, jnp.inf]]])
  np.testing.assert_array_equal(advantages.per_token(by_token, mask), expected)
