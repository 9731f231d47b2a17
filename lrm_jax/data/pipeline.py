"""An endless, deterministic, resumable stream of problems, and its encoding.

Order depends on (seed, batch size, length of the source) alone: not on time,
threads or hosts. Every host of a pod runs the same stream and takes its part
of the batch afterwards.
"""

from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np

from lrm_jax.data import prompts
from lrm_jax.errors import UserError
from lrm_jax.structs import Problem
from lrm_jax.tokenization import base


class ProblemStream:
  """Batches of problems, epoch after epoch, each in an order of its own.

  An epoch visits every problem once. Epochs are joined before they are cut
  into batches, so no problem is ever skipped; a batch across the border, or
  larger than the source, may hold a problem twice.

  Args:
    source: `__len__` and `__getitem__(index) -> Problem`.
    batch_size: B, problems in a batch.
    seed: of the shuffle, at least 0.
    shuffle: False keeps the order of the source, in every epoch.
    encode: applied to the list of B problems; what it returns is the batch.
      None: the list itself.

  Raises:
    UserError: an empty source, or a batch size or seed out of range.
  """

  def __init__(
    self,
    source: Sequence[Problem],
    *,
    batch_size: int,
    seed: int,
    shuffle: bool = True,
    encode: Callable[[list[Problem]], Any] | None = None,
  ):
    if not len(source):
      raise UserError('the data set is empty; give one with problems in it')
    if batch_size < 1:
      raise UserError(f'batch size is {batch_size}; expected at least 1')
    if seed < 0:
      raise UserError(f'data seed is {seed}; expected at least 0')
    # What the position below refers to; a resume with another order would
    # silently repeat some problems and skip others.
    self._identity = {
      'source_length': len(source),
      'batch_size': batch_size,
      'seed': seed,
      'shuffle': shuffle,
    }
    self._next_batch = 0
    dataset = grain.MapDataset.source(source)
    if shuffle:
      # grain shuffles epoch e with seed + e, so that neighbouring seeds would
      # share their orders, one epoch apart; hashed seeds are far apart.
      (hashed,) = np.random.SeedSequence(seed).generate_state(1)
      dataset = dataset.shuffle(seed=int(hashed))
    dataset = dataset.repeat().batch(batch_size, batch_fn=list)
    self._batches = dataset if encode is None else dataset.map(encode)

  def next(self) -> Any:
    """The next batch: B problems as a list, or what `encode` made of it."""
    # The position moves only after a batch that could be made.
    batch = self._batches[self._next_batch]
    self._next_batch += 1
    return batch

  def get_state(self) -> dict[str, int | bool]:
    """The position and what it refers to; plain JSON, safe to keep."""
    return {'next_batch': self._next_batch, **self._identity}

  def set_state(self, state: dict[str, int | bool]) -> None:
    """Continues exactly where a stream was at its `get_state`.

    Args:
      state: of a stream over the same source with the same settings.

    Raises:
      UserError: the state belongs to another source or other settings.
    """
    for key, value in self._identity.items():
      if state[key] != value:
        raise UserError(
          f'data {key} is {value} but the checkpoint was written with '
          f'{state[key]}; restore it or start in a new workdir'
        )
    self._next_batch = state['next_batch']


def encode_problems(
  tokenizer: base.Tokenizer,
  problems: Sequence[Problem],
  max_prompt_tokens: int,
  instruction: str = '',
) -> tuple[np.ndarray, np.ndarray]:
  """Prompts as one array of a fixed shape.

  Args:
    tokenizer: makes and encodes the prompts, see `prompts.encode_prompt`.
    problems: B of them.
    max_prompt_tokens: P.
    instruction: appended to every question; '' for none.

  Returns:
    ids `[B, P]` int32, right-padded with `pad_id`, and lengths `[B]` int32.
    P is the limit, not the longest prompt: a new shape would compile again.

  Raises:
    UserError: a prompt is longer than P; prompts are never cut.
  """
  shape = (len(problems), max_prompt_tokens)
  ids = np.full(shape, tokenizer.pad_id, np.int32)
  length = np.zeros(len(problems), np.int32)
  for row, problem in enumerate(problems):
    prompt = prompts.encode_prompt(tokenizer, problem.question, instruction)
    if len(prompt) > max_prompt_tokens:
      raise UserError(
        f'problem {problem.id}: prompt has {len(prompt)} tokens, '
        f'data.max_prompt_tokens allows {max_prompt_tokens}; raise it or '
        'filter the data set'
      )
    ids[row, : len(prompt)] = prompt
    length[row] = len(prompt)
  return ids, length
