"""Which tensor of a Hugging Face checkpoint is which leaf of our parameters.

A table for each family serves reading and writing. Two conventions differ:
their Linear stores `[out, in]` and our kernel `[in, out]`; they name every
layer and expert, we stack them on the first axes. Some families store several
projections below each other in one tensor.
"""

import functools
import itertools
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from lrm_jax.models import transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.structs import Array


class Entry(NamedTuple):
  """One leaf of our tree and its tensors.

  Attributes:
    path: keys of the leaf, joined by '/'.
    name: their name; `{layer}` and `{expert}` stand for numbers, one tensor
      for each. Entries of one name stand below each other in one tensor.
    transposed: the two sides are each other's transpose.
  """

  path: str
  name: str
  transposed: bool = False


class Slot(NamedTuple):
  """Where a block of rows of one of their tensors belongs.

  Attributes:
    path: keys of our leaf.
    index: on its first axes, layer and expert; `()` where it has none.
    transposed: see `Entry`.
    start: the first row of the block.
    shape: of the block.
  """

  path: tuple[str, ...]
  index: tuple[int, ...]
  transposed: bool
  start: int
  shape: tuple[int, ...]


EMBEDDING = 'model.embed_tokens.weight'
HEAD = 'lm_head.weight'

_LAYER = 'model.layers.{layer}.'
_ATTENTION = _LAYER + 'self_attn.'
_MLP = _LAYER + 'mlp.'
_EXPERT = _MLP + 'experts.{expert}.'

# An entry without a leaf (`head` of tied embeddings, biases of a model without
# them) does not apply.
_ENDS = (
  Entry('embedding', EMBEDDING),
  Entry('final_norm/scale', 'model.norm.weight'),
  Entry('head', HEAD, True),
  # Of our own models only.
  Entry('position_bias', 'model.position_bias'),
)
_QKV = (
  Entry('layers/attention/q/kernel', _ATTENTION + 'q_proj.weight', True),
  Entry('layers/attention/q/bias', _ATTENTION + 'q_proj.bias'),
  Entry('layers/attention/k/kernel', _ATTENTION + 'k_proj.weight', True),
  Entry('layers/attention/k/bias', _ATTENTION + 'k_proj.bias'),
  Entry('layers/attention/v/kernel', _ATTENTION + 'v_proj.weight', True),
  Entry('layers/attention/v/bias', _ATTENTION + 'v_proj.bias'),
)
_OUT = (
  Entry('layers/attention/q_norm/scale', _ATTENTION + 'q_norm.weight'),
  Entry('layers/attention/k_norm/scale', _ATTENTION + 'k_norm.weight'),
  Entry('layers/attention/o/kernel', _ATTENTION + 'o_proj.weight', True),
  Entry('layers/mlp/down/kernel', _MLP + 'down_proj.weight', True),
)
_GATE_UP = (
  Entry('layers/mlp/gate/kernel', _MLP + 'gate_proj.weight', True),
  Entry('layers/mlp/up/kernel', _MLP + 'up_proj.weight', True),
)
_NORMS = (
  Entry('layers/attention_norm/scale', _LAYER + 'input_layernorm.weight'),
  Entry('layers/mlp_norm/scale', _LAYER + 'post_attention_layernorm.weight'),
)
_EXPERTS = (
  Entry('layers/experts/router/kernel', _MLP + 'gate.weight', True),
  Entry('layers/experts/gate', _EXPERT + 'gate_proj.weight', True),
  Entry('layers/experts/up', _EXPERT + 'up_proj.weight', True),
  Entry('layers/experts/down', _EXPERT + 'down_proj.weight', True),
)

_LLAMA = (*_ENDS, *_NORMS, *_QKV, *_OUT, *_GATE_UP, *_EXPERTS)
_GEMMA = (
  *_ENDS,
  *_QKV,
  *_OUT,
  *_GATE_UP,
  Entry('layers/attention_norm/scale', _LAYER + 'input_layernorm.weight'),
  Entry(
    'layers/post_attention_norm/scale',
    _LAYER + 'post_attention_layernorm.weight',
  ),
  Entry('layers/mlp_norm/scale', _LAYER + 'pre_feedforward_layernorm.weight'),
  Entry(
    'layers/post_mlp_norm/scale', _LAYER + 'post_feedforward_layernorm.weight'
  ),
)
_FUSED = (
  *(
    Entry(f'layers/attention/{x}/kernel', _ATTENTION + 'qkv_proj.weight', True)
    for x in 'qkv'
  ),
  *(
    Entry(f'layers/mlp/{x}/kernel', _MLP + 'gate_up_proj.weight', True)
    for x in ('gate', 'up')
  ),
)
TABLES = {
  'qwen2': _LLAMA,
  'qwen3': _LLAMA,
  'qwen3_moe': _LLAMA,
  'llama': _LLAMA,
  'mistral': _LLAMA,
  'phi3': (*_ENDS, *_NORMS, *_OUT, *_FUSED),
  'gemma2': _GEMMA,
  'gemma3': _GEMMA,
  'lrm': (*_LLAMA, *_GEMMA[-3:-2], *_GEMMA[-1:]),
}


def shapes(config: ModelConfig) -> transformer.Params:
  """The parameters as shapes and dtypes; allocates nothing."""
  init = functools.partial(transformer.init_params, config)
  # Not that of a seed, for which a program would be compiled.
  return jax.eval_shape(init, jax.random.wrap_key_data(np.zeros(2, np.uint32)))


@functools.lru_cache(maxsize=8)
def leaf_shapes(
  config: ModelConfig,
) -> Mapping[tuple[str, ...], tuple[int, ...]]:
  """{keys of a leaf: its shape} of the parameters."""
  return types.MappingProxyType(
    {path: leaf.shape for path, leaf in flatten(shapes(config))}
  )


def flatten(
  tree: transformer.Params,
) -> Iterator[tuple[tuple[str, ...], Array]]:
  """(keys, leaf) for every leaf of a tree of dicts."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield tuple(str(key.key) for key in path), leaf


def nest(leaves: Mapping[tuple[str, ...], Any]) -> Any:
  """The tree of dicts that `flatten` flattens."""
  tree: dict[str, Any] = {}
  for path, leaf in leaves.items():
    node = tree
    for key in path[:-1]:
      node = node.setdefault(key, {})
    node[path[-1]] = leaf
  return tree


def slots(config: ModelConfig) -> dict[str, tuple[Slot, ...]]:
  """{their name: its blocks, in order} for every tensor such a model has."""
  leaves = leaf_shapes(config)
  found: dict[str, tuple[Slot, ...]] = {}
  for entry in TABLES[config.family]:
    path = tuple(entry.path.split('/'))
    if path not in leaves:
      continue
    counters = re.findall(r'{(\w+)}', entry.name)
    counts, shape = leaves[path][: len(counters)], leaves[path][len(counters) :]
    shape = shape[::-1] if entry.transposed else shape
    for index in itertools.product(*map(range, counts)):
      name = entry.name.format(**dict(zip(counters, index, strict=True)))
      above = found[name] if name in found else ()
      start = sum(slot.shape[0] for slot in above)
      found[name] = (*above, Slot(path, index, entry.transposed, start, shape))
  return found


def tensor_shape(blocks: tuple[Slot, ...]) -> tuple[int, ...]:
  """The shape of their tensor that has these blocks."""
  return (sum(slot.shape[0] for slot in blocks), *blocks[0].shape[1:])
