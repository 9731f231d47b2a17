"""From a section of a config to a function with its keywords bound.

Every mistake of a config is one line: where, what was given, what is allowed.
"""

import functools
import inspect
import numbers
from collections.abc import Callable, Collection
from typing import Any

import ml_collections

from lrm_jax.errors import UserError

Function = Callable[..., Any]

_TYPES = {float: numbers.Real, int: numbers.Integral}


def bind(
  where: str, name: Any, table: dict[str, Function], section: Any
) -> functools.partial:
  """Looks a function up and binds its keyword-only parameters.

  Args:
    where: the dotted name of the section, for messages.
    name: in the table.
    table: names of functions.
    section: a dict of keywords.

  Returns:
    The function with all of its keyword-only parameters bound, those with a
    default too.

  Raises:
    UserError: unknown name, unknown or missing key, a value of a wrong type.
  """
  function = find(where, name, table)
  keywords = items(f'{where}.{name}', section)
  parameters = _keyword_only(function)
  required = [k for k, p in parameters.items() if p.default is p.empty]
  check_keys(where, name, keywords, list(parameters), required)
  for key, value in keywords.items():
    check_type(f'{where}: {name}.{key}', value, parameters[key].annotation)
  defaults = {
    key: parameter.default
    for key, parameter in parameters.items()
    if parameter.default is not parameter.empty
  }
  return functools.partial(function, **defaults | keywords)


def companion(function: Function, part: functools.partial) -> functools.partial:
  """Binds to `function` what it shares with a part: keywords by name."""
  names = _keyword_only(function)
  return functools.partial(
    function, **{name: part.keywords[name] for name in names}
  )


def find(where: str, name: Any, table: dict[str, Function]) -> Function:
  """The function of this name."""
  if name not in table:
    raise UserError(
      f'{where}: no function is named {name!r}; choose from {join(table)}'
    )
  return table[name]


def items(where: str, section: Any) -> dict[str, Any]:
  """A shallow copy of a section as a plain dict."""
  if not isinstance(section, dict | ml_collections.ConfigDict):
    raise UserError(
      f'{where} = {section!r}: not a section; give a dict of keys'
    )
  return dict(section.items())


def check_keys(
  where: str,
  name: str,
  given: Collection[str],
  allowed: Collection[str],
  required: Collection[str],
) -> None:
  """Refuses unknown keys and missing ones."""
  for key in given:
    if key not in allowed:
      raise UserError(
        f'{where}: unknown key {key!r}; {name} takes {join(allowed)}'
      )
  for key in required:
    if key not in given:
      raise UserError(f'{where}: no key {key!r}; {name} needs {join(required)}')


def check_type(where: str, value: Any, annotation: Any) -> None:
  """A whole number is a good float; a bool is no number.

  A function that says no type, such as a user's own, takes what it gets.
  """
  if annotation is inspect.Parameter.empty:
    return
  expected = _TYPES[annotation] if annotation in _TYPES else annotation
  expected_name = inspect.formatannotation(annotation)
  is_misplaced_bool = isinstance(value, bool) and annotation is not bool
  if is_misplaced_bool or not isinstance(value, expected):
    raise UserError(
      f'{where} = {value!r}: give a value of type {expected_name}'
    )


def join(names: Collection[str]) -> str:
  """Names for a message."""
  return ', '.join(names) if names else 'no keys'


def _keyword_only(function: Function) -> dict[str, inspect.Parameter]:
  return {
    key: parameter
    for key, parameter in inspect.signature(function).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
  }
