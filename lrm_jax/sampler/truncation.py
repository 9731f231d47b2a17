"""Truncation of the next-token law: which ids may be drawn, with what weight.

  logits z [..., V] -> the `most` largest, falling -> top-n-sigma (on z)
    -> z / T -> top-H -> min-p -> top-k -> top-p -> typical -> epsilon -> eta
    -> log softmax over what is left

That order is fixed, and vLLM's; transformers has min-p after top-p. Each rule
sees the law as the earlier ones left it, renormalised. `most` is the first
restriction and part of the law: the entropy that a rule compares with, and the
mass of top-p, are of those ids, not of the whole vocabulary; the deviation of
top-n-sigma alone is of the whole vocabulary. M is `most`, or V.

Rows of the vocabulary that do not exist have the logit `ABSENT`, or -inf. They
are never kept and never counted.

Among equal logits, a rule that counts (`most`, top-p, top-H) takes the lower
id first, and 0 before -0; the other rules treat equal logits alike. All is
float32: a token that is a rounding away from a bound may fall on either side.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lrm_jax.models.output_head import ABSENT
from lrm_jax.sampler.truncation_rules import Rules
from lrm_jax.structs import Array


class Kept(NamedTuple):
  """The truncated law; `[..., M]` by falling logit, `[...]` the mass.

  Attributes:
    ids: int32. Every id once, also those that are not kept.
    logp: float32, nats, under the truncated law; -inf where not kept.
    is_kept: bool, True at least once in every row.
    mass: float32 in [0, 1], what softmax(z / T) of the whole vocabulary gives
      to the ids that are kept.
  """

  ids: Array
  logp: Array
  is_kept: Array
  mass: Array


def truncate(
  scores: Array, temperature: Array | float, rules: Rules, most: int | None
) -> Kept:
  """The law of the next token under a temperature and truncation rules.

  Args:
    scores: `[..., V]` float32 logits, one of them at least not absent.
    temperature: `[...]` or a scalar, not negative. 0 stands for 1, as in
      `decode.draw`: who takes the most likely token reports its probability
      there. That token is `ids[..., 0]`, whatever the rules are.
    rules: see `truncation_rules`.
    most: ids kept at most; None, or V and above, for no bound. Static. With
      it nothing is sorted but those: at V = 151936 a bound of 1024 takes a
      thirtieth of the time on a CPU.

  Returns:
    See `Kept`.

  Raises:
    ValueError: `most` is below 1.
  """
  if most is not None and most < 1:
    raise ValueError(f'most={most} must be at least 1, or None for no bound')
  vocabulary = jnp.asarray(scores, jnp.float32)
  size = vocabulary.shape[-1]
  heat = _column(temperature)
  heat = jnp.where(heat > 0, heat, 1.0)
  # Without the barrier the slice below makes XLA sort the whole vocabulary for
  # the few largest; on a CPU that takes 60 times as long. One for each: the
  # compiler dies of one around both where a program is for several devices.
  largest, ids = map(
    jax.lax.optimization_barrier,
    jax.lax.top_k(vocabulary, size if most is None else min(most, size)),
  )
  # The largest is taken off before the division, which would round it away.
  scale = lambda x: (x - largest[..., :1]) / heat
  law = _Law(vocabulary, largest, scale(largest), _exists(largest))
  for name, rule in _RULES.items():
    value = getattr(rules, name)
    if value is not None:
      law = law._replace(is_kept=rule(law, _column(value)))
  total = jax.nn.logsumexp(scale(vocabulary), axis=-1)
  kept = jax.nn.logsumexp(law.scaled, axis=-1, where=law.is_kept)
  mass = jnp.minimum(jnp.exp(kept - total), 1.0)
  return Kept(ids.astype(jnp.int32), law.logp(), law.is_kept, mass)


def renormalize(
  scores: Array, ids: Array, is_kept: Array, chosen: Array
) -> Array:
  """Log-probability of an id under new logits, over a set that was stored.

  z[chosen] - ln sum over S of exp z, where S is what was kept when the id was
  drawn. Which ids the rules would keep under the new logits plays no part, so
  the ratio of two such laws is of the same S. Gradients flow to the scores of
  S and nowhere else.

  Args:
    scores: `[..., V]`, the new logits over the temperature.
    ids: `[..., M]` int32, in any order. Those that are not kept are not read:
      they may be padding.
    is_kept: `[..., M]` bool.
    chosen: `[...]` int32. Counted as kept where it is not among them, so the
      value is finite.

  Returns:
    `[...]` float32, at most 0, nats.
  """
  return renormalized(scores, ids, is_kept, chosen)[0]


def renormalized(
  scores: Array, ids: Array, is_kept: Array, chosen: Array
) -> tuple[Array, Array]:
  """`renormalize`, and the entropy of that law.

  With gaps g = z - z[chosen] and l = ln p[chosen], ln p is g + l. So the
  entropy is -l - sum over S of p g, the sum that there is already.

  Returns:
    (logp, entropy), each `[...]` float32 in nats; the entropy is of S alone.
  """
  scores = jnp.asarray(scores, jnp.float32)
  wanted = jnp.asarray(chosen)[..., None]
  own = jnp.take_along_axis(scores, wanted, axis=-1)
  others = is_kept & (ids != wanted)
  rest = jnp.take_along_axis(scores, jnp.where(others, ids, wanted), axis=-1)
  # Finite where masked: -inf would make the gradient nan.
  gaps = jnp.where(others, rest - own, ABSENT)
  logp = -jax.nn.softplus(jax.nn.logsumexp(gaps, axis=-1))
  p = jnp.exp(gaps + logp[..., None])
  return logp, -logp - jnp.sum(p * gaps, axis=-1)


# --- The rules ---


class _Law(NamedTuple):
  """What a rule sees: `[..., V]` raw logits, then `[..., M]` by falling logit.

  Until `typical` the kept ids are a prefix.
  """

  vocabulary: Array
  scores: Array
  scaled: Array  # (scores - max) / T
  is_kept: Array

  def logp(self) -> Array:
    """Of the law renormalised; -inf where not kept.

    The largest term of the sum is left to log1p, which keeps the digits of a
    probability next to 1.
    """
    first = jnp.argmax(self.is_kept, axis=-1, keepdims=True)
    is_other = self.is_kept & (jnp.arange(self.is_kept.shape[-1]) != first)
    largest = jnp.take_along_axis(self.scaled, first, axis=-1)
    gaps = self.scaled - largest
    others = jnp.sum(jnp.exp(gaps), axis=-1, keepdims=True, where=is_other)
    return jnp.where(self.is_kept, gaps - jnp.log1p(others), -jnp.inf)

  def is_likeliest(self) -> Array:
    """The most likely of what is kept, and what equals it."""
    kept = jnp.where(self.is_kept, self.scores, -jnp.inf)
    return self.is_kept & (kept == jnp.max(kept, axis=-1, keepdims=True))


def _column(value: Array | float) -> Array:
  return jnp.asarray(value)[..., None]


def _exists(scores: Array) -> Array:
  return scores > ABSENT / 2


def _parts(logp: Array) -> Array:
  """-p ln p, which sum to the entropy; 0 where p is."""
  p = jnp.exp(logp)
  return jnp.where(p > 0, -p * logp, 0.0)


def _entropy(logp: Array) -> Array:
  return jnp.sum(_parts(logp), axis=-1, keepdims=True)


def _prefix(fits: Array) -> Array:
  """True until the first that does not fit; the first always does.

  Sums that are equal but for rounding need not rise along a row, and a prefix
  must not have holes.
  """
  at = jnp.arange(fits.shape[-1])
  fits = fits | (at == 0)
  end = jnp.argmin(fits, axis=-1, keepdims=True)
  return jnp.all(fits, axis=-1, keepdims=True) | (at < end)


def _top_n_sigma(law: _Law, n: Array) -> Array:
  """As torch.std, it divides by the count less one; a lone logit has 0."""
  exists = _exists(law.vocabulary)
  total = lambda x: jnp.sum(x, axis=-1, keepdims=True, where=exists)
  count = total(jnp.ones_like(law.vocabulary))
  mean = total(law.vocabulary) / count
  square = total((law.vocabulary - mean) ** 2)
  sigma = jnp.sqrt(square / jnp.maximum(count - 1, 1))
  least = law.scores[..., :1] - n * sigma
  # Where all logits are equal, inf * 0 is nan.
  return law.is_kept & (jnp.isinf(n) | (law.scores >= least))


def _top_h(law: _Law, alpha: Array) -> Array:
  """H of a prefix rises with its length, so the greedy search is one scan.

  With weights w = exp(scaled), whose first is 1, and their sum s over a
  prefix, H = -sum(w ln w) / s + ln s. The sum without that first weight keeps
  the digits of ln s where s is next to 1.
  """
  w = jnp.where(law.is_kept, jnp.exp(law.scaled), 0.0)
  others = jnp.cumsum(w.at[..., 0].set(0.0), axis=-1)
  parts = jnp.where(w > 0, -w * law.scaled, 0.0)
  entropy = jnp.cumsum(parts, axis=-1) / (1 + others) + jnp.log1p(others)
  fits = (w > 0) & (entropy <= alpha * entropy[..., -1:])
  return law.is_kept & ((alpha >= 1) | _prefix(fits))


def _top_h_cumulative(law: _Law, alpha: Array) -> Array:
  logp = law.logp()
  parts = _parts(logp)
  limit = alpha * jnp.sum(parts, axis=-1, keepdims=True)
  fits = (jnp.exp(logp) > 0) & (jnp.cumsum(parts, axis=-1) <= limit)
  return law.is_kept & ((alpha >= 1) | _prefix(fits))


def _min_p(law: _Law, least: Array) -> Array:
  return law.is_kept & (jnp.exp(law.scaled) >= least)


def _top_k(law: _Law, k: Array) -> Array:
  is_counted = jnp.arange(law.scores.shape[-1]) < k
  last = jnp.min(
    law.scores, axis=-1, keepdims=True, where=is_counted, initial=jnp.inf
  )
  return law.is_kept & ((k <= 0) | (law.scores >= last))


def _top_p(law: _Law, mass: Array) -> Array:
  """Those are kept that have less than `mass` before them."""
  p = jnp.exp(law.logp())
  before = jnp.cumsum(p, axis=-1) - p
  return law.is_kept & ((mass >= 1) | _prefix(before < mass))


def _typical(law: _Law, mass: Array) -> Array:
  """The smallest bound of |-ln p - H| within which there is mass enough.

  -ln p - H is the mean of the scaled logits less the scaled logit; the
  normaliser, which would round them alike at a high temperature, drops out.
  The mass within a bound rises with it, so the bound is found by halving,
  without a second sort. Floats that are not negative are ordered as their bits
  are, so 31 halvings find the exact one.
  """
  p = jnp.exp(law.logp())
  mean = jnp.sum(p * law.scaled, axis=-1, keepdims=True, where=p > 0)
  away = jnp.where(law.is_kept, jnp.abs(law.scaled - mean), jnp.inf)
  away = jax.lax.bitcast_convert_type(away, jnp.int32)
  infinite = jnp.float32(jnp.inf).view(jnp.int32)

  def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
    low, high = ends
    middle = low + (high - low) // 2
    inside = jnp.sum(p, axis=-1, keepdims=True, where=away <= middle)
    is_enough = inside >= mass
    return (
      jnp.where(is_enough, low, middle + 1),
      jnp.where(is_enough, middle, high),
    )

  low = jnp.min(away, axis=-1, keepdims=True)
  ends = (low, jnp.full_like(low, infinite))
  _, bound = jax.lax.fori_loop(0, 31, halve, ends)
  return law.is_kept & ((mass >= 1) | (away <= bound))


def _epsilon(law: _Law, least: Array) -> Array:
  is_likely = jnp.exp(law.logp()) >= least
  return law.is_kept & (is_likely | law.is_likeliest())


def _eta(law: _Law, eta: Array) -> Array:
  scaled = jnp.sqrt(eta) * jnp.exp(-_entropy(law.logp()))
  return _epsilon(law, jnp.minimum(eta, scaled))


# In their order.
_RULES = {
  'top_n_sigma': _top_n_sigma,
  'top_h': _top_h,
  'top_h_cumulative': _top_h_cumulative,
  'min_p': _min_p,
  'top_k': _top_k,
  'top_p': _top_p,
  'typical': _typical,
  'epsilon': _epsilon,
  'eta': _eta,
}
