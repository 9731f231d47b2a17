"""Our parts give the numbers of installed peers.

The fixtures are what TRL and Tunix computed on the same inputs, values and
gradients; `tests/fixtures/peers/__init__.py` says how they are written down.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import conventions, objectives
from lrm_jax.objectives import advantages, losses, recipe, tables
from lrm_jax.structs import TokenTerms
from tests.objectives import reference

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures' / 'peers'
TOLERANCE = 1e-5  # of the largest number of an array
CONVENTIONS = {'trl': conventions.trl, 'tunix': conventions.tunix}


@functools.cache
def read(peer):
  """What the files of a peer hold: about, arrays."""
  about = json.loads((FIXTURES / f'{peer}.json').read_text())
  with np.load(FIXTURES / f'{peer}.npz') as file:
    return about, dict(file)


def cases(kind):
  """The cases of one kind, named after peer, version and case."""
  found = []
  for peer in CONVENTIONS:
    about, _ = read(peer)
    version = next(iter(about['packages'].values()))
    for case in about['cases']:
      if case['kind'] == kind:
        name = f'{peer}-{version}-{case["name"]}'
        found.append(pytest.param(peer, case, id=name))
  return found


def parts(peer, case):
  """The sections that must give the peer's numbers."""
  if 'convention' in case:
    return CONVENTIONS[peer]()
  return case['parts']


def build(peer, case):
  """A recipe of the parts of a case."""
  objective = objectives.compose(**parts(peer, case))
  return recipe.build(ml_collections.ConfigDict({'objective': objective}))


def theirs(peer, case, key):
  return read(peer)[1][f'{case["name"]}.{key}']


def agree(ours, expected, mask=1.0):
  """Within the tolerance wherever the mask is 1."""
  ours = np.asarray(ours) * mask
  expected = expected * mask
  assert ours.shape == expected.shape
  scale = np.max(np.abs(expected))
  assert scale > 0
  np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE * scale)


def token_terms(peer, case, built, logp):
  """Everything a loss of a case may look at."""
  arrays = read(peer)[1]
  mask, old = arrays[case['mask']], case['old_logp']
  if case['advantage'] is None:  # the peer's own
    advantage = built.advantage(arrays['reward'], mask)
  else:
    advantage = arrays[case['advantage']]
  return TokenTerms(
    logp=logp,
    old_logp=jax.lax.stop_gradient(logp) if old is None else arrays[old],
    ref_logp=arrays['ref_logp'],
    entropy=arrays['entropy'],
    advantage=advantages.per_token(advantage, mask),
    mask=mask,
    focus=jnp.ones_like(logp),
    answer=jnp.ones_like(logp),
  )


def loss_and_gradient(peer, case):
  """Our loss of a case, and its gradient with respect to `logp`."""
  built = build(peer, case)
  arrays = read(peer)[1]
  weights = built.weights(arrays[case['mask']])

  def loss(logp):
    terms = token_terms(peer, case, built, logp)
    return built.total(terms, (terms.advantage,), weights, {})

  return jax.value_and_grad(loss)(arrays['logp'])


@pytest.mark.parametrize(('peer', 'case'), cases('advantage'))
def test_advantage(peer, case):
  arrays = read(peer)[1]
  ours = build(peer, case).advantage(arrays['reward'], arrays['mask'])
  agree(
    ours, theirs(peer, case, 'value'), arrays['mask'] if ours.ndim == 3 else 1
  )


@pytest.mark.parametrize(('peer', 'case'), cases('loss'))
def test_loss_and_its_gradient(peer, case):
  value, gradient = loss_and_gradient(peer, case)
  agree(value, theirs(peer, case, 'value'))
  agree(gradient, theirs(peer, case, 'gradient'))


@pytest.mark.parametrize(('peer', 'case'), cases('regularizer'))
def test_regularizer_and_its_gradient(peer, case):
  (term,) = build(peer, case).regularizers
  arrays = read(peer)[1]
  mask = arrays['mask']

  def values(logp):
    rest = ('old_logp', 'ref_logp', 'entropy', 'advantage', 'focus', 'answer')
    given = {name: arrays['ref_logp'] for name in rest} | {'mask': mask}
    return term.function(TokenTerms(logp=logp, **given))

  agree(values(arrays['logp']), theirs(peer, case, 'value'), mask)
  gradient = jax.grad(lambda logp: jnp.sum(values(logp)))(arrays['logp'])
  agree(gradient, theirs(peer, case, 'gradient'), mask)


@pytest.mark.parametrize(('peer', 'case'), cases('aggregate'))
def test_aggregate(peer, case):
  weights = build(peer, case).aggregate(read(peer)[1][case['mask']])
  agree(weights, theirs(peer, case, 'value'))


@pytest.mark.parametrize(('peer', 'case'), cases('shaping'))
def test_shaping(peer, case):
  mask = read(peer)[1]['mask']
  rollouts = reference.rollouts(
    correct=np.ones(mask.shape[:2]),
    length=mask.sum(-1),
    cap=np.full(mask.shape[0], mask.shape[2]),
  )
  (part,) = build(peer, case).shaping
  agree(part.function(rollouts), theirs(peer, case, 'value'))


# --- Where we mean to disagree ---


def difference(peer, name):
  (case,) = (case for case in read(peer)[0]['cases'] if case['name'] == name)
  assert case['kind'] == 'difference'
  return case


@pytest.mark.parametrize('peer', CONVENTIONS)
def test_equal_rewards_give_exactly_0(peer):
  """Theirs is a rounding error over `eps`: the mean of 0.1s is not 0.1."""
  case = difference(peer, 'advantage_equal')
  arrays = read(peer)[1]
  ours = build(peer, case).advantage(arrays['equal_reward'], arrays['mask'])
  np.testing.assert_array_equal(ours, 0)
  assert np.max(np.abs(theirs(peer, case, 'value'))) < 1e-2


def test_dropped_responses_are_not_counted():
  """TRL's `grpo` divides by all responses, also by those without tokens."""
  case = difference('trl', 'grpo_dropped')
  counted = np.any(read('trl')[1]['dropped_mask'] != 0, axis=-1)
  assert not counted.all()
  value, gradient = loss_and_gradient('trl', case)
  agree(value * counted.mean(), theirs('trl', case, 'value'))
  agree(gradient * counted.mean(), theirs('trl', case, 'gradient'))


def test_the_divergence_is_not_weighted():
  """By default TRL multiplies k3 by the ratio, which no part of ours does."""
  case = difference('trl', 'grpo_kl_weighted')
  assert read('trl')[0]['defaults']['use_bias_correction_kl']
  built = build('trl', case)
  arrays = read('trl')[1]
  weight = built.aggregate(arrays[case['mask']])
  (term,) = built.regularizers

  def loss(logp):
    terms = token_terms('trl', case, built, logp)
    ratio = jnp.exp(losses.log_ratio(logp, terms.old_logp, terms.mask))
    values = built.loss(logp, terms.old_logp, terms.advantage, terms.mask)
    values += term.coefficient * ratio * term.function(terms)
    return jnp.sum(values * weight)

  value, gradient = jax.value_and_grad(loss)(arrays['logp'])
  agree(value, theirs('trl', case, 'value'))
  agree(gradient, theirs('trl', case, 'gradient'))


# --- The fixtures themselves ---


def test_the_parts_with_a_peer():
  """A case that disappears is missed."""
  named = set()
  for peer in CONVENTIONS:
    for case in read(peer)[0]['cases']:
      for section in parts(peer, case).values():
        named |= {section['name']} if 'name' in section else set(section)
  assert named == {
    *('batch_std', 'batch_token_whiten', 'group', 'group_mean'),
    *('leave_one_out', 'cispo', 'gspo', 'ppo_clip'),
    *('entropy', 'kl_k1', 'kl_k2', 'kl_k3', 'overlong'),
    *('fixed_length', 'sequence_mean', 'sequence_sum', 'token_mean'),
  }
  known = set().union(
    *(tables.ADVANTAGES, tables.LOSSES, tables.REGULARIZERS),
    *(tables.AGGREGATES, tables.SHAPING),
  )
  assert named <= known


@pytest.mark.parametrize('peer', CONVENTIONS)
def test_both_were_given_the_same_inputs(peer):
  about, arrays = read(peer)
  others = read('trl')[1]
  outputs = {
    name
    for name in arrays
    if name.rpartition('.')[0] in {case['name'] for case in about['cases']}
  }
  inputs = arrays.keys() - outputs
  assert {'logp', 'old_logp', 'ref_logp', 'mask', 'reward'} <= inputs
  for name in inputs:
    np.testing.assert_array_equal(arrays[name], others[name])


@pytest.mark.parametrize('peer', CONVENTIONS)
def test_fixtures_are_small_and_say_what_made_them(peer):
  about, _ = read(peer)
  assert all(about['packages'].values())
  files = list(FIXTURES.glob(f'{peer}.*'))
  assert len(files) == 2
  assert all(path.stat().st_size < 200_000 for path in files)
