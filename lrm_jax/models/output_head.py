"""The output head: from hidden states to logits and log-probabilities.

  logits(config, params, hidden)                -> [..., V]
  token_logp(config, params, hidden, targets)   -> logp, entropy

Log-probabilities come a chunk of tokens at a time.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lrm_jax import collectives, mesh
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import PRECISION, Params, Turned
from lrm_jax.structs import Array

# Of what may be the head, as `sharding.PARAMETERS` has them.
AXES = {'embedding': ('vocab', 'model'), 'head': ('model', 'vocab')}
# Logit of an id that does not exist. Finite at any temperature from 1e-15 on,
# so that 0 times it is 0; no probability is left of it up to 1e15.
ABSENT = -1e20


def logits(config: ModelConfig, params: Params, hidden: Array) -> Array:
  """`[..., D]` -> `[..., V]` float32, multiplied in `logits_dtype`.

  Rows of the embedding that are padding get a probability of 0.
  """
  return _logits(config, _head(config, params), hidden)


def decode_logits(config: ModelConfig, turned: Turned, hidden: Array) -> Array:
  """`logits` of what `decode` returned; of some rows each, in a shared lane."""
  return _logits(config, turned.head.T, hidden)


def _logits(config: ModelConfig, head: Array, hidden: Array) -> Array:
  with jax.default_matmul_precision(PRECISION):
    out = jnp.matmul(
      hidden.astype(config.logits_dtype),
      head.astype(config.logits_dtype),
      preferred_element_type=jnp.float32,
    )
  out = collectives.rows_of_all(out)
  if config.logits_softcap:
    out = config.logits_softcap * jnp.tanh(out / config.logits_softcap)
  if config.used_vocab:
    exists = jnp.arange(config.vocab_size) < config.used_vocab
    out = jnp.where(exists, out, ABSENT)
  return out


def whole_law(scores: Array, ids: Array) -> tuple[Array, Array]:
  """(logp of the ids, entropy), `[n]`, under softmax of scores `[n, V]`."""
  log_total = jax.nn.logsumexp(scores, axis=-1)
  chosen = jnp.take_along_axis(scores, ids[:, None], axis=-1)[:, 0]
  expected = jnp.sum(jnp.exp(scores - log_total[:, None]) * scores, axis=-1)
  return chosen - log_total, log_total - expected


def token_logp(
  config: ModelConfig,
  params: Params,
  hidden: Array,
  targets: Array,
  *,
  temperature: float | Array = 1.0,
  chunk: int = 256,
  law: Callable[..., tuple[Array, Array]] = whole_law,
  sets: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
  """Log softmax(logits / temperature)[target], a chunk of tokens at a time.

  No array of size N * T * V exists, forward or backward: each chunk's logits
  are recomputed in the backward pass, which holds some four arrays of
  chunk * V at a time.

  Args:
    config: the architecture.
    params: the parameters; gradients flow to the head and to `hidden`.
    hidden: `[..., D]`.
    targets: `[...]` int32.
    temperature: positive scalar, the one the sampler used.
    chunk: tokens per chunk, those of all devices together.
    law: of a chunk's scores and targets; of what they have in `sets`, too.
    sets: (`[N, M]` int32, `[...]` int32 which of these each token has, -1 for
      none), such as `kept_sets.KeptSets`. `law` is given `[n, M]`, -1 for none.

  Returns:
    (logp, entropy), each `[...]` float32 in nats: of the targets, and of the
    next-token law.
  """
  # Each device goes through its own tokens: chunks of all of them would be one
  # device's after the other's. The head is brought to all devices once, and so
  # is its gradient summed.
  tokens = ('rows', 'places')[: targets.ndim]
  name = 'embedding' if config.tie_embeddings else 'head'
  more = () if sets is None else tuple(map(jnp.asarray, sets))
  own = mesh.per_device(
    functools.partial(_token_logp, config, chunk, name, law),
    (AXES[name], (*tokens, None), tokens, (), *((), tokens)[: len(more)]),
    (tokens, tokens),
  )
  return own(params[name], hidden, targets, jnp.float32(temperature), *more)


def _token_logp(
  config, chunk, name, law, head, hidden, targets, temperature, *sets
):
  """`token_logp` of the tokens of one device."""
  head = {name: mesh.whole(head, *AXES[name])}
  count = math.prod(targets.shape)
  chunk = max(1, chunk // mesh.hands())
  chunks = -(-count // chunk)
  size = -(-count // chunks)  # even chunks waste less padding
  pad = chunks * size - count
  flat = jnp.pad(hidden.reshape(count, -1), ((0, pad), (0, 0)))
  # Sets are taken inside a chunk: for all tokens they would need room twice.
  wanted = tuple(
    jnp.pad(x.reshape(count), (0, pad)) for x in (targets, *sets[1:])
  )
  take = lambda at: jnp.where(at[:, None] < 0, -1, sets[0][at])

  # The head is an argument, so its gradient is summed over the chunks.
  @jax.checkpoint
  def one_chunk(weights, inputs):
    states, ids, *at = inputs
    scores = logits(config, weights, states) / temperature
    scores = mesh.constrain(scores, None, 'vocab')
    return weights, law(scores, ids, *map(take, at))

  _, (logp, entropy) = jax.lax.scan(
    lambda _, inputs: (None, one_chunk(head, inputs)[1]),
    None,
    (
      flat.reshape(chunks, size, -1),
      *(x.reshape(chunks, size) for x in wanted),
    ),
  )
  restore = lambda x: x.reshape(-1)[:count].reshape(targets.shape)
  return restore(logp), restore(entropy)


def _head(config: ModelConfig, params: Params) -> Array:
  if config.tie_embeddings:
    return params['embedding'].T
  return params['head']
