"""An update whose numbers are not finite is none: the state stays as it is.

XLA's branch writes the new state into the buffers of the old one, so that no
second copy is held, and what it computes is what it computed without one.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lrm_jax.structs import Array, TrainState


def is_finite(loss: Array, grad_norm: Array) -> Array:
  """Whether an update may be made; a bool.

  Args:
    loss: of the mini-batch.
    grad_norm: of its whole gradient; not finite if any part of it is not, or
      if the sum of its squares overflows.
  """
  return jnp.isfinite(loss) & jnp.isfinite(grad_norm)


def guarded(
  is_good: Array,
  step: Callable[[Any, TrainState], TrainState],
  grads: Any,
  state: TrainState,
) -> TrainState:
  """`step(grads, state)` of a good update; of another the state, bit by bit.

  Args:
    is_good: see `is_finite`.
    step: makes a state of the same shapes.
    grads: of the mini-batch.
    state: what may be donated.
  """
  return jax.lax.cond(is_good, step, lambda _, state: state, grads, state)
