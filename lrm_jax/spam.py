"""SPAM: Adam that cuts single spikes and begins its moments anew in intervals.

  scale_by_spam(...)   the transformation of optax, in place of `scale_by_adam`

Huang et al. 2025, arXiv 2501.06842, with all moments kept (a density of 1).
`spikes.py` is another thing under the same name: there the norm of the whole
gradient is held to a multiple of its running mean, which keeps its direction,
and moments begin anew when that happened. Here each number has a bound of its
own, from its own second moment, and moments begin anew whether there was a
spike or not.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrm_jax.objectives import ranges
from lrm_jax.structs import Array

# Updates behind a beginning in which no bound is known yet.
SETTLING = 20
# How much of an update is left out at first, when moments begin anew.
DEPTH = 0.99


class Spam(NamedTuple):
  """State of `scale_by_spam`.

  Attributes:
    count: int32, updates so far; goes on where moments begin anew.
    mu: first moments, a tree like the parameters.
    nu: second moments, likewise.
    spikes: int32, how many numbers were cut so far.
  """

  count: Array
  mu: Any
  nu: Any
  spikes: Array


def scale_by_spam(
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-6,
  threshold: float = 5000.0,
  interval: int = 500,
  warmup: int = 150,
  settling: int = SETTLING,
) -> optax.GradientTransformation:
  """The update of SPAM before the learning rate; defaults are the paper's.

  Of update t = 1, 2, ..., with k = t mod interval; at k = 0, m = v = 0 first:

      g <- sign(g) sqrt(threshold v)   where g^2 > threshold v
      m <- b1 m + (1 - b1) g           v <- b2 v + (1 - b2) g^2
      u  = s m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
      s  = 1 - 0.99 (1 + cos(pi k / (warmup + 1))) / 2   at k < warmup, else 1

  all of it for each number. As in the authors' code, which says what the paper
  leaves open, nothing is cut where k < settling, s is 1 before the moments
  first began anew, and t goes on then: the correction of their bias does not
  begin again.

  Deviation: where v is 0 nothing is cut. By the formula such a number, the row
  of a token that was not met while moments settled, would have no gradient
  until they begin anew. With a low b2 the moment of what is met rarely is soon
  so small that it is cut when it comes: the paper's is 0.999.

  Args:
    b1: decay of the first moment.
    b2: of the second.
    eps: added to the root.
    threshold: above 0, finite; times the second moment.
    interval: updates from one beginning to the next, above `settling`.
    warmup: updates in which the scale rises, from 0 to `interval`.
    settling: see above.

  Raises:
    UserError: a number that is out of range.
  """
  where = 'optimizer.name=spam'
  finite = ranges.Range('a finite one above 0', lambda x: 0 < x < float('inf'))
  finite.check(where, spam_threshold=threshold)
  longer = ranges.Range(f'more than {settling}', lambda x: x > settling)
  longer.check(where, spam_interval=interval)
  within = ranges.Range(f'0 to {interval}', lambda x: 0 <= x <= interval)
  within.check(where, spam_warmup=warmup)

  def init(params: Any) -> Spam:
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    # Arrays of their own: the state is donated.
    return Spam(jnp.int32(0), zeros(), zeros(), jnp.int32(0))

  def update(grads: Any, state: Spam, params: Any = None) -> tuple[Any, Spam]:
    del params
    count = optax.safe_increment(state.count)
    place = count % interval
    keep = lambda tree: jax.tree.map(
      lambda x: jnp.where(place == 0, jnp.zeros_like(x), x), tree
    )
    mu, nu = keep(state.mu), keep(state.nu)
    is_spike = jax.tree.map(
      lambda g, v: (
        (place >= settling) & (v > 0) & (abs(g) > jnp.sqrt(threshold * v))
      ),
      grads,
      nu,
    )
    grads = jax.tree.map(
      lambda g, v, cut: jnp.where(
        cut, jnp.sign(g) * jnp.sqrt(threshold * v), g
      ),
      grads,
      nu,
      is_spike,
    )
    mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, mu, grads)
    nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, nu, grads)
    scale = _scale(count, interval, warmup)
    updates = jax.tree.map(
      lambda m, v: scale * m / (jnp.sqrt(v) + eps),
      optax.tree.bias_correction(mu, b1, count),
      optax.tree.bias_correction(nu, b2, count),
    )
    cut = sum(jnp.sum(x, dtype=jnp.int32) for x in jax.tree.leaves(is_spike))
    return updates, Spam(count, mu, nu, state.spikes + cut)

  return optax.GradientTransformation(init, update)


def _scale(count: Array, interval: int, warmup: int) -> Array:
  """`s` of `scale_by_spam`, at update `count`."""
  place = count % interval
  left_out = DEPTH * (1 + jnp.cos(jnp.pi * place / (warmup + 1))) / 2
  is_rising = (count >= interval) & (place < warmup)
  return jnp.where(is_rising, 1 - left_out, 1.0)
