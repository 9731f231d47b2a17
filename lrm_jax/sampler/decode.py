"""The compiled part of sampling: prefill once, then one loop on the device."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from lrm_jax.models import cache as cache_lib
from lrm_jax.models import transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.structs import Array


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
  loop = _start(config, shape, params, prompt_ids, prompt_length, caps)

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

  return jax.lax.while_loop(
    lambda loop: jnp.any(loop.active), some_tokens, loop
  ).out


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


def _start(config, shape, params, prompt_ids, prompt_length, caps) -> _Loop:
  """Prefill: each prompt once, its last token's logits for all G samples."""
  batch, width = prompt_ids.shape
  columns = jnp.arange(width)
  is_prompt = columns < prompt_length[:, None]
  hidden, (k, v) = transformer.apply(
    config,
    params,
    prompt_ids,
    jnp.broadcast_to(columns, prompt_ids.shape),
    is_prompt.astype(jnp.int32),
  )
  last = jnp.take_along_axis(hidden, prompt_length[:, None, None] - 1, axis=1)
  scores = transformer.logits(config, params, last)
  group = (batch, shape.samples)
  # Whole chunks of steps: the room is rounded up, the caps are not.
  room = -(-shape.max_tokens // shape.check_every) * shape.check_every
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
    cache=cache_lib.from_prefill(k, v, is_prompt, shape.samples, room),
  )


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
