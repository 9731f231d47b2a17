"""Advantages: published numbers, the loops, and what breaks them."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import advantages, whitening
from tests.objectives import reference
from tests.objectives.reference import advantages as expected_advantages
from tests.objectives.reference import whitening as expected_whitening

# Every part under each of its conventions: function, keywords of the test.
# What holds for all is tested here, the numbers of `whitening` in its file.
CASES = {
  'batch_std': (advantages.batch_std, {'ddof': 1, 'eps': 1e-4}),
  'batch_token_whiten': (whitening.batch_token_whiten, {'eps': 1e-8}),
  'batch_zscore': (advantages.batch_zscore, {'ddof': 1, 'eps': 1e-6}),
  'beta': (advantages.beta, {'low': -2.0, 'high': 2.0}),
  'class_share': (advantages.class_share, {}),
  'group': (advantages.group, {'ddof': 1, 'eps': 1e-6}),
  'group_population': (advantages.group, {'ddof': 0, 'eps': 1e-4}),
  'group_mean': (advantages.group_mean, {}),
  'leave_one_out': (advantages.leave_one_out, {}),
  'leave_one_out_std': (advantages.leave_one_out_std, {'eps': 1e-6}),
  'return_whiten': (whitening.return_whiten, {'gamma': 1.0, 'eps': 1e-8}),
  'return_discounted': (
    whitening.return_whiten,
    {'gamma': 0.5, 'eps': 1e-8},
  ),
}
EAGER = {name: functools.partial(f, **kw) for name, (f, kw) in CASES.items()}
EVERY = {name: jax.jit(function) for name, function in EAGER.items()}
LOOPS = vars(expected_advantages) | vars(expected_whitening)
REFERENCES = {
  name: functools.partial(LOOPS[f.__name__], **kw)
  for name, (f, kw) in CASES.items()
}
# Without a group baseline, or with statistics over the whole batch.
NO_BASELINE = ('batch_zscore', 'return_whiten', 'return_discounted')
ACROSS = (*NO_BASELINE, 'batch_std', 'batch_token_whiten', 'beta')


def random(seed=0):
  rng = np.random.default_rng(seed)
  mask = reference.batch(seed)[-1]
  return rng.normal(0, 1, mask.shape[:2]).astype(np.float32), mask


def of(name, reward, **keywords):
  """The advantage of a part for samples of one token each."""
  function = _jitted(name, tuple(keywords.items()))
  return function(jnp.float32(reward), jnp.ones((*np.shape(reward), 1)))


@functools.cache
def _jitted(name, keywords):
  function = getattr(advantages, name)
  return jax.jit(functools.partial(function, **dict(keywords)))


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
  advantage = of('group', [[1.0] + [0.0] * 7], ddof=ddof, eps=eps)
  np.testing.assert_allclose(advantage, [[right] + [wrong] * 7], atol=2e-6)


def test_group_mean_of_eight_with_one_right():
  advantage = of('group_mean', [[1.0] + [0.0] * 7])
  np.testing.assert_array_equal(advantage, [[0.875] + [-0.125] * 7])


def test_eps_decides_near_ties():
  # Rewards i * 1e-5, i = 0..7: the top is 3.5e-5 above the mean, the
  # deviation is sqrt(6) * 1e-5 = 2.449e-5 (sum of squares 42, over 7).
  reward = np.arange(8)[None] * 1e-5
  for eps, top in [(1e-9, 1.4288), (1e-6, 1.3728), (1e-4, 0.2811)]:
    advantage = of('group', reward, eps=eps)
    np.testing.assert_allclose(advantage[0, 7], top, atol=1e-4)


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_equals_the_loops(name, seed):
  reward, mask = random(seed)
  expected = REFERENCES[name](reward, mask)
  assert np.abs(expected).max() > 0.05
  np.testing.assert_allclose(
    EVERY[name](reward, mask), expected, rtol=1e-6, atol=1e-6
  )


@pytest.mark.parametrize('name', EVERY)
def test_dropped_equals_sliced(name):
  # Two samples of each group, and one group altogether.
  reward, _ = random()
  mask = np.ones((*reward.shape, 6), np.float32)
  mask[:, 1:3] = mask[1] = 0
  result = np.asarray(EVERY[name](reward, mask))
  kept = np.ix_([0, 2], [0, 3])
  np.testing.assert_allclose(
    result[kept], EVERY[name](reward[kept], mask[kept]), rtol=1e-6, atol=1e-6
  )
  assert not result[:, 1:3].any() and not result[1].any()


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


@pytest.mark.parametrize('name', [n for n in EVERY if n not in ACROSS])
def test_groups_do_not_see_each_other(name):
  reward, mask = random()
  whole = np.asarray(EVERY[name](reward, mask))
  for b in range(len(reward)):
    others = (np.arange(len(reward)) != b)[:, None]
    alone = EVERY[name](
      np.where(others, np.nan, reward), mask * ~others[..., None]
    )
    np.testing.assert_array_equal(alone[b], whole[b])


@pytest.mark.parametrize('name', [n for n in EVERY if n in LOOPS])
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
  value = {'all_wrong': 0.0, 'tenths': 0.1}.get(case, 1.0)
  reward = np.full((2, 16), value, np.float32)
  if case == 'empty_mask' or (case == 'one_sample' and name not in NO_BASELINE):
    reward[0] = 0
  mask = np.zeros((2, 16, 3), np.float32)
  if case != 'empty_mask':
    samples = 1 if case == 'one_sample' else 16
    mask[:, :samples, 0] = 1
    if name != 'return_discounted':
      mask[0, 0, :2] = 1  # with a discount its return would differ
  assert not np.asarray(EVERY[name](reward, mask)).any()


@pytest.mark.parametrize('name', NO_BASELINE)
def test_without_a_baseline_one_sample_counts(name):
  # Rewards 1 and 0: .5 / sqrt(.5) = .7071 over the sample deviation.
  mask = np.zeros((2, 1, 3), np.float32)
  mask[..., 0] = 1
  advantage = EVERY[name](np.float32([[1.0], [0.0]]), mask)
  advantage = advantages.per_token(advantage, mask)[:, 0, 0]
  np.testing.assert_allclose(advantage, [0.7071068, -0.7071068], rtol=1e-5)


def test_a_tie_is_0_without_eps():
  # The float32 mean of eight 0.1s is not 0.1.
  for name in ('group', 'batch_std', 'leave_one_out_std'):
    assert not of(name, np.full((1, 8), 0.1), eps=0.0).any()
  assert not of('batch_zscore', np.full((1, 8), 0.1), ddof=0, eps=0.0).any()


@pytest.mark.parametrize('name', EVERY)
def test_right_is_above_and_wrong_below_zero(name):
  # One-token responses: no group is longer, so no mean is moved.
  reward = jnp.array([[1.0, 0, 0, 0]] * 3)
  mask = jnp.zeros((3, 4, 6)).at[..., 0].set(1)
  advantage = advantages.per_token(EVERY[name](reward, mask), mask)
  np.testing.assert_array_equal(
    np.sign(advantage[..., 0]), [[1, -1, -1, -1]] * 3
  )


# The right sample of eight: the others are all wrong, so it is 1 - 0, not
# scaled. A wrong one: 0 - 1/7 over the deviation of (1, 0, 0, 0, 0, 0, 0),
# whose sum of squares is 36/49 + 6/49 = 6/7: sqrt(6/7 / 6) = .377964.
def test_leave_one_out_of_eight_with_one_right():
  reward = [[1.0] + [0.0] * 7]
  plain = of('leave_one_out', reward)
  np.testing.assert_allclose(plain, [[1.0] + [-1 / 7] * 7], rtol=1e-6)
  scaled = of('leave_one_out_std', reward, eps=0.0)
  np.testing.assert_allclose(scaled, [[1.0] + [-0.377964] * 7], rtol=1e-5)


@pytest.mark.parametrize('value', [0.35, 0.1, 1 / 3, 1e4 / 3])
def test_equal_others_are_recognized_exactly(value):
  # Mean square less squared mean leaves a rounding error to divide by.
  advantage = of('leave_one_out_std', [[value] * 7 + [0.0]])
  np.testing.assert_allclose(advantage[0, 7], -value, rtol=1e-6)
  assert np.abs(advantage[0, :7]).max() < 1


def test_two_samples_have_no_deviation_to_divide_by():
  for name in ('leave_one_out_std', 'leave_one_out'):
    np.testing.assert_array_equal(of(name, [[3.0, 1.0]]), [[2.0, -2.0]])


def test_batch_std_literal():
  # Rewards 1, 0, 1, 1: squares 9/16 + 3/16 = 3/4 over 3, deviation 1/2. The
  # tie keeps its 0; batch_zscore has the common mean 3/4 instead.
  reward = [[1.0, 0.0], [1.0, 1.0]]
  advantage = of('batch_std', reward, eps=0.0)
  np.testing.assert_allclose(advantage, [[1.0, -1.0], [0.0, 0.0]])
  advantage = of('batch_zscore', reward, ddof=1, eps=0.0)
  np.testing.assert_allclose(advantage, [[0.5, -1.5], [0.5, 0.5]])


def test_beta_literal():
  # Pass rates 1/4, 1/2 and 3/4: m = 1/2, v = 1/16, k = 3, so the density is
  # Beta(3/2, 3/2), 8/pi sqrt(p (1 - p)): 2 sqrt(3) / pi, 4/pi, 2 sqrt(3) / pi.
  reward = [[1.0, 0, 0, 0], [1.0, 1, 0, 0], [1.0, 1, 1, 0]]
  outer, inner = math.pi / 2 / math.sqrt(3), math.pi / 4
  expected = [
    [0.75 * outer] + [-0.25 * outer] * 3,
    [0.5 * inner] * 2 + [-0.5 * inner] * 2,
    [0.25 * outer] * 3 + [-0.75 * outer],
  ]
  np.testing.assert_allclose(of('beta', reward), expected, rtol=1e-6)


@pytest.mark.parametrize(
  'reward',
  [
    [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]],  # v = 0
    [[1, 0, 0, 0]],  # one group
    [[1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]],  # k = -.1: v is .27
  ],
)
def test_beta_without_a_density_is_a_group_mean(reward):
  np.testing.assert_allclose(
    of('beta', reward), of('group_mean', reward), rtol=1e-6
  )


def test_beta_of_a_pass_rate_beyond_its_range_has_weight_1():
  reward = [[3.0, 2, 0, 0], *[[1.0, 1, 0, 0]] * 6, *[[1.0, 0, 0, 0]] * 3]
  advantage = np.asarray(of('beta', reward))
  np.testing.assert_allclose(advantage[0], [1.75, 0.75, -1.25, -1.25])
  assert 0 < advantage[1, 0] < 0.45  # not 1/2: there the density is used


@pytest.mark.parametrize('spread', [1e-1, 1e-2, 1e-3])
def test_beta_keeps_its_digits_where_pass_rates_are_close(spread):
  rng = np.random.default_rng(0)
  rate = 0.3 + spread * rng.uniform(-1, 1, (64, 1))
  reward = (rate + [[-0.25, 0.25]]).astype(np.float32)
  mask = np.ones((64, 2, 1))
  expected = expected_advantages.beta(reward, mask, 0.0, 1.0)
  np.testing.assert_allclose(of('beta', reward), expected, rtol=2e-3)


def test_beta_holds_its_weight_at_a_million():
  # One group far from the rest: the density there is below 1e-6.
  reward = np.full((200, 2), 0.5, np.float32)
  reward[:, 0], reward[0] = [0.51] * 200, [0.001, 0.003]
  advantage = of('beta', reward)
  np.testing.assert_allclose(advantage[0], [-1e3, 1e3], rtol=1e-4)


def test_beta_maps_its_range():
  # A scorer with -1 and 1.
  reward = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]])
  np.testing.assert_allclose(
    of('beta', 2 * reward - 1, low=-1.0), of('beta', reward), rtol=1e-6
  )


def test_class_share_literal():
  # Positives 1 and 3 share 1; two others, one of them below 0, share -1. The
  # second group has no positive; in the third the only negative is dropped.
  reward = jnp.array([[1.0, 0, 3, -2], [0.0, 0, -1, 0], [2.0, 1, 1, 0]])
  mask = jnp.ones((3, 4, 1)).at[2, 3].set(0)
  np.testing.assert_allclose(
    EVERY['class_share'](reward, mask),
    [[0.25, -0.5, 0.75, -0.5], [0.0] * 4, [0.0] * 4],
  )


@pytest.mark.parametrize(
  ('name', 'keywords', 'message'),
  [
    (
      'beta',
      {'low': 1.0, 'high': 1.0},
      'low = 1.0, high = 1.0; give the least and the largest reward, low below '
      'high',
    ),
    ('group', {'ddof': 2}, 'ddof = 2; give 0 or 1'),
    ('group', {'eps': -1.0}, 'eps = -1.0; give at least 0'),
    ('batch_std', {'ddof': -1}, 'ddof = -1; give 0 or 1'),
    ('batch_std', {'eps': -1.0}, 'eps = -1.0; give at least 0'),
    ('batch_zscore', {'ddof': 2, 'eps': 0.0}, 'ddof = 2; give 0 or 1'),
    ('batch_zscore', {'ddof': 0, 'eps': -1.0}, 'eps = -1.0; give at least 0'),
    ('leave_one_out_std', {'eps': -1.0}, 'eps = -1.0; give at least 0'),
  ],
)
def test_refused(name, keywords, message):
  with pytest.raises(UserError, match=f'^{name}: {message}$'):
    getattr(advantages, name)(*random(), **keywords)


def test_per_token():
  mask = jnp.array([[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]])
  expected = [[[2.0, 2.0, 0.0], [-3.0, 0.0, 0.0]]]
  by_sample = jnp.array([[2.0, -3.0]])
  np.testing.assert_array_equal(advantages.per_token(by_sample, mask), expected)
  by_token = jnp.array([[[2.0, 2.0, jnp.nan], [-3.0, 5.0, jnp.inf]]])
  np.testing.assert_array_equal(advantages.per_token(by_token, mask), expected)
