"""Recipes: a method is a composition of named parts.

`build` turns `config.objective` into a `Recipe` of pure functions. Each part
has a plain dict of names below; adding a method means adding a function and a
line here. The keys of a part are the keyword-only parameters of its function,
bound once with `functools.partial`:

    budget       {'name': ..., keys}    f(step) -> cap
    shaping      {name: {keys}, ...}    f(rollouts, memory) -> reward, memory
    selection    {'name': ..., keys}    f(rollouts, reward) -> keep
    advantage    {'name': ..., keys}    f(reward, mask) -> advantage
    loss         {'name': ..., keys}    f(logp, old_logp, advantage, mask)
    regularizers {name: {'coefficient': ..., keys}, ...}    f(tokens)
    aggregate    {'name': ..., keys}    f(mask) -> weights
"""

import dataclasses
import functools
import inspect
import numbers
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from lrm_jax.errors import UserError
from lrm_jax.objectives import (
  advantages,
  aggregate,
  budgets,
  losses,
  regularizers,
  selection,
  shaping,
)
from lrm_jax.objectives.shaping import Memory
from lrm_jax.structs import Rollouts, TokenTerms

Function = Callable[..., Any]

BUDGETS = {'constant': budgets.constant}
SHAPING = {'outcome': shaping.outcome, 'truncation': shaping.truncation}
SELECTION = {
  'all_groups': selection.all_groups,
  'dynamic_sampling': selection.dynamic_sampling,
}
ADVANTAGES = {
  'batch_token_whiten': advantages.batch_token_whiten,
  'group': advantages.group,
  'group_mean': advantages.group_mean,
}
LOSSES = {'ppo_clip': losses.ppo_clip}
REGULARIZERS = {
  'entropy': regularizers.entropy,
  'kl_k1': regularizers.kl_k1,
  'kl_k2': regularizers.kl_k2,
  'kl_k3': regularizers.kl_k3,
}
AGGREGATES = {
  'fixed_length': aggregate.fixed_length,
  'sequence_mean': aggregate.sequence_mean,
  'sequence_sum': aggregate.sequence_sum,
  'token_mean': aggregate.token_mean,
}

_WHERE = 'config.objective'
_TYPES = {float: numbers.Real, int: numbers.Integral}


@dataclasses.dataclass(frozen=True)
class Recipe:
  """The parts of one method, every hyperparameter bound.

  Attributes:
    budget: `step -> cap`, an int32 scalar in response tokens.
    shaping: functions `rollouts, memory -> reward [B, G], memory`.
    selection: `rollouts, reward -> keep [B, G]` bool.
    advantage: `reward, mask -> [B, G]` or `[B, G, T]`.
    loss: `logp, old_logp, advantage, mask -> [B, G, T]`.
    regularizers: pairs of a coefficient and `tokens -> [B, G, T]`.
    aggregate: `mask -> weights [B, G, T]`.
  """

  budget: Function
  shaping: tuple[Function, ...]
  selection: Function
  advantage: Function
  loss: Function
  regularizers: tuple[tuple[float, Function], ...]
  aggregate: Function

  @property
  def needs_reference(self) -> bool:
    """Whether `TokenTerms.ref_logp` is read at all."""
    return any(
      coefficient != 0 and _unbound(function) in regularizers.REFERENCE_TERMS
      for coefficient, function in self.regularizers
    )

  def reward(
    self, rollouts: Rollouts, memory: Memory
  ) -> tuple[jax.Array, Memory]:
    """Sums the shaping rewards `[B, G]`; the memory passes through each."""
    total = jnp.zeros(rollouts.correct.shape, jnp.float32)
    for shape in self.shaping:
      reward, memory = shape(rollouts, memory)
      total = total + reward
    return total, memory

  def token_loss(self, terms: TokenTerms) -> jax.Array:
    """`loss + sum_k coefficient_k regularizer_k`, `[B, G, T]`.

    A coefficient of 0 switches its term off: nothing is computed for it.
    """
    total = self.loss(terms.logp, terms.old_logp, terms.advantage, terms.mask)
    for coefficient, function in self.regularizers:
      if coefficient != 0:
        total = total + coefficient * function(terms)
    return total


def build(config: ml_collections.ConfigDict) -> Recipe:
  """Builds the recipe that `config.objective` describes.

  Shaping functions and regularizers come in alphabetical order, the order in
  which a `ConfigDict` keeps its keys.

  Args:
    config: the whole configuration; only `objective` is read.

  Returns:
    The recipe.

  Raises:
    UserError: an unknown name, an unknown or missing key, a value of the
      wrong type, or no shaping at all.
  """
  objective = _items(_WHERE, config.objective)
  parts = [field.name for field in dataclasses.fields(Recipe)]
  _check_keys(_WHERE, 'a recipe', objective, parts, parts)
  rewards = _items(f'{_WHERE}.shaping', objective['shaping'])
  if not rewards:
    raise UserError(
      f'{_WHERE}.shaping = {{}}: nothing to reward; choose one or more of '
      f'{_join(SHAPING)}'
    )
  terms = _items(f'{_WHERE}.regularizers', objective['regularizers'])
  return Recipe(
    budget=_named('budget', BUDGETS, objective),
    shaping=tuple(
      _bind(f'{_WHERE}.shaping', name, SHAPING, rewards[name])
      for name in sorted(rewards)
    ),
    selection=_named('selection', SELECTION, objective),
    advantage=_named('advantage', ADVANTAGES, objective),
    loss=_named('loss', LOSSES, objective),
    regularizers=tuple(_weighted(name, terms[name]) for name in sorted(terms)),
    aggregate=_named('aggregate', AGGREGATES, objective),
  )


def _named(part: str, table: dict[str, Function], objective: dict) -> Function:
  """One function from `{'name': ..., keys}`."""
  where = f'{_WHERE}.{part}'
  keywords = _items(where, objective[part])
  if 'name' not in keywords:
    raise UserError(f"{where}: no key 'name'; choose from {_join(table)}")
  return _bind(where, keywords.pop('name'), table, keywords)


def _weighted(name: str, section: Any) -> tuple[float, Function]:
  """One regularizer from `{'coefficient': ..., keys}`."""
  where = f'{_WHERE}.regularizers'
  keywords = _items(f'{where}.{name}', section)
  _find(where, name, REGULARIZERS)  # an unknown name is the first thing to say
  if 'coefficient' not in keywords:
    raise UserError(
      f"{where}.{name}: no key 'coefficient'; give a number (0 for off)"
    )
  coefficient = keywords.pop('coefficient')
  _check_type(f'{where}.{name}.coefficient', coefficient, float)
  return coefficient, _bind(where, name, REGULARIZERS, keywords)


def _bind(
  where: str, name: Any, table: dict[str, Function], section: Any
) -> Function:
  """Looks a function up and binds its keyword-only parameters."""
  function = _find(where, name, table)
  keywords = _items(f'{where}.{name}', section)
  parameters = {
    key: parameter
    for key, parameter in inspect.signature(function).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
  }
  required = [k for k, p in parameters.items() if p.default is p.empty]
  _check_keys(where, name, keywords, list(parameters), required)
  for key, value in keywords.items():
    _check_type(f'{where}: {name}.{key}', value, parameters[key].annotation)
  return functools.partial(function, **keywords)


def _find(where: str, name: Any, table: dict[str, Function]) -> Function:
  if name not in table:
    raise UserError(
      f'{where}: no function is named {name!r}; choose from {_join(table)}'
    )
  return table[name]


def _items(where: str, section: Any) -> dict[str, Any]:
  """A shallow copy of a section as a plain dict."""
  if not isinstance(section, dict | ml_collections.ConfigDict):
    raise UserError(
      f'{where} = {section!r}: not a section; give a dict of keys'
    )
  return dict(section.items())


def _check_keys(
  where: str,
  name: str,
  given: Collection[str],
  allowed: Collection[str],
  required: Collection[str],
) -> None:
  for key in given:
    if key not in allowed:
      raise UserError(
        f'{where}: unknown key {key!r}; {name} takes {_join(allowed)}'
      )
  for key in required:
    if key not in given:
      raise UserError(
        f'{where}: no key {key!r}; {name} needs {_join(required)}'
      )


def _check_type(where: str, value: Any, annotation: Any) -> None:
  """A whole number is a good float; a bool is no number."""
  expected = _TYPES[annotation] if annotation in _TYPES else annotation
  expected_name = inspect.formatannotation(annotation)
  is_misplaced_bool = isinstance(value, bool) and annotation is not bool
  if is_misplaced_bool or not isinstance(value, expected):
    raise UserError(
      f'{where} = {value!r}: give a value of type {expected_name}'
    )


def _join(names: Collection[str]) -> str:
  return ', '.join(names) if names else 'no keys'


def _unbound(function: Function) -> Function:
  is_partial = isinstance(function, functools.partial)
  return function.func if is_partial else function
