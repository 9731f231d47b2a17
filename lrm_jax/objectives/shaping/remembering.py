"""Rewards that remember: records, multipliers, length statistics.

`f(rollouts, memory, **keywords) -> (reward, memory)`: a batch is scored with
what was known before it and remembered afterwards. `Memory.problem` has the
rows of the batch; a problem that stands in it twice has equal rows, before
and after. `NAME_start` is what a part remembers before its first batch, and
`laser_d_observe` what it learns from the monitor's samples.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax import masking
from lrm_jax.errors import UserError
from lrm_jax.objectives import ranges, repetition
from lrm_jax.structs import Memory, Rollouts

# HAPO, released code: no right answer loses more than this, so that it stays
# above every wrong one (1 - 0.7 > 0) at a weight of 1.
_HAPO_FLOOR_RIGHT = -0.7
_HAPO_FLOOR_WRONG = -1.0

# Laser, released code.
_LASER_RIGHT = 1.0
_LASER_WRONG = -0.5
_LASER_INVALID = -1.0
_LASER_TIERS = 3  # easy, medium, hard


def hapo(
  rollouts: Rollouts, memory: Memory, *, weight: float = 1.0
) -> tuple[jax.Array, Memory]:
  """HAPO: longer or shorter than the record of the problem. A term.

      f = cos(pi/2 * L/h) if L < 2h else -1
      R = weight * (max(-0.7, f) if c else min(0, f))

  `h` is the record: the shortest right response to this problem in all batches
  before this one. A right response as long as the record gets exactly 0, a
  shorter one more, up to `weight`; from 1.4936 h on it gets -0.7 weight. A
  wrong response gets 0 below the record and -weight from 2h on. Without a
  record both get 0. Truncated responses are treated as the others: right ones
  can set a record. Add it to `outcome`.

  Source: HAPO, arXiv 2505.11225; floors, weight and the order (score, then
  remember) as in the released code.

  Args:
    rollouts: `correct`, `length` (response tokens), `problem_index`.
    memory: `problem['shortest']` `[B]`, inf where there is no record.
    weight: of the term, in units of the reward of a right answer.

  Returns:
    The term `[B, G]`, and the memory with the records of this batch.

  Raises:
    UserError: the weight is negative.
  """
  ranges.NOT_NEGATIVE.check('hapo', weight=weight)
  known, saved = _saved(rollouts, memory)
  # cos(pi/2 L/h) as the sine of what is missing: exactly 0 at L = h.
  bonus = jnp.sin(jnp.pi / 2 * jnp.maximum(saved, -1))
  right = jnp.maximum(bonus, _HAPO_FLOOR_RIGHT)
  wrong = jnp.minimum(bonus, 0)
  term = jnp.where(rollouts.right, right, wrong)
  return jnp.where(known, weight * term, 0), _with_records(rollouts, memory)


def hapo_linear(
  rollouts: Rollouts,
  memory: Memory,
  *,
  weight: float = 1.0,
  tolerance: float = 0.1,
) -> tuple[jax.Array, Memory]:
  """HAPO's linear variant, with a tolerance. A term.

      over = max(0, (L - (1 + tolerance) h) / h)
      R = weight * (max(0, 1 - L/h) - min(0.7, over) if c else -min(1, over))

  As `hapo`, but a right response between `h` and `(1 + tolerance) h` gets 0,
  and so does a wrong one below `(1 + tolerance) h`. Add it to `outcome`.

  Source: HAPO, arXiv 2505.11225; floors and tolerance as in the released code.

  Args:
    rollouts: `correct`, `length` (response tokens), `problem_index`.
    memory: `problem['shortest']` `[B]`, inf where there is no record.
    weight: of the term, in units of the reward of a right answer.
    tolerance: excess over the record that costs nothing, as a share of it.

  Returns:
    The term `[B, G]`, and the memory with the records of this batch.

  Raises:
    UserError: a key is negative.
  """
  ranges.NOT_NEGATIVE.check('hapo_linear', weight=weight, tolerance=tolerance)
  known, saved = _saved(rollouts, memory)
  over = jnp.maximum(-saved - tolerance, 0)
  right = jnp.maximum(saved, 0) + jnp.maximum(-over, _HAPO_FLOOR_RIGHT)
  wrong = jnp.maximum(-over, _HAPO_FLOOR_WRONG)
  term = jnp.where(rollouts.right, right, wrong)
  return jnp.where(known, weight * term, 0), _with_records(rollouts, memory)


def hapo_start() -> Memory:
  """No problem has a record."""
  return Memory(shared={}, problem={'shortest': np.float32(np.inf)})


def adaptive_penalty(
  rollouts: Rollouts,
  memory: Memory,
  *,
  initial: float = 1e-3,
  rate: float = 1e-3,
  reference: float = 0.62,
) -> tuple[jax.Array, Memory]:
  """A-DLP: a price per token that follows the accuracy. A term.

      R = -lambda_t * L
      lambda_{t+1} = max(0, lambda_t + rate * (accuracy - reference))

  Right, wrong and truncated responses pay alike. The accuracy is the share of
  right responses of the whole batch; it moves the price after the batch was
  scored, up while the policy is better than the reference. Add it to
  `outcome`. At 1e-3 a response of 3000 tokens pays three times what a right
  answer earns: at first length decides, not the answer.

  Source: A-DLP, arXiv 2505.18298; constants as in the released code, for
  DeepScaleR-1.5B-Preview.

  Args:
    rollouts: `correct` and `length` (response tokens).
    memory: `shared['penalty']`, lambda_t in reward per response token.
    initial: lambda of the first batch; read by `adaptive_penalty_start`.
    rate: eta of the update.
    reference: the accuracy at which the price stands still.

  Returns:
    The term `[B, G]`, and the memory with the next price.
  """
  del initial
  penalty = jnp.asarray(memory.shared['penalty'], jnp.float32)
  accuracy = jnp.mean(jnp.asarray(rollouts.correct, jnp.float32))
  updated = jnp.maximum(penalty + rate * (accuracy - reference), 0)
  term = -penalty * jnp.asarray(rollouts.length)
  return term, Memory(shared={'penalty': updated}, problem={})


def adaptive_penalty_start(*, initial: float) -> Memory:
  """The price of the first batch.

  Raises:
    UserError: a negative price.
  """
  ranges.NOT_NEGATIVE.check('adaptive_penalty', initial=initial)
  return Memory(shared={'penalty': np.float32(initial)}, problem={})


def laser(
  rollouts: Rollouts, *, target_length: int, bonus: float = 0.5
) -> jax.Array:
  """Laser: a bonus for right answers within a fixed length. A whole reward.

      R = 1 + bonus * [L <= target_length]    right
          -0.5                                wrong
          -1                                  no valid format

  The format is valid if `</think>` was written and an answer found, whatever
  that answer is worth; the released code asks for a box and a closing phrase
  of its prompt instead. Most truncated responses have none.

  Source: Laser, arXiv 2505.15612; scores and bonus as in the released code,
  with targets of 2048, 4096 and 8192 tokens.

  Args:
    rollouts: `correct`, `answered`, `think_closed`, `length`.
    target_length: response tokens.
    bonus: for a right answer that is short enough.

  Returns:
    The reward `[B, G]`.

  Raises:
    UserError: the target is below one token.
  """
  ranges.COUNT.check('laser', target_length=target_length)
  right, _ = _verdicts(rollouts)
  is_short = jnp.asarray(rollouts.length) <= target_length
  return _scores(rollouts) + bonus * (right & is_short)


def laser_d(
  rollouts: Rollouts,
  memory: Memory,
  *,
  lower: int,
  upper: int,
  step: int,
  bonus: float = 0.5,
) -> tuple[jax.Array, Memory]:
  """Laser-D: as `laser`, the length adapted to difficulty. A whole reward.

      R = 1 + bonus * [L <= L_A(tier)]    right
          -0.5                            wrong
          -1                              no valid format

  A group is easy if at least 2/3 of its responses are right, medium from 1/3
  on, else hard; the tier is that of the batch at hand, so a problem changes
  tiers as the policy learns. The lengths `L_A` are those that
  `laser_d_observe` last chose: training itself changes nothing. Format and
  truncated responses as in `laser`.

  Source: Laser-D, arXiv 2505.15612, with `lower` 1024, 2048 or 4096, `upper`
  16384, `step` 1024, and 500 problems observed every 20 steps.

  Args:
    rollouts: `correct`, `answered`, `think_closed`, `length`.
    memory: `shared['adaptive_length']`, `[3]` int32 response tokens for easy,
      medium and hard groups.
    lower: the smallest adaptive length; read by `laser_d_observe`.
    upper: the largest, also before anything was observed.
    step: between two candidates; read by `laser_d_observe`.
    bonus: for a right answer that is short enough.

  Returns:
    The reward `[B, G]`, and the memory as it was.
  """
  del lower, upper, step
  right, _ = _verdicts(rollouts)
  is_short = jnp.asarray(rollouts.length) <= _allowed(rollouts, memory)
  return _scores(rollouts) + bonus * (right & is_short), memory


def laser_de(
  rollouts: Rollouts,
  memory: Memory,
  *,
  lower: int,
  upper: int,
  step: int,
  ngram: int,
  threshold: float,
  bonus: float = 0.5,
) -> tuple[jax.Array, Memory]:
  """Laser-DE: `laser_d`, and wrong answers may explore. A whole reward.

      R = 1 + bonus * [L <= L_A(tier)]                           right
          -0.5 + bonus * [L > L_A(tier) and not repetitive]      wrong
          -1                                                     no valid format

  So a wrong response that went beyond its tier's length gets -0.5 + bonus, 0
  by default: long attempts cost nothing where short ones fail. A response is
  repetitive if more than `threshold` of its tokens stand in a repeated n-gram
  (`repetition.repeated_tokens`). That criterion is a reconstruction: the
  released code looks for a 4-gram that occurs three times, two of them less
  than a third of the response apart.

  Source: Laser-DE, arXiv 2505.15612, numbers as in `laser_d`, none published
  for `ngram` and `threshold`.

  Args:
    rollouts: `correct`, `answered`, `think_closed`, `length`, `response_ids`.
    memory: as for `laser_d`.
    lower: as for `laser_d`.
    upper: likewise.
    step: likewise.
    ngram: tokens of an n-gram.
    threshold: largest share of repeated tokens that is not repetitive, of the
      response's tokens, in [0, 1].
    bonus: for a short right answer and for a long wrong one.

  Returns:
    The reward `[B, G]`, and the memory as it was.

  Raises:
    UserError: the threshold is no share.
  """
  ranges.SHARE.check('laser_de', threshold=threshold)
  del lower, upper, step
  right, wrong = _verdicts(rollouts)
  is_long = jnp.asarray(rollouts.length) > _allowed(rollouts, memory)
  mask = rollouts.mask
  repeated = repetition.repeated_tokens(rollouts.response_ids, mask, n=ngram)
  is_repetitive = masking.mean(repeated, mask, axis=-1) > threshold
  earned = (right & ~is_long) | (wrong & is_long & ~is_repetitive)
  return _scores(rollouts) + bonus * earned, memory


def laser_d_start(*, lower: int, upper: int, step: int) -> Memory:
  """Every tier is allowed `upper` tokens until something was observed.

  Raises:
    UserError: no length to choose from.
  """
  if not 1 <= lower <= upper:
    raise UserError(
      f'laser: lower = {lower}, upper = {upper} response tokens; give '
      '1 <= lower <= upper'
    )
  ranges.COUNT.check('laser', step=step)
  allowed = np.full(_LASER_TIERS, upper, np.int32)
  return Memory(shared={'adaptive_length': allowed}, problem={})


def laser_d_observe(
  rollouts: Rollouts, memory: Memory, *, lower: int, upper: int, step: int
) -> Memory:
  """Chooses the adaptive length of each tier from the monitor's samples.

      L_A(tier) = min {l in lower, lower + step, ... <= upper :
                       floor(P(L <= l) * n(tier)) >= 1},  upper if there is none
      n(easy), n(medium), n(hard) = floor(2G/3), floor(G/3), 1

  `n` is how many right answers a group of the tier has at least (5, 2, 1 for
  G = 8): the length is the smallest at which one of them is expected to fit.
  For hard problems that means all responses. `P` counts every response of the
  tier's problems, right or wrong, truncated ones at the length they were cut
  to. A tier without problems keeps its length (the released code lifts the
  limit instead); one with `n = 0`, as in groups too small, gets `upper`.

  Source: Laser-D, arXiv 2505.15612; what `P` counts as in the released code,
  which puts an accuracy of exactly 1/3 or 2/3 one tier lower here than it does
  in training. Here both use the tiers of `laser_d`; no multiple of 1/8
  differs.

  Args:
    rollouts: of the M problems of the monitor, G samples each.
    memory: `shared['adaptive_length']` `[3]`.
    lower: smallest candidate, response tokens.
    upper: largest.
    step: between two candidates.

  Returns:
    The memory with the new lengths.
  """
  samples = rollouts.length.shape[1]
  grid = jnp.arange(lower, upper + 1, step, dtype=jnp.int32)
  member = _tiers(rollouts)[:, None] == jnp.arange(_LASER_TIERS)
  fits = jnp.asarray(rollouts.length)[..., None] <= grid
  # Whole numbers: floor(P n) >= 1 is (responses that fit) * n >= responses.
  fitting = member.T.astype(jnp.int32) @ jnp.sum(fits, axis=1)
  problems = jnp.sum(member, axis=0)
  expected = jnp.array([samples * 2 // 3, samples // 3, 1])
  enough = fitting * expected[:, None] >= problems[:, None] * samples
  chosen = jnp.min(jnp.where(enough, grid, upper), axis=1)
  kept = jnp.asarray(memory.shared['adaptive_length'])
  lengths = jnp.where(problems > 0, chosen, kept).astype(jnp.int32)
  return Memory(shared={'adaptive_length': lengths}, problem={})


def _saved(rollouts: Rollouts, memory: Memory) -> tuple[jax.Array, jax.Array]:
  """Whether there is a record `[B, 1]`, and `1 - L/h` `[B, G]` (0 if not)."""
  record = jnp.asarray(memory.problem['shortest'])[:, None]
  known = jnp.isfinite(record)
  length = jnp.asarray(rollouts.length, jnp.float32)
  record = jnp.where(known, jnp.maximum(record, 1), length)
  return known, (record - length) / jnp.maximum(record, 1)


def _with_records(rollouts: Rollouts, memory: Memory) -> Memory:
  """The shortest right response so far, equal in rows of the same problem."""
  length = jnp.asarray(rollouts.length, jnp.float32)
  lengths = jnp.where(rollouts.right, length, jnp.inf)
  record = jnp.asarray(memory.problem['shortest'])
  shortest = jnp.minimum(jnp.min(lengths, axis=1), record)
  first = jnp.asarray(rollouts.problem_index)
  by_problem = jax.ops.segment_min(shortest, first, num_segments=len(shortest))
  return Memory(shared={}, problem={'shortest': by_problem[first]})


def _verdicts(rollouts: Rollouts) -> tuple[jax.Array, jax.Array]:
  """Right, and wrong, among responses with a valid format: `[B, G]` bool."""
  answered = jnp.asarray(rollouts.answered)
  is_valid = answered & jnp.asarray(rollouts.think_closed)
  return is_valid & rollouts.right, is_valid & ~rollouts.right


def _scores(rollouts: Rollouts) -> jax.Array:
  """Laser's reward before any bonus, `[B, G]`."""
  right, wrong = _verdicts(rollouts)
  scores = jnp.where(wrong, _LASER_WRONG, _LASER_INVALID)
  return jnp.where(right, _LASER_RIGHT, scores).astype(jnp.float32)


def _tiers(rollouts: Rollouts) -> jax.Array:
  """0 easy, 1 medium, 2 hard: `[B]`, by the share of right responses."""
  right, _ = _verdicts(rollouts)
  thrice, samples = 3 * jnp.sum(right, axis=1), right.shape[1]
  return jnp.where(thrice >= 2 * samples, 0, jnp.where(thrice >= samples, 1, 2))


def _allowed(rollouts: Rollouts, memory: Memory) -> jax.Array:
  """The adaptive length of each group, `[B, 1]` response tokens."""
  lengths = jnp.asarray(memory.shared['adaptive_length'])
  return lengths[_tiers(rollouts)][:, None]
