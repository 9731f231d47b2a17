"""Attention kernels that others keep: cuDNN's and, on TPU, splash.

Both compute plain products of placed queries and keys, causal within the
segments of a row, with or without a window.
"""

from lrm_jax.models.config import LayerKind, ModelConfig
from lrm_jax.structs import Array


def dot_product(
  config: ModelConfig,
  kind: LayerKind,
  at: Array,
  segment_ids: Array,
  q: Array,
  k: Array,
  v: Array,
) -> Array:
  """`jax.nn.dot_product_attention`: cuDNN on a GPU, plain XLA elsewhere."""
  raise NotImplementedError


splash = dot_product
