"""Credit by conflicts: tokens that right and wrong responses share.

Parts like those of `credit.py`.
"""

import math

import jax
import jax.numpy as jnp

from lrm_jax import masking
from lrm_jax.objectives import ranges
from lrm_jax.objectives.credit import Credit, of_response
from lrm_jax.structs import Array, Rollouts


def gtpo(
  rollouts: Rollouts,
  advantage: Array,
  mask: Array,
  entropy: Array,
  *,
  entropy_limit: float = math.log(2),
  entropy_scale: float = 0.1,
) -> Credit:
  """GTPO: conflict tokens are not pushed down, uncertain responses not at all.

      A'_bgt = w_bgt (A_bgt - entropy_scale H_bg)   where H_bg <= entropy_limit
               0                                    elsewhere

  `H_bg` is the mean entropy of the response's trained tokens. A token is in
  conflict where the same id stands at the same place of a response with A > 0
  and of one with A < 0; of these only the run that begins with the first token
  counts, and, places counted from the end, the run that ends with the last.
  Each of the two gives a factor: 1 off its run, and on it 2 where A > 0 and 0
  elsewhere; `w` is their product, up to 4 for a token of both runs. What a
  reward of the group leaves at A = 0 is pushed down by its entropy alone.

  The paper's filter is off where the *initial* policy is above ln 2 already:
  set the limit to infinity there. `gtpo_released` is what its code does.

  Source: GTPO, arXiv 2508.03772; with the advantage `group_mean`, the aggregate
  `sequence_mean`, no KL, one update a batch.

  Args:
    rollouts: `response_ids` and `length` are used.
    advantage: of each token; its sign is one of a response.
    mask: 1 on tokens that are trained; others are never in conflict, and end
      a run.
    entropy: nats.
    entropy_limit: nats, above which a response is not trained.
    entropy_scale: of the advantage a nat.

  Returns:
    One advantage and the mask as it was: what is not trained counts in the
    denominators, as in the paper.

  Raises:
    UserError: a negative number.
  """
  ranges.NOT_NEGATIVE.check(
    'gtpo', entropy_limit=entropy_limit, entropy_scale=entropy_scale
  )
  weight, _ = _conflicts(rollouts, advantage, mask)
  shaped = _shaped(advantage, mask, entropy, entropy_limit, entropy_scale)
  return (shaped * weight,), mask


def gtpo_released(
  rollouts: Rollouts,
  advantage: Array,
  mask: Array,
  entropy: Array,
  *,
  entropy_limit: float = 0.7,
  entropy_scale: float = 0.1,
) -> Credit:
  """`gtpo` as the released code has it.

      A'_bgt = A'_bgt of gtpo / max(1, conflict tokens of the response)

  A token of both runs is one conflict token. The filter is always on, at 0.7
  nats. So a response that shares its frame with others counts less, by an order
  of magnitude where a prompt template makes them begin alike.

  Source: the code of arXiv 2508.03772.

  Args:
    rollouts: as in `gtpo`.
    advantage: likewise.
    mask: likewise.
    entropy: likewise.
    entropy_limit: nats, above which a response is not trained.
    entropy_scale: of the advantage a nat.

  Returns:
    One advantage, and the mask as it was.

  Raises:
    UserError: a negative number.
  """
  ranges.NOT_NEGATIVE.check(
    'gtpo_released', entropy_limit=entropy_limit, entropy_scale=entropy_scale
  )
  weight, count = _conflicts(rollouts, advantage, mask)
  shaped = _shaped(advantage, mask, entropy, entropy_limit, entropy_scale)
  return (shaped * weight / jnp.maximum(count, 1)[..., None],), mask


def _shaped(
  advantage: Array, mask: Array, entropy: Array, limit: float, scale: float
) -> jax.Array:
  """`A - scale H` where the mean entropy `H` allows it, 0 elsewhere."""
  mean = masking.mean(entropy, mask, axis=-1, keepdims=True)
  is_trained = (jnp.asarray(mask) != 0) & (mean <= limit)
  return jnp.where(is_trained, advantage - scale * mean, 0)


def _conflicts(
  rollouts: Rollouts, advantage: Array, mask: Array
) -> tuple[jax.Array, jax.Array]:
  """(weight `[B, G, T]`, conflict tokens of each response `[B, G]`)."""
  ids, inside = jnp.asarray(rollouts.response_ids), jnp.asarray(mask) != 0
  mean = of_response(advantage, mask)
  up, down = mean > 0, mean < 0
  start = _run(ids, inside, up, down)
  # The last token comes first, then the one before it.
  columns = jnp.arange(ids.shape[-1])
  from_end = jnp.asarray(rollouts.length)[..., None] - 1 - columns
  place = jnp.maximum(from_end, 0)
  turn = lambda x: jnp.take_along_axis(x, place, axis=-1)
  end = turn(_run(turn(ids), turn(inside) & (from_end >= 0), up, down)) & (
    from_end >= 0
  )
  factor = jnp.where(up, 2.0, 0.0)[..., None]
  weight = jnp.where(start, factor, 1) * jnp.where(end, factor, 1)
  return weight, jnp.sum(start | end, axis=-1)


def _run(
  ids: jax.Array, inside: jax.Array, up: jax.Array, down: jax.Array
) -> jax.Array:
  """`[B, G, T]` bool: the run of conflicts that begins at the first place."""

  def look(found, sample):
    token, is_inside, is_up, is_down = sample
    same = (ids == token[:, None]) & is_inside[:, None]
    above = found[0] | (same & is_up[:, None, None])
    below = found[1] | (same & is_down[:, None, None])
    return (above, below), None

  # One sample at a time: no array of G * G * T.
  nowhere = jnp.zeros(ids.shape, bool)
  samples = jax.tree.map(
    lambda x: jnp.moveaxis(x, 1, 0), (ids, inside, up, down)
  )
  (above, below), _ = jax.lax.scan(look, (nowhere, nowhere), samples)
  is_active = (up | down)[..., None]
  conflict = above & below & inside & is_active
  return jnp.cumprod(conflict, axis=-1).astype(bool)
