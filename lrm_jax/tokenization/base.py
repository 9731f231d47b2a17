"""What the rest of the package knows of a tokenizer, and how one is loaded."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from lrm_jax.errors import UserError
from lrm_jax.tokenization import hf, settings, spm


class Tokenizer(Protocol):
  """Text <-> token ids.

  Attributes:
    vocab_size: ids it can produce are in `[0, vocab_size)`; a model may pad
      its embedding beyond that.
    text_vocab_size: the same without added tokens, which no text has that does
      not spell them.
    pad_id: fills up padded arrays; may equal one of `eos_ids`.
    eos_ids: every id that ends a response, at least one.
    special_tokens: `bos_token`, `eos_token` ... -> text, for chat templates.
    chat_template: jinja source, None where the model has none.
    fingerprint: SHA-256 of all that decides on prompts, ids and ends.
  """

  vocab_size: int
  text_vocab_size: int
  pad_id: int
  eos_ids: tuple[int, ...]
  special_tokens: Mapping[str, str]
  chat_template: str | None
  fingerprint: str

  def encode(self, text: str) -> list[int]:
    """Ids of `text`.

    Adds no bos or eos. Special tokens spelled in the text become their ids,
    those in a problem's question too.
    """

  def decode(self, ids: Sequence[int]) -> str:
    """Text of `[T]` ids (a list or an array).

    Drops bos, eos, pad and ids outside the vocabulary. `<think>` and
    `</think>` stay visible.
    """

  def save(self, directory: str | pathlib.Path) -> None:
    """Writes the files it was loaded from, byte for byte.

    `load` of that directory gives the same tokenizer, except that ids ending
    a response which only the model's config.json states need that file too.
    """


def load(directory: str | pathlib.Path) -> Tokenizer:
  """Loads the tokenizer of a model in the Hugging Face layout.

  Args:
    directory: holds `tokenizer.json`, or else `tokenizer.model`; where both
      are there, `tokenizer.json` is read, as it has every added token.

  Returns:
    The tokenizer.

  Raises:
    UserError: no directory, neither file, or a file that cannot be used.
  """
  directory = pathlib.Path(directory)
  if not directory.is_dir():
    raise UserError(
      f'{directory}: not a directory; give the model directory that holds '
      'tokenizer.json or tokenizer.model'
    )
  if (directory / 'tokenizer.json').is_file():
    return hf.HFTokenizer(settings.read_settings(directory))
  if (directory / 'tokenizer.model').is_file():
    return spm.SentencePieceTokenizer(settings.read_settings(directory))
  raise UserError(
    f'{directory}: has neither tokenizer.json nor tokenizer.model; copy the '
    "model's tokenizer files there"
  )


def is_symbol(tokenizer: Tokenizer, text: str) -> bool:
  """Whether `text` is a single id anywhere in a text.

  The cost of a second copy is counted, since some vocabularies put a space
  piece before whatever comes first.
  """
  return len(tokenizer.encode(text * 2)) == len(tokenizer.encode(text)) + 1


def think_close_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
  """Ids that spell `</think>`, length >= 1.

  One id where the vocabulary has it as a symbol. Elsewhere its spelling on
  its own: neighbouring text may merge into its last piece (Qwen2.5 has a
  piece for `>` + newlines), and such a close is not found by these ids.
  """
  ids = tokenizer.encode('</think>')
  return tuple(ids[-1:] if is_symbol(tokenizer, '</think>') else ids)
