"""Which layers of a config.json see a window only, and how many tokens.

`layer_types` says it layer by layer; files that lack it mean a rule of their
family. `{sliding_window: n, layer_types: [...]}` <-> `(n, 0, n, ...)`.
"""

import json
from collections.abc import Callable
from typing import Any

from lrm_jax.errors import UserError

_FULL, _SLIDING = 'full_attention', 'sliding_attention'
# In tokens, as long as any number of a config.json.
_LONGEST = 2**30
# What a rule counts layers by, and the least that it may be.
_COUNTS = {
  'after_layers': ('max_window_layers', 0),
  'but_every_sixth': ('sliding_window_pattern', 1),
}


def _none(stated: dict[str, Any], layer: int) -> bool:
  del stated, layer
  return False


def _everywhere(stated: dict[str, Any], layer: int) -> bool:
  """Mistral, Phi-3."""
  del stated, layer
  return True


def _if_used(stated: dict[str, Any], layer: int) -> bool:
  """Qwen3-MoE: a flag turns them on, for every layer."""
  del layer
  return 'use_sliding_window' in stated and bool(stated['use_sliding_window'])


def _after_layers(stated: dict[str, Any], layer: int) -> bool:
  """Qwen2, Qwen3: a flag turns them on, from some layer on."""
  name = 'max_window_layers'
  first = stated[name] if name in stated else 28
  return _if_used(stated, layer) and layer >= first


def _every_second(stated: dict[str, Any], layer: int) -> bool:
  """Gemma 2: the first, the third ..."""
  del stated
  return layer % 2 == 0


def _but_every_sixth(stated: dict[str, Any], layer: int) -> bool:
  """Gemma 3, or another number that it states."""
  name = 'sliding_window_pattern'
  return bool((layer + 1) % (stated[name] if name in stated else 6))


RULES: dict[str, Callable[[dict[str, Any], int], bool]] = {
  'none': _none,
  'everywhere': _everywhere,
  'if_used': _if_used,
  'after_layers': _after_layers,
  'every_second': _every_second,
  'but_every_sixth': _but_every_sixth,
}


def parse(
  where: str,
  stated: dict[str, Any],
  rule: str,
  default: int | None,
  layers: int,
) -> tuple[int, ...]:
  """Windows of all layers in tokens, 0 for none; `()` where all are 0.

  Args:
    where: the file, for messages.
    stated: its content.
    rule: one of RULES.
    default: what an absent `sliding_window` means.
    layers: how many.

  Raises:
    UserError: a field that is wrong, or asks for another kind of layer.
  """
  # The flag outranks the list, which files of these families carry anyway.
  is_off = rule in ('if_used', 'after_layers') and not _if_used(stated, 0)
  types = stated['layer_types'] if 'layer_types' in stated else None
  if types is None:
    if not is_off:
      _check_count(where, stated, rule)
    is_local = [RULES[rule](stated, layer) for layer in range(layers)]
  else:
    allowed = (_FULL,) if rule == 'none' or is_off else (_FULL, _SLIDING)
    if not isinstance(types, list) or len(types) != layers:
      raise UserError(
        f'{where}: layer_types={json.dumps(types)} must list '
        f'num_hidden_layers={layers} kinds; give the config.json of a model'
      )
    for kind in types:
      if kind not in allowed:
        raise UserError(
          f'{where}: layer_types={json.dumps(kind)} is not supported; '
          f'allowed: {" or ".join(map(json.dumps, allowed))}'
        )
    is_local = [kind == _SLIDING for kind in types]
  window = stated['sliding_window'] if 'sliding_window' in stated else default
  if not any(is_local) or window is None:
    return ()
  if type(window) is not int or not 0 < window <= _LONGEST:
    raise UserError(
      f'{where}: sliding_window={json.dumps(window)} must be a positive int, '
      f'at most {_LONGEST}, or null'
    )
  return tuple(window * local for local in is_local)


def _check_count(where: str, stated: dict[str, Any], rule: str) -> None:
  """The number that a rule goes by, where the file states it."""
  if rule not in _COUNTS or _COUNTS[rule][0] not in stated:
    return
  name, least = _COUNTS[rule]
  if type(stated[name]) is not int or stated[name] < least:
    raise UserError(
      f'{where}: {name}={json.dumps(stated[name])} must be an int, at least '
      f'{least}; give the config.json of a model'
    )


def render(windows: tuple[int, ...], rule: str, layers: int) -> dict[str, Any]:
  """The fields of a config.json that mean these windows.

  Raises:
    UserError: the family has no such layers.
  """
  lengths = set(windows) - {0}
  if rule == 'none' and lengths:
    raise UserError(
      "a model of this family has no windows; export with family='lrm'"
    )
  if len(lengths) > 1:
    raise UserError(
      f'windows of {sorted(lengths)} tokens: config.json has one length for '
      "all layers; export with family='lrm'"
    )
  if rule in ('everywhere', 'if_used') and lengths and 0 in windows:
    raise UserError(
      'layers with a window and without: this family has one kind; export with '
      "family='lrm'"
    )
  fields: dict[str, Any] = {}
  if rule in ('if_used', 'after_layers'):
    fields['use_sliding_window'] = bool(lengths)
  if rule == 'after_layers':
    fields['max_window_layers'] = layers
  if rule != 'none' and (lengths or rule == 'everywhere'):
    fields['sliding_window'] = max(lengths) if lengths else None
  if rule not in ('none', 'everywhere', 'if_used'):
    kinds = windows if windows else (0,) * layers
    fields['layer_types'] = [_SLIDING if kind else _FULL for kind in kinds]
  return fields
