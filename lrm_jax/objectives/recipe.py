"""Recipes: a method is a composition of named parts.

`build` turns `config.objective` into a `Recipe` of pure functions; the names
stand in `tables.py`. The keys of a part are the keyword-only parameters of its
function, bound once with `functools.partial`:

    budget       {'name': ..., keys}    f(step) -> cap
    target       {'name': ..., keys}    f(keys, cap) -> target
    curriculum   {'name': ..., keys}    see `choosing.py`
    measures     {name: {keys}, ...}    f(response) -> number
    revision     {'name': ..., keys}    f(rollouts) -> start, stop
    shaping      {name: {keys}, ...}    f(rollouts[, memory]) -> reward
    selection    {'name': ..., keys}    f(rollouts, reward) -> keep
    oversampling {'name': ..., keys}    f(memory) -> factor
    advantage    {'name': ..., keys}    f(reward, mask) -> advantage
    bonuses      {name: {keys}, ...}    f(rollouts, mask) -> advantage
    loss         {'name': ..., keys}    f(logp, old_logp, advantage, mask)
    regularizers {name: {'coefficient': ..., keys}, ...}    f(tokens)
    aggregate    {'name': ..., keys}    f(mask) -> weights
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from lrm_jax.errors import UserError
from lrm_jax.objectives import binding, regularizers, tables
from lrm_jax.structs import Array, Memory, Rollouts, TokenTerms

Function = Callable[..., Any]
Memories = dict[str, Memory]

_WHERE = 'config.objective'
_DISCRIMINATIVE = {'advantage': 'class_share', 'aggregate': 'question_mean'}
# Parts that mean something only beside others.
_NEEDS = {
  ('loss', 'discriminative_likelihood'): _DISCRIMINATIVE,
  ('loss', 'discriminative_ratio'): _DISCRIMINATIVE,
  ('loss', 'gspo'): {'aggregate': 'sequence_mean'},
  ('bonuses', 'close_thinking'): {'revision': 'compress_thinking'},
  ('shaping', 'tldr'): {'target': 'level_target'},
  # Groups that taught nothing are what it learns from, too.
  ('curriculum', 'dump'): {'selection': 'all_groups'},
  # A revision compares the responses of a group, of which some are not there.
  ('curriculum', 'gvm'): {'revision': 'unrevised'},
}
# Rewards that compare with what the prompt asked for.
_TARGETED = ('l1_exact', 'l1_max', 'triangular')


@dataclasses.dataclass(frozen=True)
class Part:
  """One function of a list of parts, its keys bound.

  Attributes:
    name: in its table.
    function: the part itself.
    memory: what it remembers at the start; None for a part that does not.
    observe: `rollouts, memory -> memory`, called on the monitor's samples;
      None for a part that does not look at them.
  """

  name: str
  function: Function
  memory: Memory | None = None
  observe: Function | None = None


@dataclasses.dataclass(frozen=True)
class Term:
  """One regularizer.

  Attributes:
    name: in its table.
    coefficient: multiplies it.
    function: `tokens -> [B, G, T]`.
    prepare: `logp, old_logp, advantage, mask -> focus [B, G, T]`, called on
      the whole mini-batch before its gradient is taken; None for most.
    aggregate: its own; None for that of the recipe.
  """

  name: str
  coefficient: float
  function: Function
  prepare: Function | None = None
  aggregate: Function | None = None


@dataclasses.dataclass(frozen=True)
class Recipe:
  """The parts of one method, every hyperparameter bound.

  Attributes:
    budget: `step -> cap`, an int32 scalar in response tokens.
    target: `keys [B], cap -> [B]` int32, what the prompts ask for.
    curriculum: what it takes and gives depends on it, see `choosing.py`.
    measures: functions `response -> float`.
    revision: `rollouts -> (start, stop)`, both `[B, G]` int32.
    shaping: functions `rollouts[, memory] -> reward [B, G][, memory]`.
    selection: `rollouts, reward -> keep [B, G]` bool.
    oversampling: `memory -> factor`, problems drawn over problems wanted.
    advantage: `reward, mask -> [B, G]` or `[B, G, T]`.
    bonuses: functions `rollouts, mask -> [B, G, T]`, added to the advantage.
    loss: `logp, old_logp, advantage, mask -> [B, G, T]`.
    regularizers: terms added to the loss.
    aggregate: `mask -> weights [B, G, T]`.
  """

  budget: Function
  target: Function
  curriculum: Function
  measures: tuple[Part, ...]
  revision: Function
  shaping: tuple[Part, ...]
  selection: Function
  oversampling: Part
  advantage: Function
  bonuses: tuple[Part, ...]
  loss: Function
  regularizers: tuple[Term, ...]
  aggregate: Function

  @property
  def needs_reference(self) -> bool:
    """Whether `TokenTerms.ref_logp` is read at all."""
    return any(
      term.function.func in regularizers.REFERENCE_TERMS for term in self._terms
    )

  @property
  def needs_statistics(self) -> bool:
    """Whether a mini-batch is looked at as a whole before its gradient."""
    return any(term.prepare is not None for term in self._terms)

  @property
  def observes(self) -> bool:
    """Whether any part looks at the monitor's samples."""
    return any(part.observe is not None for part in self.shaping)

  def start_memory(self) -> Memories:
    """What the parts remember before the first step, by their names."""
    parts = (*self.shaping, self.oversampling)
    return {p.name: p.memory for p in parts if p.memory is not None}

  def reward(
    self, rollouts: Rollouts, memories: Memories
  ) -> tuple[jax.Array, Memories]:
    """Sums the shaping rewards `[B, G]`; each part sees its own memory."""
    total = jnp.zeros(rollouts.correct.shape, jnp.float32)
    memories = dict(memories)
    for part in self.shaping:
      if part.memory is None:
        reward = part.function(rollouts)
      else:
        reward, memory = part.function(rollouts, memories[part.name])
        memories[part.name] = memory
      total = total + reward
    return total, memories

  def observe(self, rollouts: Rollouts, memories: Memories) -> Memories:
    """Shows the monitor's samples to the parts that look at them."""
    memories = dict(memories)
    for part in self.shaping:
      if part.observe is not None:
        memories[part.name] = part.observe(rollouts, memories[part.name])
    return memories

  def weights(self, mask: Array) -> dict[str, jax.Array]:
    """The weights `[B, G, T]` of the loss, and of terms with their own."""
    own = {t.name: t.aggregate(mask) for t in self._terms if t.aggregate}
    return {'loss': self.aggregate(mask)} | own

  def focus(
    self, logp: Array, old_logp: Array, advantage: Array, mask: Array
  ) -> dict[str, jax.Array]:
    """What the terms with a `prepare` make of the whole mini-batch."""
    return {
      term.name: jax.lax.stop_gradient(
        term.prepare(logp, old_logp, advantage, mask)
      )
      for term in self._terms
      if term.prepare is not None
    }

  def total(
    self,
    terms: TokenTerms,
    weights: dict[str, Array],
    focus: dict[str, Array],
  ) -> jax.Array:
    """`sum(loss * w) + sum_k coefficient_k sum(regularizer_k * w_k)`.

    A coefficient of 0 switches its term off: nothing is computed for it.

    Args:
      terms: of the groups at hand.
      weights: `weights` of the whole mini-batch, at these groups.
      focus: `focus` of the whole mini-batch, at these groups.

    Returns:
      The scalar loss.
    """
    values = self.loss(terms.logp, terms.old_logp, terms.advantage, terms.mask)
    total = jnp.sum(values * weights['loss'])
    for term in self._terms:
      seen = terms
      if term.prepare is not None:
        seen = dataclasses.replace(terms, focus=focus[term.name])
      weight = weights['loss' if term.aggregate is None else term.name]
      total += term.coefficient * jnp.sum(term.function(seen) * weight)
    return total

  @property
  def _terms(self) -> tuple[Term, ...]:
    return tuple(t for t in self.regularizers if t.coefficient != 0)


def build(config: ml_collections.ConfigDict) -> Recipe:
  """Builds the recipe that `config.objective` describes.

  Lists of parts come in alphabetical order, the order in which a `ConfigDict`
  keeps its keys; they are sums, so it does not matter.

  Args:
    config: the whole configuration; only `objective` is read.

  Returns:
    The recipe.

  Raises:
    UserError: an unknown name, an unknown or missing key, a value of the
      wrong type, no shaping at all, or parts that do not go together.
  """
  objective = binding.items(_WHERE, config.objective)
  parts = [field.name for field in dataclasses.fields(Recipe)]
  binding.check_keys(_WHERE, 'a recipe', objective, parts, parts)
  one = functools.partial(_one, objective)
  many = functools.partial(_many, objective)
  shaping = many('shaping', tables.SHAPING)
  if not shaping:
    raise UserError(
      f'{_WHERE}.shaping = {{}}: nothing to reward; choose one or more of '
      f'{binding.join(tables.SHAPING)}'
    )
  recipe = Recipe(
    budget=one('budget', tables.BUDGETS).function,
    target=one('target', tables.TARGETS).function,
    curriculum=one('curriculum', tables.CURRICULA).function,
    measures=many('measures', tables.MEASURES),
    revision=one('revision', tables.REVISIONS).function,
    shaping=shaping,
    selection=one('selection', tables.SELECTION).function,
    oversampling=one('oversampling', tables.OVERSAMPLING),
    advantage=one('advantage', tables.ADVANTAGES).function,
    bonuses=many('bonuses', tables.BONUSES),
    loss=one('loss', tables.LOSSES).function,
    regularizers=_terms(objective),
    aggregate=one('aggregate', tables.AGGREGATES).function,
  )
  _check_neighbours(objective)
  return recipe


def _one(objective: dict, part: str, table: dict[str, Function]) -> Part:
  """One part from `{'name': ..., keys}`."""
  where = f'{_WHERE}.{part}'
  keywords = binding.items(where, objective[part])
  if 'name' not in keywords:
    raise UserError(
      f"{where}: no key 'name'; choose from {binding.join(table)}"
    )
  return _part(where, keywords.pop('name'), table, keywords)


def _many(
  objective: dict, part: str, table: dict[str, Function]
) -> tuple[Part, ...]:
  """Parts from `{name: {keys}, ...}`."""
  where = f'{_WHERE}.{part}'
  section = binding.items(where, objective[part])
  return tuple(
    _part(where, name, table, section[name]) for name in sorted(section)
  )


def _part(
  where: str, name: str, table: dict[str, Function], section: Any
) -> Part:
  function = binding.bind(where, name, table, section)
  memory = observe = None
  if name in tables.MEMORIES:
    memory = binding.companion(tables.MEMORIES[name], function)()
  if name in tables.OBSERVERS:
    observe = binding.companion(tables.OBSERVERS[name], function)
  return Part(name, function, memory, observe)


def _terms(objective: dict) -> tuple[Term, ...]:
  """Regularizers from `{name: {'coefficient': ..., keys}, ...}`.

  The key `aggregate`, a name, gives a term denominators of its own.
  """
  where = f'{_WHERE}.regularizers'
  section = binding.items(where, objective['regularizers'])
  terms = []
  for name in sorted(section):
    keywords = binding.items(f'{where}.{name}', section[name])
    binding.find(where, name, tables.REGULARIZERS)  # the first thing to say
    if 'coefficient' not in keywords:
      raise UserError(
        f"{where}.{name}: no key 'coefficient'; give a number (0 for off)"
      )
    coefficient = keywords.pop('coefficient')
    binding.check_type(f'{where}.{name}.coefficient', coefficient, float)
    aggregate = prepare = None
    if 'aggregate' in keywords:
      aggregate = binding.bind(
        f'{where}.{name}.aggregate',
        keywords.pop('aggregate'),
        tables.AGGREGATES,
        {},
      )
    function = binding.bind(where, name, tables.REGULARIZERS, keywords)
    if name in tables.PREPARERS:
      prepare = binding.companion(tables.PREPARERS[name], function)
    terms.append(Term(name, coefficient, function, prepare, aggregate))
  return tuple(terms)


def _check_neighbours(objective: dict) -> None:
  """Refuses parts without the others that they are defined with."""
  target = objective['target']['name']
  for name in _TARGETED:
    if name in objective['shaping'] and target in ('no_target', 'level_target'):
      raise UserError(
        f'{_WHERE}.target = {target!r}: {name} rewards the tokens that the '
        'prompt asks for; choose another target'
      )
  for (part, name), needs in _NEEDS.items():
    section = objective[part]
    names = (section['name'],) if 'name' in section else tuple(section)
    if name not in names:
      continue
    for other, wanted in needs.items():
      found = objective[other]['name']
      if found != wanted:
        raise UserError(
          f'{_WHERE}.{other} = {found!r}: {name} is defined with {wanted}; '
          'use that'
        )
    if needs is _DISCRIMINATIVE and objective['bonuses']:
      raise UserError(
        f'{_WHERE}.bonuses = {binding.join(objective["bonuses"])}: {name} '
        'takes its classes from the sign of the advantage; leave them out'
      )
  budget = objective['budget']
  if budget['name'] == 'geometric' and target == 'share_of_cap':
    for key in ('times', 'room'):
      if objective['target'][key] != budget[key]:
        raise UserError(
          f'{_WHERE}.target.{key} = {objective["target"][key]}: with a budget '
          f'of {key} = {budget[key]} prompts would not ask for the budget; '
          'give the same number'
        )
  hinge = objective['regularizers'].get('kl_hinge')
  if hinge is not None and (
    hinge['coefficient'] != 1 or hinge.get('aggregate') != 'token_mean'
  ):
    raise UserError(
      f'{_WHERE}.regularizers.kl_hinge: its gradient is that of the constraint '
      "with coefficient=1 and aggregate='token_mean' only; beta scales it"
    )
