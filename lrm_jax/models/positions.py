"""How attention knows the order of tokens: one scheme for the whole model.

  prepare(config, kind, positions) -> what `place` needs, once per kind of layer
  place(x, prepared)               queries, and keys before they are cached
  scores(config, table, pair)      -> scores, and which of them may be seen

The same functions serve rows (Q tokens against S of the same row) and cached
decoding (Q samples of a prompt against S cached keys). Scores are
`[N, K, Q, R, S]`: K key/value heads with R = H / K queries each, head h being
number h % R of key/value head h // R. Distances count positions, not places in
a row, so that packing changes nothing.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax import collectives
from lrm_jax.errors import UserError
from lrm_jax.models import rope
from lrm_jax.models.config import LayerKind, ModelConfig
from lrm_jax.structs import Array

# LM-Infinite: tokens at the start that everybody sees.
GLOBAL_TOKENS = 10
# T5: learned values per head, and the distance from which all are one.
BUCKETS = 32
MAX_DISTANCE = 128


@dataclasses.dataclass(frozen=True)
class Pair:
  """Queries and the keys that they meet.

  Attributes:
    product: `(q, k) -> [N, K, Q, R, S]` float32, soft-capped.
    q: placed queries, scaled.
    k: placed keys.
    q_positions: int32, broadcasts to `q` without its last axis.
    k_positions: int32, broadcasts to `k` without its last axis.
    distance: int32, broadcasts to `[N, 1, Q, 1, S]`: position of the query
      less that of the key, never negative where it matters.
    start: likewise, the position of the key.
    tokens_last: `k` has its tokens behind its features, as in the cache.
  """

  product: Callable[[Array, Array], Array]
  q: Array
  k: Array
  q_positions: Array
  k_positions: Array
  distance: Array
  start: Array
  tokens_last: bool = False

  def with_keys(self, function: Callable[[Array], Array]) -> Array:
    """`function` of the keys, features last for it, in their own layout."""
    if not self.tokens_last:
      return function(self.k)
    return jnp.swapaxes(function(jnp.swapaxes(self.k, -1, -2)), -1, -2)


class Scheme(NamedTuple):
  """See the head of this file.

  Attributes:
    prepare: of positions that broadcast to `x` without its last axis.
    place: see there.
    scores: returns True for "all of them may be seen".
  """

  prepare: Callable[[ModelConfig, LayerKind, Array], Any]
  place: Callable[[Array, Any], Array]
  scores: Callable[[ModelConfig, Any, Pair], tuple[Array, Array | bool]]


def slopes(heads: int) -> np.ndarray:
  """ALiBi's m_h = 2^(-8h / H), h = 1 .. H; `[H]` float32.

  For H that is no power of two, as released: those of the power P below, then
  every other one of 2P. Press et al. 2022 (arXiv 2108.12409), section 3.
  """
  power = 2 ** math.floor(math.log2(heads))
  first = 2.0 ** (-8.0 / power * np.arange(1, power + 1))
  second = 2.0 ** (-4.0 / power * np.arange(1, 2 * power + 1, 2))
  return np.concatenate([first, second])[:heads].astype(np.float32)


def bucket(distance: Array) -> Array:
  """T5's bucket of a distance, of BUCKETS; int32.

  The first half are the distances 0, 1 ... themselves; the others grow by a
  constant factor up to MAX_DISTANCE, and the last holds all beyond. Raffel et
  al. 2020 (arXiv 1910.10683), section 2.1, without its other direction.
  """
  exact = BUCKETS // 2
  far = jnp.maximum(distance, exact).astype(jnp.float32) / exact
  growth = jnp.log(far) / math.log(MAX_DISTANCE / exact) * (BUCKETS - exact)
  far = jnp.minimum(exact + growth.astype(jnp.int32), BUCKETS - 1)
  return jnp.where(distance < exact, jnp.maximum(distance, 0), far)


def randomised(key: Array, segment_ids: Array, limit: int) -> Array:
  """Increasing positions of every sequence of packed rows; `[N, S]` int32.

  Each sequence has a random subset of 0 .. limit - 1 of its own, whichever
  others are in its row. To train on, so that a model meets the positions of
  longer sequences. Ruoss et al. 2023 (arXiv 2305.16843), section 3, whose
  released code draws them in evaluation too; here a model is evaluated at
  0, 1, 2 ...

  Args:
    key: a JAX random key.
    segment_ids: `[N, S]`; 0 is padding, which gets 0.
    limit: positions there are; the longest sequence to be ready for.

  Raises:
    UserError: there may be fewer than a row has tokens.
  """
  length = segment_ids.shape[1]
  if length > limit:
    raise UserError(
      f'randomised positions: rows of {length} tokens are above limit={limit}; '
      'raise the limit'
    )

  def one_row(key, segments):
    def place(number, at):
      mine = segments == number
      noise = jax.random.uniform(jax.random.fold_in(key, number), (limit,))
      # The places of the n smallest of all, n as long as the sequence.
      rank = jnp.argsort(jnp.argsort(noise))
      chosen = jnp.nonzero(rank < jnp.sum(mine), size=length, fill_value=0)[0]
      return jnp.where(mine, chosen[jnp.cumsum(mine) - 1], at)

    count = jnp.max(segments) + 1
    return jax.lax.fori_loop(1, count, place, jnp.zeros_like(segments))

  keys = jax.random.split(key, len(segment_ids))
  return jax.vmap(one_row)(keys, jnp.asarray(segment_ids, jnp.int32))


# --- Prepare and place ---


def _angles(config, kind, positions):
  return rope.angles(kind.rope, config.head_dim, config.reach, positions)


def _turn(x, prepared):
  return rope.rotate(x, *prepared)


def _nothing(config, kind, positions):
  del config, kind, positions
  return ()


def _stay(x, prepared):
  del prepared
  return x


# --- Scores ---


def _products(config, table, pair):
  """Q . k."""
  del config, table
  return pair.product(pair.q, pair.k), True


def _alibi(config, table, pair):
  """Q . k - m_h * distance."""
  del table
  per_head = collectives.own(slopes(_heads(config)))
  per_head = per_head.reshape(config.n_kv_heads, 1, -1, 1)
  return pair.product(pair.q, pair.k) - per_head * pair.distance, True


def _hard_alibi(config, table, pair):
  """Q . k; the first half of the heads see a window, the others everything.

  Windows are 1/m_h tokens, those of ALiBi's slopes for the heads that have
  one: 2, 4, 8 ... for 8 of 16 heads. Jelassi et al. 2024 (arXiv 2402.01032),
  section 2.3, names windows without saying how long; these are ours.
  """
  del table
  heads = _heads(config)
  windowed = heads - heads // 2
  windows = np.full(heads, np.iinfo(np.int32).max)
  windows[:windowed] = np.ceil(1 / slopes(windowed))
  per_head = collectives.own(windows).reshape(config.n_kv_heads, 1, -1, 1)
  return pair.product(pair.q, pair.k), pair.distance < per_head


def _heads(config):
  """Of the whole model; see `ModelConfig.share`."""
  return config.n_heads * collectives.sharing()


def _t5(config, table, pair):
  """Q . k + table[bucket(distance), h]; the table is every layer's.

  T5 itself does not scale the product: `query_width` 1 says so.
  """
  bias = table.astype(jnp.float32)[bucket(pair.distance)]
  # [N, 1, Q, 1, S, H] to one value per query head.
  bias = bias.reshape(*bias.shape[:-1], config.n_kv_heads, -1)
  bias = jnp.moveaxis(bias[:, 0, :, 0], (-2, -1), (1, 3))
  return pair.product(pair.q, pair.k) + bias, True


def _lm_infinite(config, table, pair):
  """Only distances that occurred in training: a window, and the start.

  A query sees the last L tokens at their distance, and the first
  GLOBAL_TOKENS of its sequence, however far, at distance L at most. One softmax
  runs over both; L is `trained_positions`. Han et al. 2024 (arXiv
  2308.16137), section 4. Keys stay unrotated in the cache.
  """
  del table
  kind, window = config.kinds[0], config.trained_positions
  turn = lambda x, at: _turn(x, _angles(config, kind, at))
  near = pair.product(
    turn(pair.q, pair.q_positions),
    pair.with_keys(lambda k: turn(k, pair.k_positions)),
  )
  # As if the query stood at L and the key at 0.
  far = pair.product(turn(pair.q, window), pair.with_keys(lambda k: turn(k, 0)))
  is_near = pair.distance < window
  seen = is_near | (pair.start < GLOBAL_TOKENS)
  return jnp.where(is_near, near, far), seen


SCHEMES = {
  'rope': Scheme(_angles, _turn, _products),
  'nope': Scheme(_nothing, _stay, _products),
  'alibi': Scheme(_nothing, _stay, _alibi),
  'hard_alibi': Scheme(_nothing, _stay, _hard_alibi),
  't5': Scheme(_nothing, _stay, _t5),
  'lm_infinite': Scheme(_nothing, _stay, _lm_infinite),
}
