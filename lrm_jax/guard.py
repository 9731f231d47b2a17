"""An update whose numbers are not finite is none: the state stays as it is.

Two things are looked at: the loss and the gradient before the optimizer sees
them, and what it would make of them, parameters and slots. The second must be
known before anything is overwritten, and there is no room for a second state.
So the optimizer's rule is computed twice, first for this one bit: of all that
it makes only a reduction stays, which XLA fuses with the rule, so that no new
array is written. Then XLA's branch writes the new state into the buffers of the
old one, and what it computes is what it computed without a guard.

For rules of numbers alone, such as Adam's, the price is one more reading of
gradients and state. Muon's orthogonal matrices are made twice, and on a mesh
what is sent for them is sent twice.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrm_jax import sharding
from lrm_jax.structs import Array, TrainState


def is_finite(loss: Array, grad_norm: Array) -> Array:
  """Whether the optimizer may see a gradient; a bool.

  Args:
    loss: of the mini-batch.
    grad_norm: of its whole gradient; not finite if any part of it is not, or
      if the sum of its squares overflows.
  """
  return jnp.isfinite(loss) & jnp.isfinite(grad_norm)


def is_whole(tree: Any) -> Array:
  """Whether every number of a tree is finite; a bool.

  On a mesh each device looks at what it keeps of the optimizer's slots, and at
  that part of the parameters: only bits are sent.
  """
  tree = sharding.constrain(tree, slots=True)
  flags = [
    jnp.isfinite(x).all()
    for x in jax.tree.leaves(tree)
    if jnp.issubdtype(x.dtype, jnp.inexact)
  ]
  return jnp.all(jnp.stack(flags))


def change(
  optimizer: optax.GradientTransformation, grads: Any, state: TrainState
) -> TrainState:
  """The state after the optimizer's rule, wherever XLA computes it."""
  updates, slots = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  return TrainState(state.step, params, slots)


def divided(new: TrainState, old: TrainState) -> TrainState:
  """The new state, divided among the devices of a mesh as the old one is."""
  return TrainState(
    step=old.step,
    params=sharding.constrain(new.params),
    opt_state=sharding.constrain(new.opt_state, slots=True),
  )


def guarded(
  is_good: Array,
  change: Callable[[Any, TrainState], TrainState],
  grads: Any,
  state: TrainState,
  *,
  fetch: Callable[[TrainState], TrainState] = lambda state: state,
  place: Callable[[TrainState, TrainState], TrainState] = divided,
) -> tuple[TrainState, Array]:
  """(The state after an update, whether it was made).

  `place(change(grads, fetch(state)), state)` where the gradient is good and
  all of it is finite; else the state, bit by bit.

  Args:
    is_good: see `is_finite`.
    change: makes a state of the same shapes; computed twice.
    grads: of the mini-batch.
    state: what may be donated.
    fetch: brings all of a state to the device; once.
    place: puts a new state where the old one is, on the devices of a mesh and
      in the memory of the host.
  """

  def tried(grads: Any, state: TrainState) -> tuple[TrainState, Array]:
    here = fetch(state)
    new = change(grads, here)
    is_done = is_whole((new.params, new.opt_state))
    made = jax.lax.cond(
      is_done, lambda: place(change(grads, here), state), lambda: state
    )
    return made, is_done

  return jax.lax.cond(
    is_good, tried, lambda _, state: (state, jnp.array(False)), grads, state
  )
