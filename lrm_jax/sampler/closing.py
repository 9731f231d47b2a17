"""Thinking that is followed token by token, and ended when its budget is spent.

How many tokens of `</think>` a response has just written is one number per row:
0 at the start, m when it was written, and then for good. When a response has
used up its budget without it, the next tokens are not drawn but given: budget
forcing (Muennighoff et al. 2025, arXiv 2501.19393, section 3.1), in the middle
of a compiled loop.
"""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from lrm_jax.structs import Array

# A budget that is never spent.
ENDLESS = np.iinfo(np.int32).max


@functools.cache
def _table(pattern: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
  """The ids that matter `[d]`, and what follows a state `[m + 1, d + 1]`.

  The last column is that of all other ids.
  """
  ids = sorted(set(pattern))
  follows = np.zeros((len(pattern) + 1, len(ids) + 1), np.int32)
  follows[-1] = len(pattern)
  for state in range(len(pattern)):
    for column, token in enumerate(ids):
      written = (*pattern[:state], token)
      follows[state, column] = max(
        n
        for n in range(len(written) + 1)
        if written[len(written) - n :] == pattern[:n]
      )
  return np.array(ids, np.int32), follows


def advance(pattern: Sequence[int], state: Array, ids: Array) -> Array:
  """The states after one more token each.

  Args:
    pattern: the m ids of `</think>`; without any, nothing is ever closed.
    state: `[W]` int32 in 0 ... m.
    ids: `[W]` int32.

  Returns:
    `[W]` int32.
  """
  if not pattern:
    return state
  known, follows = _table(tuple(pattern))
  hit = ids[:, None] == known
  column = jnp.where(hit.any(-1), jnp.argmax(hit, axis=-1), len(known))
  return jnp.asarray(follows)[state, column]


def state_of(pattern: Sequence[int], ids: Sequence[int]) -> int:
  """The state after `ids`, on the host."""
  if not pattern:
    return 0
  known, follows = _table(tuple(pattern))
  columns = {int(token): column for column, token in enumerate(known)}
  state = 0
  for token in ids:
    state = follows[state, columns.get(int(token), len(known))]
  return int(state)


def forced(
  pattern: Sequence[int],
  ending: Sequence[int],
  state: Array,
  count: Array,
  tokens: Array,
  budget: Array,
) -> Array:
  """The ids that take the place of what is drawn; -1 where nothing does.

  Args:
    pattern: see `advance`.
    ending: what ends thinking, with `pattern` in it; without any, nothing is
      ever forced.
    state: `[W]` int32, see `advance`.
    count: `[W]` int32, tokens of the ending that have been forced already.
    tokens: `[W]` int32, of the response so far.
    budget: `[W]` int32, tokens that it may think.
  """
  if not ending:
    return jnp.full_like(tokens, -1)
  begins = (count == 0) & (state < len(pattern)) & (tokens >= budget)
  goes_on = (count > 0) & (count < len(ending))
  ids = jnp.asarray(np.array(ending, np.int32))
  found = ids[jnp.minimum(count, len(ending) - 1)]
  return jnp.where(begins | goes_on, found, -1)
