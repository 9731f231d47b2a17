"""Low-rank adapters as trees: W + (alpha / rank) A B, no module changes.

  init(lora, params, key)        -> adapters
  merge(params, adapters, lora)  -> params

Hu et al. 2021 (arXiv 2106.09685), section 4.1. The tree of adapters has the
branches of the parameters that lead to a targeted projection; where those
have its kernel `[L, in, out]`, it has `lora_a [L, in, r]` and
`lora_b [L, r, out]`. Experts have one more axis, `[L, E, ...]`.

Whoever samples or trains sees merged parameters, so the model is one and the
same. The price: during a step the targeted kernels exist twice, and so does
their whole gradient, before it is projected on A and B. What is saved is what
is kept of every parameter: optimizer state, sum of gradients, checkpoints and
a copy for the reference policy, which is the base.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lrm_jax import rng
from lrm_jax.errors import UserError
from lrm_jax.models.transformer import PRECISION, Params
from lrm_jax.structs import Array

PROJECTIONS = ('q', 'k', 'v', 'o', 'gate', 'up', 'down')
A, B = 'lora_a', 'lora_b'


@dataclasses.dataclass(frozen=True)
class Lora:
  """Which projections have adapters, and of what size.

  Attributes:
    rank: r, columns of A and rows of B.
    alpha: the product A B counts alpha / rank times.
    targets: some of PROJECTIONS, in all layers and experts.
  """

  rank: int
  alpha: float
  targets: tuple[str, ...] = PROJECTIONS

  def __post_init__(self):
    if self.rank < 1:
      raise UserError(
        f'lora.rank={self.rank} must be at least 1; 0 in a config trains all '
        'parameters instead'
      )
    if not 0 < self.alpha < math.inf:
      raise UserError(
        f'lora.alpha={self.alpha} must be positive and finite; twice the rank '
        'is usual'
      )
    unknown = [name for name in self.targets if name not in PROJECTIONS]
    if unknown or not self.targets:
      raise UserError(
        f'lora.targets={self.targets} '
        + (f'has {unknown[0]!r}' if unknown else 'is empty')
        + f'; give some of {", ".join(PROJECTIONS)}'
      )

  @property
  def scale(self) -> float:
    """What A B is multiplied by."""
    return self.alpha / self.rank


def init(lora: Lora, params: Params, key: Array) -> Params:
  """Adapters that change nothing yet: B = 0.

  A is uniform within +-in^(-1/2), which is PEFT's start (Kaiming's with
  a = 5^(1/2)). Each kernel has a random stream of its own name.

  Args:
    lora: rank and targets.
    params: the base, or its shapes.
    key: of the random stream.

  Returns:
    The adapters, float32 whatever the base is.

  Raises:
    UserError: the rank is above a dimension of a kernel.
  """
  return _branch(lora, params, key, ())


def _branch(
  lora: Lora, params: Params, key: Array, path: tuple[str, ...]
) -> Params:
  """The adapters of one branch; {} where it has no targeted kernel."""
  found: dict[str, Any] = {}
  for name, child in params.items():
    at = (*path, name)
    if isinstance(child, Mapping):
      below = _branch(lora, child, key, at)
      found |= {name: below} if below else {}
    elif _projection(at) in lora.targets:
      found[name] = _start(lora, child.shape, key, '/'.join(at))
  return found


def _projection(path: tuple[str, ...]) -> str:
  """'q' of layers/attention/q/kernel, 'up' of layers/experts/up."""
  return path[-2] if path[-1] == 'kernel' else path[-1]


def _start(
  lora: Lora, shape: tuple[int, ...], key: Array, name: str
) -> dict[str, Array]:
  *stacked, width, features = shape
  if lora.rank > min(width, features):
    raise UserError(
      f'lora.rank={lora.rank} is above the smaller side of {name}, '
      f'{width} x {features}; give at most {min(width, features)}'
    )
  key = jax.random.fold_in(key, rng.name_hash(name))
  bound = width**-0.5
  a = jax.random.uniform(
    key, (*stacked, width, lora.rank), jnp.float32, -bound, bound
  )
  return {A: a, B: jnp.zeros((*stacked, lora.rank, features), jnp.float32)}


def merge(params: Params, adapters: Params, lora: Lora) -> Params:
  """W + (alpha / rank) A B in float32, then in the dtype of W.

  A base in bfloat16 stays in it: what the adapters add shows in a weight once
  it reaches half of its spacing, 1/512 to 1/256 of the weight. Gradients pass
  the rounding as if there were none.

  Args:
    params: the base; not changed, and what has no adapter is taken over as it
      is, without a copy.
    adapters: from `init`, or such as they have become.
    lora: their scale.

  Returns:
    Parameters of the same tree, shapes and dtypes as the base.
  """
  if A in adapters:
    return _add(params, adapters[A], adapters[B], lora.scale)
  return params | {
    name: merge(params[name], branch, lora) for name, branch in adapters.items()
  }


# Jitted kernel by kernel: outside a larger program, one jit over the whole tree
# would copy what passes through it unchanged.
@functools.partial(jax.jit, static_argnames='scale')
def _add(kernel: Array, a: Array, b: Array, scale: float) -> Array:
  change = jnp.matmul(a, b, precision=PRECISION)
  merged = kernel.astype(jnp.float32) + scale * change
  return merged.astype(kernel.dtype)
