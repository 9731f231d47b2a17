"""One model, several ways to run it, always the same numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.models import output_head, transformer
from tests.models import tiny


@pytest.fixture(scope='module')
def model():
  config = tiny.make_config()
  return config, tiny.make_params(config)


@functools.partial(jax.jit, static_argnums=0)
def loss_and_gradient(config, params, tokens, positions, segments, weights):
  """Weighted sum of next-token log-probabilities inside each segment."""

  def loss(params):
    hidden, _ = transformer.apply(config, params, tokens, positions, segments)
    logp, _ = output_head.token_logp(
      config, params, hidden[:, :-1], tokens[:, 1:]
    )
    inside = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    return jnp.sum(jnp.where(inside, weights * logp, 0.0))

  return jax.value_and_grad(loss)(params)


def assert_trees_close(found, expected, rtol=1e-5):
  """Each leaf's largest difference, relative to its largest entry."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
    other = functools.reduce(lambda x, key: x[key.key], path, found)
    scale = float(jnp.abs(leaf).max())
    assert scale > 0, path
    assert float(jnp.abs(other - leaf).max()) <= rtol * scale, path


# What a position can see.


def test_gradients_show_causality_and_segments(model):
  """Hidden state t depends on token s of its own segment where s <= t only.

  All tokens differ, so rows of the embedding name positions.
  """
  config, params = model
  tokens, positions, segments = tiny.pack([[range(1, 5), range(5, 9)]], 9)

  @jax.jit
  def influence(table):
    def hidden(table):
      changed = params | {'embedding': table}
      out, _ = transformer.apply(config, changed, tokens, positions, segments)
      return out[0] @ jnp.arange(1.0, 1 + config.d_model)

    return jnp.abs(jax.jacrev(hidden)(table)).sum(-1)  # [S, V]

  found = np.asarray(influence(params['embedding']))[:8, 1:9]
  first, second = np.arange(8)[:, None] // 4, np.arange(8) // 4
  expected = (first == second) & np.tri(8, dtype=bool)
  np.testing.assert_array_equal(found > 1e-6, expected)
  assert not found[~expected].any()


def test_packed_is_unpacked(model):
  """Values and the gradients of every parameter."""
  config, params = model
  a, b, c = tiny.sequences((5, 9, 4))
  width = 12
  together, apart = [[a, c], [b], []], [[a], [b], [c]]
  # One weight per predicted token: of a, b, c.
  of = {5: [1.0, -2.0, 0.5, 3.0], 9: np.arange(1.0, 9), 4: [2.0, -1.0, 4.0]}

  def weights(rows):
    out = np.zeros((len(rows), width - 1), np.float32)
    for n, row in enumerate(rows):
      start = 0
      for sequence in row:
        out[n, start : start + len(sequence) - 1] = of[len(sequence)]
        start += len(sequence)
    return out

  (value, gradient), (other_value, other_gradient) = (
    loss_and_gradient(config, params, *tiny.pack(rows, width), weights(rows))
    for rows in (together, apart)
  )
  np.testing.assert_allclose(value, other_value, rtol=1e-5)
  assert_trees_close(gradient, other_gradient)


def test_tokens_in_padding_do_not_matter(model):
  config, params = model
  rows = tiny.sequences((5, 9, 4))
  tokens, positions, segments = tiny.pack([[r] for r in rows], 12)
  other = np.where(segments > 0, tokens, 36)
  weights = np.ones((3, 11), np.float32)
  value, gradient = loss_and_gradient(
    config, params, tokens, positions, segments, weights
  )
  other_value, other_gradient = loss_and_gradient(
    config, params, other, positions, segments, weights
  )
  assert value == other_value
  jax.tree.map(np.testing.assert_array_equal, gradient, other_gradient)


# Two ways to run it.


def test_cached_decoding_is_teacher_forcing(model):
  """G = 3 samples of different lengths share prompts of different lengths."""
  config, params = model
  prompts = tiny.sequences((3, 6), seed=2)
  responses = [
    tiny.sequences((4, 1, 7), seed=3),
    tiny.sequences((7, 5, 2), seed=4),
  ]
  found = tiny.cached_logits(config, params, prompts, responses)
  rows = [
    np.concatenate([prompt, response])
    for prompt, group in zip(prompts, responses, strict=True)
    for response in group
  ]
  hidden, _ = tiny.apply(config, params, *tiny.pack([[r] for r in rows], 13))
  expected = np.asarray(output_head.logits(config, params, hidden))
  for n, row in enumerate(rows):
    b, g = divmod(n, 3)
    start = len(prompts[b]) - 1
    difference = found[b][g] - expected[n, start : len(row)]
    assert np.abs(difference).max() < 1e-5
  assert expected.std() > 0.3  # of order one, so the bound says something


def compile_and_run(**changes):
  """Loss, gradient and bytes of temporaries of a six-layer model."""
  config = tiny.make_config(n_layers=6, d_ff=64, **changes)
  rows = tiny.sequences((30, 64, 50, 41))
  inputs = tiny.pack([[row] for row in rows], 64)
  inputs = (tiny.make_params(config), *inputs, np.ones((4, 63), np.float32))
  compiled = loss_and_gradient.lower(config, *inputs).compile()
  temporaries = compiled.memory_analysis().temp_size_in_bytes
  return *compiled(*inputs), temporaries


@pytest.fixture(scope='module')
def plain():
  return compile_and_run()


@pytest.mark.parametrize(
  'changes',
  [{'remat': 'full'}, {'remat': 'dots'}, {'scan_unroll': 2}],
  ids=str,
)
def test_remat_and_unrolling_change_memory_only(plain, changes):
  value, gradient, temporaries = plain
  other_value, other_gradient, other_temporaries = compile_and_run(**changes)
  np.testing.assert_allclose(other_value, value, rtol=1e-5)
  assert_trees_close(other_gradient, gradient, rtol=1e-4)
  if 'remat' in changes:
    assert other_temporaries < 0.9 * temporaries


# Precision and initial values.


def test_bfloat16_is_close(model):
  config, params = model
  half = tiny.make_config(compute_dtype='bfloat16')
  (row,) = tiny.sequences((12,))
  inputs = tiny.pack([[row]], 12)
  hidden, kept = tiny.apply(half, params, *inputs)
  for x in (hidden, kept.keys, kept.values):
    assert x.dtype == jnp.bfloat16
  targets = jnp.asarray(row)[None, 1:]
  logp, entropy = output_head.token_logp(half, params, hidden[:, :-1], targets)
  assert logp.dtype == entropy.dtype == jnp.float32
  exact, _ = tiny.apply(config, params, *inputs)
  expected, _ = output_head.token_logp(config, params, exact[:, :-1], targets)
  # Four bfloat16 roundings of 2^-9 a layer on logits that reach 5.
  assert 1e-6 < float(jnp.abs(logp - expected).max()) < 0.1


def test_initial_parameters():
  """normal(0.02), residual outputs times (2 L)^-1/2, norms 1, biases 0."""
  config = tiny.make_config(
    n_layers=8, d_model=64, d_ff=128, tie_embeddings=False
  )
  init = jax.jit(transformer.init_params, static_argnums=0)
  params = init(config, jax.random.key(3))
  layers = params['layers']
  residual = 0.02 / 4
  for leaf, std in [
    (params['embedding'], 0.02),
    (params['head'], 0.02),
    (layers['attention']['q']['kernel'], 0.02),
    (layers['attention']['o']['kernel'], residual),
    (layers['mlp']['up']['kernel'], 0.02),
    (layers['mlp']['down']['kernel'], residual),
  ]:
    assert abs(float(leaf.std()) / std - 1) < 0.05
  assert (layers['mlp_norm']['scale'] == 1).all()
  assert (params['final_norm']['scale'] == 1).all()
  assert not layers['attention']['v']['bias'].any()
  # Layers differ, although one program makes them all.
  first, second = layers['mlp']['gate']['kernel'][:2]
  assert (first != second).mean() > 0.99


@pytest.mark.parametrize('is_usual', [True, False])
def test_parameters_are_as_asked(is_usual):
  """Only untied embeddings have a head, only qkv_bias brings biases."""
  config = tiny.make_config(
    param_dtype='bfloat16', tie_embeddings=is_usual, qkv_bias=is_usual
  )
  init = functools.partial(transformer.init_params, config)
  params = jax.eval_shape(init, jax.random.key(0))
  assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {'bfloat16'}
  assert ('head' in params) != is_usual
  assert ('bias' in params['layers']['attention']['q']) == is_usual
  assert 'bias' not in params['layers']['attention']['o']


@pytest.mark.parametrize('compute', ['float32', 'bfloat16'])
def test_turned_parameters_give_the_same_rows(compute):
  """What samples on an accelerator is not there in two layouts."""
  config = tiny.make_config(tie_embeddings=False, compute_dtype=compute)
  params = tiny.make_params(config)
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, config.vocab_size, (2, 7)).astype(np.int32)
  at = np.broadcast_to(np.arange(7, dtype=np.int32), tokens.shape)
  segments = (at < [[7], [4]]).astype(np.int32)
  turned = jax.jit(transformer.turn, static_argnums=0)(config, params)
  given = tokens, at, segments
  hidden, kept = transformer.apply(config, params, *given)
  other, own = transformer.apply_turned(config, turned, *given)
  inside = segments > 0
  tolerance = 1e-5 if compute == 'float32' else 0.05
  wide = lambda x: np.asarray(x, np.float32)
  for a, b in (
    (wide(other)[inside], wide(hidden)[inside]),
    (wide(own.keys)[:, inside], wide(kept.keys)[:, inside]),
    (wide(own.values)[:, inside], wide(kept.values)[:, inside]),
  ):
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()
