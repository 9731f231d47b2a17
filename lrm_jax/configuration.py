"""Load a config file and apply `--config.key=value` overrides, type-safely.

FILE defines `get_config() -> ml_collections.ConfigDict`. It is a program, and
loading it runs it with all that you may do: load only what you wrote or have
read. Nothing else is run; all other files are data.

Overrides arrive as text and take the type of the leaf they replace, so a run
never starts with a key that does not exist or a value of another type.
"""

import ast
import contextlib
import difflib
import json
import math
import pathlib
import re
import runpy
import sys
import traceback
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import config_dict

from lrm_jax import errors

_PREFIX = 'config.'
_BOOLS = {'true': True, 'false': False}


def load(
  path: str | pathlib.Path, overrides: Sequence[str] = ()
) -> config_dict.ConfigDict:
  """Returns the locked config of a file with the overrides applied in order.

  Args:
    path: Python file that defines `get_config()`; it is run. While it loads,
      the first ancestor folder without an `__init__.py` leads `sys.path`, so a
      file in `configs/` may say `from configs import default`.
    overrides: `config.a.b=value` each. The type of the present value decides:
      int, float (an int is fine), bool (true or false), str, tuple or list
      (comma-separated, brackets optional). A key that is None, or that was
      declared with `config_dict.placeholder`, also takes `none`.

  Raises:
    UserError: missing or broken file, unknown key, value of a wrong type.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    raise errors.UserError(
      f"config file '{path}' is a folder; give the path of a Python file in it"
    )
  if not path.is_file():
    raise errors.UserError(
      f"config file '{path}' does not exist; give the path of a Python file "
      'that defines get_config(), such as configs/quickstart.py'
    )
  config = _run_file(path.resolve())
  config.lock()
  apply(config, overrides)
  return config


def apply(config: config_dict.ConfigDict, overrides: Iterable[str]) -> None:
  """Sets keys in place; `overrides` and errors as for `load`."""
  for override in overrides:
    _apply(config, override)


def flatten(config: Mapping | config_dict.ConfigDict) -> dict[str, Any]:
  """Returns {dotted key: leaf} in the order of the config; leaves as they are.

  Accepts plain nested dicts too. An empty group contributes nothing.
  """
  flat = {}
  for key, value in config.items():
    if isinstance(value, (Mapping, config_dict.ConfigDict)):
      flat.update({f'{key}.{k}': v for k, v in flatten(value).items()})
    else:
      flat[key] = value
  return flat


def to_dict(config: Mapping | config_dict.ConfigDict) -> dict[str, Any]:
  """Returns what JSON can hold: tuples become lists, inf and nan strings."""
  return {key: _plain(value) for key, value in config.items()}


def to_json(config: Mapping | config_dict.ConfigDict) -> str:
  """Returns the config as JSON text: sorted keys, two-space indent."""
  return json.dumps(to_dict(config), indent=2, sort_keys=True)


def differences(
  a: Mapping | config_dict.ConfigDict, b: Mapping | config_dict.ConfigDict
) -> list[str]:
  """Returns the sorted dotted keys that differ or that only one side has.

  Values are compared as JSON would store them, so a config equals the one read
  back from its own `to_json`: (1, 2) is [1, 2] and 1 is 1.0.
  """
  flat_a, flat_b = flatten(to_dict(a)), flatten(to_dict(b))
  return sorted(
    key
    for key in flat_a.keys() | flat_b.keys()
    if (key in flat_a) != (key in flat_b) or flat_a[key] != flat_b[key]
  )


def nearest(word: str, known: Iterable[str]) -> str:
  """Returns '; nearest: x, y, z' (at most three, best first) or ''.

  Dotted names are compared by their last part, so `steps` finds `train.steps`;
  the whole name ranks those that are equally near. A short form is near too:
  `lr` and `lrate` find `learning_rate`.
  """

  def ratio(a: str, b: str) -> float:
    if _is_short_for(a, b):
      return 0.6 + 0.4 * len(a) / len(b)
    return difflib.SequenceMatcher(None, a, b).ratio()

  def last(name: str) -> str:
    return name.rpartition('.')[2]

  scores = {
    name: (ratio(last(word), last(name)), ratio(word, name)) for name in known
  }
  near = [name for name in scores if scores[name][0] >= 0.6]
  near.sort(key=scores.__getitem__, reverse=True)
  return '; nearest: ' + ', '.join(near[:3]) if near else ''


def _is_short_for(short: str, name: str) -> bool:
  """Whether some beginnings of the words of a name, in order, make it up."""
  # Each letter follows the one before it, or begins a later word.
  letters = map(re.escape, short[1:])
  rest = ''.join(f'(?:[a-z0-9_]*_)?{letter}' for letter in letters)
  pattern = re.escape(short[:1]) + rest
  return len(short) > 1 and re.match(pattern, name) is not None


def _run_file(path: pathlib.Path) -> config_dict.ConfigDict:
  """Runs get_config() of a file; its failures become one-line UserErrors."""
  home = path.parent
  while (home.parent / '__init__.py').is_file():
    home = home.parent
  in_package = (home / '__init__.py').is_file()
  root = home.parent if in_package else home
  try:
    with _imports_from(root, home.name if in_package else None):
      # Not an import: no bytecode is cached beside the user's file, and the
      # file is read anew each time.
      get_config = runpy.run_path(str(path)).get('get_config')
      config = get_config() if callable(get_config) else None
  except errors.UserError:
    raise
  except Exception as error:  # The file is a program; it may raise anything.
    raise _file_error(path, home, error) from error
  if get_config is None:
    raise errors.UserError(
      f"config file '{path}' defines no get_config(); see configs/default.py"
    )
  if not isinstance(config, config_dict.ConfigDict):
    raise errors.UserError(
      f"get_config() of '{path}' returned {type(config).__name__}; "
      'it must return an ml_collections.ConfigDict'
    )
  return config


@contextlib.contextmanager
def _imports_from(root: pathlib.Path, package: str | None) -> Iterator[None]:
  """Lets imports see a folder first, and its package instead of a namesake.

  Two checkouts both call theirs `configs`: the file must see its own siblings,
  and the process afterwards the package that it saw before.
  """

  def taken() -> dict[str, types.ModuleType]:
    names = [name for name in sys.modules if name.split('.')[0] == package]
    return {name: sys.modules.pop(name) for name in names}

  before = taken()
  sys.path.insert(0, str(root))
  try:
    yield
  finally:
    sys.path.remove(str(root))
    taken()
    sys.modules.update(before)


def _file_error(
  path: pathlib.Path, home: pathlib.Path, error: Exception
) -> errors.UserError:
  """Returns 'config file F line N: ...' for an exception out of that file."""
  stack = [
    (pathlib.Path(frame.f_code.co_filename), frame, line)
    for frame, line in traceback.walk_tb(error.__traceback__)
  ]
  where, line, known = path, getattr(error, 'lineno', None), []
  for file, frame, frame_line in stack:
    if file.is_relative_to(home):
      where, line, known = file, frame_line, _keys_in(frame)
  place = f"config file '{where}'" + (f' line {line}' if line else '')
  message = ' '.join(str(error).split())
  if isinstance(error, (AttributeError, KeyError)) and (
    'ml_collections' in stack[-1][0].parts
  ):
    # Its message opens with the key: Key "x" does not exist (writing), 'x'
    # (reading), in one or two layers of quotes.
    key = re.match(r'\W*(?:Key \W+)?([\w.]*)', message)[1]
    return errors.UserError(
      f"{place}: unknown config key '{key}'{nearest(key, known)}"
    )
  return errors.UserError(f'{place}: {type(error).__name__}: {message}')


def _keys_in(frame: types.FrameType) -> list[str]:
  """Returns the dotted keys of the configs among a frame's variables."""
  values = frame.f_locals.values()
  configs = [v for v in values if isinstance(v, config_dict.ConfigDict)]
  return [key for config in configs for key in flatten(config)]


def _apply(config: config_dict.ConfigDict, override: str) -> None:
  """Sets one `config.a.b=value` on a locked config."""
  name, equals, text = override.partition('=')
  key = name.removeprefix(_PREFIX)
  if not name.startswith(_PREFIX) or not equals:
    raise errors.UserError(
      f"'--{override}' sets nothing; write --{_PREFIX}KEY=VALUE"
    )
  known = flatten(config)
  if key not in known:
    inside = [k for k in known if k.startswith(f'{key}.')]
    if inside:
      raise errors.UserError(
        f"config key '{key}' is a group; set one of its keys: "
        + ', '.join(inside)
      )
    raise errors.UserError(
      f"unknown config key '{key}'{nearest(key, known)}; "
      '--print_config shows every key'
    )
  group, _, leaf = key.rpartition('.')
  node = config
  for part in group.split('.') if group else ():
    node = node[part]
  reference = dict(node.items(preserve_field_references=True))[leaf]
  is_optional = isinstance(reference, config_dict.FieldReference)
  kind = node.get_type(leaf)
  if text.lower() == 'none' and (is_optional or kind is type(None)):
    node[leaf] = None
    return
  try:
    node[leaf] = _parse(text, kind, known[key])
  except ValueError:
    raise errors.UserError(
      f"config key '{key}' takes {_describe(kind, known[key])}, got '{text}'"
    ) from None


def _parse(text: str, kind: type, current: Any) -> Any:
  """Returns text as a value of the type; ValueError if it is none."""
  if kind is str:
    return text
  if kind in (int, float):
    return kind(text)
  if kind is bool:
    if text.lower() not in _BOOLS:
      raise ValueError(text)
    return _BOOLS[text.lower()]
  if kind in (tuple, list):
    stripped = text.strip()
    if stripped[:1] + stripped[-1:] in ('()', '[]'):
      stripped = stripped[1:-1]
    items = [item.strip() for item in stripped.split(',')]
    if items[-1] == '':  # '(1,)' and ''
      items.pop()
    element = _element_type(current)
    return kind(_parse(i.strip('\'"'), element, None) for i in items)
  if kind is type(None):
    # Nothing says which type is meant: a literal if it reads as one.
    if text.lower() in _BOOLS:
      return _BOOLS[text.lower()]
    try:
      return ast.literal_eval(text)
    except (ValueError, SyntaxError):
      return text
  raise ValueError(kind)


def _element_type(current: Sequence | None) -> type:
  """Returns the type of a sequence's elements; NoneType where it is open."""
  kinds = {type(item) for item in current} if current else set()
  if kinds == {int, float}:
    return float
  return kinds.pop() if len(kinds) == 1 else type(None)


def _describe(kind: type, current: Any) -> str:
  """Returns what a key takes, in words."""
  if kind is bool:
    return 'true or false'
  if kind in (tuple, list):
    element = _element_type(current)
    of = 'values' if element is type(None) else element.__name__
    return f'a {kind.__name__} of {of}, separated by commas'
  if kind in (int, float, str):
    return f'{"an" if kind is int else "a"} {kind.__name__}'
  return f'{kind.__name__}, which only the config file can set'


def _plain(value: Any) -> Any:
  """Returns a leaf or group as JSON types."""
  if isinstance(value, (Mapping, config_dict.ConfigDict)):
    return to_dict(value)
  if isinstance(value, (tuple, list)):
    return [_plain(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  if value is None or isinstance(value, (bool, int, float, str)):
    return value
  raise errors.UserError(
    f'config value {value!r} is a {type(value).__name__}; allowed: None, '
    'bool, int, float, str and lists of these'
  )
