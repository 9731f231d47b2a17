"""Model FLOPs of forward passes, updates and sampling, by formula.

  forward(config, lengths)            a pass over sequences of these lengths
  update(config, lengths)             forward, backward, passes beside them
  decode(config, prompts, responses)  sampling

A multiply-add is 2 FLOPs. As in the appendix B of Chowdhery et al. 2022 (arXiv
2204.02311), these are FLOPs of the model and not of the hardware: of what the
sequences ask for, however it is computed. So padding, what a backward pass
computes again and keys behind a mask count nothing; nor do norms, biases,
softmax and the lookup of embeddings, which are no matrix products. Unlike
there, attention counts the keys that a query sees, which are about half of a
row under a causal mask and fewer in a window, and logits where they are used.

Plain integers; nothing is traced.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lrm_jax.models import positions
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.lora import Lora


class Projection(NamedTuple):
  """A weight matrix of a layer, and how many like it a token goes through."""

  width: int
  features: int
  count: int = 1


def projections(config: ModelConfig) -> dict[str, Projection]:
  """The weight matrices of one layer that a token meets, by name.

  Of experts, those that a token is sent to.
  """
  width = config.d_model
  heads, kv = (n * config.head_dim for n in (config.n_heads, config.n_kv_heads))
  found = {
    'q': Projection(width, heads),
    'k': Projection(width, kv),
    'v': Projection(width, kv),
    'o': Projection(heads, width),
  }
  inner, count = config.d_ff, 1
  if config.experts is not None:
    inner, count = config.experts.width, config.experts.used
    found['router'] = Projection(width, config.experts.count)
  return found | {
    'gate': Projection(width, inner, count),
    'up': Projection(width, inner, count),
    'down': Projection(inner, width, count),
  }


def per_token(config: ModelConfig) -> int:
  """2 (L * W + D * V): a token's forward pass, attention products left out.

  W are the weights of `projections`, D * V those of the output head.
  """
  return 2 * (config.n_layers * _layer_weights(config) + _head_weights(config))


def forward(
  config: ModelConfig,
  lengths: ArrayLike,
  *,
  starts: ArrayLike = 0,
  logits: int | None = None,
) -> int:
  """FLOPs of a forward pass over sequences.

      2 * L * W * sum(lengths) + 4 * H * head_dim * pairs + 2 * D * V * logits

  L layers of W weights (`projections`); a pair is a query and a key that it
  sees, of one layer, and costs two products of head_dim in each of the H query
  heads. A query sees itself and all before it, or the last of them as
  `config.windows` and `config.positions` say.

  Args:
    config: the architecture.
    lengths: tokens of each sequence that are computed.
    starts: tokens of each that stand before those, which are seen and not
      computed: a prompt that others share, or what a cache has.
    logits: tokens whose logits are made; None: all that are computed.

  Returns:
    A Python integer, without any limit.
  """
  tokens = int(np.sum(lengths, dtype=np.int64))
  made = tokens if logits is None else int(logits)
  weights = config.n_layers * _layer_weights(config) * tokens
  attention = _attention(config, lengths, starts)
  return 2 * (weights + _head_weights(config) * made) + attention


def update(
  config: ModelConfig,
  lengths: ArrayLike,
  *,
  starts: ArrayLike = 0,
  logits: int | None = None,
  lora: Lora | None = None,
  forwards: int = 0,
) -> int:
  """FLOPs of a gradient: 3 forward passes, as backward is twice forward.

  Each product of the forward pass gives two in the backward pass: the gradients
  of either factor. With adapters (Hu et al. 2021, arXiv 2106.09685) weights
  that are frozen get none: they count 2 times, attention 3 times, and the
  adapters' own products 3 times, 2 * r * (in + out) for a token in a matrix.
  This is what adapters ask for; a program that merges them does more.

  The optimizer counts nothing.

  Args:
    config: the architecture.
    lengths: see `forward`.
    starts: see `forward`.
    logits: see `forward`; such as tokens of responses, if only they are
      trained.
    lora: None: all parameters are trained.
    forwards: passes beside these over the same, such as that of a reference
      policy.
  """
  whole = forward(config, lengths, starts=starts, logits=logits)
  if lora is None:
    return (3 + forwards) * whole
  tokens = int(np.sum(lengths, dtype=np.int64))
  matrices = projections(config)
  targets = [matrices[name] for name in lora.targets]
  sides = sum(m.count * (m.width + m.features) for m in targets)
  adapters = 2 * config.n_layers * lora.rank * sides * tokens
  attention = _attention(config, lengths, starts)
  return (2 + forwards) * whole + attention + 3 * adapters


def decode(
  config: ModelConfig,
  prompts: ArrayLike,
  responses: ArrayLike,
  *,
  done: ArrayLike = 0,
) -> int:
  """FLOPs of sampling G responses to each of B prompts.

  A prompt of p tokens is computed once but for its last one, without logits.
  Each response of n tokens then computes n, with their logits: the last one of
  the prompt and its own without the last, which nobody asks for a successor.

  Args:
    config: the architecture.
    prompts: `[B]` tokens.
    responses: `[B, G]` tokens.
    done: `[B, G]` of these that were there before. Keys of a group that goes on
      are taken as given, its prompt too: it has some of these.
  """
  prompts = np.asarray(prompts, np.int64)
  responses = np.asarray(responses, np.int64)
  done = np.broadcast_to(np.asarray(done, np.int64), responses.shape)
  new = responses - done
  # Without any response nobody needs the prompt.
  is_begun = new.any(axis=1) & ~done.any(axis=1)
  shared = (prompts - 1) * is_begun
  whole = forward(config, shared, logits=0)
  return whole + forward(config, new, starts=prompts[:, None] - 1 + done)


def _layer_weights(config: ModelConfig) -> int:
  return sum(
    m.count * m.width * m.features for m in projections(config).values()
  )


def _head_weights(config: ModelConfig) -> int:
  return config.d_model * config.vocab_size


def _attention(
  config: ModelConfig, lengths: ArrayLike, starts: ArrayLike
) -> int:
  """4 * H * head_dim * pairs, those of all layers."""
  starts = np.asarray(starts, np.int64)
  ends = starts + np.asarray(lengths, np.int64)
  of_kind = [
    int(np.sum(_pairs(ends, seen) - _pairs(starts, seen)))
    for seen in (_seen(config, kind.window) for kind in config.kinds)
  ]
  pairs = sum(of_kind[index] for index in config.layer_kinds)
  return 4 * config.n_heads * config.head_dim * pairs


def _seen(config: ModelConfig, window: int) -> int:
  """Keys that a query sees at most; 0: there is no such number."""
  if config.positions == 'lm_infinite':
    return config.trained_positions + positions.GLOBAL_TOKENS
  return window


def _pairs(length: np.ndarray, seen: int) -> np.ndarray:
  """The sum of min(i, seen) over i = 1 ... length; of i if `seen` is 0."""
  ramp = np.minimum(length, seen) if seen else length
  return ramp * (ramp + 1) // 2 + (length - ramp) * seen
