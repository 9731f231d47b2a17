"""Prompts to responses: `Sampler.generate`, in batches of one shape."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax import rng
from lrm_jax.errors import UserError
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import Params
from lrm_jax.sampler import decode


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
  """

  response_ids: np.ndarray
  logp: np.ndarray
  length: np.ndarray
  truncated: np.ndarray
  think_closed: np.ndarray
  thinking_length: np.ndarray


class Sampler:
  """Samples from a model; parameters are an argument, not state.

  One program is compiled, for `[batch, max_prompt_tokens]` prompts; a larger
  request runs as several batches, a smaller one is padded with empty rows.
  Since the shape is always the same and random numbers depend on the problem
  and the sample only, so do the responses.
  """

  def __init__(
    self,
    config: ModelConfig,
    *,
    samples: int,
    batch: int,
    max_tokens: int,
    eos_ids: Sequence[int],
    pad_id: int,
    think_close_ids: Sequence[int],
    check_every: int = 16,
  ):
    """Fixes what is compiled in.

    Args:
      config: the architecture.
      samples: G, responses per prompt.
      batch: prompts per compiled batch.
      max_tokens: T, room for each response.
      eos_ids: ids that end a response.
      pad_id: fills responses after their end.
      think_close_ids: the tokens of `</think>`.
      check_every: decode steps between two looks at "is everyone done".
    """
    self.config = config
    self.batch = batch
    self.shape = decode.Shape(
      samples=samples,
      max_tokens=max_tokens,
      eos_ids=tuple(eos_ids),
      pad_id=pad_id,
      check_every=min(check_every, max_tokens),
    )
    self.think_close_ids = tuple(think_close_ids)

  def generate(
    self,
    params: Params,
    prompt_ids: np.ndarray,
    prompt_length: np.ndarray,
    *,
    problem_ids: Sequence[str],
    caps: np.ndarray | int,
    key: jax.Array,
    temperature: float = 1.0,
  ) -> Samples:
    """G responses to each prompt.

    Args:
      params: the model's parameters.
      prompt_ids: `[N, P]` int32, right-padded.
      prompt_length: `[N]` int32.
      problem_ids: N names; with the key they fix the random numbers.
      caps: tokens, `[N]` or one for all; at most `max_tokens`. A traced value:
        any cap runs the same program.
      key: of the stream, such as `rng.stream(seed, 'sample', step)`.
      temperature: 0 takes the most likely token.

    Returns:
      The responses, in the order of the prompts.

    Raises:
      UserError: a prompt has an id that the model has no embedding for.
    """
    largest = int(prompt_ids.max(initial=0))
    if largest >= self.config.vocab_size:
      raise UserError(
        f'a prompt has the token id {largest}, the model only vocab_size='
        f'{self.config.vocab_size}; leave that token out of the text'
      )
    caps = np.broadcast_to(np.asarray(caps, np.int32), len(problem_ids))
    if caps.max(initial=0) > self.shape.max_tokens:
      raise ValueError(
        f'caps reach {caps.max()} tokens; this sampler has room for '
        f'{self.shape.max_tokens}'
      )
    hashes = rng.name_hashes(list(problem_ids))
    running = [
      self._dispatch(params, *part, key, temperature)
      for part in self._batches(prompt_ids, prompt_length, caps, hashes)
    ]
    parts = [jax.device_get(part) for part in running]
    joined = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    first = jax.tree.map(lambda x: x[: len(caps)], joined)
    return self._describe(first)

  def _batches(self, *arrays: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Slices of `batch` rows; the last is filled up with rows of cap 0."""
    for start in range(0, len(arrays[0]), self.batch):
      parts = [x[start : start + self.batch] for x in arrays]
      missing = self.batch - len(parts[0])
      fill = [(0, missing)]
      ids, length, caps, hashes = (
        np.pad(x, fill + [(0, 0)] * (x.ndim - 1)) for x in parts
      )
      # An empty prompt has no last token to read logits from.
      yield [ids, np.maximum(length, 1), caps, hashes]

  def _dispatch(self, params, ids, length, caps, hashes, key, temperature):
    return decode.generate(
      self.config,
      self.shape,
      params,
      ids,
      length,
      caps,
      _keys(key, hashes, self.shape.samples),
      jnp.float32(temperature),
    )

  def _describe(self, decoded: decode.Decoded) -> Samples:
    width = self.shape.max_tokens
    ids = decoded.response_ids[..., :width]
    closed, thinking = find_first(ids, decoded.length, self.think_close_ids)
    return Samples(
      response_ids=ids,
      logp=decoded.logp[..., :width],
      length=decoded.length,
      truncated=~decoded.ended,
      think_closed=closed,
      thinking_length=thinking,
    )


_keys = jax.jit(rng.sample_keys, static_argnums=2)


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
