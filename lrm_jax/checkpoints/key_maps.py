"""Which tensor of a Hugging Face checkpoint is which leaf of our parameters.

One table serves reading and writing. Two conventions differ: their Linear
stores `[out, in]` and our kernel `[in, out]`; they name every layer, we stack
layers on axis 0.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax

from lrm_jax.models import transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.structs import Array


class Entry(NamedTuple):
  """One leaf of our tree and its tensor, or one tensor per layer.

  Attributes:
    path: keys of the leaf, joined by '/'.
    name: their name; `{layer}` stands for the layer's number.
    transposed: the two sides are each other's transpose.
  """

  path: str
  name: str
  transposed: bool = False


class Slot(NamedTuple):
  """Where one of their tensors belongs.

  Attributes:
    path: keys of our leaf.
    layer: index on its first axis, None where the leaf is not stacked.
    transposed: see `Entry`.
    shape: the shape of their tensor.
  """

  path: tuple[str, ...]
  layer: int | None
  transposed: bool
  shape: tuple[int, ...]


EMBEDDING = 'model.embed_tokens.weight'
HEAD = 'lm_head.weight'

_LAYER = 'model.layers.{layer}.'
_ATTENTION = _LAYER + 'self_attn.'
_MLP = _LAYER + 'mlp.'

# Qwen2ForCausalLM. An entry without a leaf (`head` of tied embeddings, biases
# of a model without them) does not apply.
QWEN2 = (
  Entry('embedding', EMBEDDING),
  Entry('layers/attention_norm/scale', _LAYER + 'input_layernorm.weight'),
  Entry('layers/attention/q/kernel', _ATTENTION + 'q_proj.weight', True),
  Entry('layers/attention/q/bias', _ATTENTION + 'q_proj.bias'),
  Entry('layers/attention/k/kernel', _ATTENTION + 'k_proj.weight', True),
  Entry('layers/attention/k/bias', _ATTENTION + 'k_proj.bias'),
  Entry('layers/attention/v/kernel', _ATTENTION + 'v_proj.weight', True),
  Entry('layers/attention/v/bias', _ATTENTION + 'v_proj.bias'),
  Entry('layers/attention/o/kernel', _ATTENTION + 'o_proj.weight', True),
  Entry('layers/mlp_norm/scale', _LAYER + 'post_attention_layernorm.weight'),
  Entry('layers/mlp/gate/kernel', _MLP + 'gate_proj.weight', True),
  Entry('layers/mlp/up/kernel', _MLP + 'up_proj.weight', True),
  Entry('layers/mlp/down/kernel', _MLP + 'down_proj.weight', True),
  Entry('final_norm/scale', 'model.norm.weight'),
  Entry('head', HEAD, True),
)


def leaf_shapes(config: ModelConfig) -> dict[tuple[str, ...], tuple[int, ...]]:
  """{keys of a leaf: its shape} of the parameters; allocates nothing."""
  init = functools.partial(transformer.init_params, config)
  tree = jax.eval_shape(init, jax.random.key(0))
  return {path: leaf.shape for path, leaf in flatten(tree)}


def flatten(
  tree: transformer.Params,
) -> Iterator[tuple[tuple[str, ...], Array]]:
  """(keys, leaf) for every leaf of a tree of dicts."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield tuple(str(key.key) for key in path), leaf


def slots(config: ModelConfig) -> dict[str, Slot]:
  """{their name: where it belongs} for every tensor such a model has."""
  shapes = leaf_shapes(config)
  found = {}
  for entry in QWEN2:
    path = tuple(entry.path.split('/'))
    if path not in shapes:
      continue
    is_stacked = path[0] == 'layers'
    shape = shapes[path][1:] if is_stacked else shapes[path]
    shape = shape[::-1] if entry.transposed else shape
    for layer in range(config.n_layers) if is_stacked else (None,):
      name = entry.name.format(layer=layer)
      found[name] = Slot(path, layer, entry.transposed, shape)
  return found
