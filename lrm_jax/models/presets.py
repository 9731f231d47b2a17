"""What makes a family of models: the fields that all its members share.

Everything else is a number of one model and comes from its config.json
(`checkpoints/config_json.py`) or from a config.
"""

import dataclasses
from typing import Any

from lrm_jax.models.config import Experts, ModelConfig
from lrm_jax.models.rope import Rope

_LLAMA = {'qkv_bias': False}
_GEMMA = {
  'qkv_bias': False,
  'norm_plus_one': True,
  'post_norms': True,
  'scale_embeddings': True,
  'activation': 'gelu_tanh',
}
PRESETS: dict[str, dict[str, Any]] = {
  'qwen2': {'qkv_bias': True},
  'qwen3': {'qkv_bias': False, 'qk_norm': True},
  'qwen3_moe': {'qkv_bias': False, 'qk_norm': True},
  'llama': _LLAMA,
  'mistral': _LLAMA,
  'phi3': _LLAMA,
  'gemma2': _GEMMA,
  'gemma3': _GEMMA | {'qk_norm': True},
  # Whatever else our own transformer can be.
  'lrm': {},
}


def build(family: str = 'lrm', **fields: Any) -> ModelConfig:
  """A config from plain values, as they stand in a file.

  Args:
    family: whose fields are taken over; one of PRESETS.
    **fields: of `ModelConfig`; `rope`, `local_rope` and `experts` as dicts of
      their own fields, the settings of a rope as a dict too.
  """
  return ModelConfig(**{'family': family} | PRESETS[family] | _read(fields))


def change(config: ModelConfig, **fields: Any) -> ModelConfig:
  """A config with other values in place of its own, plain as in `build`."""
  return dataclasses.replace(config, **_read(fields))


def _read(fields: dict[str, Any]) -> dict[str, Any]:
  """Plain values as those of `ModelConfig`."""
  fields = dict(fields)
  for name in ('rope', 'local_rope'):
    if name in fields and fields[name] is not None:
      rope = dict(fields[name])
      settings = dict(rope.pop('settings')) if 'settings' in rope else {}
      fields[name] = Rope(
        **rope, settings=tuple((k, _hashable(settings[k])) for k in settings)
      )
  if 'experts' in fields and fields['experts'] is not None:
    fields['experts'] = Experts(**fields['experts'])
  if 'windows' in fields:
    fields['windows'] = tuple(fields['windows'])
  return fields


def _hashable(value: Any) -> Any:
  return tuple(value) if isinstance(value, list | tuple) else value
