"""Rotary position embedding (RoPE): which pair of a head turns how fast.

Su et al. 2021 (arXiv 2104.09864), section 3.4.2, half-split as in the Hugging
Face layout. A head of width d has d / 2 pairs; pair i turns by
position * w_i, where w_i = theta^(-2i / d) before any of the changes that
KINDS lists. They stretch a model to sequences longer than it was trained on
(L tokens), by a factor s.

Frequencies are computed once, on the host. Angles and rotation are float32
whatever the compute dtype: at position 30,000 a bfloat16 angle is off by whole
turns. Scales that other code recomputes as a sequence grows are fixed from the
window, `max_positions`, instead: keys in a cache are rotated already, and those
before and after a change would not fit together.
"""

import dataclasses
import inspect
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from lrm_jax.errors import UserError
from lrm_jax.models.frequencies import KINDS
from lrm_jax.structs import Array


@dataclasses.dataclass(frozen=True)
class Rope:
  """Frequencies as data.

  Attributes:
    kind: one of KINDS.
    theta: base of the frequencies.
    fraction: of the head that turns, its first part; the rest stays.
    settings: (name, value) pairs, the keywords of the function of `kind`.

  Raises:
    UserError: an unknown kind, or not the settings that it takes.
  """

  kind: str = 'default'
  theta: float = 1e6
  fraction: float = 1.0
  settings: tuple[tuple[str, Any], ...] = ()

  def __post_init__(self):
    if self.kind not in KINDS:
      raise UserError(
        f'rope: kind={self.kind!r} is not one of {", ".join(KINDS)}'
      )
    if not _is_positive(self.theta):
      raise UserError(f'rope: theta={self.theta!r} must be a positive number')
    if not _is_positive(self.fraction) or self.fraction > 1:
      raise UserError(
        f'rope: fraction={self.fraction!r} must be above 0 and at most 1'
      )
    _check_settings(self.kind, dict(self.settings))


def frequencies(
  rope: Rope, head_dim: int, max_positions: int
) -> tuple[np.ndarray, float]:
  """(`[r]` float32 in radians per token, factor of cos and sin).

  Args:
    rope: which.
    head_dim: width of a head; r = fraction * head_dim / 2 pairs turn.
    max_positions: the window in tokens.

  Raises:
    UserError: no whole number of pairs turns, or not as many as it names.
  """
  width = int(head_dim * rope.fraction)
  if not width or width % 2:
    raise UserError(
      f'rope: fraction={rope.fraction} of head_dim={head_dim} turns {width}, '
      'which must be even and above 0; change the fraction'
    )
  return KINDS[rope.kind](
    width, rope.theta, max_positions, **dict(rope.settings)
  )


def angles(
  rope: Rope, head_dim: int, max_positions: int, positions: Array
) -> tuple[Array, Array]:
  """Cos and sin of position * frequency, times the attention factor.

  Args:
    rope: see `frequencies`.
    head_dim: see `frequencies`.
    max_positions: see `frequencies`.
    positions: integers of any shape `[...]`.

  Returns:
    (cos, sin), each `[..., r]` float32.
  """
  turns, factor = frequencies(rope, head_dim, max_positions)
  turned = jnp.asarray(positions, jnp.float32)[..., None] * turns
  return jnp.cos(turned) * factor, jnp.sin(turned) * factor


def rotate(x: Array, cos: Array, sin: Array) -> Array:
  """Turns the pairs (x[i], x[i + r]), i < r, by their angles.

  Args:
    x: `[..., head_dim]`.
    cos: broadcasts against `[..., r]`; what follows the first 2r of a head
      stays as it is.
    sin: like `cos`.

  Returns:
    Like `x`, in the dtype of `x`.
  """
  pairs = cos.shape[-1]
  first, second, rest = jnp.split(x, [pairs, 2 * pairs], axis=-1)
  first, second = first.astype(jnp.float32), second.astype(jnp.float32)
  turned = jnp.concatenate(
    [first * cos - second * sin, second * cos + first * sin], axis=-1
  ).astype(x.dtype)
  return jnp.concatenate([turned, rest], axis=-1) if rest.size else turned


def _check_settings(kind: str, given: dict[str, Any]) -> None:
  """Against the keywords of the function of `kind`."""
  known = {
    name: parameter
    for name, parameter in inspect.signature(KINDS[kind]).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
  }
  wrong = [f'unknown {name}' for name in given if name not in known]
  wrong += [
    f'no {name}'
    for name, parameter in known.items()
    if parameter.default is inspect.Parameter.empty and name not in given
  ]
  if wrong:
    raise UserError(
      f'rope {kind!r}: {", ".join(wrong)}; it takes '
      f'{", ".join(known) if known else "no settings"}'
    )
  for name, value in given.items():
    is_right, allowed = _is_positive(value), 'a positive number'
    if known[name].annotation is bool:
      is_right, allowed = isinstance(value, bool), 'True or False'
    elif known[name].annotation == tuple[float, ...]:
      is_right = isinstance(value, tuple) and all(map(_is_positive, value))
      allowed = 'positive numbers'
    elif known[name].default is None and (value is None or value == 0):
      # A zero of YaRN means that it is not given.
      is_right = value is None or name.startswith('mscale')
    if not is_right:
      raise UserError(f'rope {kind!r}: {name}={value!r} must be {allowed}')


def _is_positive(value: Any) -> bool:
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  return is_number and 0 < value < math.inf
