"""Demonstrations: groups that learn from a given response, not their own.

`f(rollouts, **keywords) -> coefficient [B]` float32. Where it is above 0 the
group's samples are dropped, a demonstration of its problem takes the place of
the first, and its likelihood is raised with this coefficient; see `teach`.
"""

import jax
import jax.numpy as jnp

from lrm_jax.errors import UserError
from lrm_jax.objectives import ranges
from lrm_jax.structs import Array, Rollouts


def undemonstrated(rollouts: Rollouts) -> jax.Array:
  """No group does: `[B]` of 0."""
  return jnp.zeros(jnp.shape(rollouts.length)[0], jnp.float32)


def gate(
  rollouts: Rollouts, *, solved: int = 0, coefficient: float = 1.0
) -> jax.Array:
  """HPT's gate: the groups with at most `solved` right responses.

  Source: HPT, arXiv 2509.04419: 0 for Qwen, 2 of 8 for Llama; a coefficient of
  1, and of 0.3 for a model of 1.5B.

  Args:
    rollouts: `correct` is used; a response without a verdict is not right.
    solved: right responses, at least 0.
    coefficient: of the supervised loss, above 0.

  Returns:
    `[B]` float32.

  Raises:
    UserError: a number out of its range.
  """
  ranges.POSITIVE.check('gate', coefficient=coefficient)
  if solved < 0:
    raise UserError(f'gate: solved = {solved}; give at least 0')
  right = jnp.sum(rollouts.right, axis=1)
  return jnp.where(right <= solved, jnp.float32(coefficient), 0)


def teach(
  advantages: tuple[Array, ...], mask: Array, coefficient: Array
) -> tuple[jax.Array, ...]:
  """The advantages, with those of demonstrations in the groups that have one.

      A_bgt = coefficient_b / L_bg       where coefficient_b > 0

  `L` is the number of trained tokens, so under the loss `likelihood` and the
  aggregate `question_sum` the group adds `coefficient / Q` times the mean
  negative log-likelihood of its demonstration, Q groups in all. A second
  advantage is 0 there.

  Args:
    advantages: `[B, G, T]` each.
    mask: 1 on tokens that are trained; of one response in such a group.
    coefficient: `[B]`.

  Returns:
    `[B, G, T]` each.
  """
  mask = jnp.asarray(mask)
  length = jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1)
  given = jnp.asarray(coefficient)[:, None, None]
  own = given / length * mask
  first, *others = advantages
  return (
    jnp.where(given > 0, own, first),
    *(jnp.where(given > 0, 0, other) for other in others),
  )
