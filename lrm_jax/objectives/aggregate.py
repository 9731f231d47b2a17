"""Aggregation: the weight of every token in the scalar loss.

`f(mask [B, G, T], **keywords) -> weights [B, G, T]`, and the loss of a
mini-batch is `sum(values * weights)`. The weights carry the denominators and
are computed once from the mask of the whole mini-batch, so cutting it into
micro-batches, whose sums are added, cannot change the loss. Weights are 0
outside the mask; an empty mask has weights and a loss of 0.

Below, a response is one with trained tokens: dropped samples are not counted
in a denominator. `L` is the number of its trained tokens, `N` the number of
responses.
"""

import jax
import jax.numpy as jnp

from lrm_jax.errors import UserError
from lrm_jax.structs import Array


def token_mean(mask: Array) -> jax.Array:
  """`1 / sum_bgt m_bgt`: every token counts alike (DAPO, DLER)."""
  mask = _ones(mask)
  return mask / _at_least_one(jnp.sum(mask))


def sequence_mean(mask: Array) -> jax.Array:
  """`1 / (N L_bg)`: the mean over responses of their token means (GRPO).

  Every response counts alike, so a token of a long one counts less.
  """
  mask = _ones(mask)
  length = jnp.sum(mask, axis=-1, keepdims=True)
  return mask / _at_least_one(length) / _responses(mask)


def sequence_sum(mask: Array) -> jax.Array:
  """`1 / N`: the mean over responses of their token sums (BNPO's run)."""
  mask = _ones(mask)
  return mask / _responses(mask)


def question_mean(mask: Array) -> jax.Array:
  """`1 / (Q n_b)`: the mean over groups of their token means.

  `n_b` is the number of trained tokens of a group, `Q` that of groups which
  have any: those that are all right or all wrong are counted unless the
  selection drops them. For the losses of `discriminative.py`, which are
  constant over a group: their sum is the mean over groups, as in DisCO and
  DRPO.
  """
  mask = _ones(mask)
  tokens = jnp.sum(mask, axis=(1, 2), keepdims=True)
  return mask / _at_least_one(tokens) / _at_least_one(jnp.sum(tokens > 0))


def question_sum(mask: Array) -> jax.Array:
  """`1 / (Q n_b)`: the mean over groups of the mean of their token sums.

  `n_b` is the number of responses of a group with trained tokens, `Q` that of
  groups which have any. So a group counts as one, whether it has eight samples
  or one demonstration: HPT's.
  """
  mask = _ones(mask)
  is_response = jnp.any(mask != 0, axis=-1)
  count = jnp.sum(is_response, axis=1)
  groups = jnp.sum(count > 0)
  return mask / _at_least_one(count)[:, None, None] / _at_least_one(groups)


def fixed_length(mask: Array, *, length: int) -> jax.Array:
  """`1 / (N length)`: token sums over a constant (Dr. GRPO).

  The constant is explicit: the padded width would change with the batch.

  Source: arXiv 2503.20783, with the longest response allowed.

  Args:
    mask: `[B, G, T]`.
    length: response tokens, at least 1.

  Returns:
    `[B, G, T]` weights.

  Raises:
    UserError: the length is not positive.
  """
  if length < 1:
    raise UserError(
      f'fixed_length: length = {length} response tokens; give at least 1'
    )
  mask = _ones(mask)
  return mask / length / _responses(mask)


def _ones(mask: Array) -> jax.Array:
  return (jnp.asarray(mask) != 0).astype(jnp.float32)


def _at_least_one(count: jax.Array) -> jax.Array:
  """Counts are whole, so this changes 0 only, where the weights are 0."""
  return jnp.maximum(count, 1)


def _responses(mask: jax.Array) -> jax.Array:
  """How many responses have trained tokens; 1 where none has."""
  return _at_least_one(jnp.sum(jnp.any(mask != 0, axis=-1)))
