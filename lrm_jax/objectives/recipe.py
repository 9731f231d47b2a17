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
    demonstration {'name': ..., keys}   f(rollouts) -> coefficient
    advantage    {'name': ..., keys}    f(reward, mask) -> advantage
    bonuses      {name: {keys}, ...}    f(rollouts, mask) -> advantage
    credit       {'name': ..., keys}
      f(rollouts, advantage, mask, entropy) -> advantages, mask
    correction   {'name': ..., keys}
      f(old_logp, sampler_logp, mask) -> weight, mask
    loss         {'name': ..., keys}    f(logp, old_logp, advantage, mask)
    regularizers {name: {'coefficient': ..., keys}, ...}    f(tokens)
    aggregate    {'name': ..., keys}    f(mask) -> weights
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from lrm_jax.errors import UserError
from lrm_jax.objectives import (
  binding,
  corrections,
  demonstrations,
  neighbours,
  regularizers,
  tables,
)
from lrm_jax.structs import Array, Memory, Rollouts, TokenTerms

Function = Callable[..., Any]
Memories = dict[str, Memory]

_WHERE = 'config.objective'


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
    demonstration: `rollouts -> [B]`, above 0 for the groups that learn from a
      given response.
    advantage: `reward, mask -> [B, G]` or `[B, G, T]`.
    bonuses: functions `rollouts, mask -> [B, G, T]`, added to the advantage.
    credit: `rollouts, advantage, mask, entropy -> advantages, mask`: which
      tokens are trained, with what; see `credit.py`.
    correction: `old_logp, sampler_logp, mask -> weight, mask`, where
      `old_logp` is the trainer's; see `corrections.py`.
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
  demonstration: Function
  advantage: Function
  bonuses: tuple[Part, ...]
  credit: Function
  correction: Function
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
  def needs_entropy(self) -> bool:
    """Whether the credit goes by entropies of the policy before the step."""
    return self.credit.func in tables.BY_ENTROPY

  @property
  def demonstrates(self) -> bool:
    """Whether any group may learn from a given response."""
    return self.demonstration.func is not demonstrations.undemonstrated

  @property
  def is_corrected(self) -> bool:
    """Whether samples are weighed by what the trainer's graph says of them."""
    return self.correction.func is not corrections.uncorrected

  @property
  def advantages(self) -> int:
    """How many advantages the credit gives; the loss is a sum over them."""
    return 2 if self.credit.func in tables.IN_TWO else 1

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
    advantages: tuple[Array, ...],
    weights: dict[str, Array],
    focus: dict[str, Array],
  ) -> jax.Array:
    """`sum(loss * w) + sum_k coefficient_k sum(regularizer_k * w_k)`.

    `loss` is the sum of the losses of the advantages: of one, for most.

    A coefficient of 0 switches its term off: nothing is computed for it.

    Args:
      terms: of the groups at hand.
      advantages: `[B, G, T]` each, which add up to that of the terms.
      weights: `weights` of the whole mini-batch, at these groups.
      focus: `focus` of the whole mini-batch, at these groups.

    Returns:
      The scalar loss.
    """
    values = [
      self.loss(terms.logp, terms.old_logp, advantage, terms.mask)
      for advantage in advantages
    ]
    total = jnp.sum(functools.reduce(operator.add, values) * weights['loss'])
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
    demonstration=one('demonstration', tables.DEMONSTRATIONS).function,
    advantage=one('advantage', tables.ADVANTAGES).function,
    bonuses=many('bonuses', tables.BONUSES),
    credit=one('credit', tables.CREDIT).function,
    correction=one('correction', tables.CORRECTIONS).function,
    loss=one('loss', tables.LOSSES).function,
    regularizers=_terms(objective),
    aggregate=one('aggregate', tables.AGGREGATES).function,
  )
  neighbours.check(objective)
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
