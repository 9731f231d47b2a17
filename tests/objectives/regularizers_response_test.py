"""Regularizers that look at a response as a whole."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import objectives
from lrm_jax.errors import UserError
from lrm_jax.objectives import recipe, regularizers
from lrm_jax.structs import TokenTerms
from tests.objectives import reference
from tests.objectives.reference import regularizers as expected_regularizers


def terms(seed=0):
  logp, old_logp, ref_logp, advantage, mask = reference.batch(seed, samples=12)
  ones = np.ones_like(mask)
  return TokenTerms(
    logp, old_logp, ref_logp, ones, advantage, mask, ones, mask * (logp < -1)
  )


def rows(d, advantage, mask=None):
  """One group with these `old_logp - logp`, one row a response."""
  d = jnp.asarray([d], jnp.float32)
  ones = jnp.ones_like(d)
  advantage = jnp.asarray([advantage], jnp.float32)[..., None] * ones
  mask = ones if mask is None else jnp.asarray([mask], jnp.float32)
  return TokenTerms(-d, 0 * d, -d, ones, advantage, mask, ones, 0 * ones)


def llds(tokens, **keys):
  """Values of the first group, and slopes in `logp`."""

  def total(logp):
    new = dataclasses.replace(tokens, logp=logp)
    values = regularizers.llds(new, **keys)
    return jnp.sum(values), values

  slopes, values = jax.grad(total, has_aux=True)(jnp.asarray(tokens.logp))
  return np.asarray(values[0]), np.asarray(slopes[0])


# Good ones that lost .5 - .25 and .25 in all; one that gained .25; one whose
# sum is exactly 0; a bad one that lost; one without a signal that lost .5.
def test_llds_literal():
  values, slopes = llds(
    rows(
      [[0.5, -0.25], [0.0, 0.25], [0.25, -0.5], [0.5, -0.5], [1, 1], [0.5, 0]],
      [1, 2, 1, 1, -1, 0],
    )
  )
  np.testing.assert_array_equal(
    values, [[0.5, 0], [0, 0.25], [0, 0], [0, 0], [0, 0], [0.5, 0]]
  )
  np.testing.assert_array_equal(
    slopes, [[-1, 0], [0, -1], [0, 0], [0, 0], [0, 0], [-1, 0]]
  )


def test_llds_is_nothing_on_policy():
  tokens = terms()
  tokens = dataclasses.replace(tokens, logp=tokens.old_logp)
  values, slopes = llds(tokens)
  assert not values.any()
  assert not slopes.any()


def test_llds_with_a_tolerance_is_nothing_within_rounding():
  tokens = rows([[1e-6, 2e-6, -1e-6], [0.5, 1e-6, -1e-6]], [1, 1])
  _, slopes = llds(tokens)
  assert slopes[0].tolist() == [-1, -1, 0]
  values, slopes = llds(tokens, tolerance=1e-4)
  np.testing.assert_array_equal(values, [[0, 0, 0], [0.5, 0, 0]])
  np.testing.assert_array_equal(slopes, [[0, 0, 0], [-1, 0, 0]])
  # The sum leaves out what is rounding: 3 * .04 of gains against .1.
  tokens = rows([[0.1, -0.04, -0.04, -0.04]], [1])
  assert not llds(tokens)[0].any()
  np.testing.assert_allclose(llds(tokens, tolerance=0.05)[0], [[0.1, 0, 0, 0]])


@pytest.mark.parametrize('tolerance', [0.0, 0.2])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_llds_equals_the_loops_and_lets_some_through(seed, tolerance):
  tokens = terms(seed)
  expected = expected_regularizers.llds(tokens, tolerance)
  # Some responses pass the gate; of those, and of the others, some tokens lost.
  lost = (tokens.old_logp - tokens.logp) * tokens.mask > tolerance
  assert expected.any()
  assert (lost & (expected == 0)).any()
  np.testing.assert_allclose(
    jax.jit(lambda x: regularizers.llds(x, tolerance=tolerance))(tokens),
    expected,
    atol=1e-6,
  )


def test_llds_counts_trained_tokens_only():
  # The masked token's gain, and its advantage, would close the gate.
  values, slopes = llds(rows([[0.5, -9.0, 0.25]], [1], [[1, 0, 1]]))
  np.testing.assert_array_equal(values, [[0.5, 0, 0.25]])
  np.testing.assert_array_equal(slopes, [[-1, 0, -1]])
  tokens = rows([[0.5, 0.5]], [1], [[1, 0]])
  advantage = jnp.array([[[1.0, -9.0]]])
  values, _ = llds(dataclasses.replace(tokens, advantage=advantage))
  np.testing.assert_array_equal(values, [[0.5, 0]])


def test_llds_of_one_response_of_one_token():
  assert llds(rows([[0.5]], [0]))[0].tolist() == [[0.5]]
  assert llds(rows([[-0.5]], [0]))[0].tolist() == [[0]]
  assert llds(rows([[0.5]], [1], [[0]]))[0].tolist() == [[0]]


def test_llds_looks_at_each_response_alone():
  tokens = terms()
  whole = np.asarray(regularizers.llds(tokens))
  for row in range(3):
    part = jax.tree.map(lambda x, row=row: x[row : row + 1, 1:], tokens)
    np.testing.assert_array_equal(
      regularizers.llds(part), whole[row : row + 1, 1:]
    )


@pytest.mark.parametrize('seed', [0, 1])
def test_llds_ma_equals_the_loops(seed):
  tokens = terms(seed)
  expected = expected_regularizers.llds_ma(tokens)
  found = regularizers.llds_ma(tokens)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  # Neither `llds` nor nothing on the answers.
  assert (np.asarray(found) != np.asarray(regularizers.llds(tokens))).any()
  assert (expected * tokens.answer > 0).any()


def test_llds_ma_literal():
  tokens = rows([[0.5, 0.25, -0.25]], [1])
  answer = jnp.asarray([[[0, 1, 1]]], jnp.float32)
  tokens = dataclasses.replace(tokens, answer=answer)
  values = regularizers.llds_ma(tokens, answer_weight=0.2)
  np.testing.assert_allclose(values, [[[0.5, 0.05, 0]]], rtol=1e-6)
  for weight in (0.0, 1.0):
    values = regularizers.llds_ma(tokens, answer_weight=weight)
    np.testing.assert_allclose(values, [[[0.5, 0.25 * weight, 0]]], rtol=1e-6)
  with pytest.raises(UserError) as error:
    regularizers.llds_ma(tokens, answer_weight=1.5)
  assert str(error.value).startswith('llds_ma: answer_weight = 1.5; give one ')


def test_llds_is_a_mean_over_all_tokens_in_its_recipe():
  # 0.2 (.5 + .25) / 5: the two that the gate holds back are counted.
  tokens = rows(
    [[0.5, 0.25, -0.25], [-0.5, -0.5, 0]], [1, 1], [[1, 1, 1], [1, 1, 0]]
  )
  keys = objectives.llds(cap=8).regularizers.llds
  config = objectives.compose(regularizers=dict(llds=keys))
  built = recipe.build(_config(config))
  without = recipe.build(_config(objectives.compose()))
  each = [
    x.total(tokens, (tokens.advantage,), x.weights(tokens.mask), {})
    for x in (built, without)
  ]
  added = each[0] - each[1]
  np.testing.assert_allclose(added, 0.2 * 0.75 / 5, rtol=1e-5)


# --- Entropy that adapts to the covariance ---


def weights(logp, advantage, mask=None, *, scale=10.0, most=5.0):
  """The focus of one group; its advantages are one a response."""
  logp = jnp.asarray([logp], jnp.float32)
  advantage = jnp.asarray([advantage], jnp.float32)[..., None]
  mask = jnp.ones_like(logp) if mask is None else jnp.asarray([mask])
  return regularizers.adaptive_entropy_focus(
    logp,
    0 * logp,
    advantage * jnp.ones_like(logp),
    mask,
    scale=scale,
    most=most,
  )[0]


LN3 = math.log(3)


# Advantages of mean 0: e^(+-ln 3) against 1 is 3/4, or 1/4, of a response.
def test_adaptive_entropy_literal():
  focus = weights([[LN3, 0], [LN3, 0]], [1, -1], most=100.0)
  np.testing.assert_allclose(focus, [[7.5, 2.5], [2.5, 7.5]], rtol=1e-5)
  focus = weights([[LN3, 0], [LN3, 0]], [1, -1])
  np.testing.assert_allclose(focus, [[5, 2.5], [2.5, 5]], rtol=1e-5)
  focus = weights([[LN3, 0], [LN3, 0]], [1, -1], scale=1.0)
  np.testing.assert_allclose(focus, [[0.75, 0.25], [0.25, 0.75]], rtol=1e-5)


# Three tokens at 1 and one at -1: the mean is 1/2, and e^(2 ln 3 / 2) is 3.
def test_adaptive_entropy_takes_its_means_over_tokens():
  focus = weights(
    [[2 * LN3, 0, 0], [7, 9, 9]], [1, -1], [[1, 1, 1], [1, 0, 0]], most=100.0
  )
  np.testing.assert_allclose(focus, [[6, 2, 2], [10, 0, 0]], rtol=1e-5)


@pytest.mark.parametrize('advantage', [0.0, 0.1, -3.0])
def test_adaptive_entropy_without_a_signal_is_even(advantage):
  # Ten over the four, two or one tokens of a response; 5 at most.
  mask = [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
  focus = weights(
    np.random.default_rng(0).normal(size=(4, 4)), [advantage] * 4, mask
  )
  np.testing.assert_allclose(
    focus,
    [[2.5, 2.5, 2.5, 2.5], [5, 5, 0, 0], [0, 0, 5, 0], [0, 0, 0, 0]],
    rtol=1e-5,
  )


def test_the_level_of_a_response_does_not_change_its_weights():
  logp = np.random.default_rng(0).normal(size=(3, 5))
  focus = weights(logp, [2, -1, 0.5])
  shifted = weights(logp - [[1], [20], [3]], [2, -1, 0.5])
  np.testing.assert_allclose(shifted, focus, rtol=1e-4)
  np.testing.assert_allclose(
    weights(logp, [2, -1, 0.5], most=10.0).sum(-1), [10] * 3, rtol=1e-5
  )


def test_adaptive_entropy_stands_large_covariances():
  # e^200 is not formed: all of the weight is on one token.
  focus = weights([[20, 0], [20, 0]], [10, -10])
  np.testing.assert_array_equal(focus, [[5, 0], [0, 5]])


def test_adaptive_entropy_keeps_the_gradient_of_the_entropy_alone():
  built = recipe.build(_config(objectives.light_if(cap=8)))
  (term,) = [x for x in built.regularizers if x.name == 'adaptive_entropy']
  tokens = terms()

  def added(logp, entropy):
    """The recipe's own loss less that without the term."""
    new = dataclasses.replace(tokens, logp=logp, entropy=entropy)
    weight = built.weights(tokens.mask)
    focus = built.focus(logp, new.old_logp, new.advantage, new.mask)
    without = dataclasses.replace(
      built,
      regularizers=tuple(x for x in built.regularizers if x is not term),
    )
    given = new, (new.advantage,), weight, focus
    return built.total(*given) - without.total(*given)

  of_logp, of_entropy = jax.grad(added, (0, 1))(tokens.logp, tokens.entropy)
  np.testing.assert_allclose(of_logp, 0, atol=1e-6)
  focus = expected_regularizers.adaptive_entropy_focus(
    tokens.logp, None, tokens.advantage, tokens.mask, 10.0, 5.0
  )
  np.testing.assert_allclose(
    of_entropy, -focus / tokens.mask.sum(), rtol=1e-4, atol=1e-7
  )


def _config(objective):
  return ml_collections.ConfigDict({'objective': objective.to_dict()})


@pytest.mark.parametrize('change', [{'scale': -1.0}, {'most': -1.0}])
def test_negative_weights_are_refused(change):
  (key,) = change
  message = f'^adaptive_entropy: {key} = -1.0; give at least 0$'
  with pytest.raises(UserError, match=message):
    weights([[0.0]], [0], **change)


def test_a_negative_tolerance_is_refused():
  message = '^llds: tolerance = -1.0; give at least 0$'
  with pytest.raises(UserError, match=message):
    regularizers.llds(terms(), tolerance=-1.0)
