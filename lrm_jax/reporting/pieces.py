"""Where the tokens of a response lie in its text."""

from collections.abc import Callable, Sequence

import numpy as np

from lrm_jax import assets, storage
from lrm_jax.errors import UserError
from lrm_jax.reporting.workdirs import Run
from lrm_jax.tokenization import base

# What is copied from a bucket: a tokenizer without the weights beside it.
_FILES = (
  *('tokenizer.json', 'tokenizer.model', 'tokenizer_config.json'),
  *('generation_config.json', 'config.json', 'chat_template.jinja'),
)
# Tokens that one character is made of, at most.
_LONGEST = 16
_BROKEN = '\N{REPLACEMENT CHARACTER}'


class Cutter:
  """Cuts texts at their tokens; remembers how each token reads.

  Args:
    tokenizer: that decoded the texts.
  """

  def __init__(self, tokenizer: base.Tokenizer):
    self._decode = tokenizer.decode
    # A token at the beginning of a text may lose its space: each is read
    # behind another one.
    self._before = list(tokenizer.encode('a'))[-1:]
    self._head = self._decode(self._before)
    self._known: dict[int, str | None] = {}

  def cut(self, ids: Sequence[int], text: str) -> np.ndarray | None:
    """The length of each token's part of a text.

    Args:
      ids: `[T]`, of all tokens.
      text: that they were decoded to.

    Returns:
      `[T]` uint16, in units of UTF-16 (of which scripts in a browser count
      them), with the sum of the text's; 0 for an end of sequence, and for the
      first tokens of a character that several make up. None where the tokens
      do not spell the text.
    """
    if not ids:
      return np.zeros(0, np.uint16) if not text else None
    pieces = [self._decode(ids[:1]), *map(self._piece, ids[1:])]
    if None in pieces or ''.join(pieces) != text:
      pieces = _grown(self._decode, ids)
    if ''.join(pieces) != text:
      return None
    lengths = [_units(piece) for piece in pieces]
    return np.array(lengths, np.uint16) if max(lengths) < 1 << 16 else None

  def _piece(self, token: int) -> str | None:
    if token not in self._known:
      text = self._decode([*self._before, token])
      found = text.startswith(self._head)
      self._known[token] = text[len(self._head) :] if found else None
    return self._known[token]


def _grown(decode: Callable, ids: Sequence[int]) -> list[str]:
  """Pieces of a text whose characters may be made of several tokens.

  A token is read behind the one before it, and waits for the next ones as
  long as the text ends in a broken character.
  """
  pieces, before, start = [], 0, 0
  for end in range(1, len(ids) + 1):
    known, whole = decode(ids[before:start]), decode(ids[before:end])
    waits = whole.endswith(_BROKEN) and end < len(ids)
    if waits and end - start < _LONGEST:
      pieces.append('')
    else:
      pieces.append(whole[len(known) :])
      before, start = start, end
  return pieces


def _units(text: str) -> int:
  return len(text) + sum(character > '\uffff' for character in text)


def of_run(run: Run) -> tuple[Cutter | None, str]:
  """The cutter of a run's responses, or the reason why there is none.

  Its tokenizer is that of the trained model, which a finished run has written,
  else of the model that it was started from.
  """
  reasons = []
  for model in _models(run):
    try:
      return Cutter(base.load(_local(model, run))), ''
    except (UserError, OSError) as error:
      reasons.append(str(error))
  reason = reasons[-1] if reasons else 'its config names no model'
  return None, reason


def _models(run: Run) -> list[str]:
  """Where the tokenizer may be, the best first."""
  found = []
  if (run.folder / 'model').is_dir():
    found.append(str(run.folder / 'model'))
  place = run.config
  for name in ('model',) if run.verb == 'eval' else ('model', 'path'):
    place = place[name] if isinstance(place, dict) and name in place else None
  return found + [place] * isinstance(place, str)


def _local(model: str, run: Run) -> storage.Path:
  """A folder of this machine with the tokenizer of a model.

  Raises:
    UserError: there is none.
  """
  path = storage.as_path(model)
  if not storage.is_remote(path):
    return assets.resolve(model)
  if not storage.is_remote(run.folder):
    # The config may be a stranger's: it alone sends us to no network.
    raise UserError(
      f'{model!r} is in a bucket, and the run is not; put the tokenizer into '
      f'{run.folder / "model"}'
    )
  return storage.copy_files(path, _FILES)
