"""Budgets."""

import jax
import jax.numpy as jnp
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import budgets


@pytest.mark.parametrize('step', [0, 1, 10_000])
def test_constant(step):
  cap = budgets.constant(step, cap=96)
  assert cap == 96
  assert cap.shape == ()
  assert cap.dtype == jnp.int32


def test_constant_may_be_traced():
  assert jax.jit(lambda step: budgets.constant(step, cap=7))(3) == 7


@pytest.mark.parametrize('cap', [0, -4])
def test_constant_needs_room(cap):
  message = f'^constant budget: cap = {cap} response tokens; give at least 1$'
  with pytest.raises(UserError, match=message):
    budgets.constant(0, cap=cap)
