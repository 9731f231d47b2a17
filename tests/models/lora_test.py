"""Adapters against loops in float64, by hand, and by their gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.models import lora as lora_lib
from lrm_jax.models import output_head, transformer
from lrm_jax.models.config import Experts
from lrm_jax.models.lora import Lora
from tests import bits
from tests.models import tiny

LORA = Lora(rank=3, alpha=5.0)
CONFIG = tiny.make_config()
MIXTURE = tiny.make_config(
  family='qwen3_moe', experts=Experts(count=3, used=2, width=10)
)
KEY = jax.random.key(0)


def names(tree) -> set[str]:
  return {
    '/'.join(str(key.key) for key in path)
    for path, _ in jax.tree.leaves_with_path(tree)
  }


def trained(lora, params, seed=5):
  """Adapters as training leaves them: B is not 0."""
  generator = np.random.default_rng(seed)
  start = lora_lib.init(lora, params, KEY)
  draw = lambda x: jnp.float32(0.2 * generator.standard_normal(x.shape))
  return jax.tree.map(draw, start)


def merged_by_loops(kernel, a, b, alpha, rank):
  """One matrix, in float64, entry by entry."""
  out = np.array(kernel, np.float64)
  for i in range(out.shape[0]):
    for j in range(out.shape[1]):
      change = 0.0
      for r in range(rank):
        change += float(a[i, r]) * float(b[r, j])
      out[i, j] += alpha / rank * change
  return out


# --- What is computed ---


def test_by_hand():
  """W + 2/1 A B: A B = [1 2]^T [3 -1] = [[3 -1] [6 -2]]."""
  kernel = jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
  adapters = {
    'lora_a': jnp.array([[[1.0], [2.0]]]),
    'lora_b': jnp.array([[[3.0, -1.0]]]),
  }
  merged = lora_lib.merge(
    {'up': {'kernel': kernel}}, {'up': {'kernel': adapters}}, Lora(1, 2.0)
  )
  np.testing.assert_array_equal(
    merged['up']['kernel'], [[[7.0, 0.0], [15.0, 0.0]]]
  )


@pytest.mark.parametrize('config', [CONFIG, MIXTURE], ids=['dense', 'experts'])
def test_every_matrix_is_that_of_the_loops(config):
  params = tiny.make_params(config)
  adapters = trained(LORA, params)
  merged = lora_lib.merge(params, adapters, LORA)
  found = dict(jax.tree.leaves_with_path(merged))
  pairs = dict(jax.tree.leaves_with_path(adapters))
  changed = {path[:-1] for path in pairs}
  for path, before in jax.tree.leaves_with_path(params):
    if path not in changed:
      assert found[path] is before
      continue
    a, b = (
      np.asarray(pairs[(*path, jax.tree_util.DictKey(name))])
      for name in ('lora_a', 'lora_b')
    )
    for at in np.ndindex(before.shape[:-2]):
      expected = merged_by_loops(before[at], a[at], b[at], 5.0, 3)
      np.testing.assert_allclose(found[path][at], expected, atol=1e-6)


def test_new_adapters_change_nothing():
  params = tiny.make_params(CONFIG)
  adapters = lora_lib.init(LORA, params, KEY)
  bits.assert_same(lora_lib.merge(params, adapters, LORA), params)


def test_base_in_bfloat16_stays_there():
  """Its merge is the float32 one, rounded once."""
  params = tiny.make_params(CONFIG)
  coarse = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  adapters = trained(LORA, params)
  fine = jax.tree.map(lambda x: x.astype(jnp.float32), coarse)
  expected = jax.tree.map(
    lambda x: x.astype(jnp.bfloat16), lora_lib.merge(fine, adapters, LORA)
  )
  bits.assert_same(lora_lib.merge(coarse, adapters, LORA), expected)


# --- Where they start ---


def test_shapes_and_targets():
  adapters = lora_lib.init(Lora(2, 4.0, ('k', 'down')), MIXTURE_SHAPES, KEY)
  assert names(adapters) == {
    'layers/attention/k/kernel/lora_a',
    'layers/attention/k/kernel/lora_b',
    'layers/experts/down/lora_a',
    'layers/experts/down/lora_b',
  }
  k, down = (
    adapters['layers']['attention']['k']['kernel'],
    adapters['layers']['experts']['down'],
  )
  assert k['lora_a'].shape == (2, 16, 2) and k['lora_b'].shape == (2, 2, 12)
  assert down['lora_a'].shape == (2, 3, 10, 2)
  assert down['lora_b'].shape == (2, 3, 2, 16)
  assert {x.dtype for x in jax.tree.leaves(adapters)} == {jnp.dtype('float32')}


MIXTURE_SHAPES = jax.eval_shape(
  lambda key: transformer.init_params(
    dataclasses.replace(MIXTURE, param_dtype='bfloat16'), key
  ),
  KEY,
)


def test_all_projections_are_the_default_and_the_router_is_none():
  params = tiny.make_params(CONFIG)
  dense = names(lora_lib.init(Lora(2, 4.0), params, KEY))
  assert len(dense) == 2 * 7
  assert not any('bias' in name or 'norm' in name for name in dense)
  mixture = names(lora_lib.init(Lora(2, 4.0), MIXTURE_SHAPES, KEY))
  assert len(mixture) == 2 * 7
  assert not any('router' in name for name in mixture)


def test_start_is_uniform_in_the_inverse_root_of_the_width():
  """PEFT's Kaiming start: bound in^-1/2, so a variance of 1 / (3 in)."""
  kernel = jax.ShapeDtypeStruct((4, 64, 80), jnp.float32)
  found = lora_lib.init(Lora(32, 32.0), {'q': {'kernel': kernel}}, KEY)
  a, b = found['q']['kernel']['lora_a'], found['q']['kernel']['lora_b']
  assert float(jnp.abs(a).max()) <= 1 / 8
  assert float(jnp.abs(a).max()) > 0.99 / 8
  assert abs(float(a.mean())) < 0.003
  assert float(a.var()) == pytest.approx(1 / (3 * 64), rel=0.05)
  assert not b.any()
  assert float(jnp.abs(a[0] - a[1]).max()) > 0.01


def test_start_of_a_kernel_depends_on_its_name_only():
  params = tiny.make_params(CONFIG)
  one = lora_lib.init(Lora(2, 4.0, ('k',)), params, KEY)
  two = lora_lib.init(Lora(2, 9.0, ('v', 'k')), params, KEY)
  attention = two['layers']['attention']
  bits.assert_same(one['layers']['attention']['k'], attention['k'])
  different = attention['k']['kernel']['lora_a']
  assert (different != attention['v']['kernel']['lora_a']).all()


# --- Gradients ---


def loss_of(params):
  """Mean cross-entropy of one row."""
  (row,) = tiny.sequences([12])
  tokens, positions, segments = tiny.pack([[row]], 12)
  hidden, _ = transformer.apply(CONFIG, params, tokens, positions, segments)
  logp, _ = output_head.token_logp(
    CONFIG, params, hidden[:, :-1], tokens[:, 1:]
  )
  return -logp.mean()


@pytest.fixture(scope='module')
def gradient():
  params = tiny.make_params(CONFIG)
  adapters = trained(LORA, params)
  through = jax.jit(
    jax.grad(lambda x: loss_of(lora_lib.merge(params, x, LORA)))
  )
  return params, adapters, through(adapters)


def test_gradient_is_that_of_the_kernels_projected(gradient):
  """For G = dL/dW at the merged weights: dA = s G B^T and dB = s A^T G."""
  params, adapters, found = gradient
  merged = lora_lib.merge(params, adapters, LORA)
  whole = dict(jax.tree.leaves_with_path(jax.jit(jax.grad(loss_of))(merged)))
  pairs = dict(jax.tree.leaves_with_path(adapters))
  for path, value in jax.tree.leaves_with_path(found):
    a, b = (
      np.float64(pairs[(*path[:-1], jax.tree_util.DictKey(name))])
      for name in ('lora_a', 'lora_b')
    )
    g = np.float64(whole[path[:-1]])
    expected = g @ b.swapaxes(1, 2)
    if path[-1].key == 'lora_b':
      expected = a.swapaxes(1, 2) @ g
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(value, 5 / 3 * expected, atol=1e-5)


def test_gradient_is_that_of_finite_differences(gradient):
  params, adapters, found = gradient
  value = jax.jit(lambda x: loss_of(lora_lib.merge(params, x, LORA)))
  for seed in range(3):
    toward = trained(LORA, params, seed=20 + seed)
    step = 0.01
    move = lambda sign: jax.tree.map(
      lambda x, y: x + sign * step * y,  # noqa: B023
      adapters,
      toward,  # noqa: B023
    )
    expected = (float(value(move(1))) - float(value(move(-1)))) / (2 * step)
    slope = sum(
      float(jnp.vdot(x, y))
      for x, y in zip(
        jax.tree.leaves(found), jax.tree.leaves(toward), strict=True
      )
    )
    assert slope == pytest.approx(expected, rel=0.01, abs=1e-3)


# --- Refusals ---


@pytest.mark.parametrize(
  ('fields', 'words'),
  [
    ({'rank': 0}, ('lora.rank=0', 'at least 1')),
    ({'rank': -1}, ('lora.rank=-1', 'at least 1')),
    ({'alpha': 0.0}, ('lora.alpha=0.0', 'positive')),
    ({'alpha': float('inf')}, ('lora.alpha=inf', 'finite')),
    ({'targets': ('q', 'qkv')}, ("'qkv'", 'q, k, v, o, gate, up, down')),
    ({'targets': ()}, ('empty', 'q, k, v, o, gate, up, down')),
  ],
)
def test_impossible_settings_are_refused(fields, words):
  with pytest.raises(UserError) as error:
    Lora(**{'rank': 2, 'alpha': 4.0} | fields)
  assert '\n' not in str(error.value)
  for word in words:
    assert word in str(error.value)


def test_rank_above_a_dimension_is_refused():
  lora = Lora(13, 4.0, ('k',))  # 16 x 12
  with pytest.raises(UserError, match='lora.rank=13 .*attention/k/kernel') as e:
    lora_lib.init(lora, tiny.make_params(CONFIG), KEY)
  assert 'at most 12' in str(e.value)
  lora_lib.init(Lora(12, 4.0, ('k',)), tiny.make_params(CONFIG), KEY)
