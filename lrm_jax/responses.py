"""What `Rollouts` and `Samples` have of each other."""

import numpy as np

from lrm_jax.sampler.samples import Samples, untruncated
from lrm_jax.structs import Rollouts


def is_over(samples: Samples | Rollouts, cap: np.ndarray) -> np.ndarray:
  """`[B, G]` bool: it ended by itself, or has `cap` `[B]` tokens."""
  return ~samples.truncated | (samples.length >= cap[:, None])


def is_graded(rollouts: Rollouts) -> np.ndarray:
  """`[B, G]` bool: over, and not since just now."""
  return is_over(rollouts, rollouts.cap) & (rollouts.length > 0)


def told(samples: Samples) -> dict[str, np.ndarray]:
  """The fields of `Rollouts` that a sampler tells."""
  return {
    'response_ids': samples.response_ids,
    'length': samples.length,
    'thinking_length': samples.thinking_length,
    'sampler_logp': samples.logp,
    'forced': samples.forced,
    'truncated': samples.truncated,
    'think_closed': samples.think_closed,
  }


def samples_of(rollouts: Rollouts) -> Samples:
  """What a sampler would tell of them; not a copy."""
  return untruncated(
    rollouts.response_ids,
    rollouts.sampler_logp,
    rollouts.length,
    rollouts.truncated,
    rollouts.think_closed,
    rollouts.thinking_length,
    rollouts.forced,
  )
