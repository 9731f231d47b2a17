"""Losses of `lrm sft`: from log-probabilities of tokens to a number.

`f(logp, entropy, mask, **keywords) -> (loss, numbers)`; `loss.name` of the
config says which:

  cross_entropy(...)   its mean over all response tokens
  entropy_sft(...)     over those that the model is most wrongly sure of

All inputs are `[R, S]`, of the whole batch of a step, in nats: `logp` of the
target, `entropy` of the law it was scored under, over the whole vocabulary at
temperature 1. The mask is 1 on tokens that are trained. `numbers` are metrics
beside the loss.
"""

import fractions
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections

from lrm_jax.errors import UserError
from lrm_jax.objectives import binding, ranges
from lrm_jax.structs import Array

Loss = Callable[[Array, Array, Array], tuple[jax.Array, dict[str, jax.Array]]]
# Products of what `count` multiplies stay inside int32.
MOST_PARTS = 10_000
FRACTION = ranges.Range(
  f'one from {1 / MOST_PARTS} to 1', lambda x: 1 / MOST_PARTS <= x <= 1
)


def cross_entropy(
  logp: Array, entropy: Array, mask: Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """`-sum_i m_i logp_i / sum_i m_i`; NaN for an empty mask.

  A step that trains nothing is none: `guard.py` skips what is not finite.

  Args:
    logp: see the module.
    entropy: not looked at.
    mask: see the module.

  Returns:
    The loss in nats a token; no other numbers.
  """
  del entropy
  return -jnp.sum(logp * mask) / jnp.sum(mask), {}


def entropy_sft(
  logp: Array,
  entropy: Array,
  mask: Array,
  *,
  fraction: float = 0.8,
  coefficient: float = 0.8,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Cross-entropy of the tokens that cost more than the law was unsure.

      D_i  = -logp_i - coefficient * entropy_i
      loss = mean of -logp_i over the top `fraction` of the tokens by D

  A high D is a token that is unlikely under a law that is sure of another; a
  low one is what was expected, or any token of a law that is unsure. What is
  left out is not sharpened, which keeps entropy for what comes after. D and
  the choice are constants, and a token that is left out has no gradient.

  The top is taken over all response tokens of a step, the rows of all devices
  together, and is `choose`'s. Values of D that differ by less than what sums
  are rounded by may change places from one mesh to another.

  Source: Light-IF, arXiv 2508.03178, Entropy-SFT; both numbers are those of
  the command that its authors publish (their code has 0.2 and 1.0 for those
  that state none). Deviation: there each device chooses among its own tokens.

  Args:
    logp: see the module.
    entropy: see the module; a constant.
    mask: see the module.
    fraction: of the tokens that is trained, from 0.0001 to 1; 1 is
      `cross_entropy`, to the bit.
    coefficient: of the entropy, at least 0.

  Returns:
    The loss in nats a token, NaN for an empty mask, and `cross_entropy`, that
    of all tokens.

  Raises:
    UserError: a keyword that is out of range.
  """
  FRACTION.check('entropy_sft', fraction=fraction)
  ranges.NOT_NEGATIVE.check('entropy_sft', coefficient=coefficient)
  logp_now = jax.lax.stop_gradient(logp)
  difference = -logp_now - coefficient * jax.lax.stop_gradient(entropy)
  chosen = choose(difference, mask, fraction)
  loss, _ = cross_entropy(logp, entropy, chosen)
  whole, _ = cross_entropy(logp_now, entropy, mask)
  return loss, {'cross_entropy': whole}


def choose(score: Array, mask: Array, fraction: float) -> jax.Array:
  """The mask, with 0 where the score is not among the highest.

  Exactly `count` entries stay. Of equal scores those that come first are
  taken, in the order of rows. A score that is no number comes before all
  others, so that it is not hidden.

  Args:
    score: of any shape.
    mask: 0 or 1 for each.
    fraction: from 0.0001 to 1.

  Returns:
    The same shape and type as the mask; at a fraction of 1 the mask itself, so
    that XLA adds up what is behind it in the same order.
  """
  if fraction == 1:
    return mask
  kept = (jnp.asarray(mask) != 0).ravel()
  score = jnp.where(jnp.isnan(score), jnp.inf, score).ravel()
  # The last key sorts first: entries of the mask, then by score. It is stable.
  order = jnp.lexsort((-score, ~kept))
  number = count(jnp.sum(kept, dtype=jnp.int32), fraction)
  first = jnp.arange(kept.size) < number
  chosen = jnp.zeros(kept.shape, bool).at[order].set(first) & kept
  return jnp.where(chosen.reshape(jnp.shape(mask)), mask, 0)


def count(n: Array, fraction: float) -> jax.Array:
  """`max(1, floor(fraction * n))`, exactly.

  The fraction is the one that is written: 0.29 of 100 is 29, where a product of
  floats is below. It is taken as a ratio of whole numbers up to 10,000, which
  one of four decimals is; others are rounded to the nearest.

  Args:
    n: int32.
    fraction: from 0.0001 to 1.
  """
  ratio = fractions.Fraction(str(fraction)).limit_denominator(MOST_PARTS)
  parts, rest = jnp.divmod(jnp.asarray(n, jnp.int32), ratio.denominator)
  least = rest * ratio.numerator // ratio.denominator
  return jnp.maximum(parts * ratio.numerator + least, 1)


LOSSES = {'cross_entropy': cross_entropy, 'entropy_sft': entropy_sft}


def of_run(config: ml_collections.ConfigDict) -> functools.partial:
  """The loss of a run, with its keywords bound.

  Args:
    config: `loss` is read: a `name`, and keywords of that function. Those that
      are left out have their defaults.

  Raises:
    UserError: an unknown name or key, a value that cannot be.
  """
  keywords = binding.items('loss', config.loss)
  if 'name' not in keywords:
    raise UserError(f"loss: no key 'name'; choose from {binding.join(LOSSES)}")
  loss = binding.bind('loss', keywords.pop('name'), LOSSES, keywords)
  # Ranges are looked at where it is traced: here, and not in the first step.
  token = jax.ShapeDtypeStruct((1, 1), jnp.float32)
  jax.eval_shape(loss, token, token, token)
  return loss
