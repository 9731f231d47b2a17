"""Frequencies of rotary positions: one function for each kind of `rope.Rope`.

`f(width, theta, max_positions, **settings) -> turns, factor`: of the `width`
numbers of a head that turn, `turns` `[width / 2]` float32 in radians per token,
and the factor of cos and sin. Keywords are what `Rope.settings` may say.
"""

import math
from collections.abc import Callable

import numpy as np

from lrm_jax.errors import UserError


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
      f'high_freq_factor={high_freq_factor}; raise that'
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


# Kinds that look at `max_positions`.
BY_WINDOW = ('dynamic', 'longrope')


def _frequencies(width: int, theta: float) -> np.ndarray:
  """1 / theta^(2i / width), float32 after each of its operations.

  So does torch. A float32 power differs between CPUs by a unit in the last
  place, which is a visible angle at position 100,000; through float64 it is
  the same everywhere.
  """
  exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
  powers = np.float64(np.float32(theta)) ** exponents.astype(np.float64)
  return np.float32(1) / powers.astype(np.float32)
