"""A model of every family, with all the fields that its members may set."""

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax.models import presets
from tests.models import tiny

_SIZES = {
  'vocab_size': 64,
  'd_model': 32,
  'n_layers': 4,
  'n_heads': 4,
  'n_kv_heads': 2,
  'head_dim': 12,
  'd_ff': 48,
  'max_positions': 64,
  'rms_eps': 3e-5,
}
_GEMMA = {
  'tie_embeddings': True,
  'windows': [4, 0, 4, 4],
  'query_width': 20,
  'logits_softcap': 2.5,
}
_YARN = {
  'beta_fast': 8.0,
  'factor': 4.0,
  'original_max_position_embeddings': 16,
}
_LLAMA3 = {
  'factor': 8.0,
  'high_freq_factor': 4.0,
  'low_freq_factor': 1.0,
  'original_max_position_embeddings': 16,
}
_LONGROPE = {
  'factor': 16.0,
  'long_factor': (1.0, 3.0, 6.0),
  'original_max_position_embeddings': 4,
  'short_factor': (1.0, 1.2, 1.5),
}
FIELDS = {
  'qwen2': {
    'tie_embeddings': False,
    'windows': [0, 4, 4, 0],
    'rope': {'kind': 'yarn', 'theta': 1e5, 'settings': _YARN},
  },
  'qwen3': {
    'tie_embeddings': True,
    'windows': [0, 0, 0, 7],
    'rope': {'theta': 12345.5},
  },
  'qwen3_moe': {
    'tie_embeddings': False,
    'windows': [5] * 4,
    'experts': {'count': 6, 'used': 2, 'width': 20, 'normalize': False},
  },
  'llama': {
    'tie_embeddings': False,
    'rope': {'kind': 'llama3', 'theta': 5e5, 'settings': _LLAMA3},
  },
  'mistral': {'tie_embeddings': False, 'windows': [9] * 4},
  'phi3': {
    'tie_embeddings': False,
    'windows': [6] * 4,
    'rope': {
      'kind': 'longrope',
      'theta': 1e4,
      'fraction': 0.5,
      'settings': _LONGROPE,
    },
  },
  'gemma2': _GEMMA | {'attention_softcap': 3.5},
  'gemma3': _GEMMA
  | {
    'rope': {'kind': 'linear', 'theta': 1e6, 'settings': {'factor': 8.0}},
    'local_rope': {'theta': 1e4},
  },
  'lrm': _GEMMA
  | {
    'tie_embeddings': False,
    'used_vocab': 60,
    'positions': 't5',
    'attention_softcap': 3.5,
    'local_rope': {'theta': 10.0},
    'norm_plus_one': True,
    'post_norms': True,
    'qk_norm': True,
    'activation': 'gelu_tanh',
    'scale_embeddings': True,
  },
}


def config(family, **changes):
  """The architecture; `changes` are fields of `ModelConfig`."""
  fields = {'rope': {'theta': 100.0}} | _SIZES | FIELDS[family]
  return presets.build(family, **fields | changes)


def params(architecture, seed=0):
  """Random parameters; also numbers that only a copy of bits preserves."""
  tree = jax.tree.map(np.array, tiny.make_params(architecture, seed))
  special = tree['final_norm']['scale']
  special[:5] = -0.0, np.inf, -np.inf, np.nan, jnp.finfo(special.dtype).tiny
  special[5] = special[4] / 2  # Denormal.
  return tree
