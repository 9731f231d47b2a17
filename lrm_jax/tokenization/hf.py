"""Hugging Face vocabularies: `tokenizer.json`."""

import tokenizers

from lrm_jax.errors import UserError
from lrm_jax.tokenization import settings as settings_lib


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
  """

  def __init__(self, settings: settings_lib.Settings):
    path = settings.directory / 'tokenizer.json'
    try:
      self._tokenizer = tokenizers.Tokenizer.from_buffer(
        settings.files['tokenizer.json']
      )
    except ValueError as error:
      raise UserError(
        f'{path}: not a tokenizer of the tokenizers library '
        f'({" ".join(str(error).split())}); download or export it again'
      ) from error
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

  def encode(self, text: str) -> list[int]:
    """Ids of `text`; nothing is added, special tokens become their ids."""
    return self._tokenizer.encode(text, add_special_tokens=False).ids

  def decode(self, ids) -> str:
    """Text of `[T]` ids without bos, eos, pad; `<think>` stays visible.

    Thinking tags are ordinary added tokens in some models and special ones
    in others, so special tokens are not skipped by kind but by id.
    """
    return self._tokenizer.decode(
      self._special.drop_from(ids, self.vocab_size), skip_special_tokens=False
    )

  def save(self, directory) -> None:
    """Writes the files it was loaded from, byte for byte."""
    self._settings.save(directory)

  def _add_missing_tokens(self) -> None:
    """Adds tokens that only tokenizer_config.json lists, at their ids."""
    for index, text in sorted(self._settings.added_tokens.items()):
      if self._tokenizer.token_to_id(text) is None:
        self._tokenizer.add_tokens(
          [tokenizers.AddedToken(text, normalized=False)]
        )
      found = self._tokenizer.token_to_id(text)
      if found != index:
        raise UserError(
          f'{self._settings.directory}: token {text!r} has id {found} in '
          f'tokenizer.json but {index} in tokenizer_config.json; use the '
          'files of one and the same model'
        )
