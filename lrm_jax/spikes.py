"""Gradients far above the usual: held to a bound, moments begun anew.

  bound(factor)                 holds the global norm to a multiple of its mean
  restarting(factor, inner)     and an optimizer forgets its moments then

Adam keeps a spike for as long as its moments last. Huang et al. 2025 (SPAM,
arXiv 2501.06842, section 3) cut single numbers that exceed a multiple of their
second moment, and begin both moments anew every so many updates: `spam.py`.
Here the norm of the whole gradient is what is bounded, and moments begin anew
when it was.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from lrm_jax.structs import Array, TrainState

# Of the running mean: it looks back over about a hundred updates.
DECAY = 0.99
# What keeps moments, with a count for their bias, and which fields they are.
_MOMENTS = {
  optax.ScaleByAdamState: ('count', 'mu', 'nu'),
  optax.contrib.MuonState: ('count', 'mu'),
}


class Bound(NamedTuple):
  """State of `bound`; numbers.

  Attributes:
    updates: int32, so far.
    norm: sum of (1 - DECAY) DECAY^(age) times the bounded norm of each.
    spikes: int32, how many of them were above the bound.
  """

  updates: Array
  norm: Array
  spikes: Array


class Restarting(NamedTuple):
  """State of `restarting`: of the bound, and of the optimizer behind it."""

  bound: Bound
  inner: Any


def bound(factor: float) -> optax.GradientTransformation:
  """Scales a gradient down whose norm exceeds a multiple of the usual norm.

      usual_t = norm_t / (1 - DECAY^t)
      norm_t  = DECAY norm_(t-1) + (1 - DECAY) min(|g_t|, factor usual_(t-1))

  so that a spike raises the mean by no more than what is let through. Where
  no gradient was before, but zeros, there is no bound.

  Args:
    factor: above 1.
  """

  def init(params: Any) -> Bound:
    del params
    # One array each: the state is donated.
    return Bound(jnp.int32(0), jnp.float32(0), jnp.int32(0))

  def update(grads: Any, state: Bound, params: Any = None) -> tuple[Any, Bound]:
    del params
    size = optax.tree.norm(grads)
    past = state.updates.astype(jnp.float32)
    usual = state.norm / jnp.where(past > 0, 1 - DECAY**past, 1.0)
    # A mean of 0, as before the first update, would let nothing through ever.
    limit = jnp.where(usual > 0, factor * usual, jnp.inf)
    is_spike = size > limit
    scale = jnp.where(is_spike, limit / jnp.where(is_spike, size, 1.0), 1.0)
    held = jnp.minimum(size, limit)
    return jax.tree.map(lambda g: (g * scale).astype(g.dtype), grads), Bound(
      state.updates + 1,
      DECAY * state.norm + (1 - DECAY) * held,
      state.spikes + is_spike,
    )

  return optax.GradientTransformation(init, update)


def restarting(
  factor: float, inner: optax.GradientTransformation
) -> optax.GradientTransformation:
  """`bound`, and behind it an optimizer whose moments a spike begins anew.

  Moments become 0 before the bounded gradient enters them, and their count,
  which corrects their bias, begins again; that of a schedule goes on.

  Args:
    factor: of `bound`.
    inner: has moments of Adam or Muon.
  """
  guard = bound(factor)

  def init(params: Any) -> Restarting:
    return Restarting(guard.init(params), inner.init(params))

  def update(
    grads: Any, state: Restarting, params: Any = None
  ) -> tuple[Any, Restarting]:
    grads, after = guard.update(grads, state.bound)
    is_spike = after.spikes > state.bound.spikes
    updates, kept = inner.update(grads, forget(state.inner, is_spike), params)
    return updates, Restarting(after, kept)

  return optax.GradientTransformation(init, update)


def forget(state: Any, is_spike: Array) -> Any:
  """The state of an optimizer, with moments of 0 where there was a spike."""

  def one(node: Any) -> Any:
    if type(node) not in _MOMENTS:
      return node
    begun = {
      name: jax.tree.map(
        lambda x: jnp.where(is_spike, jnp.zeros_like(x), x),
        getattr(node, name),
      )
      for name in _MOMENTS[type(node)]
    }
    return node._replace(**begun)

  return jax.tree.map(one, state, is_leaf=lambda x: type(x) in _MOMENTS)


def counted(before: TrainState, after: TrainState) -> dict[str, Array]:
  """The metric `spikes` of an update; {} where nothing is bounded.

  0 or 1 gradients behind `bound`, single numbers of one with SPAM.
  """
  old, new = (
    optax.tree.get(state.opt_state, 'spikes') for state in (before, after)
  )
  return {} if old is None else {'spikes': (new - old).astype(jnp.float32)}
