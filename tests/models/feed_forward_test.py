"""The mixture of experts against loops, and what balances it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.models import feed_forward
from lrm_jax.models.config import Experts
from tests.models import tiny

# (experts, used, normalize)
SHAPES = [(4, 1, False), (4, 2, True), (5, 3, False), (3, 3, True)]


def make(count=4, used=2, normalize=True, **changes):
  experts = Experts(count, used, width=7, normalize=normalize)
  return tiny.make_config(experts=experts, **changes)


def make_params(config, seed=0):
  generator = np.random.default_rng(seed)
  count, width, inner = config.experts.count, config.d_model, 7
  draw = lambda *shape: jnp.asarray(
    0.4 * generator.standard_normal(shape), jnp.float32
  )
  return {
    'router': {'kernel': draw(width, count)},
    'gate': draw(count, width, inner),
    'up': draw(count, width, inner),
    'down': draw(count, inner, width),
  }


def draw_tokens(config, *shape, seed=1):
  generator = np.random.default_rng(seed)
  return jnp.asarray(
    generator.standard_normal((*shape, config.d_model)), jnp.float32
  )


def run(config, params, x, is_token=None):
  module = feed_forward.MixtureOfExperts(config)
  return jax.jit(module.apply)({'params': params}, x, is_token)


def loop(config, params, x):
  """Token by token in float64; and how often each expert was chosen."""
  experts = config.experts
  wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  flat = np.asarray(x, np.float64).reshape(-1, config.d_model)
  out, counts = np.zeros(flat.shape), np.zeros(experts.count)
  for n, token in enumerate(flat):
    scores = token @ wide['router']['kernel']
    law = np.exp(scores - scores.max())
    law /= law.sum()
    best = np.argsort(-law)[: experts.used]
    total = law[best].sum() if experts.normalize else 1.0
    for e in best:
      gate = token @ wide['gate'][e]
      inner = gate / (1 + np.exp(-gate)) * (token @ wide['up'][e])
      out[n] += law[e] / total * (inner @ wide['down'][e])
      counts[e] += 1
  return out.reshape(x.shape), counts


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_it_is_the_loop(shape):
  config = make(*shape)
  params, x = make_params(config), draw_tokens(config, 3, 5)
  found, routing = run(config, params, x, jnp.ones((3, 5), bool))
  expected, counts = loop(config, params, x)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert np.abs(expected).max() > 0.5
  np.testing.assert_array_equal(routing.chosen, counts)


def test_the_gate_of_gelu():
  config = make(3, 3, activation='gelu_tanh')
  params, x = make_params(config), draw_tokens(config, 1, 1)
  (found,), _ = run(config, params, x)
  law = jax.nn.softmax(x[0, 0] @ params['router']['kernel'])
  expected = sum(
    law[e]
    * (jax.nn.gelu(x[0] @ params['gate'][e]) * (x[0] @ params['up'][e]))
    @ params['down'][e]
    for e in range(3)
  )
  np.testing.assert_allclose(found, expected, atol=1e-5)


def dense(config, params, x):
  """Every expert for every token, those not chosen times zero."""
  experts = config.experts
  law = jax.nn.softmax(x @ params['router']['kernel'])
  least = jnp.sort(law, axis=-1)[..., -experts.used]
  weights = jnp.where(law >= least[..., None], law, 0)
  if experts.normalize:
    weights /= weights.sum(-1, keepdims=True)
  inner = jax.nn.silu(jnp.einsum('ntd,edf->ntef', x, params['gate']))
  inner *= jnp.einsum('ntd,edf->ntef', x, params['up'])
  return jnp.einsum('ntef,efd,nte->ntd', inner, params['down'], weights)


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_gradients_are_those_of_all_experts(shape):
  config = make(*shape)
  params, x = make_params(config), draw_tokens(config, 2, 6)
  weigh = lambda out: jnp.sum(
    out * jnp.cos(jnp.arange(out.size).reshape(out.shape))
  )
  module = feed_forward.MixtureOfExperts(config)
  ours = lambda p, x: weigh(module.apply({'params': p}, x, None)[0])
  theirs = lambda p, x: weigh(dense(config, p, x))
  found = jax.jit(jax.grad(ours, argnums=(0, 1)))(params, x)
  expected = jax.jit(jax.grad(theirs, argnums=(0, 1)))(params, x)
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, atol=2e-5),
    found,
    expected,
  )


def test_gradients_reach_the_router_and_the_chosen_only():
  """One token of four experts, two of which are used."""
  config = make(4, 2)
  params, x = make_params(config), draw_tokens(config, 1, 1)
  _, counts = loop(config, params, x)
  loss = lambda params: jnp.sum(run(config, params, x)[0] ** 2)
  slopes = jax.grad(loss)(params)
  assert sorted(counts) == [0, 0, 1, 1]
  for name in ('gate', 'up', 'down'):
    sizes = jnp.abs(slopes[name]).max(axis=(1, 2))
    np.testing.assert_array_equal(sizes > 0, counts > 0)
  # The router's scores of the others count through the sum of their law only.
  assert (jnp.abs(slopes['router']['kernel']).max(axis=0)[counts > 0] > 0).all()


def test_padding_is_not_counted():
  config = make(4, 2)
  params, x = make_params(config), draw_tokens(config, 2, 5)
  is_token = jnp.arange(5) < jnp.array([[5], [2]])
  _, routing = run(config, params, x, is_token)
  assert routing.chosen.dtype == routing.probability.dtype == jnp.float32
  assert routing.chosen.sum() == 7 * 2
  np.testing.assert_allclose(routing.probability.sum(), 7, rtol=1e-6)
  # Whatever stands there.
  junk = jnp.where(is_token[..., None], x, 100.0)
  out, other = run(config, params, junk, is_token)
  jax.tree.map(np.testing.assert_array_equal, routing, other)
  np.testing.assert_allclose(
    out[1, :2], loop(config, params, x)[0][1, :2], atol=1e-5
  )
  # And a decoder does not ask.
  assert run(config, params, x)[1] is None


def test_a_model_of_experts_decodes_what_it_is_taught():
  config = make(4, 2, n_layers=3)
  params = tiny.make_params(config)
  (prompt,), (response,) = tiny.sequences((4,)), tiny.sequences((6,), seed=5)
  ((found,),) = tiny.cached_logits(config, params, [prompt], [[response]])
  whole = np.concatenate([prompt, response])
  expected = tiny.forced_logits(config, params, whole, 12)[len(prompt) - 1 :]
  np.testing.assert_allclose(found, expected, atol=2e-5)
  _, kept = tiny.apply(config, params, *tiny.pack([[whole]], 12))
  assert kept.routing.chosen.shape == (3, 4)
  np.testing.assert_array_equal(kept.routing.chosen.sum(axis=-1), 20)


# The balance.


def routing_of(chosen, probability):
  return feed_forward.Routing(
    jnp.array(chosen, jnp.float32), jnp.array(probability, jnp.float32)
  )


def balance(routing, used):
  """Of a whole batch in one part."""
  loads = feed_forward.loads(routing, used)
  return feed_forward.load_balance(loads, routing)


def test_balance_by_hand():
  """Four tokens in a layer, two experts, one used: 3 and 1 of them.

  P = (2.8, 1.2) / 4 = (0.7, 0.3): 2 (0.75 * 0.7 + 0.25 * 0.3) = 1.2. A second
  layer with 1 and 3, P = (0.5, 0.5), makes f = (0.5, 0.5): 2 * 0.5 * 1 = 1.
  """
  one = routing_of([[3, 1]], [[2.8, 1.2]])
  assert balance(one, 1) == pytest.approx(1.2)
  both = routing_of([[3, 1], [1, 3]], [[2.8, 1.2], [2.0, 2.0]])
  assert balance(both, 1) == pytest.approx(1.0)


@pytest.mark.parametrize('used', [1, 2, 4])
def test_balanced_experts_give_the_number_used(used):
  even = routing_of([[6 * used] * 4], [[6.0] * 4])
  assert balance(even, used) == pytest.approx(used)
  # All in one place is the worst, E * 1 * 1 for each.
  if used == 1:
    worst = routing_of([[24, 0, 0, 0]], [[24.0, 0, 0, 0]])
    assert balance(worst, 1) == pytest.approx(4)


def test_without_tokens_the_balance_is_zero():
  nothing = routing_of([[0, 0]], [[0, 0]])
  assert balance(nothing, 2) == 0


def test_the_balance_pushes_probabilities_only():
  """E f_e / T: 2 * 0.75 / 4 and 2 * 0.25 / 4. Counts have no gradient."""
  slopes = jax.grad(balance)(routing_of([[3, 1]], [[2.8, 1.2]]), 1)
  np.testing.assert_allclose(slopes.probability, [[0.375, 0.125]])
  assert not slopes.chosen.any()


def test_the_balance_of_a_model_is_its_formula():
  """E sum_e f_e P_e over tokens and layers, from the router's scores."""
  config = make(4, 2)
  params, x = make_params(config), draw_tokens(config, 2, 5)
  is_token = np.arange(5) < np.array([[5], [2]])
  _, routing = run(config, params, x, jnp.asarray(is_token))
  routing = jax.tree.map(lambda leaf: leaf[None], routing)
  shares, law = np.zeros(4), np.zeros(4)
  for token in np.asarray(x)[is_token]:
    scores = token @ np.asarray(params['router']['kernel'])
    p = np.exp(scores) / np.exp(scores).sum()
    law += p / 7
    for e in np.argsort(-p)[:2]:
      shares[e] += 1 / 7
  expected = 4 * math.fsum(shares * law)
  assert balance(routing, 2) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parity
def test_the_balance_is_that_of_transformers():
  why = 'compares with transformers'
  torch = pytest.importorskip('torch', reason=why)
  pytest.importorskip('transformers', reason=why)
  from transformers.models.qwen3_moe import modeling_qwen3_moe

  config = make(6, 2)
  generator = np.random.default_rng(3)
  x = [draw_tokens(config, 2, 9, seed=seed) for seed in (3, 4)]
  params = [make_params(config, seed) for seed in (5, 6)]
  is_token = generator.random((2, 9)) < 0.7
  routings = [
    run(config, p, tokens, jnp.asarray(is_token))[1]
    for p, tokens in zip(params, x, strict=True)
  ]
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *routings)
  scores = tuple(
    torch.tensor(np.asarray(tokens @ p['router']['kernel'])).reshape(-1, 6)
    for p, tokens in zip(params, x, strict=True)
  )
  expected = modeling_qwen3_moe.load_balancing_loss_func(
    scores, 6, 2, torch.tensor(is_token.astype(int))
  )
  found = balance(stacked, 2)
  assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize('shape', [(6, 3), (3, 6)])
def test_products_have_the_gradients_of_a_product(shape):
  """Kernels that are higher than wide go another way on a CPU."""
  generator = np.random.default_rng(0)
  draw = lambda *shape: generator.standard_normal(shape).astype(np.float32)
  x, kernel, slopes = draw(5, shape[0]), draw(*shape), draw(5, shape[1])
  dimensions = (((1,), (0,)), ((), ()))
  out, pull = jax.vjp(
    lambda *x: feed_forward.multiply(*x, dimensions), x, kernel
  )
  np.testing.assert_allclose(out, x @ kernel, atol=1e-5)
  of_x, of_kernel = pull(slopes)
  np.testing.assert_allclose(of_x, slopes @ kernel.T, atol=1e-5)
  np.testing.assert_allclose(of_kernel, x.T @ slopes, atol=1e-5)
