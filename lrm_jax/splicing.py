"""Tokens taken out of the middle of responses."""

import numpy as np

from lrm_jax.sampler.samples import Samples, untruncated
from lrm_jax.structs import Rollouts


def remove(
  rollouts: Rollouts, start: np.ndarray, stop: np.ndarray, pad_id: int
) -> Samples:
  """Samples without the tokens `start <= t < stop`.

  What follows them was sampled behind another text, so its log-probabilities
  are NaN. A response that loses its end counts as truncated.

  Args:
    rollouts: `[B, G]`.
    start: `[B, G]`.
    stop: `[B, G]`; `start` for no change.
    pad_id: behind the end.
  """
  ids = rollouts.response_ids.copy()
  logp, forced = rollouts.sampler_logp.copy(), rollouts.forced.copy()
  length = rollouts.length - (stop - start)
  for at in np.argwhere(stop > start):
    at = tuple(at)
    tail = slice(stop[at], rollouts.length[at])
    moved = slice(start[at], length[at])
    for values, empty in ((ids, pad_id), (logp, 0), (forced, False)):
      behind = values[at][tail].copy()
      values[at][start[at] :] = empty
      values[at][moved] = behind
    logp[at][moved] = np.nan
  loses_end = (stop > start) & (stop >= rollouts.length)
  return untruncated(
    ids,
    logp,
    length.astype(np.int32),
    rollouts.truncated | loses_end,
    rollouts.think_closed,
    rollouts.thinking_length,
    forced,
  )


def put(values: np.ndarray, rows: np.ndarray, new: np.ndarray) -> np.ndarray:
  """A copy of `values` with the rows `rows` replaced."""
  values = values.copy()
  values[rows] = new
  return values
