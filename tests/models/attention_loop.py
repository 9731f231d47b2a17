"""Attention as loops in float64, whatever the scheme; and ways to run ours."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax.models import attention, cache, paged, rope
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.rope import Rope
from lrm_jax.sampler import decode, slots
from lrm_jax.sampler import state as state_lib
from tests.models import paged_rows


def make_config(**changes):
  """Two layers of four heads of eight, one for each key/value head."""
  fields = {
    'vocab_size': 5,
    'd_model': 32,
    'n_layers': 2,
    'n_heads': 4,
    'n_kv_heads': 4,
    'head_dim': 8,
    'd_ff': 4,
    'max_positions': 64,
    'rope': Rope(theta=50.0),
  }
  if 'window' in changes:
    changes['windows'] = (changes.pop('window'),) * 2
  return ModelConfig(**fields | changes)


def draw(config, rows, length, seed=0, dtype=jnp.float32):
  """Queries, keys and values `[rows, length, heads, head_dim]`, and a table."""
  generator = np.random.default_rng(seed)
  make = lambda *shape: jnp.asarray(generator.standard_normal(shape), dtype)
  heads = (config.n_heads, config.n_kv_heads, config.n_kv_heads)
  qkv = [make(rows, length, n, config.head_dim) for n in heads]
  table = make(32, config.n_heads) if config.positions == 't5' else None
  return *qkv, table


def layout(*rows):
  """Positions and segment ids of rows, each a list of lengths and padding.

  `layout([3, 2, -1])` is one row: sequences of 3 and 2 tokens, one of padding.
  """
  at, segments = [], []
  for row in rows:
    at.append([i for n in row for i in range(abs(n))])
    ids = [0 if n < 0 else i for i, n in enumerate(row, 1)]
    segments.append(
      [i for i, n in zip(ids, row, strict=True) for _ in range(abs(n))]
    )
  return np.array(at, np.int32), np.array(segments, np.int32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def run(config, kind, at, segments, q, k, v, table=None):
  """Ours over rows."""
  rows = attention.make_rows(config, at, segments, table)
  out, _ = attention.over_rows(config)(rows, kind, q, k, v)
  return out


@functools.partial(jax.jit, static_argnums=0)
def gradients(config, at, segments, q, k, v, table=None, kind=0):
  """Ours over rows, and gradients of a weighted sum by q, k and v."""

  def loss(q, k, v):
    rows = attention.make_rows(config, at, segments, table)
    out, _ = attention.over_rows(config)(rows, kind, q, k, v)
    weights = jnp.cos(jnp.arange(out.size)).reshape(out.shape)
    return jnp.sum(weights * out.astype(jnp.float32)), out

  slopes, out = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(q, k, v)
  return out, *slopes


def loop(config, at, segments, q, k, v, table=None, kind=0):
  """What `run` computes: every query, head and key on its own, in float64."""
  q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
  out = np.zeros(q.shape)
  for n, i, h in np.ndindex(q.shape[:3]):
    group = h // (config.n_heads // config.n_kv_heads)
    keys, scores = [], []
    for j in range(i + 1):
      distance = int(at[n][i]) - int(at[n][j])
      window = config.kinds[kind].window
      if segments[n][i] != segments[n][j] or (window and distance >= window):
        continue
      score = _score(
        config, kind, q[n, i, h], k[n, j, group], at[n][i], at[n][j], h, table
      )
      if score is not None:
        keys.append(j)
        scores.append(score)
    weights = np.exp(np.array(scores) - max(scores))
    out[n, i, h] = weights / weights.sum() @ v[n, keys, group]
  return out


def _score(config, kind, q, k, query_at, key_at, head, table):
  """None where the scheme lets nobody look."""
  scheme, distance = config.positions, int(query_at) - int(key_at)
  turned = functools.partial(_turned, config, config.kinds[kind].rope)
  if scheme == 'rope':
    return _product(config, turned(q, query_at), turned(k, key_at))
  if scheme == 'lm_infinite':
    limit = config.trained_positions
    if distance < limit:
      return _product(config, turned(q, query_at), turned(k, key_at))
    return (
      _product(config, turned(q, limit), turned(k, 0))
      if (key_at < 10)
      else None
    )
  score = _product(config, q, k)
  if scheme == 'alibi':
    return score - slope(head, config.n_heads) * distance
  if scheme == 't5':
    return score + float(table[bucket(distance), head])
  if scheme == 'hard_alibi':
    windowed = config.n_heads - config.n_heads // 2
    if head < windowed and distance >= 1 / slope(head, windowed):
      return None
  return score


def _product(config, q, k):
  score = q @ k / math.sqrt(config.query_width or config.head_dim)
  cap = config.attention_softcap
  return cap * math.tanh(score / cap) if cap else score


def _turned(config, which, x, position):
  """Pairs as complex numbers."""
  turns, factor = rope.frequencies(which, config.head_dim, config.max_positions)
  pairs = len(turns)
  out = x.copy()
  for i, turn in enumerate(np.asarray(turns, np.float64)):
    angle = complex(math.cos(position * turn), math.sin(position * turn))
    pair = complex(x[i], x[i + pairs]) * angle * factor
    out[i], out[i + pairs] = pair.real, pair.imag
  return out


def slope(head, heads):
  """ALiBi's, as its authors write it."""

  def of_power(n):
    start = 2 ** (-(2 ** -(math.log2(n) - 3)))
    return [start * start**i for i in range(n)]

  if math.log2(heads).is_integer():
    return of_power(heads)[head]
  below = 2 ** math.floor(math.log2(heads))
  extra = of_power(2 * below)[0::2][: heads - below]
  return (of_power(below) + extra)[head]


def bucket(distance):
  """T5's, of 32: 0 to 15 alone, then 16 * 8^(n/16) begins bucket 16 + n."""
  if distance < 16:
    return distance
  return min(16 + int(math.log(distance / 16) / math.log(8) * 16), 31)


def assert_cached_is_rows(config, kind=0, length=12):
  """Decoding token by token gives what the whole rows give.

  Prompts of 1, 4 and 6 tokens are padded with junk; two samples share each,
  and the second one decodes other queries, keys and values.
  """
  prompts = np.array([1, 4, 6])
  q, k, v, table = draw(config, 3, length)
  inside = np.arange(length) < prompts[:, None]
  other = [
    jnp.where(inside[..., None, None], x, 2 * x[::-1] + 1) for x in (q, k, v)
  ]
  at, segments = layout(*[[length]] * 3)
  samples = [(q, k, v), other]
  expected = [run(config, kind, at, segments, *x, table) for x in samples]
  assert np.abs(expected[0] - expected[1]).max() > 0.1
  found = _decoded(config, kind, prompts, samples, table)
  for n, prompt in enumerate(prompts):
    for g in range(2):
      np.testing.assert_allclose(
        found[n, g, : length - prompt],
        expected[g][n, prompt:],
        rtol=1e-5,
        atol=5e-6,
      )


def _decoded(config, kind, prompts, samples, table):
  """`[N, G, T, H, head_dim]`: prompts prefilled, then one token at a time."""
  length, longest = samples[0][0].shape[1], max(prompts) + 2
  inside = np.arange(longest) < prompts[:, None]
  at = np.tile(np.arange(longest, dtype=np.int32), (len(prompts), 1))

  @jax.jit
  def prefill(*qkv):
    junk = [
      jnp.where(inside[..., None, None], x[:, :longest], 9.0) for x in qkv
    ]
    rows = attention.make_rows(config, at, inside.astype(np.int32), table)
    return attention.over_rows(config)(rows, kind, *junk)[1]

  room = length - min(prompts)
  sizes = paged_rows.make_layout(len(prompts), 2, longest, room)
  requests = paged_rows.make_requests(sizes)
  state = _with_prompts(config, sizes, prompts, prefill(*samples[0]))
  step = jax.jit(functools.partial(_one_token, config, kind, table))
  outs = []
  for number in range(room):
    if number % sizes.round_tokens == 0:
      state, pages = _begin_round(sizes, requests, state)
      memory = paged.Memory(
        paged.empty_recents(config, sizes.slots, sizes.round_tokens),
        state.scratch,
      )
    where = np.minimum(prompts + number, length - 1)
    fed = [
      jnp.stack([x[np.arange(len(prompts)), where] for x in pair], axis=1)
      for pair in zip(*samples, strict=True)
    ]
    fed = [x.reshape(-1, *x.shape[2:]) for x in fed]
    at = jnp.asarray(np.repeat(prompts, 2) + number, jnp.int32)
    inside_round = jnp.int32(number % sizes.round_tokens)
    out, memory = step(state, pages, memory, inside_round, at, fed)
    outs.append(out.reshape(len(prompts), 2, *out.shape[1:]))
    if (number + 1) % sizes.round_tokens == 0:
      pools = _move(sizes, state, state.response_pools, memory.recent)
      state = dataclasses.replace(
        state,
        response_pools=pools,
        tokens=state.tokens + sizes.round_tokens,
      )
  return np.stack(outs, axis=2)


@functools.partial(jax.jit, static_argnums=0)
def _begin_round(sizes, requests, state):
  state = slots.between_rounds(sizes, requests, state)
  return state, slots.directories(sizes, requests, state)


_move = jax.jit(decode.move, static_argnums=0)


def _one_token(config, kind, table, state, pages, memory, step, at, fed):
  prepared = paged.prepare(config, at)
  attend = decode.make_attend(config, state, pages, prepared, step, at)
  return attend(memory, 0, table, kind, *fed)


def _with_prompts(config, sizes, prompts, kept):
  """The state with placed keys and values `[N, P, K, head_dim]` of prompts."""
  state = paged_rows.empty(config, sizes)
  numbers = paged_rows.prompt_pages(sizes)
  spare = numbers.shape[1] * cache.PAGE - kept[0].shape[1]
  cut = [
    jnp.pad(x, ((0, 0), (0, spare), (0, 0), (0, 0))).reshape(
      numbers.size, cache.PAGE, *x.shape[2:]
    )
    for x in kept
  ]
  page = numbers.reshape(-1)
  k, v = jnp.moveaxis(cut[0], 1, 3), jnp.swapaxes(cut[1], 1, 2)
  pool = cache.write_pool(state.prompt_pools[0], page, page * 0, k, v)
  return dataclasses.replace(
    state,
    prompts=state_lib.Prompts(
      pages=jnp.asarray(numbers),
      length=jnp.asarray(prompts, jnp.int32),
      hidden=state.prompts.hidden,
    ),
    prompt_pools=(pool,) * config.n_layers,
  )
