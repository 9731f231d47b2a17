"""SentencePiece vocabularies: `tokenizer.model`."""

import re

import sentencepiece

from lrm_jax.errors import UserError
from lrm_jax.tokenization import settings as settings_lib


class SentencePieceTokenizer:
  """A `tokenizer.model` with the settings beside it.

  User-defined symbols are found by SentencePiece itself. Control symbols
  (`<s>`, `</s>`) are not, so the text is split at them here: chat templates
  spell them. Whether newlines and runs of spaces survive is the normalizer's
  choice; a vocabulary for reasoning traces is trained with `identity`.

  Attributes:
    vocab_size: pieces in the model.
    text_vocab_size: the same.
    pad_id: fills up padded arrays.
    eos_ids: every id that ends a response.
    special_tokens: such as `{'eos_token': '</s>'}`, for chat templates.
    chat_template: jinja source or None.
    fingerprint: see `Settings.fingerprint`.
  """

  def __init__(self, settings: settings_lib.Settings):
    path = settings.directory / 'tokenizer.model'
    try:
      self._processor = sentencepiece.SentencePieceProcessor()
      self._processor.LoadFromSerializedProto(settings.files['tokenizer.model'])
    except RuntimeError as error:
      raise UserError(
        f'{path}: not a SentencePiece model; download or export it again'
      ) from error
    self._settings = settings
    self._check_added_tokens()
    model_ids = {
      'bos_token': _declared(self._processor.bos_id()),
      'eos_token': _declared(self._processor.eos_id()),
      'pad_token': _declared(self._processor.pad_id()),
    }
    self._special = settings_lib.resolve(
      settings, self._piece_id, *model_ids.values()
    )
    self.vocab_size = self._processor.vocab_size()
    self.text_vocab_size = self.vocab_size
    self.pad_id = self._special.pad
    self.eos_ids = self._special.eos
    self.chat_template = settings.chat_template
    self.fingerprint = settings.fingerprint('tokenizer.model')
    self.special_tokens = {
      key: self._processor.id_to_piece(index)
      for key, index in model_ids.items()
      if index is not None
    } | dict(settings.tokens)
    self._control = {
      self._processor.id_to_piece(i): i
      for i in range(self.vocab_size)
      if self._processor.is_control(i)
    }
    self._control_pattern = re.compile(
      '(' + '|'.join(map(re.escape, self._control)) + ')'
    )

  def encode(self, text: str) -> list[int]:
    """Ids of `text`; nothing is added, special tokens become their ids."""
    if not self._control:
      return self._processor.encode(text)
    ids = []
    for part in self._control_pattern.split(text):
      if part in self._control:
        ids.append(self._control[part])
      elif part:
        ids.extend(self._processor.encode(part))
    return ids

  def decode(self, ids) -> str:
    """Text of `[T]` ids without bos, eos, pad; `<think>` stays visible."""
    return self._processor.decode(self._special.drop_from(ids, self.vocab_size))

  def save(self, directory) -> None:
    """Writes the files it was loaded from, byte for byte."""
    self._settings.save(directory)

  def _check_added_tokens(self) -> None:
    """Refuses a vocabulary that was extended outside its model file."""
    for index, text in self._settings.added_tokens.items():
      if self._piece_id(text) != index:
        raise UserError(
          f'{self._settings.directory}: tokenizer_config.json adds token '
          f'{text!r} with id {index}, which tokenizer.model does not have; '
          'export the tokenizer as tokenizer.json'
        )

  def _piece_id(self, text: str) -> int | None:
    index = self._processor.piece_to_id(text)
    # An unknown text is answered with the id of <unk>.
    return index if self._processor.id_to_piece(index) == text else None


def _declared(index: int) -> int | None:
  """SentencePiece says -1 for a symbol the model does not have."""
  return None if index < 0 else index
