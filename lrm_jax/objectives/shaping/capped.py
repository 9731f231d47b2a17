"""Rewards of one response by itself: its verdict, length and cap.

Lengths, caps and targets are in response tokens, end-of-sequence included.
Unless a docstring says otherwise a truncated response is judged like any
other, by its verdict and its length, which is then that of the cap.
"""

import jax
import jax.numpy as jnp

from lrm_jax.objectives import ranges
from lrm_jax.structs import Array, Rollouts


def outcome(
  rollouts: Rollouts, *, right: float = 1.0, wrong: float = 0.0
) -> jax.Array:
  """`R = right if c else wrong`: the verifier's verdict alone.

  A truncated response gets whatever the verifier said: `wrong` where the
  thinking never closed, since there is no answer to read, but `right` where
  the right answer was given before the cap was hit.

  Args:
    rollouts: `correct` is used.
    right: of a right answer.
    wrong: of any other; -1 in DAPO's scorer.

  Returns:
    The reward `[B, G]`.
  """
  return jnp.where(rollouts.right, jnp.float32(right), jnp.float32(wrong))


def valid_format(rollouts: Rollouts) -> jax.Array:
  """1 where thinking closed and an answer was found, right or wrong.

  A truncated response has neither, as a rule, and gets 0. A term to be added
  to `outcome`.

  Source: the format reward of LC-R1, arXiv 2506.14755, whose own format is a
  pattern of tags around thinking and answer.

  Args:
    rollouts: `think_closed` and `answered`.

  Returns:
    The term `[B, G]`, 0 or 1.
  """
  is_valid = jnp.asarray(rollouts.think_closed) & rollouts.answered
  return is_valid.astype(jnp.float32)


def truncation(rollouts: Rollouts, *, stop_properly: float = 0.0) -> jax.Array:
  """DLER's truncation reward: 1 if correct within the cap.

      R' = c * [L <= cap] * (stop_properly if truncated else 1)

  Wrong responses get 0, and so does a right one longer than the cap of its
  problem. A right answer whose response hit the cap without an
  end-of-sequence token gets `stop_properly`. A whole reward.

  Source: DLER, arXiv 2510.15110, where `stop_properly` is 0. The released
  trainer has 0.1: for a truncated response that already holds its answer.

  Args:
    rollouts: `correct`, `length`, `cap` (response tokens) and `truncated`.
    stop_properly: reward of a truncated but correct response.

  Returns:
    The reward `[B, G]`.
  """
  return _right_within(rollouts, jnp.asarray(rollouts.cap), stop_properly)


def difficulty_truncation(
  rollouts: Rollouts,
  *,
  easy_cap: int,
  threshold: float = 0.5,
  stop_properly: float = 0.0,
) -> jax.Array:
  """DA-DLER: groups that are mostly right get a tighter cap.

      ratio_b = mean_g(c * [L <= cap] * [not truncated])
      R'      = DLER's reward with easy_cap  where ratio_b > threshold
                DLER's reward with cap       elsewhere

  Responses are sampled under the cap of their problem; an easy group is then
  rewarded as if the cap had been `easy_cap`. So a group may be all right and
  get nothing but 0, and the selection has to look at this reward, not at the
  verdicts. Wrong responses get 0, truncated right ones `stop_properly` (0 in
  an easy group if `easy_cap` is below the cap). A whole reward.

  The ratio is compared in whole responses: where `threshold * G` is a whole
  number on paper, float error does not make it more or less.

  Source: DLER, arXiv 2510.15110, with `easy_cap` 2000, a cap of 4000 and a
  threshold of 0.5. The text does not say under which of the two caps the
  ratio is measured; that it is the longer one is our reading.

  Args:
    rollouts: `correct`, `length`, `cap` (response tokens) and `truncated`.
    easy_cap: response tokens, below the caps.
    threshold: an easy group has more than this part of its responses right.
    stop_properly: reward of a truncated but correct response.

  Returns:
    The reward `[B, G]`.

  Raises:
    UserError: `easy_cap` leaves no room, or `threshold` is no share.
  """
  ranges.COUNT.check('difficulty_truncation', easy_cap=easy_cap)
  ranges.SHARE.check('difficulty_truncation', threshold=threshold)
  cap = jnp.asarray(rollouts.cap)
  solved = jnp.sum(_right_within(rollouts, cap, 0.0), axis=1)
  samples = rollouts.correct.shape[1]
  is_easy = solved > threshold * samples + 1e-4
  cap = jnp.where(is_easy, easy_cap, cap)
  return _right_within(rollouts, cap, stop_properly)


def overlong(
  rollouts: Rollouts, *, buffer: int, factor: float = 1.0
) -> jax.Array:
  """DAPO's soft punishment of responses that come close to the cap.

      -factor * clip((L - (cap - buffer)) / buffer, 0, 1)

  0 up to `cap - buffer` tokens, `-factor` at the cap, linear in between. A
  term, for right and wrong responses alike, to be added to an `outcome` of +1
  and -1; a truncated one is at its cap and gets `-factor`. A buffer of 0
  tokens punishes nothing that fits its cap.

  Source: DAPO, arXiv 2503.14476; the released script has a cap of 20480, a
  buffer of 4096 and a factor of 1.

  Args:
    rollouts: `length` and `cap` (response tokens).
    buffer: response tokens before the cap over which the term falls.
    factor: the largest punishment.

  Returns:
    The term `[B, G]`, within `[-factor, 0]`.

  Raises:
    UserError: a negative `buffer` or `factor`.
  """
  ranges.NOT_NEGATIVE.check('overlong', buffer=buffer, factor=factor)
  start = jnp.asarray(rollouts.cap)[:, None] - buffer
  excess = (jnp.asarray(rollouts.length) - start).astype(jnp.float32)
  return -factor * jnp.clip(excess / jnp.maximum(buffer, 1), 0, 1)


def cosine(
  rollouts: Rollouts,
  *,
  right_short: float = 2.0,
  right_long: float = 1.0,
  wrong_short: float = -10.0,
  wrong_long: float = 0.0,
  exceeded: float = -10.0,
  margin: int = 16,
) -> jax.Array:
  """Half a cosine over the length, falling if right and rising if wrong.

      R = long + (short - long) / 2 * (1 + cos(pi * L / cap))
      R = exceeded  where L + margin >= cap, right or wrong

  `short` and `long`, the values at lengths of 0 and of the cap, are those of
  right or of wrong responses. With the defaults a wrong answer is the less
  bad the longer it is: an incentive to think on. A truncated response gets
  `exceeded`, and so does everything under a cap of up to `margin + 1` tokens.
  A whole reward.

  Source: Demystifying Long CoT, arXiv 2502.03373, whose defaults these are,
  with a cap of 14336 tokens.

  Args:
    rollouts: `correct`, `length` and `cap` (response tokens).
    right_short: of a right response of no length.
    right_long: of a right response at its cap.
    wrong_short: of a wrong response of no length.
    wrong_long: of a wrong response at its cap.
    exceeded: of a response that comes within `margin` of its cap.
    margin: response tokens.

  Returns:
    The reward `[B, G]`.

  Raises:
    UserError: a negative `margin`.
  """
  ranges.NOT_NEGATIVE.check('cosine', margin=margin)
  right = rollouts.right
  short = jnp.where(right, right_short, wrong_short)
  long = jnp.where(right, right_long, wrong_long)
  wave = (1 + jnp.cos(jnp.pi * _used(rollouts))) / 2
  reward = long + (short - long) * wave
  cap = jnp.asarray(rollouts.cap)[:, None]
  is_exceeded = jnp.asarray(rollouts.length) + margin >= cap
  return jnp.where(is_exceeded, exceeded, reward).astype(jnp.float32)


def format_length(
  rollouts: Rollouts, *, turning_point: float = 0.5
) -> jax.Array:
  """A surrogate that needs no gold answer: the format, and a length.

      f = ([thinking closed] + [answered]) / 2        x = L / cap
      y = 1 - (1 - x / p)^2                 x <= p = turning_point
      y = 1 - 2 ((x - p) / (1 - p))^2       x > p
      R = f + y  if answered,  min(0, y)  if not

  `y` rises to 1 at the turning point and falls to -1 at the cap, so this
  pays for length up to there. `correct` is never looked at: right and wrong
  get the same. With p < 1 a truncated response with an answer gets `f - 1`, one
  without gets -1. A whole reward, within [-1, 2].

  Source: RL without ground truth, arXiv 2505.19439, with a cap of 3072 tokens
  and a turning point of 0.5.

  Args:
    rollouts: `think_closed`, `answered`, `length` and `cap` (response tokens).
    turning_point: the best length, in caps; above 0 and at most 1.

  Returns:
    The reward `[B, G]`.

  Raises:
    UserError: a turning point that is not above 0 and up to 1.
  """
  ranges.POSITIVE_SHARE.check('format_length', turning_point=turning_point)
  answered = jnp.asarray(rollouts.answered)
  closed = jnp.asarray(rollouts.think_closed)
  form = (closed.astype(jnp.float32) + answered) / 2
  used = _used(rollouts)
  rest = 1 - turning_point
  rising = 1 - jnp.square(1 - used / turning_point)
  # At a turning point of 1 nothing is beyond it, and nothing divides by 0.
  beyond = (used - turning_point) / jnp.where(rest > 0, rest, 1)
  falling = 1 - 2 * jnp.square(beyond)
  value = jnp.where(used <= turning_point, rising, falling)
  return jnp.where(answered, form + value, jnp.minimum(value, 0))


def l1_exact(rollouts: Rollouts, *, alpha: float = 3e-4) -> jax.Array:
  """L1-Exact (LCPO): `-alpha * |n - L|`, `n` the length asked for.

  A term for right and wrong responses alike, to be added to `outcome`: with
  the default a right response that misses by more than 3333 tokens earns less
  than a wrong one that hits. A problem whose target is 0 asked for 0 tokens:
  use it with a target. The same for truncated responses.

  Source: L1, arXiv 2503.04697.

  Args:
    rollouts: `length` and `target` (response tokens).
    alpha: reward per response token.

  Returns:
    The term `[B, G]`, at most 0.

  Raises:
    UserError: a negative `alpha`.
  """
  ranges.NOT_NEGATIVE.check('l1_exact', alpha=alpha)
  return -alpha * jnp.abs(_tokens_left(rollouts))


def l1_max(
  rollouts: Rollouts, *, alpha: float = 3e-4, offset: float = 0.5
) -> jax.Array:
  """L1-Max (LCPO): `c * clip(alpha * (n - L) + offset, 0, 1)`.

  A right response gets `offset` at the length asked for, more below it and
  less above; wrong ones get 0, which right ones never fall below. A whole
  reward, the same for truncated responses.

  Source: L1, arXiv 2503.04697. The released code keeps several variants, one
  with an alpha of 1/500.

  Args:
    rollouts: `correct`, `length` and `target` (response tokens).
    alpha: reward per response token.
    offset: reward at the length asked for.

  Returns:
    The reward `[B, G]`, within [0, 1].

  Raises:
    UserError: a negative `alpha`.
  """
  ranges.NOT_NEGATIVE.check('l1_max', alpha=alpha)
  value = jnp.clip(alpha * _tokens_left(rollouts) + offset, 0, 1)
  return jnp.where(rollouts.right, value, 0)


def triangular(rollouts: Rollouts, *, peak: float = 1.0) -> jax.Array:
  """RMT's length reward: `peak max(0, 1 - |L - n| / n)`.

  `L` is the thinking, `n` the thinking tokens asked for: it rises from 0 at no
  thinking to `peak` at `n` and falls to 0 at `2 n` and beyond. A term for right
  and wrong responses alike; one whose thinking never closed is all thinking,
  and truncated ones are judged by theirs. A target of 0 earns 0.

  The paper's `(1 - w) [right] + w r_len` is `outcome` with `right` of `1 - w`
  beside this with a `peak` of `w r_max`.

  Source: RMT, arXiv 2509.24375; its w and r_max are unknown to us. Deviation:
  there [right] is the next token of a text; its loss on the other tokens,
  plain next-token prediction, is left out.

  Args:
    rollouts: `thinking_length` and `target` (thinking tokens).
    peak: at the length asked for.

  Returns:
    The term `[B, G]`, within `[0, peak]`.

  Raises:
    UserError: a negative `peak`.
  """
  ranges.NOT_NEGATIVE.check('triangular', peak=peak)
  target = jnp.asarray(rollouts.target)[:, None]
  miss = jnp.abs(jnp.asarray(rollouts.thinking_length) - target)
  share = miss.astype(jnp.float32) / jnp.maximum(target, 1)
  return jnp.where(target > 0, peak * jnp.maximum(1 - share, 0), 0)


def tldr(
  rollouts: Rollouts, *, short: float, medium: float, long: float
) -> jax.Array:
  """TLDR: `c * (1 - beta * L / cap)`, beta by the level that was asked for.

  `rollouts.target` is the level, not a length: 0 for short, 1 for medium, 2
  for long; what lies outside counts as the nearest. Wrong responses get 0 and
  a truncated right one `1 - beta`, so with a beta of at most 1 wrong is never
  above right. A whole reward.

  Source: a reconstruction. Making Small LMs Efficient Reasoners,
  arXiv 2505.07961, has a length-regularised reward with three levels set by
  the prompt; its formula and its constants are unknown to us.

  Args:
    rollouts: `correct`, `length`, `cap` (response tokens) and `target`.
    short: beta of level 0.
    medium: beta of level 1.
    long: beta of level 2.

  Returns:
    The reward `[B, G]`.

  Raises:
    UserError: a beta is negative.
  """
  ranges.NOT_NEGATIVE.check('tldr', short=short, medium=medium, long=long)
  betas = jnp.asarray([short, medium, long], jnp.float32)
  level = jnp.clip(jnp.asarray(rollouts.target), 0, 2)
  value = 1 - betas[level][:, None] * _used(rollouts)
  return jnp.where(rollouts.right, value, 0)


def _right_within(
  rollouts: Rollouts, cap: Array, stop_properly: Array | float
) -> jax.Array:
  """`[B, G]` float32, DLER's reward under these caps `[B]`."""
  within = jnp.asarray(rollouts.length) <= cap[:, None]
  finished = jnp.where(jnp.asarray(rollouts.truncated), stop_properly, 1.0)
  reward = jnp.asarray(rollouts.correct) * within * finished
  return reward.astype(jnp.float32)


def _used(rollouts: Rollouts) -> jax.Array:
  """`L / cap`, `[B, G]` float32."""
  cap = jnp.maximum(jnp.asarray(rollouts.cap), 1)[:, None]
  return jnp.asarray(rollouts.length).astype(jnp.float32) / cap


def _tokens_left(rollouts: Rollouts) -> jax.Array:
  """`n - L`, `[B, G]` float32, below 0 where the target is exceeded."""
  left = jnp.asarray(rollouts.target)[:, None] - jnp.asarray(rollouts.length)
  return left.astype(jnp.float32)
