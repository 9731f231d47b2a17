"""The compiled part of sampling: prefill once, then one loop on the device."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from lrm_jax.models import cache as cache_lib
from lrm_jax.models import transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.structs import Array

# Tokens; shorter caches are not worth a loop of their own.
FIRST_ROOM = 64


@dataclasses.dataclass(frozen=True)
class Shape:
  """What a compiled sampler is fixed to.

  Attributes:
    samples: G, responses per prompt.
    max_tokens: T, room for each response; caps may be anything below.
    eos_ids: ids that end a response.
    pad_id: fills responses after their end.
    check_every: decode steps between two looks at "is everyone done".
  """

  samples: int
  max_tokens: int
  eos_ids: tuple[int, ...]
  pad_id: int
  check_every: int = 16

  def rooms(self) -> tuple[int, ...]:
    """Cache lengths of the successive loops, doubling up to `max_tokens`.

    Attention reads the whole cache for every token, so a cache that grows
    with the live responses costs half as much or less. All are multiples of
    `check_every`, the last at least `max_tokens`.
    """
    chunks = -(-self.max_tokens // self.check_every)
    first = -(-FIRST_ROOM // self.check_every)
    sizes = [min(first, chunks)]
    while sizes[-1] < chunks:
      sizes.append(min(2 * sizes[-1], chunks))
    return tuple(size * self.check_every for size in sizes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Decoded:
  """Responses; `[B, G, T]` ids and log-probabilities, `[B, G]` the rest."""

  response_ids: Array
  logp: Array
  length: Array
  ended: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Loop:
  step: Array
  scores: Array  # [B, G, V], of the next token
  active: Array  # [B, G], neither ended nor at the cap
  out: Decoded
  cache: cache_lib.Cache


@functools.partial(jax.jit, static_argnames=('config', 'shape'))
def generate(
  config: ModelConfig,
  shape: Shape,
  params: transformer.Params,
  prompt_ids: Array,
  prompt_length: Array,
  caps: Array,
  keys: Array,
  temperature: Array,
) -> Decoded:
  """Samples G responses to each prompt.

  Args:
    config: the architecture.
    shape: everything else that is compiled in.
    params: the model's parameters.
    prompt_ids: `[B, P]` int32, right-padded.
    prompt_length: `[B]` int32, at least 1.
    caps: `[B]` int32 tokens, at most `shape.max_tokens`; 0 skips a prompt.
    keys: `[B, G]`, from `rng.sample_keys`.
    temperature: positive scalar; 0 takes the most likely token, and the
      log-probabilities are then those at temperature 1.

  Returns:
    The responses; `logp` is the natural log-probability of each token under
    the law it was drawn from. `ended` is False where the cap cut it off.
  """
  # Loop-invariant, so cut before the loop.
  layers = transformer.layer_params(config, params)
  rooms = shape.rooms()
  loop = _start(
    config, shape, params, prompt_ids, prompt_length, caps, rooms[0]
  )

  def one_token(_, loop: _Loop) -> _Loop:
    ids, logp = draw(loop.scores, keys, loop.step, temperature)
    out, active = _record(shape, loop, ids, logp, caps)
    hidden, cache = transformer.decode(
      config,
      params,
      layers,
      ids,
      jnp.broadcast_to(prompt_length[:, None] + loop.step, ids.shape),
      loop.step,
      loop.cache,
    )
    scores = transformer.logits(config, params, hidden)
    return _Loop(loop.step + 1, scores, active, out, cache)

  def some_tokens(loop: _Loop) -> _Loop:
    return jax.lax.fori_loop(0, shape.check_every, one_token, loop)

  for room in rooms:
    loop = _grow(shape, loop, room)
    loop = jax.lax.while_loop(
      lambda loop: jnp.any(loop.active) & (loop.step < room),  # noqa: B023
      some_tokens,
      loop,
    )
  return loop.out


# Below it, logits over the temperature are so large that their rounding is not
# small beside 1, and log-probabilities mean nothing.
COLDEST = 1e-3


def draw(
  scores: Array, keys: Array, position: Array, temperature: Array
) -> tuple[Array, Array]:
  """One token per row by the Gumbel-max trick, and its log-probability.

  argmax(scores / temperature + Gumbel noise) is distributed as
  softmax(scores / temperature).

  Args:
    scores: `[B, G, V]` float32 logits.
    keys: `[B, G]`.
    position: int32 scalar, folded into every key.
    temperature: scalar, 0 for the most likely token.

  Returns:
    ids `[B, G]` int32, log-probabilities `[B, G]` float32.
  """
  is_random = temperature > 0
  scaled = scores / jnp.where(is_random, temperature, 1.0)

  def noise(key):
    return jax.random.gumbel(
      jax.random.fold_in(key, position), scores.shape[-1:]
    )

  disturbed = scaled + jnp.where(is_random, jax.vmap(jax.vmap(noise))(keys), 0)
  ids = jnp.argmax(disturbed, axis=-1).astype(jnp.int32)
  chosen = jnp.take_along_axis(scaled, ids[..., None], axis=-1)[..., 0]
  return ids, chosen - jax.nn.logsumexp(scaled, axis=-1)


def _start(
  config, shape, params, prompt_ids, prompt_length, caps, room: int
) -> _Loop:
  """Prefill: each prompt once, its last token's logits for all G samples."""
  batch, width = prompt_ids.shape
  columns = jnp.arange(width)
  is_prompt = columns < prompt_length[:, None]
  hidden, kept = transformer.apply(
    config,
    params,
    prompt_ids,
    jnp.broadcast_to(columns, prompt_ids.shape),
    is_prompt.astype(jnp.int32),
  )
  last = jnp.take_along_axis(hidden, prompt_length[:, None, None] - 1, axis=1)
  scores = transformer.logits(config, params, last)
  group = (batch, shape.samples)
  return _Loop(
    step=jnp.int32(0),
    scores=jnp.broadcast_to(scores, (*group, scores.shape[-1])),
    active=jnp.broadcast_to(caps[:, None] > 0, group),
    out=Decoded(
      response_ids=jnp.full((*group, room), shape.pad_id, jnp.int32),
      logp=jnp.zeros((*group, room), jnp.float32),
      length=jnp.zeros(group, jnp.int32),
      ended=jnp.zeros(group, bool),
    ),
    cache=cache_lib.from_prefill(
      kept.keys, kept.values, is_prompt, shape.samples, room
    ),
  )


def _grow(shape: Shape, loop: _Loop, room: int) -> _Loop:
  """The same loop with room for more tokens."""
  missing = room - loop.out.logp.shape[-1]

  def pad(x: Array, axis: int, value: int = 0) -> Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, missing)
    return jnp.pad(x, widths, constant_values=value)

  out = dataclasses.replace(
    loop.out,
    response_ids=pad(loop.out.response_ids, -1, shape.pad_id),
    logp=pad(loop.out.logp, -1),
  )
  cache = tuple(
    dataclasses.replace(layer, k=pad(layer.k, -2), v=pad(layer.v, -2))
    for layer in loop.cache
  )
  return dataclasses.replace(loop, out=out, cache=cache)


def _record(
  shape: Shape, loop: _Loop, ids: Array, logp: Array, caps: Array
) -> tuple[Decoded, Array]:
  """Writes the tokens of active rows; returns who is still active."""
  out, active = loop.out, loop.active
  at = (0, 0, loop.step)
  ids = jnp.where(active, ids, shape.pad_id)
  logp = jnp.where(active, logp, 0.0)
  is_eos = jnp.isin(ids, jnp.array(shape.eos_ids, jnp.int32)) & active
  out = Decoded(
    response_ids=jax.lax.dynamic_update_slice(
      out.response_ids, ids[..., None], at
    ),
    logp=jax.lax.dynamic_update_slice(out.logp, logp[..., None], at),
    length=out.length + active,
    ended=out.ended | is_eos,
  )
  return out, active & ~is_eos & (out.length < caps[:, None])
