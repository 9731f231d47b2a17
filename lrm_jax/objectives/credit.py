"""Credit: which tokens are trained, and with what, behind the advantage.

`f(rollouts, advantage [B, G, T], mask [B, G, T], entropy [B, G, T])` gives
`(advantages, mask)`: a tuple of advantages of each token, over whose losses the
loss is a sum, and the mask of what is trained. `entropy` is that of the whole
next-token law before the step, in nats; None unless `tables.BY_ENTROPY`
has the part.
The advantage is 0 outside the mask that comes in; a sample counts if it has any
trained token. Everything here is constant for the gradient, and is made once a
step from the whole batch, so no mini-batch changes it.

What comes back multiplies a clipped loss as well as the advantage itself would:
`min(rho A, clip(rho) A)` scales with a factor above 0.
"""

import jax
import jax.numpy as jnp

from lrm_jax import masking
from lrm_jax.objectives import measures, ranges
from lrm_jax.structs import Array, Rollouts

Credit = tuple[tuple[jax.Array, ...], jax.Array]


def as_it_is(
  rollouts: Rollouts, advantage: Array, mask: Array, entropy: None
) -> Credit:
  """The advantage on every token of what was kept."""
  del rollouts, entropy
  return (advantage,), mask


def d3s(
  rollouts: Rollouts,
  advantage: Array,
  mask: Array,
  entropy: Array,
  *,
  rollouts_first: float,
  rollouts_last: float,
  tokens_first: float,
  tokens_last: float,
  steps: int,
) -> Credit:
  """D3S: the responses whose advantages differ most, then their best tokens.

  Of the N responses with trained tokens `ceil(x N)` stay, those of the whole
  batch whose advantages have the largest variance: the largest ones and the
  smallest ones, as many of each as makes it largest (of equal choices, the
  one with fewer of the largest). Of their n tokens those with the `ceil(y n)`
  largest `|A| H` are trained, and what equals the last of them. Both shares, x
  and y, go linearly from the first to the last over the steps, and stay there.

  Source: D3S, arXiv 2509.22115; the four shares are unknown.

  Args:
    rollouts: `step` is used.
    advantage: of each token; a response counts with its mean.
    mask: 1 on tokens that are trained.
    entropy: nats.
    rollouts_first: share of responses at the first step, above 0.
    rollouts_last: the same behind `steps`.
    tokens_first: share of their tokens, likewise.
    tokens_last: the same behind `steps`.
    steps: from the first shares to the last, at least 1.

  Returns:
    The advantage as it was, and the smaller mask.

  Raises:
    UserError: a share outside (0, 1], or steps below 1.
  """
  ranges.POSITIVE_SHARE.check(
    'd3s',
    rollouts_first=rollouts_first,
    rollouts_last=rollouts_last,
    tokens_first=tokens_first,
    tokens_last=tokens_last,
  )
  ranges.COUNT.check('d3s', steps=steps)
  done = (jnp.max(jnp.asarray(rollouts.step)) - 1) / steps
  at = jnp.clip(done, 0, 1).astype(jnp.float32)
  between = lambda first, last: first + at * (last - first)
  value = of_response(advantage, mask)
  share = between(rollouts_first, rollouts_last)
  chosen = _most_spread(value, _counted(mask), share)
  mask = jnp.where(chosen[..., None], mask, 0)
  weight = jnp.abs(advantage) * entropy
  mask = _heaviest(weight, mask, between(tokens_first, tokens_last))
  return (jnp.where(mask != 0, advantage, 0),), mask


def stratified(
  rollouts: Rollouts,
  advantage: Array,
  mask: Array,
  entropy: None,
  *,
  measure: str,
  width: float,
  share: float,
  eps: float = 1e-6,
) -> Credit:
  """Stratified GRPO: compared with responses of the same structure.

      A' = share (A - mean_k) / (sd_k + eps) + (1 - share) A

  over the stratum k of a response: those of its group with the same
  `floor(measure / width)`. `sd_k` is the sample deviation (`ddof=1`). A
  response that is alone in its stratum has 0 for the first term. Any advantage
  that is linear in the reward within a group gives the first term of the
  rewards themselves, but for `eps`, which counts in units of the advantage.

  Source: Stratified GRPO, arXiv 2510.06214: there strata are numbers of search
  calls. `share`, `ddof` and `eps` are unknown.

  Args:
    rollouts: the measure is used.
    advantage: of each token; a response counts with its mean.
    mask: 1 on tokens that are trained.
    entropy: not used.
    measure: name of one that the recipe takes.
    width: of a stratum, in units of the measure, above 0.
    share: of the stratum's term, from 0 to 1.
    eps: added to a deviation.

  Returns:
    One advantage, and the mask as it was.

  Raises:
    UserError: a number out of its range, or the measure was not taken.
  """
  del entropy
  ranges.POSITIVE.check('stratified', width=width)
  ranges.SHARE.check('stratified', share=share)
  ranges.NOT_NEGATIVE.check('stratified', eps=eps)
  found = measures.find(rollouts, measure, 'credit.stratified')
  stratum = jnp.floor(found / width)
  counted = _counted(mask)
  value = of_response(advantage, mask)
  own = stratum[:, :, None] == stratum[:, None, :]  # [B, G, G]
  own = own & counted[:, :, None] & counted[:, None, :]
  others = jnp.broadcast_to(value[:, None, :], own.shape)
  centred = jnp.diagonal(masking.center(others, own, axis=2), axis1=1, axis2=2)
  deviation = masking.std(others, own, axis=2, ddof=1)
  is_spread = deviation > 0
  scaled = centred / jnp.where(is_spread, deviation + eps, 1)
  scaled = jnp.where(is_spread, scaled, 0)[..., None]
  blended = share * scaled + (1 - share) * jnp.asarray(advantage)
  return (jnp.where(mask != 0, blended, 0),), mask


def copo(
  rollouts: Rollouts,
  advantage: Array,
  mask: Array,
  entropy: None,
  *,
  sharpness: float,
  middle: float,
  consistency: float = 1.0,
  eps: float = 1e-6,
) -> Credit:
  """COPO: groups that agree learn from how they compare with other groups.

      g_b   = p_b (1 - consistency (1 - 1/n) / log2(n) H_b)
      G_b   = (g_b - mean g) / (sd g + eps)       over the groups of the batch
      w_b   = sigmoid(sharpness (H_b - middle))
      A1, A2 = w_b A_bgt, (1 - w_b) G_b

  `p_b` is the share of right responses, `H_b` the entropy of the answers of the
  group in bits, `n` its responses; the deviation is the sample's (`ddof=1`).
  The loss is the sum of two clipped losses, so off policy it is the blend of
  the two, and not the loss of a blend. `A2` is given to every response of the
  group, wrong ones too. A group of one response has no entropy: `g_b = p_b`.

  Source: COPO, arXiv 2508.04138, and its code, whose scripts have sharpness and
  middle of 20 and 0.5, or 5 and 1. There answers are compared as spelled.

  Args:
    rollouts: `correct`, and the measure `answer_class`.
    advantage: of each token, against the group.
    mask: 1 on tokens that are trained.
    entropy: not used: that of the answers counts.
    sharpness: of the blend, a bit.
    middle: bits at which both count alike.
    consistency: 1 for the code's reward of agreement, 0 for none.
    eps: added to the deviation of the groups.

  Returns:
    Two advantages, and the mask as it was.

  Raises:
    UserError: a number out of its range, or the measure was not taken.
  """
  del entropy
  ranges.NOT_NEGATIVE.check('copo', sharpness=sharpness, middle=middle, eps=eps)
  ranges.SHARE.check('copo', consistency=consistency)
  counted = _counted(mask)
  bits = _answer_bits(
    measures.find(rollouts, 'answer_class', 'credit.copo'), counted
  )
  between = _between_groups(rollouts.correct, bits, counted, consistency, eps)
  weight = jax.nn.sigmoid(sharpness * (bits - middle))[:, None, None]
  local = weight * jnp.asarray(advantage)
  others = (1 - weight) * between[:, None, None] * (mask != 0)
  return (local, others), mask


def of_response(advantage: Array, mask: Array) -> jax.Array:
  """`[B, G]`: the mean advantage over a response's trained tokens.

  The largest is taken off before: an advantage that all tokens share comes out
  to the bit, however many they are, so equal responses stay equal.
  """
  kept = jnp.asarray(mask) != 0
  largest = jnp.max(
    jnp.asarray(advantage), axis=-1, keepdims=True, initial=-jnp.inf, where=kept
  )
  rest = masking.mean(advantage - largest, mask, axis=-1)
  return jnp.where(jnp.any(kept, axis=-1), largest[..., 0] + rest, 0)


def _counted(mask: Array) -> jax.Array:
  """`[B, G]` bool: samples with any trained token."""
  return jnp.any(jnp.asarray(mask) != 0, axis=-1)


def _share(share: Array, count: Array) -> jax.Array:
  """`ceil(share count)`, and no more for what float32 makes of the product."""
  return jnp.ceil(share * count - 1e-4).astype(jnp.int32)


def _most_spread(
  value: jax.Array, counted: jax.Array, share: Array
) -> jax.Array:
  """`[B, G]` bool: the share of the values with the largest variance."""
  size = value.size
  flat, is_there = value.ravel(), counted.ravel()
  total = jnp.sum(is_there)
  most = _share(share, total)
  # Falling, what does not count at the end; equal ones in their order.
  order = jnp.argsort(jnp.where(is_there, -flat, jnp.inf), stable=True)
  # About their mean: a difference of sums keeps its digits.
  centred = masking.center(flat, is_there)[order]
  sums = jnp.stack([centred, jnp.square(centred)])
  before = jnp.pad(jnp.cumsum(sums, axis=-1), ((0, 0), (1, 0)))
  above = jnp.arange(size + 1)  # how many of the largest
  below = jnp.clip(most - above, 0, size)
  start = jnp.clip(total - below, 0, size)
  first, second = before[:, above] + before[:, total, None] - before[:, start]
  variance = second / jnp.maximum(most, 1) - (first / jnp.maximum(most, 1)) ** 2
  # Choices that differ by rounding are equal.
  close = jnp.max(jnp.where(above <= most, variance, -jnp.inf)) * (1 - 1e-5)
  count = jnp.argmax((above <= most) & (variance >= close))
  rank = jnp.arange(size)
  is_chosen = (rank < count) | (
    (rank >= total - (most - count)) & (rank < total)
  )
  return jnp.zeros(size, bool).at[order].set(is_chosen).reshape(value.shape)


def _heaviest(weight: jax.Array, mask: jax.Array, share: Array) -> jax.Array:
  """The mask of that share of its tokens, and what equals the last of them."""
  kept = mask != 0
  weight = jnp.where(kept, weight, -jnp.inf)
  most = _share(share, jnp.sum(kept))
  falling = -jnp.sort(-weight.ravel())
  least = falling[jnp.maximum(most - 1, 0)]
  return jnp.where(weight >= least, mask, 0)


def _between_groups(
  right: Array,
  bits: jax.Array,
  counted: jax.Array,
  consistency: float,
  eps: float,
) -> jax.Array:
  """`[B]`: how a group's share of right responses compares with the others'."""
  n = jnp.sum(counted, axis=1)
  # log2 of 1 is 0, and so is then the entropy.
  factor = (1 - 1 / jnp.maximum(n, 1)) / jnp.log2(jnp.maximum(n, 2))
  rate = masking.mean(jnp.asarray(right), counted, axis=1)
  reward = rate * (1 - consistency * factor * bits)
  is_group = n > 0
  scale = masking.std(reward, is_group, ddof=1)
  spread = masking.center(reward, is_group)
  return spread / jnp.where(scale > 0, scale + eps, 1)


def _answer_bits(classes: jax.Array, counted: jax.Array) -> jax.Array:
  """`[B]`: the entropy of the answers of each group, in bits.

  `-sum_c p_c log2 p_c` is the mean over responses of `-log2` of the share of
  their own class.
  """
  same = classes[:, :, None] == classes[:, None, :]
  same = same & counted[:, None, :]
  n = jnp.sum(counted, axis=1, keepdims=True)
  share = jnp.sum(same, axis=2) / jnp.maximum(n, 1)
  logs = jnp.log2(jnp.where(counted, share, 1))
  return -masking.mean(logs, counted, axis=1)
