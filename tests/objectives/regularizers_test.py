"""KL estimators, the entropy bonus, and terms with a focus."""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lrm_jax.errors import UserError
from lrm_jax.objectives import aggregate, regularizers
from lrm_jax.structs import TokenTerms
from tests.objectives import reference
from tests.objectives.reference import regularizers as expected_regularizers

PARTS = {
  'adaptive_entropy': regularizers.adaptive_entropy,
  'entropy': regularizers.entropy,
  'kl_cov': regularizers.kl_cov,
  'kl_hinge': regularizers.kl_hinge,
  'kl_k1': regularizers.kl_k1,
  'kl_k2': regularizers.kl_k2,
  'kl_k3': regularizers.kl_k3,
  'llds': regularizers.llds,
  'llds_ma': regularizers.llds_ma,
}
EVERY = list(PARTS)
# One by one; the others look at a response as a whole.
TOKENWISE = [name for name in EVERY if not name.startswith('llds')]
KLS = ['kl_k1', 'kl_k2', 'kl_k3']
JITTED = {name: jax.jit(function) for name, function in PARTS.items()}


def terms(seed=0):
  logp, old_logp, ref_logp, advantage, mask = reference.batch(seed)
  focus = np.random.default_rng(seed).integers(0, 3, mask.shape)
  return TokenTerms(
    logp=logp,
    old_logp=old_logp,
    ref_logp=ref_logp,
    entropy=np.abs(advantage) + 0.1,
    advantage=advantage,
    mask=mask,
    focus=focus.astype(np.float32),
    answer=mask * (focus > 0),
  )


def token(**fields):
  """One token; 1 in every field that is not given."""
  names = [field.name for field in dataclasses.fields(TokenTerms)]
  return TokenTerms(**(dict.fromkeys(names, jnp.float32(1)) | fields))


def apply(name, tokens):
  return JITTED[name](tokens)


def at(name, difference):
  """Value and slope of one token with `d` to both other policies."""

  def value(logp):
    return apply(name, token(logp=logp, focus=jnp.float32(2)))

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
    ('kl_cov', 0.5, 1.0, 2.0),  # a focus of 2
    ('kl_cov', -0.5, 1.0, -2.0),
    ('kl_cov', 0.0, 0.0, 0.0),  # on policy: no gradient at the kink
    ('kl_hinge', 0.5, -1.0, -2.0),
    ('kl_hinge', -0.5, 1.0, -2.0),
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
  tokens = token(logp=jnp.float32(1e-3), ref_logp=jnp.float32(0))
  np.testing.assert_allclose(
    apply('kl_k3', tokens), 0.5e-6 - 1e-9 / 6, rtol=1e-3
  )


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('seed', [0, 1])
def test_equals_the_loops(name, seed):
  tokens = terms(seed)
  expected = getattr(expected_regularizers, name)(tokens)
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
    tokens = token(logp=logp, ref_logp=ref_logp, mask=one)
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
  both = jax.value_and_grad(lambda tokens: jnp.sum(apply(name, tokens)))
  expected, gradients = both(tokens)
  result, dirty_gradients = both(dirty)
  assert result == expected
  for field in ('logp', 'old_logp', 'ref_logp', 'entropy', 'focus'):
    gradient = np.asarray(getattr(gradients, field))
    np.testing.assert_array_equal(getattr(dirty_gradients, field), gradient)
    assert not gradient[tokens.mask == 0].any()


@pytest.mark.parametrize('name', TOKENWISE)
def test_masked_equals_sliced(name):
  tokens = terms()
  kept = tokens.mask > 0
  sliced = apply(name, jax.tree.map(lambda x: x[kept], tokens))
  np.testing.assert_array_equal(np.asarray(apply(name, tokens))[kept], sliced)


@pytest.mark.parametrize('name', EVERY)
def test_jit_equals_eager(name):
  eager = PARTS[name](terms())
  np.testing.assert_allclose(apply(name, terms()), eager, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('name', EVERY)
def test_empty_mask(name):
  tokens = terms()
  tokens = dataclasses.replace(tokens, mask=0 * tokens.mask)
  assert not apply(name, tokens).any()


def test_only_the_kl_terms_read_the_reference():
  for name, function in PARTS.items():
    tokens = terms()
    tokens = dataclasses.replace(tokens, ref_logp=tokens.ref_logp * np.nan)
    reads = bool(jnp.any(jnp.isnan(apply(name, tokens))))
    assert reads == (function in regularizers.REFERENCE_TERMS)


# --- What they make of a whole mini-batch ---

FOCUS = {
  'adaptive_entropy': (
    regularizers.adaptive_entropy_focus,
    {'scale': 10.0, 'most': 5.0},
  ),
  'kl_cov': (regularizers.kl_cov_focus, {'fraction': 0.1}),
  'kl_hinge': (regularizers.kl_hinge_focus, {'beta': 50.0, 'delta': 0.01}),
}
PREPARE = {
  name: jax.jit(functools.partial(function, **keywords))
  for name, (function, keywords) in FOCUS.items()
}


def moved(seed=0):
  """`logp, old_logp, advantage, mask`; the policy has left its samples."""
  logp, old_logp, _, advantage, mask = reference.batch(seed)
  return logp - np.float32(0.1), old_logp, advantage, mask


def cov_focus(logp, advantage, mask=None, *, fraction):
  """The focus of a flat row of tokens, padded to always the same width."""
  row = lambda x: np.float32(np.pad(x, (0, 1500 - len(x))))[None, None]
  mask = np.ones(len(logp)) if mask is None else mask
  arrays = (row(logp), row(logp), row(advantage), row(mask))
  focus = _jitted_cov_focus(fraction)(*arrays)[0, 0]
  assert not focus[len(logp) :].any()
  return focus[: len(logp)].tolist()


@functools.cache
def _jitted_cov_focus(fraction):
  return jax.jit(
    functools.partial(regularizers.kl_cov_focus, fraction=fraction)
  )


@pytest.mark.parametrize('name', FOCUS)
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_focus_equals_the_loops(name, seed):
  arrays = moved(seed)
  function, keywords = FOCUS[name]
  expected = getattr(expected_regularizers, function.__name__)
  expected = expected(*arrays, **keywords)
  assert expected.any()
  focus = PREPARE[name](*arrays)
  assert focus.dtype == jnp.float32
  np.testing.assert_allclose(focus, expected, rtol=1e-5)
  np.testing.assert_allclose(focus, function(*arrays, **keywords), rtol=1e-6)


def test_cov_focus_literal():
  # Centred advantages 1, -1, 1, -1 and log-probabilities 1, 2, -1, -2:
  # covariances 1, -2, -1, 2: likely and good, or unlikely and bad.
  logp, advantage = [0.0, 1.0, -2.0, -3.0], [3.0, 1.0, 3.0, 1.0]
  assert cov_focus(logp, advantage, fraction=0.5) == [1, 0, 0, 1]
  assert cov_focus(logp, advantage, fraction=0.002) == [0, 0, 0, 1]


@pytest.mark.parametrize(
  ('tokens', 'number'),
  [(1, 1), (499, 1), (500, 1), (999, 1), (1000, 2), (1500, 3)],
)
def test_cov_focus_is_two_in_a_thousand_and_at_least_one(tokens, number):
  rng = np.random.default_rng(0)
  focus = cov_focus(*rng.normal(size=(2, tokens)), fraction=0.002)
  assert sum(focus) == number


def test_cov_focus_is_exact_with_ties():
  # All covariances are 0: the first that are trained.
  focus = cov_focus([1.0] * 6, [2.0] * 6, [0, 1, 1, 0, 1, 1], fraction=0.5)
  assert focus == [0, 1, 1, 0, 0, 0]


def test_cov_focus_may_be_below_zero():
  # Two tokens: the covariances are -1/4 both, and padding has 0.
  focus = cov_focus([0.0, 1, 9], [1.0, 0, 9], [1, 1, 0], fraction=0.5)
  assert focus == [1, 0, 0]


def test_hinge_is_the_gradient_of_the_squared_excess():
  logp, old_logp, advantage, mask = moved()
  beta, delta = 50.0, 0.01
  tokens = dataclasses.replace(
    terms(),
    logp=logp,
    old_logp=old_logp,
    focus=PREPARE['kl_hinge'](logp, old_logp, advantage, mask),
  )

  def term(x):
    values = apply('kl_hinge', dataclasses.replace(tokens, logp=x))
    return jnp.sum(values * aggregate.token_mean(mask))

  def penalty(x):
    kl = jnp.sum((old_logp - x) * mask) / mask.sum()
    return beta / 2 * jnp.maximum(kl - delta, 0) ** 2

  gradient = jax.grad(term)(logp)
  assert np.abs(gradient).max() > 1e-3
  np.testing.assert_allclose(gradient, jax.grad(penalty)(logp), rtol=1e-5)


def test_hinge_literal():
  # KL (.3 + .1) / 2 = .2 over two tokens: 10 (.2 - .05) = 1.5.
  focus = regularizers.kl_hinge_focus(
    jnp.array([[[-1.3, -2.1, 0.0]]]),
    jnp.array([[[-1.0, -2.0, 0.0]]]),
    jnp.zeros((1, 1, 3)),
    jnp.array([[[1, 1, 0]]]),
    beta=10.0,
    delta=0.05,
  )
  np.testing.assert_allclose(focus, [[[1.5, 1.5, 0]]], rtol=1e-5)


@pytest.mark.parametrize('shift', [0.0, -0.005, 0.1])
def test_hinge_is_off_within_delta(shift):
  # On policy, closer than delta, and an estimate below 0.
  _, old_logp, advantage, mask = moved()
  focus = PREPARE['kl_hinge'](
    old_logp + np.float32(shift), old_logp, advantage, mask
  )
  assert not focus.any()


@pytest.mark.parametrize('name', FOCUS)
def test_focus_of_an_empty_mask(name):
  logp, old_logp, advantage, mask = moved()
  assert not PREPARE[name](logp, old_logp, advantage, 0 * mask).any()


@pytest.mark.parametrize('name', FOCUS)
@pytest.mark.parametrize('garbage', [np.nan, np.inf, -np.inf])
def test_focus_does_not_look_outside_the_mask(name, garbage):
  *arrays, mask = moved()
  dirty = [np.where(mask > 0, a, np.float32(garbage)) for a in arrays]
  focus = np.asarray(PREPARE[name](*arrays, mask))
  np.testing.assert_array_equal(PREPARE[name](*dirty, mask), focus)
  assert not focus[mask == 0].any()


@pytest.mark.parametrize('name', FOCUS)
def test_micro_batches_give_the_term_of_the_whole(name):
  logp, old_logp, advantage, mask = moved()
  tokens = dataclasses.replace(
    terms(),
    logp=logp,
    old_logp=old_logp,
    focus=PREPARE[name](logp, old_logp, advantage, mask),
  )
  whole = np.asarray(apply(name, tokens))
  assert whole.any()
  for rows in (slice(0, 1), slice(1, 2), slice(2, 3)):
    part = apply(name, jax.tree.map(lambda x, rows=rows: x[rows], tokens))
    np.testing.assert_array_equal(part, whole[rows])


def test_parts_and_their_focus_share_their_keywords():
  for name, (function, _) in FOCUS.items():
    keywords = PARTS[name].__kwdefaults__
    assert list(inspect.signature(function).parameters)[4:] == list(keywords)


@pytest.mark.parametrize(
  ('name', 'keywords', 'message'),
  [
    ('kl_cov', {'fraction': 0.0}, 'fraction = 0.0; give one above 0, up to 1'),
    ('kl_cov', {'fraction': 1.5}, 'fraction = 1.5'),
    (
      'kl_hinge',
      {'beta': -1.0, 'delta': 0.0},
      'beta = -1.0, delta = 0.0; give at least 0',
    ),
    ('kl_hinge', {'beta': 1.0, 'delta': -1.0}, 'delta = -1.0'),
  ],
)
def test_refused(name, keywords, message):
  with pytest.raises(UserError, match=f'^{name}: .*{message}'):
    FOCUS[name][0](*moved(), **keywords)
