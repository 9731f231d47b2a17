"""A tiny model with nothing symmetric in it, and ways to run sequences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax.models import cache as cache_lib
from lrm_jax.models import transformer
from lrm_jax.models.config import ModelConfig

apply = jax.jit(transformer.apply, static_argnums=0)


def make_config(**changes):
  fields = {
    'vocab_size': 37,
    'd_model': 16,
    'n_layers': 2,
    'n_heads': 4,
    'n_kv_heads': 2,
    'head_dim': 6,
    'd_ff': 20,
    'max_positions': 64,
    'rope_theta': 100.0,
  }
  return ModelConfig(**fields | changes)


def make_params(config, seed=0):
  """Large random parameters, biases and norm scales included."""
  shapes = jax.eval_shape(
    functools.partial(transformer.init_params, config), jax.random.key(0)
  )
  generator = np.random.default_rng(seed)
  draw = lambda leaf: 0.3 * generator.standard_normal(leaf.shape)
  params = jax.tree.map(lambda x: jnp.asarray(draw(x), x.dtype), shapes)
  is_scale = lambda path: path[-1].key == 'scale'
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaf + 1 if is_scale(path) else leaf, params
  )


def sequences(lengths, vocab_size=37, seed=1):
  generator = np.random.default_rng(seed)
  return [generator.integers(0, vocab_size, n).astype(int) for n in lengths]


def pack(rows, width):
  """`[N, width]` tokens, positions and segment ids; `rows[n]` is a list of
  sequences that share row n."""
  shape = (len(rows), width)
  tokens, positions, segments = (np.zeros(shape, np.int32) for _ in range(3))
  for n, row in enumerate(rows):
    start = 0
    for number, sequence in enumerate(row, start=1):
      at = slice(start, start + len(sequence))
      tokens[n, at] = sequence
      positions[n, at] = np.arange(len(sequence))
      segments[n, at] = number
      start += len(sequence)
  return tokens, positions, segments


def forced_logits(config, params, sequence):
  """`[S, V]` teacher-forced logits of one sequence on its own."""
  hidden, _ = apply(config, params, *pack([[sequence]], len(sequence)))
  return np.asarray(transformer.logits(config, params, hidden[0]))


def cached_logits(config, params, prompts, responses):
  """Logits from prefill and cached decoding, fed with given responses.

  Args:
    config: the architecture.
    params: its parameters.
    prompts: B sequences of any lengths.
    responses: B x G sequences of any lengths.

  Returns:
    B x G arrays `[1 + length, V]`: after the prompt and after each token.
  """
  samples = len(responses[0])
  length = np.array([len(p) for p in prompts])
  steps = max(len(r) for group in responses for r in group)
  tokens, positions, mask = pack([[p] for p in prompts], length.max())
  hidden, (keys, values) = apply(config, params, tokens, positions, mask)
  last = hidden[np.arange(len(prompts)), length - 1][:, None]
  scores = [transformer.logits(config, params, last).repeat(samples, axis=1)]
  cache = cache_lib.from_prefill(keys, values, mask > 0, samples, steps)
  layers = transformer.layer_params(config, params)
  decode = jax.jit(transformer.decode, static_argnums=0)
  fed = np.array(
    [[np.resize(response, steps) for response in g] for g in responses]
  )
  for step in range(steps):
    hidden, cache = decode(
      config,
      params,
      layers,
      fed[:, :, step],
      np.broadcast_to(length[:, None] + step, fed.shape[:2]),
      step,
      cache,
    )
    scores.append(transformer.logits(config, params, hidden))
  scores = np.asarray(jnp.stack(scores, axis=2))
  return [
    [scores[b, g, : 1 + len(r)] for g, r in enumerate(group)]
    for b, group in enumerate(responses)
  ]
