"""Hugging Face vocabularies: `tokenizer.json`.

The library is Rust. What it raises over a file is a ValueError or, where it
gives up ("panics", and says so on stderr), a BaseException of its own. A
regular expression that runs away is one of these: its engine stops after ten
million steps.
"""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import tokenizers

from lrm_jax.errors import UserError
from lrm_jax.tokenization import settings as settings_lib

# How often longer a text may become by the replacements of a file, which
# follow each other: forty that double it would fill any memory. Real ones put
# three bytes in the place of a space.
MAX_GROWTH = 1 << 12


class HFTokenizer:
  """A `tokenizer.json` with the settings beside it.

  Read by the `tokenizers` library alone. The post-processor, which would add
  bos or eos, is not run, and truncation or padding stored in the file is
  switched off: the caller counts tokens itself.

  Attributes:
    vocab_size: largest id + 1, added tokens included.
    text_vocab_size: likewise, without them.
    pad_id: fills up padded arrays.
    eos_ids: every id that ends a response.
    special_tokens: such as `{'eos_token': '<|im_end|>'}`, for chat templates.
    chat_template: jinja source or None.
    fingerprint: see `Settings.fingerprint`.
  """

  def __init__(self, settings: settings_lib.Settings):
    path = settings.directory / 'tokenizer.json'
    self._path = path
    with _usable(path):
      self._tokenizer = tokenizers.Tokenizer.from_buffer(
        settings.files['tokenizer.json']
      )
      parts = (self._tokenizer.normalizer, self._tokenizer.decoder)
      growths = [_growth(_described(part)) for part in parts]
    if max(growths) > MAX_GROWTH:
      raise UserError(
        f'{path}: its replacements can make a text more than {MAX_GROWTH} '
        'times as long; export the tokenizer without them'
      )
    self._tokenizer.no_truncation()
    self._tokenizer.no_padding()
    self._settings = settings
    self._add_missing_tokens()
    self._special = settings_lib.resolve(settings, self._tokenizer.token_to_id)
    # Ids may have gaps, so the count of tokens is not enough.
    self.vocab_size = 1 + max(self._tokenizer.get_vocab().values())
    pieces = self._tokenizer.get_vocab(with_added_tokens=False)
    self.text_vocab_size = 1 + max(pieces.values(), default=-1)
    self.pad_id = self._special.pad
    self.eos_ids = self._special.eos
    self.special_tokens = dict(settings.tokens)
    self.chat_template = settings.chat_template
    self.fingerprint = settings.fingerprint('tokenizer.json')

  def encode(self, text: str) -> list[int]:
    """Ids of `text`; nothing is added, special tokens become their ids."""
    with _usable(self._path):
      return self._tokenizer.encode(text, add_special_tokens=False).ids

  def decode(self, ids) -> str:
    """Text of `[T]` ids without bos, eos, pad; `<think>` stays visible.

    Thinking tags are ordinary added tokens in some models and special ones
    in others, so special tokens are not skipped by kind but by id.
    """
    visible = self._special.drop_from(ids, self.vocab_size)
    with _usable(self._path):
      return self._tokenizer.decode(visible, skip_special_tokens=False)

  def save(self, directory) -> None:
    """Writes the files it was loaded from, byte for byte."""
    self._settings.save(directory)

  def _add_missing_tokens(self) -> None:
    """Adds tokens that only tokenizer_config.json lists, at their ids."""
    added = sorted(self._settings.added_tokens.items())
    # All at once: each call builds its tables anew.
    self._tokenizer.add_tokens(
      [
        tokenizers.AddedToken(text, normalized=False)
        for _, text in added
        if self._tokenizer.token_to_id(text) is None
      ]
    )
    for index, text in added:
      found = self._tokenizer.token_to_id(text)
      if found != index:
        raise UserError(
          f'{self._settings.directory}: token {text!r} has id {found} in '
          f'tokenizer.json but {index} in tokenizer_config.json; use the '
          'files of one and the same model'
        )


@contextlib.contextmanager
def _usable(path: pathlib.Path) -> Iterator[None]:
  """Says in one line what the library has against a file.

  Raises:
    UserError: for everything that it raises.
  """
  try:
    yield
  except BaseException as error:
    is_panic = type(error).__name__ == 'PanicException'
    if not (is_panic or isinstance(error, Exception)):
      raise  # Such as Ctrl-C.
    raise UserError(
      f'{path}: not a tokenizer of the tokenizers library '
      f'({" ".join(str(error).split())[:300]}); download or export it again'
    ) from error


def _described(part: Any) -> Any:
  """A normalizer or a decoder as it stands in the file."""
  return None if part is None else json.loads(part.__getstate__())


def _growth(value: Any) -> int:
  """How often longer all replacements below a value can make a text, at most.

  Of n bytes each makes up to (n + 1) of what was one, where it also replaces
  what is empty.
  """
  items = value.values() if isinstance(value, dict) else value
  growth = 1
  for item in items if isinstance(items, (list, type({}.values()))) else ():
    growth *= _growth(item)
  if isinstance(value, dict) and 'content' in value and 'pattern' in value:
    growth *= 1 + len(value['content'].encode())
  return growth
