"""Recipes from end to end: rewards, advantages, losses and memory."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.objectives import advantages, binding, tables
from lrm_jax.objectives import recipe as recipes
from lrm_jax.structs import Memory, TokenTerms
from tests.objectives import reference
from tests.objectives.recipe_cases import dler
from tests.objectives.reference import advantages as expected_advantages
from tests.objectives.reference import aggregate as expected_aggregate
from tests.objectives.reference import losses as expected_losses
from tests.objectives.reference import regularizers as expected_regularizers
from tests.objectives.reference import whitening as expected_whitening


def grpo():
  return dler(
    shaping={'outcome': {}},
    selection={'name': 'all_groups'},
    advantage={'name': 'group', 'ddof': 1, 'eps': 1e-6},
    loss={'name': 'ppo_clip', 'low': 0.2, 'high': 0.2, 'dual': math.inf},
    regularizers={'kl_k3': {'coefficient': 0.04}},
    aggregate={'name': 'sequence_mean'},
  )


CONFIGS = {'dler': dler(), 'grpo': grpo()}

# Right, wrong and truncated answers; all right but for the cap; all wrong.
MIXED = reference.rollouts(
  correct=[[1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]],
  length=[[3, 2, 6, 4], [1, 6, 6, 6], [5, 1, 6, 4]],
  truncated=[[0, 0, 1, 0], [0, 1, 1, 1], [0, 0, 1, 0]],
  cap=[6, 6, 6],
  tokens=6,
)
CUT = reference.rollouts(
  correct=np.zeros((3, 4)),
  length=np.full((3, 4), 6),
  truncated=np.ones((3, 4)),
  cap=[6, 6, 6],
  tokens=6,
)


def terms():
  """The token terms of GRPO's update."""
  return update('grpo', 'mixed')[0][1][2]


def step(recipe, logp, rollouts):
  """Loss of one update, and its pieces, through the seams of the trainer."""
  _, old_logp, ref_logp, *_ = reference.batch(0)
  reward, memory = recipe.reward(rollouts, {})
  mask = rollouts.mask * recipe.selection(rollouts, reward)[..., None]
  advantage = advantages.per_token(recipe.advantage(reward, mask), mask)
  ones = jnp.ones_like(mask)
  terms = TokenTerms(
    logp, old_logp, ref_logp, -logp, advantage, mask, ones, ones
  )
  return recipe.total(terms, (advantage,), recipe.weights(mask), {}), (
    reward,
    memory,
    terms,
  )


def total(recipe, terms):
  """The scalar loss of terms that are a whole mini-batch."""
  return recipe.total(terms, (terms.advantage,), recipe.weights(terms.mask), {})


@functools.cache
def update(config, rollouts):
  recipe = recipes.build(CONFIGS[config])
  function = functools.partial(step, recipe)
  both = jax.jit(jax.value_and_grad(function, has_aux=True))
  return both(reference.batch(0)[0], {'mixed': MIXED, 'cut': CUT}[rollouts])


def test_dler_end_to_end():
  (loss, (reward, memory, terms)), _ = update('dler', 'mixed')
  # Truncated answers earn nothing, so the second group is mixed too.
  np.testing.assert_array_equal(
    reward, [[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]
  )
  assert memory == {}
  mask = np.asarray(terms.mask)
  assert mask.sum() == 3 + 2 + 6 + 4 + 1 + 6 + 6 + 6
  advantage = expected_whitening.batch_token_whiten(reward, mask, 1e-8)
  np.testing.assert_allclose(terms.advantage, advantage, atol=2e-6)
  expected = expected_losses.ppo_clip(
    terms.logp, terms.old_logp, advantage, mask, 0.2, 0.28, 10.0
  ) + 5e-4 * expected_regularizers.kl_k2(terms)
  np.testing.assert_allclose(
    loss, expected_aggregate.token_mean(expected, mask), rtol=1e-5
  )


def test_grpo_end_to_end():
  (loss, (reward, _, terms)), _ = update('grpo', 'mixed')
  # The verdict alone: the second group is all right, the third all wrong.
  np.testing.assert_array_equal(reward, MIXED.correct)
  mask = np.asarray(terms.mask)
  np.testing.assert_array_equal(mask, MIXED.mask)
  advantage = expected_advantages.group(reward, mask, 1, 1e-6)[..., None] * mask
  assert advantage[0].any() and not advantage[1:].any()
  np.testing.assert_allclose(terms.advantage, advantage, atol=2e-6)
  expected = expected_losses.ppo_clip(
    terms.logp, terms.old_logp, advantage, mask, 0.2, 0.2, math.inf
  ) + 0.04 * expected_regularizers.kl_k3(terms)
  np.testing.assert_allclose(
    loss, expected_aggregate.sequence_mean(expected, mask), rtol=1e-5
  )


def test_all_truncated_drops_everything_in_dler():
  (loss, (reward, _, terms)), gradient = update('dler', 'cut')
  assert not reward.any()
  assert not terms.mask.any()
  assert loss == 0
  assert not gradient.any()


def test_all_truncated_leaves_the_kl_in_grpo():
  (loss, (reward, _, terms)), gradient = update('grpo', 'cut')
  assert not reward.any()
  assert not terms.advantage.any()
  kl = expected_regularizers.kl_k3(terms)
  expected = 0.04 * expected_aggregate.sequence_mean(kl, terms.mask)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  assert np.isfinite(gradient).all()
  assert gradient.any()


def test_jit_equals_eager():
  recipe = recipes.build(dler())
  np.testing.assert_allclose(
    jax.jit(functools.partial(total, recipe))(terms()),
    total(recipe, terms()),
    rtol=1e-5,
  )
  np.testing.assert_array_equal(
    jax.jit(recipe.reward)(MIXED, {})[0], recipe.reward(MIXED, {})[0]
  )


def test_keywords_are_bound():
  config = dler(
    budget={'name': 'constant', 'cap': 17},
    shaping={'truncation': {'stop_properly': 0.25}},
  )
  recipe = recipes.build(config)
  assert recipe.budget(3) == 17
  reward, _ = recipe.reward(MIXED, {})
  np.testing.assert_array_equal(
    reward, [[1, 0, 0.25, 1], [1, 0.25, 0.25, 0.25], [0] * 4]
  )


def test_defaults_may_be_left_out():
  build = recipes.build
  short = dler(loss={'name': 'ppo_clip'}, regularizers={})
  spelled = dler(
    loss={'name': 'ppo_clip', 'low': 0.2, 'high': 0.2, 'dual': math.inf},
    regularizers={},
  )
  np.testing.assert_array_equal(
    total(build(short), terms()), total(build(spelled), terms())
  )


def test_rewards_add_up_and_each_part_has_its_own_memory():
  def count(rollouts, memory):
    calls = memory.shared['calls']
    return calls * rollouts.correct, Memory({'calls': calls + 1}, {})

  part = recipes.Part('first', count, Memory({'calls': 1}, {}))
  other = recipes.Part('second', count, Memory({'calls': 10}, {}))
  plain = recipes.Part('third', lambda rollouts: 100 * rollouts.correct)
  recipe = dataclasses.replace(
    recipes.build(dler()), shaping=(part, other, plain)
  )
  start = recipe.start_memory()
  reward, memory = recipe.reward(MIXED, start)
  np.testing.assert_array_equal(reward, 111 * MIXED.correct)
  assert {k: v.shared['calls'] for k, v in memory.items()} == {
    'first': 2,
    'second': 11,
  }
  assert start['first'].shared['calls'] == 1


def test_only_parts_that_observe_see_the_monitor():
  def observe(rollouts, memory):
    return Memory({'seen': memory.shared['seen'] + rollouts.correct.sum()}, {})

  parts = (
    recipes.Part('blind', None, Memory({'seen': 0}, {})),
    recipes.Part('watching', None, Memory({'seen': 1}, {}), observe),
  )
  recipe = dataclasses.replace(recipes.build(dler()), shaping=parts)
  assert recipe.observes
  assert not recipes.build(dler()).observes
  memory = recipe.observe(MIXED, recipe.start_memory())
  assert memory['blind'].shared['seen'] == 0
  assert memory['watching'].shared['seen'] == 1 + MIXED.correct.sum()


def test_a_term_may_have_its_own_denominators_and_focus():
  """2 sum(x) / N tokens for the term, where the loss is a sequence mean."""

  def prepare(logp, old_logp, advantage, mask):
    return mask * jnp.sum(logp * mask)

  recipe = dataclasses.replace(
    recipes.build(dler(aggregate={'name': 'sequence_mean'})),
    loss=lambda logp, old_logp, advantage, mask: jnp.zeros_like(mask),
    regularizers=(
      recipes.Term(
        'any',
        2.0,
        lambda tokens: tokens.focus,
        prepare,
        tables.AGGREGATES['token_mean'],
      ),
    ),
  )
  assert recipe.needs_statistics
  found = terms()
  focus = recipe.focus(found.logp, found.old_logp, found.advantage, found.mask)
  loss = recipe.total(
    found, (found.advantage,), recipe.weights(found.mask), focus
  )
  np.testing.assert_allclose(
    loss, 2 * np.sum(found.logp * found.mask), rtol=1e-6
  )


def test_a_term_takes_the_name_of_an_aggregate():
  section = {'kl_k3': {'coefficient': 1.0, 'aggregate': 'token_mean'}}
  recipe = recipes.build(
    dler(regularizers=section, aggregate={'name': 'sequence_sum'})
  )
  weights = recipe.weights(MIXED.mask)
  assert set(weights) == {'loss', 'kl_k3'}
  np.testing.assert_allclose(weights['kl_k3'].sum(), 1, rtol=1e-6)
  np.testing.assert_allclose(weights['loss'] * 12, MIXED.mask, rtol=1e-6)


def test_several_shaping_functions_from_a_config():
  config = dler(shaping={'truncation': {}, 'outcome': {}})
  reward, _ = recipes.build(config).reward(MIXED, {})
  np.testing.assert_array_equal(reward, [[2, 0, 1, 2], [2, 1, 1, 1], [0] * 4])


@pytest.mark.parametrize(
  ('regularizers', 'expected'),
  [
    ({}, False),
    ({'entropy': {'coefficient': 0.01}}, False),
    ({'kl_k1': {'coefficient': 0.01}}, True),
    ({'kl_k2': {'coefficient': 5e-4}}, True),
    ({'kl_k3': {'coefficient': -0.04}}, True),
    ({'kl_k3': {'coefficient': 0.0}}, False),
    (
      {'kl_k3': {'coefficient': 0.0}, 'entropy': {'coefficient': 1.0}},
      False,
    ),
    ({'kl_k3': {'coefficient': 1.0}, 'kl_k2': {'coefficient': 0.0}}, True),
  ],
)
def test_needs_reference(regularizers, expected):
  recipe = recipes.build(dler(regularizers=regularizers))
  assert recipe.needs_reference is expected
  # The property says the truth: a reference of NaN is seen only if needed.
  unknown = dataclasses.replace(terms(), ref_logp=np.full((3, 4, 6), np.nan))
  assert bool(np.isnan(total(recipe, unknown))) is expected


def test_entropy_coefficient_lowers_the_loss():
  plain = total(recipes.build(dler(regularizers={})), terms())
  bonus = recipes.build(dler(regularizers={'entropy': {'coefficient': 0.5}}))
  mask = terms().mask
  np.testing.assert_allclose(
    total(bonus, terms()),
    plain - 0.5 * np.sum(terms().entropy * mask) / mask.sum(),
    rtol=1e-5,
  )


def test_a_part_of_a_users_own_needs_no_types(monkeypatch):
  def thrifty(rollouts, *, price):
    return rollouts.correct * (1 - price)

  monkeypatch.setitem(tables.SHAPING, 'thrifty', thrifty)
  found = binding.bind('x', 'thrifty', tables.SHAPING, {'price': 0.5})
  assert found.keywords == {'price': 0.5}
