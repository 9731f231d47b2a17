"""Advantages: how much better a response was than expected.

`f(reward [B, G], mask [B, G, T], **keywords)` gives `[B, G]`, or `[B, G, T]`
where the advantage differs between tokens. The mask is 1 on tokens that are
trained: a sample counts if it has any. Statistics run over the samples that
count, also the mean of a group, and the others get 0. A group of one sample
has nothing to be compared with and gets 0.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from lrm_jax import masking
from lrm_jax.errors import UserError
from lrm_jax.objectives import ranges
from lrm_jax.structs import Array

# Pass rates closer than 1e-6 are equal: float32 cannot tell them apart.
_MIN_VARIANCE = 1e-12
_MAX_WEIGHT = 1e6


def group(
  reward: Array, mask: Array, *, ddof: int = 1, eps: float = 1e-6
) -> jax.Array:
  """GRPO: `A_bg = (r_bg - mu_b) / (sd_b + eps)`.

  Projects differ in `ddof` and `eps`, and for reward differences near `eps`
  that decides the size of the update. For rewards (1, 0, 0, 0, 0, 0, 0, 0):
  2.475 and -0.354 with `ddof=1, eps=1e-6` (verl, tunix), 2.646 and -0.378
  with `ddof=0`. A group of equal rewards gets 0, at `eps=0` too. verl instead
  gives the raw reward to a group of one sample.

  Source: DeepSeekMath, arXiv 2402.03300, section 4.1.

  Args:
    reward: `[B, G]`.
    mask: `[B, G, T]`.
    ddof: 1 for the sample standard deviation, 0 for the population's.
    eps: added to the standard deviation, in units of reward.

  Returns:
    `[B, G]`.

  Raises:
    UserError: `ddof` is neither 0 nor 1, or `eps` negative.
  """
  _check_deviation('group', ddof, eps)
  counted = _counted(mask)
  scale = masking.std(reward, counted, axis=1, ddof=ddof, keepdims=True) + eps
  return masking.center(reward, counted, axis=1) / _not_zero(scale)


def group_mean(reward: Array, mask: Array) -> jax.Array:
  """Dr. GRPO: `A_bg = r_bg - mu_b`, not divided by the deviation.

  Source: arXiv 2503.20783.

  Args:
    reward: `[B, G]`.
    mask: `[B, G, T]`.

  Returns:
    `[B, G]`.
  """
  return masking.center(reward, _counted(mask), axis=1)


def leave_one_out(reward: Array, mask: Array) -> jax.Array:
  """RLOO: `A_bg = r_bg - mean_{j != g} r_bj = n / (n - 1) (r_bg - mu_b)`.

  `n` is the number of samples of the group that count. For rewards
  (1, 0, 0, 0, 0, 0, 0, 0): 1 and -1/7. Equal rewards and a group of one
  sample get 0.

  Source: arXiv 2402.14740; as in verl.

  Args:
    reward: `[B, G]`.
    mask: `[B, G, T]`.

  Returns:
    `[B, G]`.
  """
  counted = _counted(mask)
  n = jnp.sum(counted, axis=1, keepdims=True)
  # One sample: 0 of the center, whatever the factor.
  return masking.center(reward, counted, axis=1) * (n / jnp.maximum(n - 1, 1))


def leave_one_out_std(
  reward: Array, mask: Array, *, eps: float = 1e-6
) -> jax.Array:
  """`leave_one_out`, over the deviation of the *other* samples.

      A_bg = (r_bg - mean_{j != g} r_bj) / (sd_{j != g} r_bj + eps)

  with the sample deviation (`ddof=1` over the others); where the others are
  equal, or there is but one, `A_bg` is not scaled at all. For rewards
  (1, 0, 0, 0, 0, 0, 0, 0): 1.000 for the right sample, whose others are all
  wrong, and -0.378 for the wrong ones (`ddof=0` would give them -0.408).

  The two branches do not meet: others that are almost equal scale by almost
  `1 / eps`. Equal others are recognized exactly here, not up to rounding.

  Source: the default of NeMo-RL.

  Args:
    reward: `[B, G]`.
    mask: `[B, G, T]`.
    eps: added to a deviation above 0, in units of reward.

  Returns:
    `[B, G]`.

  Raises:
    UserError: a negative `eps`.
  """
  ranges.NOT_NEGATIVE.check('leave_one_out_std', eps=eps)
  counted = _counted(mask)
  reward = jnp.asarray(reward)
  samples = counted.shape[1]
  # [B, G, G]: for each sample, the others. A difference of sums of squares
  # would leave rounding errors where the others are equal.
  others = counted[:, None, :] & ~jnp.eye(samples, dtype=bool)
  repeated = jnp.broadcast_to(reward[:, None, :], others.shape)
  scale = masking.std(repeated, others, axis=2, ddof=1)
  scale = jnp.where(scale > 0, scale + eps, 1)
  return leave_one_out(reward, mask) / scale


def batch_std(
  reward: Array, mask: Array, *, ddof: int = 1, eps: float = 1e-4
) -> jax.Array:
  """TRL's `scale_rewards="batch"`: the mean by group, one scale for all.

      A_bg = (r_bg - mu_b) / (sd + eps)

  where `sd` is the deviation of all rewards of the batch, about their common
  mean: every sample weighs alike, and nothing is subtracted a second time, so
  a group of equal rewards gets 0 (contrast `whitening.batch_token_whiten`).

  Source: TRL, `GRPOConfig.scale_rewards`.

  Args:
    reward: `[B, G]`.
    mask: `[B, G, T]`.
    ddof: 1 for the sample standard deviation, 0 for the population's.
    eps: added to the standard deviation, in units of reward.

  Returns:
    `[B, G]`.

  Raises:
    UserError: `ddof` is neither 0 nor 1, or `eps` negative.
  """
  _check_deviation('batch_std', ddof, eps)
  counted = _counted(mask)
  scale = masking.std(reward, counted, ddof=ddof) + eps
  return masking.center(reward, counted, axis=1) / _not_zero(scale)


def batch_zscore(
  reward: Array, mask: Array, *, ddof: int, eps: float
) -> jax.Array:
  """`A_bg = (r_bg - mean) / (sd + eps)` over all samples of the batch.

  No group baseline, so a group of one sample takes part; a batch of equal
  rewards gets 0, at `eps=0` too.

  Source: O1-Pruner, arXiv 2501.12570, which standardizes its weights over the
  whole data set, before training; over the batch is our online reading.
  `ddof` and `eps` are unknown.

  Args:
    reward: `[B, G]`.
    mask: `[B, G, T]`.
    ddof: 1 for the sample standard deviation, 0 for the population's.
    eps: added to the standard deviation, in units of reward.

  Returns:
    `[B, G]`.

  Raises:
    UserError: `ddof` is neither 0 nor 1, or `eps` negative.
  """
  _check_deviation('batch_zscore', ddof, eps)
  counted = _counted(mask)
  scale = masking.std(reward, counted, ddof=ddof) + eps
  return masking.center(reward, counted) / _not_zero(scale)


def beta(
  reward: Array, mask: Array, *, low: float = 0.0, high: float = 1.0
) -> jax.Array:
  """BNPO: centred rewards over the density of the group's pass rate.

      r    = (reward - low) / (high - low)
      p_b  = mu_b,  m = mean_b p_b,  v = var_b p_b (ddof 1)
      k    = m (1 - m) / v - 1
      a, b = 1 + k m / 3, 1 + k (1 - m) / 3    (held at 1 or above)
      A_bg = (r_bg - p_b) min(1e6, 1 / Beta(p_b; a, b))

  `m` and `v` run over the groups with samples that count. `k <= 0`, pass rates
  as far apart as can be, gives the weight 1. As `v` falls the weights shrink
  like `sqrt(v)`; yet for `v = 0`, where the released code has NaN, and for a
  single group they are 1 here: there is no spread to divide by. A group with
  `p_b` of 0 or 1 has equal rewards and gets 0; so has all where `m` is 0 or 1.

  Rewards outside `[low, high]` are a mistake; a pass rate outside (0, 1) has
  weight 1. TRL's `loss_type="bnpo"` is something else.

  Source: BNPO, arXiv 2506.02864; as in the released code.

  Args:
    reward: `[B, G]`.
    mask: `[B, G, T]`.
    low: the least reward there is, mapped to 0.
    high: the largest, mapped to 1.

  Returns:
    `[B, G]`.

  Raises:
    UserError: `high` is not above `low`.
  """
  if not high > low:
    raise UserError(
      f'beta: low = {low}, high = {high}; give the least and the largest '
      'reward, low below high'
    )
  counted = _counted(mask)
  is_group = jnp.any(counted, axis=1)
  mapped = (jnp.asarray(reward) - low) / (high - low)
  rate = masking.mean(mapped, counted, axis=1)
  middle = masking.mean(rate, is_group)
  variance = masking.var(rate, is_group, ddof=1)
  is_spread = variance > _MIN_VARIANCE
  k = middle * (1 - middle) / jnp.where(is_spread, variance, 1) - 1
  k = jnp.where(is_spread, k, 0)
  weight = _inverse_density(rate, k / 3, middle)
  return masking.center(mapped, counted, axis=1) * weight[:, None]


def class_share(reward: Array, mask: Array) -> jax.Array:
  """Shares of the two classes, for the losses of `discriminative.py`.

      A_bg = r_bg / sum_{j: r_bj > 0} r_bj     where r_bg > 0
      A_bg = -1 / |{j: r_bj <= 0}|             elsewhere

  So the right samples share 1 in proportion to their reward (DRPO's weights
  of the positives, and DisCO's mean for equal rewards) and the wrong ones
  share -1 equally. A group without both classes gets 0.

  Source: DisCO, arXiv 2505.12366; DRPO, arXiv 2510.04474.

  Args:
    reward: `[B, G]`, above 0 for the positives only.
    mask: `[B, G, T]`.

  Returns:
    `[B, G]`.
  """
  counted = _counted(mask)
  reward = jnp.where(counted, reward, 0).astype(jnp.float32)
  positive = counted & (reward > 0)
  negative = counted & ~positive
  total = masking.sum(reward, positive, axis=1, keepdims=True)
  number = jnp.sum(negative, axis=1, keepdims=True)
  has_both = (total > 0) & (number > 0)
  share = jnp.where(
    positive, reward / _not_zero(total), -1 / jnp.maximum(number, 1)
  )
  return jnp.where(counted & has_both, share, 0)


def per_token(advantage: Array, mask: Array) -> jax.Array:
  """Gives each token its advantage.

  Args:
    advantage: `[B, G]` or `[B, G, T]`.
    mask: `[B, G, T]`.

  Returns:
    `[B, G, T]`, 0 outside the mask.
  """
  advantage = jnp.asarray(advantage)
  if advantage.ndim == jnp.ndim(mask) - 1:
    advantage = advantage[..., None]
  return jnp.where(jnp.asarray(mask) != 0, advantage, 0)


def _check_deviation(part: str, ddof: int, eps: float) -> None:
  ranges.DDOF.check(part, ddof=ddof)
  ranges.NOT_NEGATIVE.check(part, eps=eps)


def _counted(mask: Array) -> jax.Array:
  """`[B, G]` bool: the sample has a trained token."""
  return jnp.any(jnp.asarray(mask) != 0, axis=-1)


def _not_zero(scale: jax.Array) -> jax.Array:
  """1 for a scale of 0, which only comes with advantages of 0."""
  return jnp.where(scale > 0, scale, 1)


def _inverse_density(
  rate: jax.Array, n: jax.Array, middle: jax.Array
) -> jax.Array:
  """`min(1e6, 1 / Beta(rate; 1 + n middle, 1 + n (1 - middle)))`.

  `middle` is the mode. With `x = n middle` and `y = n (1 - middle)` the log of
  the density is that at the mode less `n KL(middle || rate)`; at the mode it
  is `log(n + 1) + log(n / (2 pi x y)) / 2` with Stirling's rests. Plain
  differences of log-gammas lose all digits in float32 once n is large.

  Args:
    rate: `[B]`.
    n: scalar; 0 or below for the uniform density.
    middle: scalar, inside (0, 1) where n is above 0.

  Returns:
    `[B]`, 1 for rates that are not inside (0, 1).
  """
  is_used = (n > 0) & (rate > 0) & (rate < 1)
  n, middle = jnp.where(n > 0, n, 1), jnp.where(n > 0, middle, 0.5)
  rate = jnp.where(is_used, rate, 0.5)
  x, y = n * middle, n * (1 - middle)
  divergence = middle * jnp.log1p((middle - rate) / rate)
  divergence += (1 - middle) * jnp.log1p((rate - middle) / (1 - rate))
  log_density = (
    jnp.log1p(n)
    + jnp.log(n / (2 * jnp.pi * x * y)) / 2
    + _stirling_rest(n)
    - _stirling_rest(x)
    - _stirling_rest(y)
    - n * divergence
  )
  weight = jnp.exp(jnp.minimum(-log_density, jnp.log(_MAX_WEIGHT)))
  return jnp.where(is_used, weight, 1)


def _stirling_rest(x: jax.Array) -> jax.Array:
  """`log Gamma(x + 1) - (x log x - x + log(2 pi x) / 2)` for `x > 0`."""
  large = jnp.maximum(x, 8)
  series = (1 / 12 - 1 / (360 * jnp.square(large))) / large
  stirling = x * jnp.log(x) - x + jnp.log(2 * jnp.pi * x) / 2
  return jnp.where(x > 8, series, gammaln(x + 1) - stirling)
