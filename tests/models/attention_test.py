"""Attention against loops, kernels against each other, cached against rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.models import attention, kernels, transformer
from lrm_jax.models.rope import Rope
from tests.models import attention_loop as loops
from tests.models import tiny

# Two packed rows with padding, one of a single sequence.
ROWS = ([4, 6, -1], [5, -6], [11])
FEATURES = {
  'plain': {},
  'window': {'window': 3},
  'window_of_one': {'window': 1},
  'softcap': {'attention_softcap': 1.5},
  'query_width': {'query_width': 2.0},
  'all': {'window': 4, 'attention_softcap': 0.8, 'query_width': 20.0},
}
HEADS = [(4, 4), (4, 2), (4, 1)]


def inputs(config, rows=ROWS, **options):
  at, segments = loops.layout(*rows)
  return at, segments, *loops.draw(config, *at.shape, **options)


def equations(jaxpr, inside_scan=False):
  """(equation, whether every layer repeats it) of everything in a program."""
  for equation in jaxpr.eqns:
    yield equation, inside_scan
    is_inside = inside_scan or equation.primitive.name == 'scan'
    for inner in jax.tree.leaves(
      list(equation.params.values()), is_leaf=lambda x: hasattr(x, 'jaxpr')
    ):
      if hasattr(inner, 'jaxpr'):
        inner = inner.jaxpr
      if hasattr(inner, 'eqns'):
        yield from equations(inner, is_inside)


def primitives(jaxpr):
  return [(e.primitive.name, inside) for e, inside in equations(jaxpr)]


# The reference.


def test_masks_by_hand():
  """[1, 1, 2, 2, 2, 0] without a window, and with one of two tokens."""
  config = loops.make_config(windows=(0, 2))
  rows = attention.make_rows(config, *loops.layout([2, 3, -1]), None)
  assert rows.masks.shape == (2, 1, 6, 6)
  expected = np.array(
    [
      [1, 0, 0, 0, 0, 0],
      [1, 1, 0, 0, 0, 0],
      [0, 0, 1, 0, 0, 0],
      [0, 0, 1, 1, 0, 0],
      [0, 0, 1, 1, 1, 0],
      [0, 0, 0, 0, 0, 1],
    ],
    bool,
  )
  np.testing.assert_array_equal(rows.masks[0, 0], expected)
  expected[4, 2] = False
  np.testing.assert_array_equal(rows.masks[1, 0], expected)


def test_windows_count_positions():
  """Of tokens at 0, 5, 6 and 9 a window of 4 hides those 4 away or more."""
  config = loops.make_config(window=4)
  at, segments = np.array([[0, 5, 6, 9]]), np.ones((1, 4), int)
  rows = attention.make_rows(config, at, segments, None)
  np.testing.assert_array_equal(
    rows.masks[0, 0],
    np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], bool),
  )


@pytest.mark.parametrize('heads', HEADS, ids=str)
@pytest.mark.parametrize('feature', FEATURES)
def test_the_reference_is_the_loop(feature, heads):
  config = loops.make_config(
    n_heads=heads[0], n_kv_heads=heads[1], **FEATURES[feature]
  )
  given = inputs(config)
  found = loops.run(config, 0, *given)
  np.testing.assert_allclose(found, loops.loop(config, *given), atol=2e-6)


def test_every_feature_changes_something():
  given = inputs(loops.make_config())
  outs = [
    np.asarray(loops.run(loops.make_config(**changes), 0, *given))
    for changes in FEATURES.values()
  ]
  for i, one in enumerate(outs):
    for other in outs[:i]:
      assert np.abs(one - other).max() > 0.02


# The kernels.


@pytest.fixture
def short_blocks(monkeypatch):
  """Several chunks and blocks in a short row, and none of them full."""
  monkeypatch.setattr(attention, 'CHUNK', 60)
  monkeypatch.setattr(kernels, 'BLOCK', 128)


LONG_ROWS = ([70, 75, -5], [20, 110, 20])
KERNEL_CASES = [
  (kernel, feature, heads)
  for kernel in ('chunked', 'dot_product', 'splash')
  for feature in ('plain', 'window', 'softcap', 'all')
  for heads in ((4, 4), (4, 1))
  if not (kernel == 'dot_product' and feature in ('softcap', 'all'))
]


@pytest.mark.parametrize(('kernel', 'feature', 'heads'), KERNEL_CASES)
def test_kernels_are_the_reference(short_blocks, kernel, feature, heads):
  """Values and gradients, over packed and padded rows of 150 tokens."""
  config = loops.make_config(
    n_heads=heads[0],
    n_kv_heads=heads[1],
    **FEATURES[feature] | ({'window': 30} if feature == 'window' else {}),
  )
  given = inputs(config, LONG_ROWS)
  expected = loops.gradients(config, *given)
  found = loops.gradients(dataclasses.replace(config, attention=kernel), *given)
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, atol=2e-5)
    assert np.abs(other).max() > 0.5


@pytest.mark.parametrize('kernel', ['chunked', 'dot_product', 'splash'])
@pytest.mark.parametrize('length', [1, 5])
def test_kernels_take_rows_that_are_shorter_than_a_block(kernel, length):
  config = loops.make_config(window=3)
  given = inputs(config, ([length], [-length]))
  expected = loops.run(config, 0, *given)
  found = loops.run(dataclasses.replace(config, attention=kernel), 0, *given)
  np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize('kernel', attention.KERNELS)
def test_half_precision_rounds_the_weights_only(kernel):
  """bfloat16 inputs; scores and softmax are float32."""
  config = loops.make_config(compute_dtype='bfloat16', attention=kernel)
  given = inputs(config, dtype=jnp.bfloat16)
  found = loops.run(config, 0, *given)
  assert found.dtype == jnp.bfloat16
  expected = loops.loop(config, *given)
  np.testing.assert_allclose(found.astype(np.float32), expected, atol=0.03)


@pytest.mark.parametrize('kernel', attention.KERNELS)
def test_large_scores_do_not_overflow(kernel):
  config = loops.make_config(attention=kernel)
  at, segments, q, k, v, _ = inputs(config)
  for each in loops.gradients(config, at, segments, 1e4 * q, 1e4 * k, v):
    assert jnp.isfinite(each).all()


@pytest.mark.parametrize('kernel', attention.MASKED_KERNELS)
def test_a_query_that_sees_nothing_is_finite(kernel):
  config = loops.make_config(attention=kernel)
  at, segments, q, k, v, _ = inputs(config)
  rows = attention.make_rows(config, at, segments, None)
  rows = dataclasses.replace(rows, masks=jnp.zeros_like(rows.masks))
  run = lambda *qkv: attention.over_rows(config)(rows, 0, *qkv)[0].sum()
  value, slopes = jax.value_and_grad(run, argnums=(0, 1, 2))(q, k, v)
  assert jnp.isfinite(value)
  assert all(jnp.isfinite(x).all() for x in slopes)


def test_in_splash_windows_count_places():
  """Which differs only where the positions of a segment leave gaps."""
  config = loops.make_config(window=2, positions='nope')
  counted = loops.make_config(window=2, positions='nope', attention='splash')
  given = inputs(config, ([6],))
  gaps = (given[0] * 3, *given[1:])
  close = loops.run(config, 0, *given)
  np.testing.assert_allclose(loops.run(counted, 0, *gaps), close, atol=2e-6)
  # Every token is alone in its window.
  alone = loops.run(config, 0, *gaps)
  np.testing.assert_allclose(alone, given[4], atol=2e-6)
  assert np.abs(alone - close).max() > 0.1


# The kernels of other machines.


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_on_a_gpu_half_precision_is_cudnn(monkeypatch, dtype):
  """Eleven tokens become twelve: cuDNN wants an even length for a mask."""
  config = loops.make_config(compute_dtype=dtype)
  given = inputs(config, dtype=dtype)
  expected = loops.run(config, 0, *given)
  asked = []
  original = jax.nn.dot_product_attention

  def record(q, k, v, *, mask, implementation, scale):
    asked.append((implementation, q.shape[1], mask.shape[1:]))
    return original(q, k, v, mask=mask, scale=scale, implementation='xla')

  monkeypatch.setattr(jax.nn, 'dot_product_attention', record)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  config = dataclasses.replace(config, attention='dot_product')
  found = loops.run.__wrapped__(config, 0, *given)
  whole = {'float32': ('xla', 11, (1, 11, 11))}
  assert asked == [whole.get(dtype, ('cudnn', 12, (1, 12, 12)))]
  np.testing.assert_allclose(
    found.astype(np.float32), expected.astype(np.float32), atol=0.02
  )


def test_splash_is_refused_on_a_gpu(monkeypatch):
  config = loops.make_config(attention='splash')
  given = inputs(config)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  with pytest.raises(UserError, match="'splash' runs on TPUs.*dot_product"):
    loops.run.__wrapped__(config, 0, *given)


def splash_products(dtype):
  """Every matrix product of a layer and of its gradient.

  Traced as a model is: forward in the model's precision, the gradient asked
  for outside of it.
  """
  config = loops.make_config(attention='splash', compute_dtype=dtype)
  at, segments, *qkv, _ = inputs(config, dtype=dtype)

  def loss(*qkv):
    with jax.default_matmul_precision(transformer.PRECISION):
      return loops.run.__wrapped__(config, 0, at, segments, *qkv).sum()

  program = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1, 2)))(*qkv)
  return [e for e, _ in equations(program.jaxpr) if 'dot' in e.primitive.name]


def test_splash_multiplies_float32_in_float32():
  found = splash_products('float32')
  # q k and w v; again for dq, with two more; and for dk and dv, with three.
  assert len(found) >= 2 * (2 + 3 + 4)
  exact = jax.lax.Precision.HIGHEST
  assert {e.params['precision'] for e in found} == {(exact, exact)}


def test_splash_multiplies_bfloat16_as_a_tpu_can():
  """Which refuses to multiply it in the precision of float32."""
  for equation in splash_products('bfloat16'):
    assert jax.lax.Precision.HIGHEST not in equation.params['precision']


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_splash_lowers_for_a_tpu(dtype):
  """There is none here, so this ends before its compiler begins."""
  config = loops.make_config(
    head_dim=64,
    n_kv_heads=2,
    attention='splash',
    compute_dtype=dtype,
    attention_softcap=50.0,
    windows=(0, 300),
  )
  given = inputs(config, ([600, 424],), dtype=dtype)
  step = jax.jit(lambda *x: loops.gradients(config, *x))
  with jax.default_matmul_precision(transformer.PRECISION):
    lowered = step.trace(*given).lower(lowering_platforms=('tpu',))
  # Forward, and backward for q and for k and v, of both kinds of layers.
  assert lowered.as_text().count('tpu_custom_call') >= 6


# Kinds of layers.

WINDOWS = (0, 4, 0)


@pytest.mark.parametrize('kernel', attention.KERNELS)
def test_the_kind_of_a_layer_is_data(kernel):
  """Windows 0, 4 and 2, the last two with frequencies of their own."""
  config = loops.make_config(
    n_layers=3,
    windows=(0, 4, 2),
    local_rope=Rope(theta=5.0),
    attention=kernel,
  )
  given = inputs(config)
  for kind, window in enumerate(config.windows):
    alone = loops.make_config(
      window=window, rope=Rope(theta=5.0 if window else 50.0)
    )
    expected = loops.gradients(alone, *given)
    found = loops.gradients(config, *given, kind=kind)
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_allclose(one, other, atol=5e-6)


def model_loss(config, params, inputs):
  hidden, _ = transformer.apply(config, params, *inputs)
  weights = jnp.cos(jnp.arange(hidden.size)).reshape(hidden.shape)
  return jnp.sum(weights * hidden)


def test_gradients_flow_through_layers_with_and_without_windows():
  """Along a random direction in each layer, against differences."""
  config = tiny.make_config(n_layers=3, windows=WINDOWS)
  params = tiny.make_params(config)
  given = tiny.pack([tiny.sequences((5, 9)), tiny.sequences((11,))], 14)
  loss = jax.jit(lambda params: model_loss(config, params, given))
  slopes = jax.jit(jax.grad(loss))(params)
  generator = np.random.default_rng(0)
  for layer in range(3):
    direction = jax.tree.map(
      lambda x, i=layer: (
        np.zeros(x.shape, np.float32)
        + (np.arange(len(x)) == i).reshape(-1, *[1] * (x.ndim - 1))
        * generator.standard_normal(x.shape).astype(np.float32)
      ),
      params['layers'],
    )
    move = lambda size, d=direction: (
      params
      | {'layers': jax.tree.map(lambda x, y: x + size * y, params['layers'], d)}
    )
    expected = (loss(move(3e-3)) - loss(move(-3e-3))) / 6e-3
    found = jax.tree.reduce(
      jnp.add, jax.tree.map(jnp.vdot, direction, slopes['layers'])
    )
    assert abs(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=0.02)


def program(config):
  """Of values and gradients."""
  params = tiny.make_params(config)
  given = tiny.pack([tiny.sequences((5, 9))], 14)
  step = jax.grad(lambda params: model_loss(config, params, given))
  return jax.make_jaxpr(step)(params)


@pytest.mark.parametrize('kernel', ['reference', 'splash'])
def test_more_layers_are_no_longer_program(kernel):
  three, six = (
    sorted(
      primitives(
        program(
          tiny.make_config(
            n_layers=len(windows), windows=windows, attention=kernel
          )
        ).jaxpr
      )
    )
    for windows in (WINDOWS, WINDOWS + WINDOWS)
  )
  assert three == six


@pytest.mark.parametrize('windows', [(), WINDOWS])
def test_angles_and_masks_are_made_once_for_all_layers(windows):
  config = tiny.make_config(n_layers=3, windows=windows)
  found = primitives(program(config).jaxpr)
  for name in ('cos', 'sin', 'eq', 'ge'):
    assert (name, True) not in found, name
  assert ('cos', False) in found
  assert ('dot_general', True) in found


# Cached.


@pytest.mark.slow
@pytest.mark.parametrize('heads', HEADS, ids=str)
@pytest.mark.parametrize('feature', FEATURES)
def test_cached_steps_are_the_last_rows(feature, heads):
  """Prompts of 1, 4 and 6 tokens; two samples, which differ, share each."""
  config = loops.make_config(
    n_heads=heads[0], n_kv_heads=heads[1], **FEATURES[feature]
  )
  loops.assert_cached_is_rows(config)


def test_cached_layers_have_a_kind_each():
  config = loops.make_config(windows=(0, 4), local_rope=Rope(theta=5.0))
  for kind in range(2):
    loops.assert_cached_is_rows(config, kind)
