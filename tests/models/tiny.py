"""A tiny model with nothing symmetric in it, and ways to run sequences."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax.models import output_head, paged, transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.rope import Rope
from lrm_jax.sampler import decode, slots
from tests.models import paged_rows

apply = jax.jit(transformer.apply, static_argnums=0)


def make_config(**changes):
  fields = {
    'vocab_size': 37,
    'family': 'qwen2',
    'd_model': 16,
    'n_layers': 2,
    'n_heads': 4,
    'n_kv_heads': 2,
    'head_dim': 6,
    'd_ff': 20,
    'max_positions': 64,
    'rope': Rope(theta=100.0),
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
  """`[N, width]` tokens, positions, segment ids of N lists of sequences."""
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


def forced_logits(config, params, sequence, width):
  """`[S, V]` teacher-forced logits of one sequence in a row of its own."""
  hidden, _ = apply(config, params, *pack([[sequence]], width))
  return np.asarray(output_head.logits(config, params, hidden[0]))[
    : len(sequence)
  ]


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
  length = np.array([len(p) for p in prompts])
  steps = max(len(r) for group in responses for r in group)
  fed = np.array(
    [[np.resize(response, steps) for response in g] for g in responses]
  )
  prompt = pack([[p] for p in prompts], length.max())
  turned = decode.turn(config, params)
  scores = np.asarray(_feed(config, params, turned, prompt, length, fed))
  return [
    [scores[: 1 + len(r), b, g] for g, r in enumerate(group)]
    for b, group in enumerate(responses)
  ]


@functools.partial(jax.jit, static_argnums=0)
def _feed(config, params, turned, prompt, length, fed):
  """`[1 + T, B, G, V]` logits of `[B, G, T]` tokens behind packed prompts."""
  batch, group, steps = fed.shape
  layout = paged_rows.make_layout(batch, group, prompt[0].shape[1], steps)
  requests = paged_rows.make_requests(layout)
  state = paged_rows.prefilled(config, layout, params, prompt[0], length)
  before = jnp.repeat(length, group)
  ids = fed.reshape(batch * group, steps)
  found = [jnp.repeat(state.prompts.hidden[:batch], group, axis=0)]
  for begin in range(0, steps, layout.round_tokens):
    state = slots.between_rounds(layout, requests, state)
    pages = slots.directories(layout, requests, state)

    def one_token(memory, step, state=state, pages=pages, begin=begin):
      at = before + begin + step
      prepared = paged.prepare(config, at)
      attend = decode.make_attend(config, state, pages, prepared, step, at)
      column = jnp.minimum(begin + step, steps - 1)
      hidden, memory = transformer.decode(
        config, turned, ids[:, column], at, attend, memory
      )
      return memory, hidden

    memory, hidden = jax.lax.scan(
      one_token,
      paged.Memory(
        paged.empty_recents(config, layout.slots, layout.round_tokens),
        state.scratch,
      ),
      jnp.arange(layout.round_tokens),
    )
    found += list(hidden)
    state = dataclasses.replace(
      state,
      response_pools=decode.move(
        layout, state, state.response_pools, memory.recent
      ),
      tokens=state.tokens + layout.round_tokens,
    )
  hidden = jnp.stack(found[: 1 + steps])
  scores = output_head.decode_logits(config, turned, hidden)
  return scores.reshape(1 + steps, batch, group, -1)
