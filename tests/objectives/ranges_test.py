"""Ranges: what is refused, and what has no value yet."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import ranges

INSIDE = {
  'NOT_NEGATIVE': [0, 0.0, 3, math.inf],
  'POSITIVE': [1e-30, 1, math.inf],
  'COUNT': [1, 5],
  'SHARE': [0, 0.5, 1],
  'POSITIVE_SHARE': [1e-30, 1],
  'DDOF': [0, 1],
}
OUTSIDE = {
  'NOT_NEGATIVE': [-1, -1e-30, math.nan],
  'POSITIVE': [0, -1, math.nan],
  'COUNT': [0, -1],
  'SHARE': [-1e-30, 1.5, math.nan],
  'POSITIVE_SHARE': [0, 1.5, math.nan],
  'DDOF': [-1, 0.5, 2],
}


def of(name):
  return getattr(ranges, name)


@pytest.mark.parametrize('name', INSIDE)
def test_inside(name):
  for value in INSIDE[name]:
    of(name).check('part', key=value)


@pytest.mark.parametrize('name', OUTSIDE)
def test_outside(name):
  for value in [*OUTSIDE[name], np.float32(-7)]:
    with pytest.raises(UserError) as error:
      of(name).check('part', fine=1, key=value)
    message = f'part: key = {value}; give {of(name).allowed}'
    assert str(error.value) == message


@pytest.mark.parametrize('name', OUTSIDE)
def test_what_is_traced_passes(name):
  def function(value):
    of(name).check('part', key=value)
    ranges.check_order('part', low=value, high=-9)
    return value

  assert jax.jit(function)(-7) == function(jnp.float32(-7)) == -7


def test_order():
  ranges.check_order('part', low=1, middle=1.0, high=math.inf)
  with pytest.raises(UserError) as error:
    ranges.check_order('part', low=1, middle=3, high=2)
  assert str(error.value) == (
    'part: low = 1, middle = 3, high = 2; give low <= middle <= high'
  )
  with pytest.raises(UserError):
    ranges.check_order('part', low=math.nan, high=1)
