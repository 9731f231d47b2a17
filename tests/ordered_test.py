"""Sums: what they are, and that their bits are a row's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax import ordered

total = jax.jit(ordered.total)
# Of a vocabulary's blocks, a page, a round; and what fits no vector.
LENGTHS = [1, 7, 8, 32, 48, 128, 151, 1187]


def _rows(rows, length, seed=0):
  random = np.random.default_rng(seed)
  return random.standard_normal((rows, length)).astype(np.float32)


@pytest.mark.parametrize('length', LENGTHS)
def test_the_sum(length):
  """Of numbers of both signs, against float64."""
  x = _rows(33, length)
  exact = x.astype(np.float64)
  error = np.abs(np.asarray(total(x)) - exact.sum(-1))
  # A unit in the last place for each doubling would be better than it is.
  bound = 2**-24 * length**0.5 * np.abs(exact).sum(-1)
  assert (error <= bound).all()


def test_any_axes_in_front():
  x = _rows(24, 10)
  expected = total(x)
  for shape in ((24,), (2, 12), (2, 3, 4), (1, 24, 1)):
    found = total(x.reshape(*shape, 10))
    np.testing.assert_array_equal(found, expected.reshape(shape))
  assert total(x[0]).shape == ()


def test_in_float32():
  """1 + 2^-12, eight times: bfloat16 would leave the small ones out."""
  x = jnp.asarray([1.0] + [2.0**-12] * 8, jnp.bfloat16)
  found = total(x)
  assert found.dtype == jnp.float32 and found == 1 + 2.0**-9


def _assert_bits_are_own(length, counts):
  x = np.exp(_rows(640, length))
  whole = np.asarray(total(x))
  for rows in counts:
    np.testing.assert_array_equal(total(x[:rows]), whole[:rows], f'{rows} rows')
    np.testing.assert_array_equal(total(x[-rows:]), whole[-rows:])


@pytest.mark.parametrize('length', LENGTHS)
def test_the_bits_of_a_row_do_not_depend_on_the_others(length):
  """Not on how many there are, nor on which, nor where the row is."""
  _assert_bits_are_own(length, (1, 2, 3, 5, 8, 12, 16, 17, 33, 100, 128, 513))
