"""Kept sets of truncation sampling, on their way into an update.

  sampler     -> `Rollouts.kept_ids` [B, G, T, M], what was kept for each token
  place       -> places [R, S], which of them the next token of a row has
  token_logp  -> a chunk of tokens at a time, the sets of their places
  law         of the new, the old and the reference policy: over these

The set is that of the sampler, whatever the parameters have become: a set that
was looked for anew would move with them, and the ratio of two laws of which one
is truncated is not 1 where the parameters are the same, but the mass that was
kept. A token takes 4 * M bytes on the host and, of a mini-batch, on each
device. No `[R, S, M]` exists.
"""

from typing import NamedTuple

import jax.numpy as jnp

from lrm_jax import mesh as mesh_lib
from lrm_jax import packing
from lrm_jax.sampler import truncation
from lrm_jax.structs import Array


class KeptSets(NamedTuple):
  """The sets of a mini-batch, and where they are wanted.

  Attributes:
    ids: `[N, M]` int32, -1 in place of what was not kept.
    places: `[R, S]` int32 below N: the set that the *next* token of a row was
      drawn from; -1 where that one is not trained.
  """

  ids: Array
  places: Array


def place(
  kept_ids: Array | None,
  rows: packing.Rows,
  groups: Array,
  offsets: Array,
  mask: Array,
) -> KeptSets | None:
  """The sets of the tokens of a micro-batch.

  Args:
    kept_ids: `[B, G, T, M]` of the mini-batch; None without truncation.
    rows: `[R, S]` of the micro-batch.
    groups: `[Q]`, as in `packing.PackedBatch`.
    offsets: `[Q, G]`, likewise.
    mask: `[Q, G, T]`, 1 on tokens that are trained.

  Returns:
    None without truncation.
  """
  if kept_ids is None:
    return None
  _, samples, tokens, most = kept_ids.shape
  own = jnp.arange(samples * tokens).reshape(samples, tokens)
  source = groups[:, None, None] * samples * tokens + own
  size = rows.tokens.size
  # Whoever is not trained has a place beyond the last, and is written nowhere.
  at = jnp.where(mask > 0, offsets[..., None] - 1 + jnp.arange(tokens), size)
  places = jnp.full(size, -1, jnp.int32).at[at].set(source, mode='drop')
  places = mesh_lib.constrain(
    places.reshape(rows.tokens.shape), 'rows', 'places'
  )
  return KeptSets(jnp.asarray(kept_ids).reshape(-1, most), places)


def law(scores: Array, ids: Array, kept: Array) -> tuple[Array, Array]:
  """`output_head.whole_law` of scores `[n, V]` over kept sets.

  The sampled id counts as kept, also where rounding has left it out.

  Args:
    scores: over the temperature.
    ids: `[n]` int32, what was sampled.
    kept: `[n, M]` int32, -1 in place of others; a row may have nothing else.

  Returns:
    (logp, entropy), `[n]` float32 in nats, both of the truncated law.
  """
  return truncation.renormalized(scores, kept, kept >= 0, ids)
