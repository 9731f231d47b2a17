"""One token per row from logits: the draw itself, truncated or not."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lrm_jax import ordered
from lrm_jax.sampler import truncation
from lrm_jax.sampler.truncation_rules import Rules
from lrm_jax.structs import Array

# Below it, logits over the temperature are so large that their rounding is not
# small beside 1, and log-probabilities mean nothing.
COLDEST = 1e-3
# Entries of the law that are summed before one of them is looked for.
BLOCK = 128
NO_RULES = Rules()


class Drawn(NamedTuple):
  """Tokens, and the laws they were drawn from.

  Attributes:
    ids: `[W]` int32.
    logp: `[W]` float32, natural log-probabilities under the law drawn from; of
      the most likely token that of the whole law, at temperature 1.
    mass: `[W]` float32, what softmax(scores / temperature) gives to the ids
      that truncation kept; 1 without any.
    kept: `[W, M]` int32, these ids by falling probability, -1 in place of the
      others; M = 0 without truncation.
  """

  ids: Array
  logp: Array
  mass: Array
  kept: Array


def draw(
  scores: Array,
  keys: Array,
  position: Array,
  temperature: Array,
  rules: Rules = NO_RULES,
  most: int | None = None,
) -> Drawn:
  """One token per row.

  By inversion: a first uniform number chooses a block of the law, a second one
  a token of it. Two numbers a token instead of one for each entry of the
  vocabulary, and 2^-46 apart, so that rare tokens are not rounded away.

  Args:
    scores: `[W, V]` float32 logits.
    keys: `[W, 2]` uint32, `jax.random.key_data` of the samples' keys.
    position: `[W]` int32, tokens before this one; folded into the keys.
    temperature: `[W]` float32; 0 for the most likely token.
    rules: of truncation, `[W]` each; nothing is sorted without any.
    most: see `truncation.truncate`.
  """
  is_random = temperature > 0
  scaled = scores / jnp.where(is_random, temperature, 1.0)[:, None]
  top = jnp.max(scaled, axis=-1, keepdims=True)
  weights = jnp.exp(scaled - top)
  uniform = uniforms(keys, position)
  mass = jnp.ones(len(scores), jnp.float32)
  kept = jnp.zeros((len(scores), 0), jnp.int32)
  if any(rule is not None for rule in rules):
    law = truncation.truncate(scores, temperature, rules, most)
    drawn = invert(jnp.exp(law.logp), uniform)
    drawn_ids, logp = (
      jnp.take_along_axis(x, drawn[:, None], axis=1)[:, 0]
      for x in (law.ids, law.logp)
    )
    mass = jnp.where(is_random, law.mass, mass)
    is_kept = law.is_kept & is_random[:, None]
    kept = jnp.where(is_kept, law.ids, -1)
  else:
    drawn_ids = invert(weights, uniform)
    logp = _logp(scaled - top, weights, drawn_ids)

  def with_greedy():
    ids = jnp.argmax(scores, axis=-1).astype(jnp.int32)
    return (
      jnp.where(is_random, drawn_ids, ids),
      jnp.where(is_random, logp, _logp(scaled - top, weights, ids)),
    )

  ids, logp = jax.lax.cond(
    is_random.all(), lambda: (drawn_ids, logp), with_greedy
  )
  return Drawn(ids, logp, mass, kept)


def _logp(scores: Array, weights: Array, ids: Array) -> Array:
  """Of some ids, under weights = exp(scores) `[W, V]`."""
  chosen = jnp.take_along_axis(scores, ids[:, None], axis=-1)[:, 0]
  return chosen - jnp.log(ordered.total(ordered.total(_blocks(weights))))


def _blocks(weights: Array) -> Array:
  """`[W, blocks, BLOCK]`."""
  rows, size = weights.shape
  blocks = -(-size // BLOCK)
  weights = jnp.pad(weights, ((0, 0), (0, blocks * BLOCK - size)))
  return weights.reshape(rows, blocks, BLOCK)


def invert(weights: Array, uniform: Array) -> Array:
  """An entry of each row with a chance in proportion to its weight.

  Args:
    weights: `[W, n]`, none negative, one positive.
    uniform: `[W, 2]` in [0, 1).

  Returns:
    `[W]` int32.
  """
  cut = _blocks(weights)
  block = pick(ordered.total(cut), uniform[:, 0])
  inside = jnp.take_along_axis(cut, block[:, None, None], axis=1)[:, 0]
  return block * BLOCK + pick(inside, uniform[:, 1])


def uniforms(keys: Array, position: Array) -> Array:
  """`[W, 2]` float32 in [0, 1), of a sample's key and a token's position."""

  def one(data: Array, at: Array) -> Array:
    key = jax.random.fold_in(jax.random.wrap_key_data(data), at)
    return jax.random.uniform(key, (2,))

  return jax.vmap(one)(keys, position)


def pick(weights: Array, uniform: Array) -> Array:
  """The entry in which `uniform * sum(weights)` falls; `[W]` int32.

  Args:
    weights: `[W, n]`, none negative, one positive.
    uniform: `[W]` in [0, 1).
  """
  total = jnp.cumsum(weights, axis=-1)
  beyond = total > uniform[:, None] * total[:, -1:]
  # Sums are rounded, so that one may seem to grow with a weight of 0.
  hit = beyond & (weights > 0)
  last = jnp.argmax(weights, axis=-1)
  found = jnp.where(hit.any(-1), jnp.argmax(hit, axis=-1), last)
  return found.astype(jnp.int32)
