"""Rotary positions in a config.json, old and new.

  old   rope_theta, rope_scaling {type or rope_type, factor, ...}
  new   rope_parameters {rope_type, rope_theta, factor, ...}

Both are read, the old one is written: every reader knows it.
"""

import json
from typing import Any

from lrm_jax.errors import UserError
from lrm_jax.models.rope import Rope

# Their names where they are not ours.
_KINDS = {'su': 'longrope'}
# Not settings of the kind.
_COMMON = ('rope_type', 'type', 'rope_theta', 'partial_rotary_factor')
_ORIGINAL = 'original_max_position_embeddings'
_SHARE = 'partial_rotary_factor'
_STRETCHED = ('yarn', 'llama3', 'longrope')


def parse(where: str, group: dict[str, Any], context: dict[str, Any]) -> Rope:
  """A Rope from one group of fields.

  Args:
    where: names the group in messages, such as `DIR/config.json: rope_scaling`.
    group: `rope_scaling` or `rope_parameters`; empty for none.
    context: `rope_theta`, `max_position_embeddings` and, where the file has
      them at its top level, `partial_rotary_factor` and
      `original_max_position_embeddings`.

  Raises:
    UserError: a kind that is not implemented, or fields it does not have.
  """
  names = [name for name in ('rope_type', 'type') if name in group]
  kind = group[names[0]] if names else 'default'
  kind = _KINDS[kind] if kind in _KINDS else kind
  settings = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in group.items()
    if name not in _COMMON and value is not None
  }
  window = context['max_position_embeddings']
  if kind == 'dynamic':
    settings[_ORIGINAL] = window
  if kind in _STRETCHED:
    if _ORIGINAL in context and context[_ORIGINAL] is not None:
      settings[_ORIGINAL] = context[_ORIGINAL]
    settings = {_ORIGINAL: window} | settings
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
    if type(value) not in (int, float) or value <= 0:
      raise UserError(
        f'{where}.{name}={json.dumps(value)} must be a positive number'
      )
  if kind == 'proportional':
    settings, fraction = {'share': fraction} | settings, 1.0
  if kind == 'default':
    settings = {k: v for k, v in settings.items() if k != _ORIGINAL}
  try:
    return Rope(
      kind,
      float(theta),
      float(fraction),
      tuple(sorted(settings.items())),
    )
  except UserError as error:
    raise UserError(f'{where}: {error}') from None


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
