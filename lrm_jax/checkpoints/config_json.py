"""config.json of a Qwen2ForCausalLM <-> ModelConfig."""

import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

from lrm_jax.errors import UserError
from lrm_jax.models.config import ModelConfig

ARCHITECTURE = 'Qwen2ForCausalLM'


class Field(NamedTuple):
  """A number both sides have.

  Attributes:
    ours: name in `ModelConfig`.
    theirs: name in config.json.
    types: Python types `json` may give it.
    default: what the file means by leaving it out; None where it must not.
  """

  ours: str
  theirs: str
  types: tuple[type, ...] = (int,)
  default: int | float | bool | None = None


# Defaults are those of transformers' Qwen2Config.
FIELDS = (
  Field('vocab_size', 'vocab_size'),
  Field('d_model', 'hidden_size'),
  Field('n_layers', 'num_hidden_layers'),
  Field('n_heads', 'num_attention_heads'),
  Field('n_kv_heads', 'num_key_value_heads'),
  Field('d_ff', 'intermediate_size'),
  Field('max_positions', 'max_position_embeddings', default=32768),
  Field('rms_eps', 'rms_norm_eps', (int, float), 1e-6),
  Field('tie_embeddings', 'tie_word_embeddings', (bool,), False),
)
_ROPE_THETA = 10000.0

# Fields that change what the model computes, and the values we implement;
# each of these is also what an absent field means.
_SUPPORTED = {
  'model_type': ('qwen2',),
  'architectures': ([ARCHITECTURE],),
  'hidden_act': ('silu',),
  'use_sliding_window': (False, None),
  'use_mrope': (False, None),
  'quantization_config': (None,),
}
_SUPPORTED_ROPE = {
  'rope_type': ('default',),
  'type': ('default',),
  'partial_rotary_factor': (1.0,),
}


def parse(path: pathlib.Path, **settings) -> ModelConfig:
  """Reads a config.json.

  Args:
    path: the file.
    **settings: fields of `ModelConfig` that the file does not decide.

  Raises:
    UserError: the file is absent or no JSON object; or a field, which is
      named, is missing, of a wrong type, or asks for something this model
      does not do.
  """
  stated = _read(path)
  _check_architecture(path, stated)
  values = {field.ours: _value(path, stated, field) for field in FIELDS}
  return ModelConfig(
    **values,
    head_dim=_head_dim(path, stated),
    rope_theta=_rope_theta(path, stated),
    qkv_bias=True,
    **settings,
  )


def render(config: ModelConfig, dtype: str) -> dict[str, Any]:
  """The content of config.json, as old and new transformers read it.

  Args:
    config: the architecture.
    dtype: of the stored weights.

  Raises:
    UserError: a model without query/key/value biases is not a Qwen2.
  """
  if not config.qkv_bias:
    raise UserError(
      f'{ARCHITECTURE} always has query, key and value biases; a model with '
      'qkv_bias=False cannot be exported'
    )
  values = dataclasses.asdict(config)
  return {
    'architectures': [ARCHITECTURE],
    'model_type': 'qwen2',
    'hidden_act': 'silu',
    **{field.theirs: values[field.ours] for field in FIELDS},
    'head_dim': config.head_dim,
    'rope_theta': config.rope_theta,
    'use_sliding_window': False,
    'torch_dtype': dtype,
  }


def _read(path: pathlib.Path) -> dict[str, Any]:
  try:
    stated = json.loads(path.read_bytes())
  except OSError as error:
    raise UserError(
      f'{path}: cannot be read ({error.strerror}); give a model directory '
      'with config.json and model.safetensors'
    ) from None
  except (ValueError, RecursionError):
    stated = None
  if not isinstance(stated, dict):
    raise UserError(
      f'{path}: not a JSON object; download or export the model again'
    )
  return stated


def _check_architecture(path: pathlib.Path, stated: dict[str, Any]) -> None:
  if 'model_type' not in stated:
    raise _missing(path, 'model_type')
  _check_supported(path, stated, _SUPPORTED)
  kinds = stated['layer_types'] if 'layer_types' in stated else None
  for kind in kinds if isinstance(kinds, list) else [kinds]:
    _check_supported(
      path, {'layer_types': kind}, {'layer_types': ('full_attention', None)}
    )


def _check_supported(
  path: pathlib.Path,
  stated: dict[str, Any],
  supported: dict[str, tuple],
  prefix: str = '',
) -> None:
  for name, allowed in supported.items():
    if name in stated and stated[name] not in allowed:
      raise _unsupported(path, prefix + name, stated[name], allowed)


def _value(path: pathlib.Path, stated: dict[str, Any], field: Field) -> Any:
  if field.theirs not in stated:
    if field.default is None:
      raise _missing(path, field.theirs)
    return field.default
  value = stated[field.theirs]
  if type(value) not in field.types or (value <= 0 and bool not in field.types):
    allowed = 'true or false'
    if bool not in field.types:
      allowed = f'a positive {field.types[-1].__name__}'
    raise UserError(
      f'{path}: {field.theirs}={json.dumps(value)} must be {allowed}'
    )
  return value


def _head_dim(path: pathlib.Path, stated: dict[str, Any]) -> int:
  """Stated, or the width shared out among the query heads."""
  if 'head_dim' in stated and stated['head_dim'] is not None:
    return _value(path, stated, Field('head_dim', 'head_dim'))
  width, heads = stated['hidden_size'], stated['num_attention_heads']
  if width % heads:
    raise UserError(
      f'{path}: hidden_size={width} is not a multiple of '
      f'num_attention_heads={heads}; state head_dim'
    )
  return width // heads


def _rope_theta(path: pathlib.Path, stated: dict[str, Any]) -> float:
  """From `rope_theta` or, as transformers 5 writes, `rope_parameters`."""
  field = Field('rope_theta', 'rope_theta', (int, float), _ROPE_THETA)
  theta = _value(path, stated, field)
  for name in ('rope_scaling', 'rope_parameters'):
    if name in stated and stated[name] is not None:
      group = stated[name]
      if not isinstance(group, dict):
        raise _unsupported(path, name, group, (None,))
      _check_supported(path, group, _SUPPORTED_ROPE, f'{name}.')
      theta = _value(path, {'rope_theta': theta} | group, field)
  return float(theta)


def _missing(path: pathlib.Path, name: str) -> UserError:
  return UserError(
    f'{path}: no field {name}; give the config.json of a {ARCHITECTURE}'
  )


def _unsupported(
  path: pathlib.Path, name: str, value: Any, allowed: tuple
) -> UserError:
  choices = ' or '.join(map(json.dumps, allowed))
  return UserError(
    f'{path}: {name}={json.dumps(value)} is not supported; allowed: {choices}'
  )
