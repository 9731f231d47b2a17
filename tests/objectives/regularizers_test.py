"""KL estimators and the entropy bonus."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lrm_jax.objectives import regularizers
from lrm_jax.structs import TokenTerms
from tests.objectives import reference
from tests.objectives.reference import regularizers as expected_regularizers

KLS = ['kl_k1', 'kl_k2', 'kl_k3']
EVERY = [*KLS, 'entropy']


def terms(seed=0):
  logp, old_logp, ref_logp, advantage, mask = reference.batch(seed)
  entropy = np.abs(advantage) + 0.1
  return TokenTerms(logp, old_logp, ref_logp, entropy, advantage, mask)


JITTED = {name: jax.jit(getattr(regularizers, name)) for name in EVERY}


def apply(name, tokens):
  return JITTED[name](tokens)


def at(name, difference):
  """Value and slope by `logp` of one token with the given `d`."""

  def value(logp):
    return apply(name, TokenTerms(logp, 5.0, 1.0, 1.0, 1.0, 1.0))

  return jax.value_and_grad(value)(jnp.float32(1 + difference))


# The slope of k3 is 1 - exp(-d); exp(-.5) = .6065307, exp(.5) = 1.6487213.
@pytest.mark.parametrize(
  ('name', 'difference', 'value', 'slope'),
  [
    ('kl_k1', 0.5, 0.5, 1.0),
    ('kl_k1', -0.5, -0.5, 1.0),
    ('kl_k2', 0.5, 0.125, 0.5),
    ('kl_k2', -0.5, 0.125, -0.5),
    ('kl_k3', 0.5, 0.1065307, 0.3934693),  # .6065307 + .5 - 1
    ('kl_k3', -0.5, 0.1487213, -0.6487213),  # 1.6487213 - .5 - 1
    ('kl_k3', -2.0, 4.389056, -6.389056),  # e^2 - 2 - 1, 1 - e^2
    ('kl_k3', -3.0, 10.0, 0.0),  # e^3 - 4 = 16.1 is held at 10
    ('kl_k3', 10.0, 9.000045, 0.999955),
    ('kl_k3', 15.0, 10.0, 0.0),
    ('kl_k3', -1000.0, 10.0, 0.0),  # exp(1000) is not formed
    ('kl_k1', 0.0, 0.0, 1.0),
    ('kl_k2', 0.0, 0.0, 0.0),
    ('kl_k3', 0.0, 0.0, 0.0),
  ],
)
def test_literals(name, difference, value, slope):
  np.testing.assert_allclose(at(name, difference), (value, slope), rtol=2e-6)


def test_entropy_is_a_bonus():
  tokens = terms()
  np.testing.assert_array_equal(
    apply('entropy', tokens), -tokens.entropy * tokens.mask
  )


def test_k3_keeps_small_differences():
  # k3 = d^2 / 2 - d^3 / 6 + ...: exp(-d) - 1 would have lost it.
  tokens = TokenTerms(np.float32(1e-3), 1.0, 0.0, 1.0, 1.0, 1.0)
  np.testing.assert_allclose(
    apply('kl_k3', tokens), 0.5e-6 - 1e-9 / 6, rtol=1e-3
  )


@pytest.mark.parametrize('name', KLS)
@pytest.mark.parametrize('seed', [0, 1])
def test_equals_the_loops(name, seed):
  tokens = terms(seed)
  expected = expected_regularizers.kl(
    name, tokens.logp, tokens.ref_logp, tokens.mask
  )
  np.testing.assert_allclose(apply(name, tokens), expected, atol=1e-6)


@pytest.mark.parametrize('name', EVERY)
def test_gradient(name):
  tokens = terms()
  # Those of the test data lie in the smooth region of k3.
  assert np.abs(tokens.logp - tokens.ref_logp).max() < 2.6

  def total(logp, entropy):
    new = dataclasses.replace(tokens, logp=logp, entropy=entropy)
    return jnp.sum(apply(name, new))

  arguments = (tokens.logp, tokens.entropy)
  check_grads(total, arguments, 1, modes=('rev',), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize(
  ('name', 'direction'), [('kl_k2', 'reverse'), ('kl_k3', 'forward')]
)
def test_mean_gradient_is_that_of_a_kl(name, direction):
  # Expectation over a law on three words, by enumeration.
  logits, reference_logits = jnp.array([0.3, -1.0, 0.5]), jnp.array([1.0, 0, 0])
  ref_logp = jax.nn.log_softmax(reference_logits)
  policy = jax.nn.softmax(logits)

  def kl(x):
    logp = jax.nn.log_softmax(x)
    if direction == 'reverse':
      return jnp.sum(jnp.exp(logp) * (logp - ref_logp))
    return jnp.sum(jnp.exp(ref_logp) * (ref_logp - logp))

  def estimate(x):
    logp, one = jax.nn.log_softmax(x), jnp.ones(3)
    tokens = TokenTerms(logp, one, ref_logp, one, one, one)
    return jnp.sum(policy * apply(name, tokens))

  np.testing.assert_allclose(
    jax.grad(estimate)(logits), jax.grad(kl)(logits), atol=1e-6
  )


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('garbage', [np.nan, np.inf, -np.inf])
def test_garbage_outside_the_mask(name, garbage):
  tokens = terms()
  dirty = jax.tree.map(
    lambda x: np.where(tokens.mask > 0, x, garbage).astype(np.float32), tokens
  )
  dirty = dataclasses.replace(dirty, mask=tokens.mask)

  def total(logp, ref_logp, entropy, tokens):
    new = dataclasses.replace(
      tokens, logp=logp, ref_logp=ref_logp, entropy=entropy
    )
    return jnp.sum(apply(name, new))

  both = jax.value_and_grad(total, argnums=(0, 1, 2))
  expected, gradients = both(
    tokens.logp, tokens.ref_logp, tokens.entropy, tokens
  )
  result, dirty_gradients = both(
    dirty.logp, dirty.ref_logp, dirty.entropy, dirty
  )
  assert result == expected
  for gradient, dirty_gradient in zip(gradients, dirty_gradients, strict=True):
    np.testing.assert_array_equal(dirty_gradient, gradient)
    assert not np.asarray(gradient)[tokens.mask == 0].any()


@pytest.mark.parametrize('name', EVERY)
def test_masked_equals_sliced(name):
  tokens = terms()
  kept = tokens.mask > 0
  sliced = apply(name, jax.tree.map(lambda x: x[kept], tokens))
  np.testing.assert_array_equal(np.asarray(apply(name, tokens))[kept], sliced)


@pytest.mark.parametrize('name', EVERY)
def test_jit_equals_eager(name):
  eager = getattr(regularizers, name)(terms())
  np.testing.assert_allclose(apply(name, terms()), eager, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('name', EVERY)
def test_empty_mask(name):
  tokens = terms()
  tokens = dataclasses.replace(tokens, mask=0 * tokens.mask)
  assert not apply(name, tokens).any()


def test_only_the_kl_terms_read_the_reference():
  for name in EVERY:
    tokens = terms()
    tokens = dataclasses.replace(tokens, ref_logp=tokens.ref_logp * np.nan)
    reads = bool(jnp.any(jnp.isnan(apply(name, tokens))))
    function = getattr(regularizers, name)
    assert reads == (function in regularizers.REFERENCE_TERMS)
