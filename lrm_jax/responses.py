"""What `Rollouts` and `Samples` have of each other."""

import dataclasses

import numpy as np

from lrm_jax.sampler.samples import Samples, untruncated
from lrm_jax.structs import Rollouts


def is_over(samples: Samples | Rollouts, cap: np.ndarray) -> np.ndarray:
  """`[B, G]` bool: it ended by itself, or has `cap` `[B]` tokens."""
  return ~samples.truncated | (samples.length >= cap[:, None])


def is_graded(rollouts: Rollouts) -> np.ndarray:
  """`[B, G]` bool: over, and not since just now; or not there at all."""
  is_begun = rollouts.length > 0
  return is_over(rollouts, rollouts.cap) & (is_begun | ~rollouts.there)


def first(rollouts: Rollouts, count: int | np.ndarray) -> Rollouts:
  """Only so many responses to each problem are there; see `Rollouts.there`.

  Args:
    rollouts: from `Collector.begin`.
    count: at most G, one number or `[B]`.
  """
  wanted = np.arange(rollouts.length.shape[1]) < np.reshape(count, (-1, 1))
  return dataclasses.replace(
    rollouts, truncated=np.broadcast_to(wanted, rollouts.length.shape).copy()
  )


def told(samples: Samples) -> dict[str, np.ndarray]:
  """The fields of `Rollouts` that a sampler tells."""
  kept = samples.kept_ids
  return {
    'response_ids': samples.response_ids,
    'length': samples.length,
    'thinking_length': samples.thinking_length,
    'sampler_logp': samples.logp,
    'forced': samples.forced,
    'truncated': samples.truncated,
    'think_closed': samples.think_closed,
    'kept_ids': kept if kept.shape[-1] else None,
  }


def samples_of(rollouts: Rollouts) -> Samples:
  """What a sampler would tell of them; not a copy."""
  samples = untruncated(
    rollouts.response_ids,
    rollouts.sampler_logp,
    rollouts.length,
    rollouts.truncated,
    rollouts.think_closed,
    rollouts.thinking_length,
    rollouts.forced,
  )
  if rollouts.kept_ids is None:
    return samples
  return dataclasses.replace(samples, kept_ids=rollouts.kept_ids)
