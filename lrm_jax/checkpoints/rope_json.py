"""Rotary positions in a config.json, old and new.

  old   rope_theta, rope_scaling {type or rope_type, factor, ...}
  new   rope_parameters {rope_type, rope_theta, factor, ...}

Both are read, the old one is written: every reader knows it.
"""

import json
from typing import Any

import numpy as np

from lrm_jax.errors import UserError
from lrm_jax.models.rope import Rope, frequencies

# Their names where they are not ours.
_KINDS = {'su': 'longrope'}
# Not settings of the kind.
_COMMON = ('rope_type', 'type', 'rope_theta', 'partial_rotary_factor')
# Of YaRN, in files such as that of DeepSeek-R1-0528-Qwen3-8B: transformers,
# whose numbers ours are to be, reads `attention_factor` and passes over this.
_NOT_READ = ('attn_factor',)
_ORIGINAL = 'original_max_position_embeddings'
_SHARE = 'partial_rotary_factor'
_STRETCHED = ('yarn', 'llama3', 'longrope')


def parse(where: str, group: dict[str, Any], context: dict[str, Any]) -> Rope:
  """A Rope from one group of fields.

  Args:
    where: names the group in messages, such as `DIR/config.json: rope_scaling`.
    group: `rope_scaling` or `rope_parameters`; empty for none.
    context: `rope_theta`, `max_position_embeddings`, `head_dim` and, where the
      file has them at its top level, `partial_rotary_factor` and
      `original_max_position_embeddings`.

  Raises:
    UserError: a kind that is not implemented, fields it does not have, or
      values that give no frequencies.
  """
  try:
    rope = _parse(where, group, context)
    # Whatever else is wrong with the values shows here.
    with np.errstate(over='raise', divide='raise', invalid='raise'):
      frequencies(rope, context['head_dim'], context['max_position_embeddings'])
  except (TypeError, ValueError, ArithmeticError) as error:
    if isinstance(error, UserError) and str(error).startswith(where):
      raise
    if isinstance(error, UserError):
      raise UserError(f'{where}: {error}') from None
    raise UserError(
      f'{where}: {json.dumps(group)[:200]} gives no frequencies '
      f'({" ".join(str(error).split())}); give the config.json of a model'
    ) from None
  return rope


def _parse(where: str, group: dict[str, Any], context: dict[str, Any]) -> Rope:
  names = [name for name in ('rope_type', 'type') if name in group]
  kind = group[names[0]] if names else 'default'
  if not isinstance(kind, str):
    raise UserError(
      f'{where}.{names[0]}={json.dumps(kind)} must be a string, such as "yarn"'
      '; give the config.json of a model'
    )
  kind = _KINDS[kind] if kind in _KINDS else kind
  settings = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in group.items()
    if name not in _COMMON and value is not None
    if not (kind == 'yarn' and name in _NOT_READ)
  }
  window = context['max_position_embeddings']
  if kind == 'dynamic':
    settings[_ORIGINAL] = window
  if kind in _STRETCHED:
    if _ORIGINAL in context and context[_ORIGINAL] is not None:
      settings[_ORIGINAL] = context[_ORIGINAL]
    settings = {_ORIGINAL: window} | settings
    _check_positive(where, _ORIGINAL, settings[_ORIGINAL])
  if kind in ('yarn', 'longrope'):
    # Of the window that the file states, whichever is used later.
    settings = {'factor': window / settings[_ORIGINAL]} | settings
  fraction = 1.0
  for source in (context, group):
    if 'partial_rotary_factor' in source:
      fraction = source['partial_rotary_factor']
  theta = group['rope_theta'] if 'rope_theta' in group else None
  theta = context['rope_theta'] if theta is None else theta
  for name, value in (
    ('rope_theta', theta),
    ('partial_rotary_factor', fraction),
  ):
    _check_positive(where, name, value)
  if kind == 'proportional':
    settings, fraction = {'share': fraction} | settings, 1.0
  if kind == 'default':
    settings = {k: v for k, v in settings.items() if k != _ORIGINAL}
  rope = Rope(
    kind,
    float(theta),
    float(fraction),
    tuple(sorted(settings.items())),
  )
  _check_logarithms(where, rope)
  return rope


def _check_positive(where: str, name: str, value: Any) -> None:
  # Of what float() takes; no NaN is within any bounds.
  if type(value) not in (int, float) or not 0 < value < 1e300:
    raise UserError(
      f'{where}.{name}={json.dumps(value)} must be a positive number; '
      'give the config.json of a model'
    )


def _check_logarithms(where: str, rope: Rope) -> None:
  """Those that these kinds divide by: they mean something above 1 only."""
  settings = dict(rope.settings)
  if rope.kind == 'yarn' and rope.theta <= 1:
    raise UserError(
      f'{where}: rope_theta={rope.theta} must be above 1 for yarn; '
      'give the config.json of a model'
    )
  if rope.kind == 'longrope' and settings[_ORIGINAL] <= 1:
    raise UserError(
      f'{where}: {_ORIGINAL}={settings[_ORIGINAL]} must be above 1 for longrope'
      '; give the config.json of a model'
    )


def render(rope: Rope) -> dict[str, Any]:
  """`rope_theta` and, where there is any, `rope_scaling` of a config.json."""
  fields: dict[str, Any] = {'rope_theta': rope.theta}
  if rope.fraction != 1:
    fields['partial_rotary_factor'] = rope.fraction
  if rope.kind == 'default':
    return fields
  settings = {
    _SHARE if name == 'share' else name: list(value)
    if isinstance(value, tuple)
    else value
    for name, value in rope.settings
    if not (rope.kind == 'dynamic' and name == _ORIGINAL)
  }
  return fields | {
    'rope_scaling': {'rope_type': rope.kind, 'type': rope.kind} | settings
  }
