"""Revisions: tokens that are taken out of responses before they are rewarded.

`f(rollouts, **keywords) -> (start, stop)`, both `[B, G]` int32: the tokens
`start <= t < stop` of a response go, and it is graded again. Equal numbers
leave it as it was sampled.
"""

import jax
import jax.numpy as jnp

from lrm_jax import masking
from lrm_jax.errors import UserError
from lrm_jax.objectives import measures
from lrm_jax.structs import Array, Rollouts

Span = tuple[jax.Array, jax.Array]


def unrevised(rollouts: Rollouts) -> Span:
  """Leaves every response as it was sampled."""
  nothing = jnp.zeros(jnp.shape(rollouts.length), jnp.int32)
  return nothing, nothing


def outlier_truncation(
  rollouts: Rollouts, *, deviations: float = 3.0, margin: int = 32
) -> Span:
  """DOT: cuts the unusually long responses of problems that are solved.

      T_b = floor(mean_g(L) + deviations * std_g(L))
      cut to the first T_b tokens  iff  all of the group are right
                                        and L - T_b >= margin

  Mean and sample deviation (ddof 1) run over every response of the group, the
  long one too. So the largest of G lengths is at most `(G - 1) / sqrt(G)`
  deviations above the mean, and at 3 deviations a group of 10 or fewer is
  never cut (2.85; 11 reach 3.02). Without its end a response mostly turns
  wrong, and that is the signal: the others were right. Groups with a wrong
  answer, of equal lengths or of one sample are left alone.

  Source: DOT, arXiv 2601.03969, and its released code.

  Args:
    rollouts: `correct` and `length` (response tokens) are used; a truncated
      response counts with its length.
    deviations: standard deviations above the mean, at least 0.
    margin: tokens; the smallest excess that is cut, at least 0.

  Returns:
    `(start, stop)` `[B, G]` int32: `(T_b, L)` where cut and `(0, 0)` elsewhere.

  Raises:
    UserError: negative deviations or margin.
  """
  if deviations < 0 or margin < 0:
    raise UserError(
      f'outlier_truncation: deviations = {deviations}, margin = {margin}; '
      'give numbers of at least 0'
    )
  length = jnp.asarray(rollouts.length)
  every = jnp.ones_like(length)
  mean = masking.mean(length, every, axis=1, keepdims=True)
  std = masking.std(length, every, axis=1, ddof=1, keepdims=True)
  limit = jnp.floor(mean + deviations * std).astype(jnp.int32)
  solved = jnp.all(rollouts.right, axis=1, keepdims=True)
  return _where(solved & (length - limit >= margin), limit, length)


def compress_thinking(rollouts: Rollouts) -> Span:
  """LC-R1: cuts the thinking of right responses behind the answer.

      remove answer_prefix <= t < thinking_length

  so what is left is the thinking up to where it reached the answer, then
  `</think>` and the answer as they were. Wrong responses stay as they are, and
  so do those that never closed their thinking, whose thinking never reached
  the answer, or reached it at its very end.

  Source: LC-R1, arXiv 2506.14755.

  Args:
    rollouts: `correct`, `think_closed`, `thinking_length` and the measure
      `answer_prefix` (thinking tokens; below 0 for never).

  Returns:
    `(start, stop)`, both `[B, G]` int32; `(0, 0)` where nothing is removed.

  Raises:
    UserError: the measure `answer_prefix` was not taken.
  """
  prefix = measures.find(
    rollouts, 'answer_prefix', 'revision.compress_thinking'
  )
  thinking = jnp.asarray(rollouts.thinking_length)
  right = rollouts.right & rollouts.think_closed
  is_cut = right & (prefix >= 0) & (prefix < thinking)
  return _where(is_cut, prefix, thinking)


def _where(is_cut: Array, start: Array, stop: Array) -> Span:
  """The span where something is cut, `(0, 0)` elsewhere; int32."""
  start = jnp.where(is_cut, start, 0).astype(jnp.int32)
  return start, jnp.where(is_cut, stop, 0).astype(jnp.int32)
