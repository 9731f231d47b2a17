"""An endless, deterministic, resumable stream of problems, and its encoding.

Order depends on (seed, length of the source, chances) alone: not on time,
threads or hosts, nor, while chances stay, on how many are taken at a time.
Every host of a pod runs the same stream and takes its part of the batch
afterwards.
"""

from collections.abc import Callable, Sequence

import grain
import numpy as np

from lrm_jax.data import prompts
from lrm_jax.errors import UserError
from lrm_jax.structs import Problem
from lrm_jax.tokenization import base

# What SentencePiece shows for what it does not know.
_UNKNOWN = '\u2047'
# Passed over in a row: nobody's chances are this small on purpose.
MAX_PASSED_OVER = 100_000


class ProblemStream:
  """Problems, epoch after epoch, each in an order of its own.

  An epoch visits every problem once. Epochs are joined before problems are
  taken, so none is ever skipped; what is taken across the border, or is more
  than the source holds, may hold a problem twice.

  With `chance`, a visited problem is taken with that probability only, so
  problems occur in proportion to it.

  Args:
    source: `__len__` and `__getitem__(index) -> Problem`.
    seed: of the shuffle, at least 0.
    shuffle: False keeps the order of the source, in every epoch.
    chance: problem -> probability of being taken, in [0, 1]; None: 1.
    curriculum: names what `chance` goes by, for `set_state` to compare.

  Raises:
    UserError: an empty source, or a seed out of range.
  """

  def __init__(
    self,
    source: Sequence[Problem],
    *,
    seed: int,
    shuffle: bool = True,
    chance: Callable[[Problem], float] | None = None,
    curriculum: str = '',
  ):
    if not len(source):
      raise UserError('the data set is empty; give one with problems in it')
    if seed < 0:
      raise UserError(f'data seed is {seed}; expected at least 0')
    # What the position below refers to; a resume with another order would
    # silently repeat some problems and skip others.
    self._identity = {
      'source_length': len(source),
      'seed': seed,
      'shuffle': shuffle,
      'curriculum': curriculum,
    }
    self._position = 0
    self._chance = chance
    dataset = grain.MapDataset.source(source)
    if shuffle:
      # grain shuffles epoch e with seed + e, so that neighbouring seeds would
      # share their orders, one epoch apart; hashed seeds are far apart.
      (hashed,) = np.random.SeedSequence(seed).generate_state(1)
      dataset = dataset.shuffle(seed=int(hashed))
    self._problems = dataset.repeat()

  def take(
    self, count: int, chance: Callable[[Problem], float] | None = None
  ) -> list[Problem]:
    """The next `count` problems.

    Args:
      count: of them.
      chance: for these alone, in place of that of the stream. A position that
        is visited again, after `set_state`, has its random number again.
    """
    if chance is None:
      chance = self._chance
    # The position moves only if all of them could be made.
    taken, position, last = [], self._position, self._position
    while len(taken) < count:
      problem = self._problems[position]
      if self._is_taken(problem, position, chance):
        taken.append(problem)
        last = position
      position += 1
      if position - last > MAX_PASSED_OVER:
        raise UserError(
          f'the curriculum passed over {MAX_PASSED_OVER} problems in a row; '
          'give some of them a weight above 0'
        )
    self._position = position
    return taken

  def get_state(self) -> dict[str, int | bool | str]:
    """The position and what it refers to; plain JSON, safe to keep."""
    return {'position': self._position, **self._identity}

  def set_state(self, state: dict[str, int | bool | str]) -> None:
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
    self._position = state['position']

  def _is_taken(
    self,
    problem: Problem,
    position: int,
    chance: Callable[[Problem], float] | None,
  ) -> bool:
    if chance is None:
      return True
    # A number of this position alone, so that a resume draws it again.
    seed = (self._identity['seed'], position)
    return np.random.default_rng(seed).random() < chance(problem)


def encode_problems(
  tokenizer: base.Tokenizer,
  problems: Sequence[Problem],
  max_prompt_tokens: int,
  instruction: str = '',
  targets: Sequence[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Prompts as one array of a fixed shape.

  Args:
    tokenizer: makes and encodes the prompts, see `prompts.encode_prompt`.
    problems: B of them.
    max_prompt_tokens: P.
    instruction: appended to every question; '' for none.
    targets: what each prompt asks for, see `prompts.state_target`; None: the
      instruction is the same for all.

  Returns:
    ids `[B, P]` int32, right-padded with `pad_id`, and lengths `[B]` int32.
    P is the limit, not the longest prompt: a new shape would compile again.

  Raises:
    UserError: a prompt is longer than P (prompts are never cut), or a question
      has characters that the vocabulary has not.
  """
  shape = (len(problems), max_prompt_tokens)
  ids = np.full(shape, tokenizer.pad_id, np.int32)
  length = np.zeros(len(problems), np.int32)
  for row, problem in enumerate(problems):
    text = instruction
    if targets is not None:
      text = prompts.state_target(instruction, int(targets[row]))
    prompt = prompts.encode_prompt(tokenizer, problem.question, text)
    _check_spelling(tokenizer, problem)
    if len(prompt) > max_prompt_tokens:
      raise UserError(
        f'problem {problem.id}: prompt has {len(prompt)} tokens, '
        f'data.max_prompt_tokens allows {max_prompt_tokens}; raise it or '
        'filter the data set'
      )
    ids[row, : len(prompt)] = prompt
    length[row] = len(prompt)
  return ids, length


def _check_spelling(tokenizer: base.Tokenizer, problem: Problem) -> None:
  """Refuses a question that a small vocabulary cannot spell."""
  spell = lambda text: tokenizer.decode(tokenizer.encode(text))
  if _UNKNOWN in problem.question or _UNKNOWN not in spell(problem.question):
    return
  unknown = [
    char for char in sorted(set(problem.question)) if _UNKNOWN in spell(char)
  ]
  raise UserError(
    f'problem {problem.id}: the vocabulary of the model cannot spell '
    f'{", ".join(map(repr, unknown[:20]))}; take a model that can, or other '
    'problems'
  )
