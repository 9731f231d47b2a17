"""config.json <-> ModelConfig, for every family of `families.py`.

What the file says is taken over or refused by name; nothing that would change
the numbers is passed over. A model of our own, family 'lrm', is written with
all fields of `ModelConfig` as they are.
"""

import dataclasses
import json
import pathlib
from typing import Any

from lrm_jax import small_files
from lrm_jax.checkpoints import rope_json, windows
from lrm_jax.checkpoints.families import FAMILIES, Family, Field
from lrm_jax.errors import UserError
from lrm_jax.models import presets
from lrm_jax.models.config import Experts, ModelConfig
from lrm_jax.models.rope import Rope, frequencies

# Fields of experts: ours, theirs and what else theirs is called.
_EXPERTS = (
  ('count', ('num_experts', 'num_local_experts'), int),
  ('used', ('num_experts_per_tok',), int),
  ('width', ('moe_intermediate_size',), int),
  ('normalize', ('norm_topk_prob',), bool),
)
# How a model runs is not part of it.
_OWN = 'lrm_jax'
NOT_OURS_TO_STATE = (
  'family',
  'run_positions',
  'param_dtype',
  'compute_dtype',
  'logits_dtype',
  'attention',
  'remat',
  'scan_unroll',
)
_LOCAL_THETA = 'rope_local_base_freq'
_SHARE = 'partial_rotary_factor'
# A file may not ask for more than any model has: layers and experts are listed
# and frequencies computed before a single tensor is looked at.
_LARGEST = 2**30
_LIMITS = {'n_layers': 1000, 'count': 4096, 'head_dim': 2**16}


def parse(path: pathlib.Path, **settings: Any) -> ModelConfig:
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
  if 'model_type' not in stated:
    raise UserError(
      f'{path}: no field model_type; give the config.json of a model'
    )
  if stated['model_type'] == _OWN:
    return _parse_own(path, stated, settings)
  return _parse(path, stated, settings)


def _parse(path, stated, settings) -> ModelConfig:
  name = _family(path, stated)
  family = FAMILIES[name]
  supported = {
    'architectures': ([family.architecture],),
    'quantization_config': (None,),
    family.activation[0]: (family.activation[1],),
  }
  if name != 'phi3':
    # Within the rope group, `_rope` looks at it.
    supported[_SHARE] = (None, 1)
  _check_supported(path, stated, supported | family.supported)
  values = {f.ours: _value(path, stated, f) for f in family.fields}
  if 'head_dim' not in values:
    values['head_dim'] = _head_dim(path, stated)
  if values['head_dim'] % 2:
    raise UserError(
      f'{path}: head_dim={values["head_dim"]} is odd; rotary positions need an '
      'even head_dim'
    )
  if name == 'qwen3_moe':
    values['experts'] = _experts(path, stated)
  rope, local = _ropes(path, stated, family, values)
  return ModelConfig(
    family=name,
    **presets.PRESETS[name],
    **values,
    rope=rope,
    local_rope=local,
    windows=windows.parse(
      str(path), stated, family.windows, family.window, values['n_layers']
    ),
    **settings,
  )


def render(config: ModelConfig, dtype: str) -> dict[str, Any]:
  """The content of config.json, as old and new transformers read it.

  Args:
    config: the architecture.
    dtype: of the stored weights.

  Raises:
    UserError: the family has no field for what the config asks for.
  """
  if config.family == 'lrm':
    return _render_own(config, dtype)
  family, values = FAMILIES[config.family], dataclasses.asdict(config)
  fields = {
    field.theirs: None if field.nullable and not value else value
    for field in family.fields
    for value in (values[field.ours],)
  }
  if config.experts is not None:
    fields |= {
      n: getattr(config.experts, ours) for ours, (n, *_), _ in _EXPERTS
    }
  fields = {
    'architectures': [family.architecture],
    'model_type': family.model_type,
    family.activation[0]: family.activation[1],
    **fields,
    'head_dim': config.head_dim,
    **_render_ropes(config, family),
    **windows.render(config.windows, family.windows, config.n_layers),
    'torch_dtype': dtype,
  }
  _check_said(config, family, fields)
  return fields


def _check_said(
  config: ModelConfig, family: Family, fields: dict[str, Any]
) -> None:
  """What is written must be read as the same model.

  Rows of padding are left to the tokenizer, which whoever reads it has too.
  """
  said = vars(_parse(pathlib.Path('config.json to be'), fields, {}))

  def plain(value):
    if isinstance(value, Rope):
      turns, factor = frequencies(value, config.head_dim, config.max_positions)
      return turns.tolist(), factor
    return () if value == (0,) * config.n_layers else value

  for name, value in vars(config).items():
    if name in NOT_OURS_TO_STATE or name == 'used_vocab':
      continue
    if plain(said[name]) != plain(value):
      raise UserError(
        f'{family.architecture} has {name}={said[name]!r}; a model with '
        f"{name}={value!r} cannot be exported as one; use family='lrm'"
      )


# --- The family ---


def _read(path: pathlib.Path) -> dict[str, Any]:
  try:
    stated = small_files.read_json(path)
  except OSError as error:
    raise UserError(
      f'{path}: cannot be read ({error.strerror}); give a model directory '
      'with config.json and model.safetensors'
    ) from None
  except ValueError:
    stated = None
  if not isinstance(stated, dict):
    raise UserError(
      f'{path}: not a JSON object; download or export the model again'
    )
  return stated


def _family(path: pathlib.Path, stated: dict[str, Any]) -> str:
  types = {family.model_type: name for name, family in FAMILIES.items()}
  if not isinstance(stated['model_type'], str) or (
    stated['model_type'] not in types
  ):
    raise _unsupported(path, 'model_type', stated['model_type'], tuple(types))
  return types[stated['model_type']]


def _check_supported(
  path: pathlib.Path,
  stated: dict[str, Any],
  supported: dict[str, tuple],
) -> None:
  for name, allowed in supported.items():
    if name in stated and stated[name] not in allowed:
      raise _unsupported(path, name, stated[name], allowed)


# --- Fields ---


def _value(path: pathlib.Path, stated: dict[str, Any], field: Field) -> Any:
  if field.theirs not in stated:
    if field.default is None:
      raise UserError(
        f'{path}: no field {field.theirs}; give the config.json of a model'
      )
    if isinstance(field.default, str):
      return _value(path, stated, Field(field.ours, field.default))
    return field.default
  value = stated[field.theirs]
  if value is None and field.nullable:
    return 0.0
  if value is None and isinstance(field.default, str):
    return _value(path, stated, Field(field.ours, field.default))
  is_flag, limit = bool in field.types, _limit(field.ours)
  # No NaN is within any bounds.
  if type(value) not in field.types or not (is_flag or 0 < value <= limit):
    allowed = f'a positive {field.types[-1].__name__}, at most {limit}'
    raise UserError(
      f'{path}: {field.theirs}={json.dumps(value)} must be '
      f'{"true or false" if is_flag else allowed}; give the config.json of a '
      'model'
    )
  return value


def _limit(ours: str) -> int:
  return _LIMITS[ours] if ours in _LIMITS else _LARGEST


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
  if width // heads > _LIMITS['head_dim']:
    raise UserError(
      f'{path}: hidden_size={width} is more than {_LIMITS["head_dim"]} for '
      f'each of num_attention_heads={heads}; give the config.json of a model'
    )
  return width // heads


def _experts(path: pathlib.Path, stated: dict[str, Any]) -> Experts:
  values = {}
  for ours, names, kind in _EXPERTS:
    theirs = next((n for n in names if n in stated), names[0])
    default = False if kind is bool else None
    values[ours] = _value(path, stated, Field(ours, theirs, (kind,), default))
  return Experts(**values)


# --- Rotary positions ---


def _ropes(
  path: pathlib.Path,
  stated: dict[str, Any],
  family: Family,
  values: dict[str, Any],
) -> tuple[Rope, Rope | None]:
  """(of layers without a window, of those with one where it differs)."""
  context = {
    'rope_theta': _or(stated, 'rope_theta', family.rope_theta),
    'max_position_embeddings': values['max_positions'],
    'head_dim': values['head_dim'],
  }
  for name in ('original_max_position_embeddings', _SHARE):
    if name in stated and family.model_type == 'phi3':
      context[name] = stated[name]
  group, name = {}, 'rope_parameters'
  # Where a file has both, the old one counts, as in transformers.
  for key in ('rope_parameters', 'rope_scaling'):
    if key in stated and stated[key] is not None:
      group, name = stated[key], key
  where = f'{path}: {name}'
  _check_group(where, group)
  if family.model_type != 'gemma3_text':
    return _rope(where, group, context, family), None
  local = {'rope_theta': _or(stated, _LOCAL_THETA, 1e4)}
  if 'full_attention' in group or 'sliding_attention' in group:
    sliding = _or(group, 'sliding_attention', {})
    group = _or(group, 'full_attention', {})
    _check_group(f'{where}.sliding_attention', sliding)
    _check_group(f'{where}.full_attention', group)
    local |= sliding
  return (
    _rope(where, group, context, family),
    _rope(f'{path}: {_LOCAL_THETA}', local, context, family),
  )


def _check_group(where: str, group: Any) -> None:
  if not isinstance(group, dict):
    raise UserError(
      f'{where}={json.dumps(group)} must be an object or null; give the '
      'config.json of a model'
    )


def _rope(where, group, context, family):
  rope = rope_json.parse(where, group, context)
  if rope.fraction != 1 and family.model_type != 'phi3':
    raise UserError(
      f'{where}.partial_rotary_factor={rope.fraction} is not supported for '
      f'{family.architecture}; allowed: 1.0'
    )
  return rope


def _render_ropes(config: ModelConfig, family: Family) -> dict[str, Any]:
  fields = rope_json.render(config.rope)
  name = 'original_max_position_embeddings'
  if config.rope.kind == 'longrope' and family.model_type == 'phi3':
    fields[name] = fields['rope_scaling'].pop(name)
  if family.model_type != 'phi3' and _SHARE in fields:
    # Nobody would read it; `_check_said` names what is not said then.
    del fields[_SHARE]
  if config.local_rope is not None:
    fields[_LOCAL_THETA] = config.local_rope.theta
  return fields


# --- A model of our own ---


def _render_own(config: ModelConfig, dtype: str) -> dict[str, Any]:
  values = dataclasses.asdict(config)
  for name in ('rope', 'local_rope'):
    if values[name] is not None:
      values[name]['settings'] = dict(values[name]['settings'])
  fields = {k: v for k, v in values.items() if k not in NOT_OURS_TO_STATE}
  return {'model_type': _OWN, **fields, 'torch_dtype': dtype}


def _parse_own(path, stated, settings) -> ModelConfig:
  known = {f.name for f in dataclasses.fields(ModelConfig)}
  known -= set(NOT_OURS_TO_STATE)
  for name in known - stated.keys():
    raise UserError(f'{path}: no field {name}; export the model again')
  fields = {n: stated[n] for n in known}
  for kind, said in ((ModelConfig, fields), (Experts, fields['experts'])):
    for field in dataclasses.fields(kind) if isinstance(said, dict) else ():
      if field.name in said and field.type in (int, float, bool, str):
        _check_own(f'{path}: {field.name}', said[field.name], field)
  try:
    return presets.build(**fields | settings)
  except (TypeError, ValueError, KeyError, ArithmeticError) as error:
    raise UserError(f'{path}: {error}; export the model again') from error


def _check_own(where: str, value: Any, field: dataclasses.Field) -> None:
  kinds, limit = (field.type,), _limit(field.name)
  if field.type is float:
    kinds = (int, float)
  is_number = field.type in (int, float)
  if type(value) not in kinds or (is_number and not 0 <= value <= limit):
    allowed = f' from 0 to {limit}' if is_number else ''
    raise UserError(
      f'{where}={json.dumps(value)} must be of type {field.type.__name__}'
      f'{allowed}; export the model again'
    )


def _or(stated: dict[str, Any], name: str, default: Any) -> Any:
  """A field, or what its absence means."""
  return (
    stated[name] if name in stated and stated[name] is not None else default
  )


def _unsupported(
  path: pathlib.Path, name: str, value: Any, allowed: tuple
) -> UserError:
  choices = ' or '.join(map(json.dumps, allowed))
  return UserError(
    f'{path}: {name}={json.dumps(value)} is not supported; allowed: {choices}'
  )
