"""Repeated n-grams of token ids, found exactly and on the device."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from lrm_jax.errors import UserError
from lrm_jax.structs import Array


def repeated_tokens(ids: Array, mask: Array, *, n: int) -> jax.Array:
  """Marks the tokens inside n-grams that were written before.

      s repeats  iff  ids[s : s + n] = ids[u : u + n] for some u < s
      t is marked  iff  s <= t < s + n for some s that repeats

  So the first occurrence is not marked, and one that overlaps it counts:
  `a a a` repeats the 2-gram of its first two tokens, and the last two tokens
  are marked. Nothing is compared across samples. An n-gram with a token
  outside the mask does not count, so none crosses the end of a response, and
  an `n` above its length marks nothing.

  There are no hashes, so neither false positives nor misses. The first start
  of each n-gram is found by doubling: two n-grams are equal where their first
  and their last `2^k` tokens are, so each round sorts pairs of labels. That
  is about `log2 n` sorts of T; working memory is O(G T), as problems take
  turns. One core takes about 1 s for a million tokens at n = 40.

  Source: the reading of "repeated" is that of the code released with arXiv
  2502.03373.

  Args:
    ids: `[B, G, T]` token ids, not negative.
    mask: `[B, G, T]`, 1 on response tokens.
    n: tokens per n-gram, at least 1.

  Returns:
    `[B, G, T]` bool, False outside the mask.

  Raises:
    UserError: `n` below 1.
  """
  if n < 1:
    raise UserError(f'repetition: n = {n}; give the tokens of an n-gram, >= 1')
  tokens = jnp.shape(ids)[-1]
  if n > tokens:
    return jnp.zeros(jnp.shape(ids), bool)
  index = jnp.arange(tokens, dtype=jnp.int32)
  # A masked token is equal to nothing, nor is any n-gram that holds it.
  labels = jnp.where(jnp.asarray(mask) != 0, ids, -1 - index)
  return jax.lax.map(functools.partial(_repeated, n=n), labels)


def _repeated(labels: jax.Array, *, n: int) -> jax.Array:
  """`repeated_tokens` of one problem, `[G, T]`."""
  for shift in _shifts(n):
    labels = _first_equal(labels, _shifted(labels, shift))
  index = jnp.arange(labels.shape[1], dtype=jnp.int32)
  latest = jax.lax.cummax(jnp.where(labels < index, index, -n), axis=1)
  return index - latest < n


def _shifts(n: int) -> Iterator[int]:
  """By how much the two halves of each round are apart; they may overlap."""
  if n == 1:
    yield 0
  width = 1
  while width < n:
    shift = min(width, n - width)
    yield shift
    width += shift


def _shifted(labels: jax.Array, shift: int) -> jax.Array:
  """`labels[:, t + shift]`; past the end, what is equal to nothing."""
  samples, tokens = labels.shape
  alone = jnp.arange(tokens, tokens + shift, dtype=jnp.int32)
  alone = jnp.broadcast_to(alone, (samples, shift))
  return jnp.concatenate([labels[:, shift:], alone], axis=1)


def _first_equal(left: jax.Array, right: jax.Array) -> jax.Array:
  """The smallest u whose pair is that of t: `(left, right)[u] = ...[t]`."""
  index = jax.lax.broadcasted_iota(jnp.int32, left.shape, 1)
  left, right, start = jax.lax.sort(
    (left, right, index), dimension=1, num_keys=2, is_stable=True
  )
  differs = (left != jnp.roll(left, 1, 1)) | (right != jnp.roll(right, 1, 1))
  head = jax.lax.cummax(jnp.where(differs, index, 0), axis=1)
  first = jnp.take_along_axis(start, head, axis=1)
  unsort = lambda at, value: value.at[at].set(value, unique_indices=True)
  return jax.vmap(unsort)(start, first)
