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
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from lrm_jax.errors import UserError
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


def default(
  width: int, theta: float, max_positions: int
) -> tuple[np.ndarray, float]:
  """w_i = theta^(-2i / d)."""
  del max_positions
  return _frequencies(width, theta), 1.0


def linear(
  width: int, theta: float, max_positions: int, *, factor: float
) -> tuple[np.ndarray, float]:
  """Position interpolation: w_i / s. Chen et al. 2023 (arXiv 2306.15595)."""
  del max_positions
  return _frequencies(width, theta) / np.float32(factor), 1.0


def proportional(
  width: int,
  theta: float,
  max_positions: int,
  *,
  share: float,
  factor: float = 1.0,
) -> tuple[np.ndarray, float]:
  """w_i / s for the first share * d / 2 pairs, 0 for the slow rest.

  Unlike a `fraction` of the head, which has frequencies of its own, exponents
  and pairs stay those of the whole head. As in transformers 5.
  """
  del max_positions
  if share > 1:
    raise UserError(f"rope 'proportional': share={share} must be at most 1")
  turns = _frequencies(width, theta) / np.float32(factor)
  turns[int(share * width // 2) :] = 0
  return turns, 1.0


def ntk(
  width: int, theta: float, max_positions: int, *, factor: float
) -> tuple[np.ndarray, float]:
  """NTK-aware: theta' = theta * s^(d / (d - 2)), and nothing is trained.

  The slowest pair turns s times slower, the fastest as before.
  """
  del max_positions
  if width == 2:
    raise UserError(
      "rope 'ntk' and 'dynamic': 2 turn, a single pair; they need 4 or more"
    )
  return _frequencies(width, theta * factor ** (width / (width - 2))), 1.0


def dynamic(
  width: int,
  theta: float,
  max_positions: int,
  *,
  factor: float,
  original_max_position_embeddings: int,
) -> tuple[np.ndarray, float]:
  """NTK-aware with s = f * n / L - (f - 1) for a window of n > L tokens.

  The published form takes the current length for n and so changes as the
  sequence grows; here n is the window. Within L nothing changes.
  """
  longer = max(max_positions / original_max_position_embeddings, 1.0)
  return ntk(width, theta, max_positions, factor=factor * longer - (factor - 1))


def yarn(
  width: int,
  theta: float,
  max_positions: int,
  *,
  factor: float,
  original_max_position_embeddings: int,
  beta_fast: float = 32.0,
  beta_slow: float = 1.0,
  attention_factor: float | None = None,
  mscale: float | None = None,
  mscale_all_dim: float | None = None,
  truncate: bool = True,
) -> tuple[np.ndarray, float]:
  """YaRN: fast pairs stay, slow pairs are interpolated, a ramp between.

  corr(b) = d ln(L / (2 pi b)) / (2 ln theta) is the pair that makes b turns
  within L tokens. With low = corr(beta_fast) and high = corr(beta_slow)
  (rounded outwards if `truncate`) and ramp_i = clip((i - low) / (high - low)):
  w'_i = w_i (1 - ramp_i) + w_i / s * ramp_i. Cos and sin are multiplied by
  0.1 ln s + 1, scores so by its square.

  Peng et al. 2023 (arXiv 2309.00071), section 3; as in the released code the
  ramp is linear in i, where the paper has it linear in turns.

  Args:
    width: d, what of a head turns.
    theta: base of the frequencies.
    max_positions: not used.
    factor: s.
    original_max_position_embeddings: L, in tokens.
    beta_fast: turns within L from which a pair stays as it is.
    beta_slow: turns within L up to which it is interpolated fully.
    attention_factor: of cos and sin; None: as above.
    mscale: with `mscale_all_dim` and neither zero, the factor is
      (0.1 mscale ln s + 1) / (0.1 mscale_all_dim ln s + 1).
    mscale_all_dim: see `mscale`.
    truncate: whether low and high are rounded to whole pairs.
  """
  del max_positions
  low, high = (
    width
    * math.log(original_max_position_embeddings / (turns * 2 * math.pi))
    / (2 * math.log(theta))
    for turns in (beta_fast, beta_slow)
  )
  if truncate:
    low, high = math.floor(low), math.ceil(high)
  low, high = max(low, 0), min(high, width - 1)
  # Where both are one pair the ramp is a step.
  span = high - low if high > low else 0.001
  ramp = np.clip((np.arange(width // 2, dtype=np.float32) - low) / span, 0, 1)
  turns = _frequencies(width, theta)
  mixed = turns / np.float32(factor) * ramp + turns * (1 - ramp)
  if attention_factor is None:
    attention_factor = _yarn_factor(factor, mscale, mscale_all_dim)
  return mixed.astype(np.float32), float(attention_factor)


def _yarn_factor(
  factor: float, mscale: float | None, mscale_all_dim: float | None
) -> float:
  scale = lambda m: 0.1 * m * math.log(factor) + 1.0 if factor > 1 else 1.0
  if mscale and mscale_all_dim:
    return scale(mscale) / scale(mscale_all_dim)
  return scale(1.0)


def llama3(
  width: int,
  theta: float,
  max_positions: int,
  *,
  factor: float,
  low_freq_factor: float,
  high_freq_factor: float,
  original_max_position_embeddings: int,
) -> tuple[np.ndarray, float]:
  """Llama 3.1: as YaRN, by the wavelength 2 pi / w_i against L.

  Shorter than L / high_freq_factor stays; longer than L / low_freq_factor is
  divided by s; between them w_i / s and w_i are mixed, linearly in the
  number of waves within L.
  """
  del max_positions
  if low_freq_factor >= high_freq_factor:
    raise UserError(
      f"rope 'llama3': low_freq_factor={low_freq_factor} must be below "
      f'high_freq_factor={high_freq_factor}'
    )
  turns = _frequencies(width, theta)
  waves = original_max_position_embeddings * turns / (2 * np.pi)
  keep = (waves - low_freq_factor) / (high_freq_factor - low_freq_factor)
  keep = np.clip(keep, 0, 1).astype(np.float32)
  return ((1 - keep) * turns / np.float32(factor) + keep * turns), 1.0


def longrope(
  width: int,
  theta: float,
  max_positions: int,
  *,
  short_factor: tuple[float, ...],
  long_factor: tuple[float, ...],
  original_max_position_embeddings: int,
  factor: float | None = None,
  attention_factor: float | None = None,
) -> tuple[np.ndarray, float]:
  """LongRoPE: w_i / f_i with factors found by search, one for each pair.

  The long ones where the window exceeds L, the short ones otherwise. Cos and
  sin are multiplied by (1 + ln s / ln L)^(1/2), s = window / L.

  Ding et al. 2024 (arXiv 2402.13753); keys as in Phi-3.

  Args:
    width: d, what of a head turns.
    theta: base of the frequencies.
    max_positions: the window in tokens; it decides which factors count.
    short_factor: d / 2 numbers.
    long_factor: d / 2 numbers.
    original_max_position_embeddings: L, in tokens.
    factor: s for the factor of cos and sin; None: the window over L.
    attention_factor: of cos and sin; None: as above.
  """
  trained = original_max_position_embeddings
  factors = long_factor if max_positions > trained else short_factor
  if len(factors) != width // 2:
    raise UserError(
      f"rope 'longrope': {len(factors)} factors for {width // 2} pairs; give "
      'one for each'
    )
  stretch = max_positions / trained if factor is None else factor
  if attention_factor is None:
    attention_factor = 1.0
    if stretch > 1:
      attention_factor = math.sqrt(1 + math.log(stretch) / math.log(trained))
  turns = _frequencies(width, theta) / np.asarray(factors, np.float32)
  return turns, float(attention_factor)


def truncated(
  width: int, theta: float, max_positions: int, *, truncate: float
) -> tuple[np.ndarray, float]:
  """Giraffe's truncated basis: slow pairs lose their frequency.

  With a = 2 pi / truncate: w_i stays where w_i >= a; becomes
  2 pi / (16 truncate) where a / 8 <= w_i < a; and 0 below, so that no pair
  meets an angle it was not trained on. Pal et al. 2023 (arXiv 2308.10882) and
  its released code.

  Args:
    width: d, what of a head turns.
    theta: base of the frequencies.
    max_positions: not used.
    truncate: in tokens; a wavelength longer than this is cut.
  """
  del max_positions
  turns = _frequencies(width, theta)
  cutoff = 2 * np.pi / truncate
  low = np.where(turns >= cutoff / 8, np.float32(cutoff / 16), np.float32(0))
  return np.where(turns >= cutoff, turns, low), 1.0


KINDS: dict[str, Callable[..., tuple[np.ndarray, float]]] = {
  function.__name__: function
  for function in (
    default,
    linear,
    proportional,
    ntk,
    dynamic,
    yarn,
    llama3,
    longrope,
    truncated,
  )
}


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


def _frequencies(width: int, theta: float) -> np.ndarray:
  """1 / theta^(2i / width), float32 after each of its operations.

  So does torch. A float32 power differs between CPUs by a unit in the last
  place, which is a visible angle at position 100,000; through float64 it is
  the same everywhere.
  """
  exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
  powers = np.float64(np.float32(theta)) ** exponents.astype(np.float64)
  return np.float32(1) / powers.astype(np.float32)
