"""What a sampler returns."""

import dataclasses
from collections.abc import Sequence

import numpy as np

# Fields of `Samples` by what a lane tells of every token.
TOLD = {
  'ids': 'response_ids',
  'logp': 'logp',
  'is_forced': 'forced',
  'mass': 'kept_mass',
  'kept': 'kept_ids',
}


@dataclasses.dataclass(frozen=True)
class Samples:
  """G responses to each of N prompts, on the host.

  Attributes:
    response_ids: `[N, G, T]` int32, right-padded.
    logp: `[N, G, T]` float32, natural log under the law sampled from.
    length: `[N, G]` int32 response tokens, end-of-sequence included.
    truncated: `[N, G]` bool, the cap came before an end-of-sequence token.
    think_closed: `[N, G]` bool, `</think>` was written.
    thinking_length: `[N, G]` int32 tokens before `</think>`; `length` where
      it was never written.
    forced: `[N, G, T]` bool, tokens that were given and not sampled; their
      `logp` is 0.
    kept_mass: `[N, G, T]` float32 in [0, 1], what truncation kept of the law;
      1 without any. Forced tokens have that of the law they replace.
    kept_ids: `[N, G, T, M]` int32, the ids that it kept, -1 in place of others,
      and of all at temperature 0; M = 0 where the sampler is not asked for
      them.
  """

  response_ids: np.ndarray
  logp: np.ndarray
  length: np.ndarray
  truncated: np.ndarray
  think_closed: np.ndarray
  thinking_length: np.ndarray
  forced: np.ndarray
  kept_mass: np.ndarray
  kept_ids: np.ndarray

  def copy(self) -> 'Samples':
    """The same, to be written in."""
    return Samples(**{name: x.copy() for name, x in vars(self).items()})


def find_first(
  ids: np.ndarray, length: np.ndarray, pattern: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
  """Where a run of tokens first occurs in each response.

  Args:
    ids: `[..., T]`.
    length: `[...]`, tokens that count.
    pattern: the tokens looked for, at least one.

  Returns:
    (found `[...]` bool, index `[...]` int32 of its first token; `length`
    where it does not occur).
  """
  starts = ids.shape[-1] - len(pattern) + 1
  if starts < 1:
    return np.zeros(length.shape, bool), length.astype(np.int32)
  hit = np.ones((*ids.shape[:-1], starts), bool)
  for i, token in enumerate(pattern):
    hit &= ids[..., i : i + starts] == token
  hit &= np.arange(starts) + len(pattern) <= length[..., None]
  found = hit.any(-1)
  return found, np.where(found, hit.argmax(-1), length).astype(np.int32)


def untruncated(
  response_ids: np.ndarray,
  logp: np.ndarray,
  length: np.ndarray,
  truncated: np.ndarray,
  think_closed: np.ndarray,
  thinking_length: np.ndarray,
  forced: np.ndarray | None = None,
) -> Samples:
  """`Samples` of the whole law; no token is forced where none are given."""
  return Samples(
    response_ids=response_ids,
    logp=logp,
    length=length,
    truncated=truncated,
    think_closed=think_closed,
    thinking_length=thinking_length,
    forced=np.zeros(response_ids.shape, bool) if forced is None else forced,
    kept_mass=np.ones(response_ids.shape, np.float32),
    kept_ids=np.zeros((*response_ids.shape, 0), np.int32),
  )
