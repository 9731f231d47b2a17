"""Angles and rotation, by hand and as tables of transformers."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.models import rope
from tests.models.rope_test import LITERALS, make

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'rope.npz'


# Tables of transformers.


# Of two frequencies: some roundings of a float32 apart, as theirs are of theirs
# on another processor.
ROUNDINGS = 3 * 2.0**-23


def assert_same_tables(asked, at, turns, cos, sin):
  """To 1e-6, and what those roundings become at the last positions.

  A frequency that is next to theirs makes another angle, rounded on its own.
  """
  parameters = dict(asked['parameters'])
  kind, theta = parameters.pop('rope_type'), parameters.pop('rope_theta')
  fraction = parameters.pop('partial_rotary_factor', 1.0)
  settings = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in parameters.items()
  }
  if kind == 'proportional':
    settings['share'], fraction = fraction, 1.0
  which = make(kind, theta, fraction, **settings)
  ours, factor = rope.frequencies(which, asked['head_dim'], asked['window'])
  np.testing.assert_allclose(ours, turns, rtol=ROUNDINGS)
  apart = np.abs(ours.astype(np.float64) - turns)
  at_each = np.asarray(at, np.float32)[:, None]
  rounding = np.where(apart > 0, np.spacing(at_each * ours), 0.0)
  allowed = factor * (1e-6 + at_each * apart + rounding)
  found = rope.angles(which, asked['head_dim'], asked['window'], at)
  for table, expected in zip(found, (cos, sin), strict=True):
    assert table.shape == expected.shape
    assert np.max(np.abs(table - expected) - allowed) <= 0


def stored():
  with np.load(FIXTURE) as file:
    return dict(file)


def names():
  return sorted(k.split('/')[0] for k in stored() if k.endswith('/asked'))


@pytest.mark.parametrize('name', names())
def test_tables_are_those_of_transformers(name):
  arrays = stored()
  asked = json.loads(str(arrays[f'{name}/asked']))
  parts = ('at', 'turns', 'cos', 'sin')
  assert_same_tables(asked, *(arrays[f'{name}/{part}'] for part in parts))


def test_the_fixture_has_every_kind_of_theirs():
  """`ntk` and `truncated` are not in transformers."""
  kinds = {
    json.loads(str(value))['parameters']['rope_type']
    for key, value in stored().items()
    if key.endswith('/asked')
  }
  assert kinds == rope.KINDS.keys() - {'ntk', 'truncated'}


@pytest.mark.parity
def test_live_tables():
  why = 'compares with a live model of transformers'
  pytest.importorskip('torch', reason=why)
  transformers = pytest.importorskip('transformers', reason=why)
  from tests.fixtures import make_rope

  theirs = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS
  assert {'default', *theirs} == rope.KINDS.keys() - {'ntk', 'truncated'}
  for name in make_rope.CASES:
    assert_same_tables(make_rope.asked(name), *make_rope.tables(name))


# Angles and rotation.


def test_angles_by_hand():
  """head_dim 4, theta 100: frequencies 1 and 0.1."""
  cos, sin = rope.angles(make('default'), 4, 64, np.array([0, 1, 3]))
  np.testing.assert_allclose(
    cos,
    [[1.0, 1.0], [0.54030231, 0.99500417], [-0.98999250, 0.95533649]],
    atol=1e-6,
  )
  np.testing.assert_allclose(
    sin,
    [[0.0, 0.0], [0.84147098, 0.09983342], [0.14112001, 0.29552021]],
    atol=1e-6,
  )


def test_the_factor_is_of_cos_and_sin():
  base = {'factor': 4, 'original_max_position_embeddings': 4096}
  at = np.arange(5)
  plain, twice = (
    rope.angles(make('yarn', attention_factor=f, **base), 16, 64, at)
    for f in (1.0, 2.0)
  )
  for one, two in zip(plain, twice, strict=True):
    np.testing.assert_allclose(two, 2 * one)


def test_rotation_pairs_the_two_halves():
  """A quarter turn of the first pair, (x0, x2); the second stays."""
  cos, sin = np.array([0.0, 1.0]), np.array([1.0, 0.0])
  turned = rope.rotate(jnp.array([[1.0, 2.0, 3.0, 4.0]]), cos, sin)
  np.testing.assert_allclose(turned, [[-3.0, 2.0, 1.0, 4.0]])


def test_a_part_of_the_head_turns():
  """Half of 8: the pairs (x0, x2) and (x1, x3), frequencies of a head of 4."""
  x = np.random.default_rng(0).standard_normal((3, 2, 8)).astype(np.float32)
  which = make('default', fraction=0.5)
  cos, sin = rope.angles(which, 8, 64, np.arange(3)[:, None])
  assert cos.shape == (3, 1, 2)
  turned = rope.rotate(jnp.asarray(x), cos, sin)
  np.testing.assert_array_equal(turned[..., 4:], x[..., 4:])
  alone = rope.angles(make('default'), 4, 64, np.arange(3)[:, None])
  np.testing.assert_allclose(
    turned[..., :4], rope.rotate(jnp.asarray(x[..., :4]), *alone), atol=1e-6
  )
  assert np.abs(turned[1:, :, :4] - x[1:, :, :4]).max() > 0.1


@pytest.mark.parametrize('kind', rope.KINDS)
def test_products_depend_on_the_distance_only(kind):
  theta, width, window, settings, *_ = LITERALS[kind]
  which = make(kind, theta, **settings)
  q, k = np.random.default_rng(0).standard_normal((2, 1, width))

  def at(x, p):
    angles = rope.angles(which, width, window, np.array(p))
    return rope.rotate(jnp.asarray(x), *angles)

  near = jnp.vdot(at(q, 7), at(k, 3))
  far = jnp.vdot(at(q, 104), at(k, 100))
  np.testing.assert_allclose(far, near, rtol=1e-4)
  assert abs(jnp.vdot(at(q, 8), at(k, 3)) - near) > 1e-2


def test_half_precision_keeps_exact_angles():
  """At position 30,000 the angle is right although x is bfloat16."""
  angles = rope.angles(make('default', 1e6), 2, 64, np.array(30_000))
  assert angles[0].dtype == jnp.float32
  turned = rope.rotate(jnp.ones((1, 2), jnp.bfloat16), *angles)
  assert turned.dtype == jnp.bfloat16
  # cos 30000 = 0.59841, sin 30000 = -0.80119 (NumPy, float64).
  cos, sin = np.cos(30_000.0), np.sin(30_000.0)
  np.testing.assert_allclose(
    turned.astype(np.float32), [[cos - sin, cos + sin]], rtol=2**-8
  )
