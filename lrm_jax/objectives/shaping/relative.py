"""Rewards that compare a response with the others of its group or batch.

`L` is the response length in tokens, end-of-sequence included, and
`p_b = mean_g c` the part of a group that is right. Unless a docstring says
otherwise a truncated response is judged like any other, by its verdict and
its length, which is then that of the cap.
"""

import jax
import jax.numpy as jnp

from lrm_jax import masking
from lrm_jax.objectives import measures, ranges
from lrm_jax.structs import Array, Rollouts


def group_lambda(
  rollouts: Rollouts, *, fraction: float, alpha: float, floor: float = 1e-4
) -> jax.Array:
  """GRPO-lambda: only the groups that do best are paid for being short.

      R = c * (1 - alpha * sigmoid((L - mean) / max(std, floor)))  on top
      R = c                                                        elsewhere

  On top are the `ceil(fraction * B)` groups of the batch with the highest
  `p_b`; of equal groups those that stand first in the batch. Float error does
  not round the count up (0.07 of 100 is 7). Mean and deviation run over the
  right responses of the group; one or equal lengths give `1 - alpha / 2`.
  Wrong responses get 0, in top groups too, and with an alpha of at most 1
  right ones never less. A whole reward.

  Source: Stable RL for efficient reasoning, arXiv 2505.18086. Which deviation
  it takes is unknown to us: this is the population's. A reimplementation uses
  a fraction of 0.2, an alpha of 0.6 and this floor; unverified as the paper's.

  Args:
    rollouts: `correct` and `length` (response tokens).
    fraction: of the groups of the batch, in [0, 1].
    alpha: the largest deduction.
    floor: of the deviation, in response tokens.

  Returns:
    The reward `[B, G]`.

  Raises:
    UserError: a fraction that is none, or a negative `alpha` or `floor`.
  """
  ranges.SHARE.check('group_lambda', fraction=fraction)
  ranges.NOT_NEGATIVE.check('group_lambda', alpha=alpha, floor=floor)
  right = rollouts.right
  solved = jnp.sum(right, axis=1)
  order = jnp.argsort(-solved, stable=True)
  rank = jnp.argsort(order, stable=True)
  # A whole rank is below ceil(x) where it is below x.
  is_top = rank < fraction * len(solved) - 1e-4
  length = _length(rollouts)
  deviation = masking.std(length, right, axis=1, keepdims=True)
  scale = jnp.maximum(deviation, floor)
  saved = alpha * jax.nn.sigmoid(_standardize(length, right, scale))
  return jnp.where(right, 1 - jnp.where(is_top[:, None], saved, 0), 0)


def sigmoid_length(rollouts: Rollouts, *, alpha: float) -> jax.Array:
  """`c * (1 - alpha * sigmoid((L - mean) / (std + 1e-7)))`.

  Mean and population deviation run over the right responses of the group; one
  or equal lengths give `1 - alpha / 2`. A truncated response counts as wrong,
  in the statistics too (there it is our reading). Wrong responses get 0, and
  with an alpha of at most 1 right ones never less. A whole reward.

  Source: Arora and Zanette, arXiv 2502.04463, with alphas of 0.05 to 0.4 and
  the advantage `leave_one_out`.

  Args:
    rollouts: `correct`, `length` (response tokens) and `truncated`.
    alpha: the largest deduction.

  Returns:
    The reward `[B, G]`.

  Raises:
    UserError: a negative `alpha`.
  """
  ranges.NOT_NEGATIVE.check('sigmoid_length', alpha=alpha)
  right = rollouts.right & ~jnp.asarray(rollouts.truncated)
  length = _length(rollouts)
  scale = masking.std(length, right, axis=1, keepdims=True) + 1e-7
  value = 1 - alpha * jax.nn.sigmoid(_standardize(length, right, scale))
  return jnp.where(right, value, 0)


def kimi(rollouts: Rollouts, *, coefficient: float = 0.4) -> jax.Array:
  """Kimi k1.5's length term, linear from the shortest to the longest.

      lambda = 1/2 - (L - min) / (max - min)
      R      = coefficient * (lambda if c else min(0, lambda))

  The extremes run over all responses of the group, right and wrong; equal
  lengths get 0. A term to be added to `outcome`, from which it takes at most
  half the coefficient: for a coefficient below 2 wrong stays below right.

  Source: Kimi k1.5, arXiv 2501.12599, as in the code of Laser,
  arXiv 2505.15612, where the coefficient is 0.4. That Kimi turns it on after
  a warm-up only is from memory, unverified, and not done here.

  Args:
    rollouts: `correct` and `length` (response tokens).
    coefficient: reward between the shortest and the longest.

  Returns:
    The term `[B, G]`.

  Raises:
    UserError: the coefficient is negative.
  """
  ranges.NOT_NEGATIVE.check('kimi', coefficient=coefficient)
  length = _length(rollouts)
  shortest = jnp.min(length, axis=1, keepdims=True)
  span = jnp.max(length, axis=1, keepdims=True) - shortest
  value = 0.5 - (length - shortest) / jnp.where(span > 0, span, 1)
  value = jnp.where(span > 0, value, 0)
  return coefficient * jnp.where(rollouts.right, value, jnp.minimum(value, 0))


def alp(rollouts: Rollouts, *, beta: float) -> jax.Array:
  """ALP: `-beta * L * max(p_b, 1 / K)`, the easier the dearer.

  `K` is the size of the group. A term for right and wrong responses alike, to
  be added to `outcome`; wrong may end above right where the difference in
  length is worth more than the answer.

  Source: ALP, arXiv 2506.05256, as described by others, with a beta of 1e-7
  into which a maximal length is folded: how it compares to this beta is
  unknown to us.

  Args:
    rollouts: `correct` and `length` (response tokens).
    beta: reward per response token of a problem always solved.

  Returns:
    The term `[B, G]`, at most 0.

  Raises:
    UserError: a negative `beta`.
  """
  ranges.NOT_NEGATIVE.check('alp', beta=beta)
  rate = _pass_rate(rollouts)
  price = beta * jnp.maximum(rate, 1 / rollouts.correct.shape[1])
  return -price * _length(rollouts)


def shorter_better(
  rollouts: Rollouts, *, alpha: float = 2.0, beta: float = 0.001
) -> jax.Array:
  """ShorterBetter: `alpha * c - beta * |L - best|`.

  `best` is the length of the group's shortest right response, or the mean
  length of a group without one. A whole reward: a wrong response near `best`
  ends above a right one that is `alpha / beta` tokens longer.

  Source: ShorterBetter, arXiv 2504.21370; the constants as in its code.

  Args:
    rollouts: `correct` and `length` (response tokens).
    alpha: of a right answer.
    beta: reward per response token.

  Returns:
    The reward `[B, G]`.

  Raises:
    UserError: a negative `alpha` or `beta`.
  """
  ranges.NOT_NEGATIVE.check('shorter_better', alpha=alpha, beta=beta)
  right, length = rollouts.right, _length(rollouts)
  best = jnp.where(
    jnp.any(right, axis=1, keepdims=True),
    _least(length, right),
    jnp.mean(length, axis=1, keepdims=True),
  )
  return jnp.where(right, alpha, 0.0) - beta * jnp.abs(length - best)


def o1_pruner(
  rollouts: Rollouts,
  *,
  alpha: float = 5.0,
  low: float = -2.0,
  high: float = 4.0,
) -> jax.Array:
  """O1-Pruner: `clip(mean(L) / L - 1 + alpha * (c - p_b), low, high)`.

  The weight before it is standardised: the z-score over everything is the
  advantage `batch_zscore`. A whole reward; a group all right or all wrong
  with equal lengths gets 0. In the paper mean length and pass rate are the
  reference model's, sampled once. Here they are the group's own: an online
  version. The paper keeps 2 of the K samples of a problem; here all are
  trained on. Wrong ends above right only where it is shorter than `1 / alpha`
  of the mean length; clipped, both may end equal.

  Source: O1-Pruner, arXiv 2501.12570.

  Args:
    rollouts: `correct` and `length` (response tokens).
    alpha: of the answer against the length.
    low: the smallest weight.
    high: the largest weight.

  Returns:
    The reward `[B, G]`, within `[low, high]`.

  Raises:
    UserError: `low` above `high`.
  """
  ranges.check_order('o1_pruner', low=low, high=high)
  everyone = jnp.ones(rollouts.correct.shape, bool)
  length = _length(rollouts)
  # Centred, so that equal lengths and equal verdicts give exactly 0.
  longer = masking.center(length, everyone, axis=1)
  better = masking.center(rollouts.right, everyone, axis=1)
  value = alpha * better - longer / jnp.maximum(length, 1)
  return jnp.clip(value, low, high)


def decoupled_length(
  rollouts: Rollouts, *, temperature: float = 0.1
) -> jax.Array:
  """DRPO: `c * exp((best - L) / (C * temperature))`, `C` the cap.

  `best` is the length of the group's shortest right response, which gets 1.
  Up to a factor per group this is the exponential of the length reward
  `1 - L / C` over the temperature; the advantage `class_share` makes it the
  paper's weights, which sum to 1 over the right responses of a group, and
  leaves the wrong ones, 0 here, to their own side. An infinite temperature
  ignores length. A whole reward, within [0, 1]: wrong is never above right,
  but a right response far longer than the best has almost nothing too.

  Source: DRPO, arXiv 2510.04474, with a temperature of 0.1; its code takes
  the padded width, 8192, for C.

  Args:
    rollouts: `correct`, `length` and `cap` (response tokens).
    temperature: in units of length reward; positive.

  Returns:
    The reward `[B, G]`.

  Raises:
    UserError: the temperature is not positive.
  """
  ranges.POSITIVE.check('decoupled_length', temperature=temperature)
  right, length = rollouts.right, _length(rollouts)
  best = _least(length, right)
  cap = jnp.maximum(jnp.asarray(rollouts.cap), 1)[:, None]
  # At most 0 where it counts; a shorter wrong one must not overflow.
  saved = jnp.minimum(best - length, 0)
  # Never 0, however long: `class_share` tells right from wrong by it.
  least = jnp.finfo(jnp.float32).tiny
  reward = jnp.maximum(jnp.exp(saved / (cap * temperature)), least)
  return jnp.where(right, reward, 0)


def conciseness(
  rollouts: Rollouts,
  *,
  score: str,
  alpha: float,
  anneal_from: float,
  anneal_steps: int,
) -> jax.Array:
  """CRF: `c * (1 + alpha * q * (s + p_b))`, `q` a score of conciseness.

      q = clip(measures[score], 0.1, 1)
      s = anneal_from * max(0, 1 - step / anneal_steps)

  Wrong responses get 0, so a bonus is for right ones only. A whole reward;
  with no negative number among the keys wrong is never above right.

  Source: Efficient reasoning via reward model, arXiv 2511.09158, as described
  by others; there `q` is a trained model's. Alpha, the annealing of `s` and
  the difficulty term are unknown to us: the straight line, and `p_b` (more
  for easy problems) rather than `1 - p_b`, are a reconstruction.

  Args:
    rollouts: `correct`, `step` and `measures`.
    score: the name of a measure, the higher the more concise.
    alpha: of the bonus.
    anneal_from: `s` before the first step.
    anneal_steps: steps until `s` is 0; 0 for never a bonus by `s`.

  Returns:
    The reward `[B, G]`.

  Raises:
    UserError: this measure is not taken, or a negative `alpha` or
      `anneal_steps`.
  """
  ranges.NOT_NEGATIVE.check(
    'conciseness', alpha=alpha, anneal_steps=anneal_steps
  )
  measure = measures.find(rollouts, score, 'shaping.conciseness')
  step = jnp.asarray(rollouts.step)[:, None]
  left = jnp.maximum(1 - step / jnp.maximum(anneal_steps, 1), 0)
  ease = anneal_from * left + _pass_rate(rollouts)
  bonus = alpha * jnp.clip(measure, 0.1, 1.0) * ease
  return jnp.where(rollouts.right, 1 + bonus, 0)


def step_pruner(
  rollouts: Rollouts, *, alpha: float, eps: float = 1e-6
) -> jax.Array:
  """Step Pruner: `c * (1 - alpha * (n - n_min) / (n_max - n_min + eps))`.

  `n` is the measure `paragraphs`; the extremes run over the right responses
  of the group, and one right response or equal numbers get 1. Wrong ones get
  0, and with an alpha of at most 1 right ones never less. A whole reward.

  The rules by which the paper stops are not implemented: its first version
  once any step is longer than a limit, the later one once responses no longer
  shorten. The measure `longest_paragraph` is what to watch for the first.

  Source: a reconstruction. Beyond Token Length, arXiv 2510.03805, counts
  paragraphs as steps, punishes their number and gives wrong answers 0; its
  formula and its constants are unknown to us.

  Args:
    rollouts: `correct` and `measures`.
    alpha: the largest deduction.
    eps: added to the range, in paragraphs.

  Returns:
    The reward `[B, G]`.

  Raises:
    UserError: paragraphs are not counted, or a negative `alpha` or `eps`.
  """
  ranges.NOT_NEGATIVE.check('step_pruner', alpha=alpha, eps=eps)
  steps = measures.find(rollouts, 'paragraphs', 'shaping.step_pruner')
  right = rollouts.right
  fewest = _least(steps, right)
  span = _most(steps, right) - fewest + eps
  share = (steps - fewest) / jnp.where(span > 0, span, 1)
  return jnp.where(right, 1 - alpha * share, 0)


def relative_length(rollouts: Rollouts) -> jax.Array:
  """LC-R1's length term: `1 - L / max(L of right responses)`.

  For every response of the group, right or wrong; 0 for all if none is right.
  A wrong one longer than the longest right one falls below 0. A term to be
  added to `outcome`, which keeps wrong below right since it is less than 1
  and, for right responses, at least 0.

  Source: LC-R1, arXiv 2506.14755, with a coefficient of 1.

  Args:
    rollouts: `correct` and `length` (response tokens).

  Returns:
    The term `[B, G]`, below 1.
  """
  length = _length(rollouts)
  longest = _most(length, rollouts.right)
  # Not 1 - L / max: fused into one step that is not exactly 0 for the longest.
  saved = (longest - length) / jnp.where(longest > 0, longest, 1)
  return jnp.where(longest > 0, saved, 0)


def _length(rollouts: Rollouts) -> jax.Array:
  """`[B, G]` float32: response tokens."""
  return jnp.asarray(rollouts.length).astype(jnp.float32)


def _pass_rate(rollouts: Rollouts) -> jax.Array:
  """`p_b`, `[B, 1]` float32."""
  return jnp.mean(rollouts.right.astype(jnp.float32), axis=1, keepdims=True)


def _least(values: Array, right: Array) -> jax.Array:
  """`[B, 1]`, of the right responses of a group; 0 if there is none."""
  least = jnp.min(values, axis=1, keepdims=True, initial=jnp.inf, where=right)
  return jnp.where(jnp.any(right, axis=1, keepdims=True), least, 0)


def _most(values: Array, right: Array) -> jax.Array:
  """`[B, 1]`, of the right responses of a group; 0 if there is none."""
  return -_least(-values, right)


def _standardize(length: Array, right: Array, scale: Array) -> jax.Array:
  """`(L - mean of right) / scale`, 0 for wrong ones and equal lengths."""
  centred = masking.center(length, right, axis=1)
  return centred / jnp.where(scale > 0, scale, 1)
