"""What the JSON files beside a vocabulary say about its special tokens.

The Hugging Face layout keeps these facts in up to four small files, and both
kinds of vocabulary (`tokenizer.json`, `tokenizer.model`) are read with them:

  tokenizer_config.json   bos/eos/pad tokens, added tokens, chat template
  chat_template.jinja     the chat template, where it has a file of its own
  generation_config.json  every id that ends a response
  config.json             the same, where generation_config.json is absent
"""

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lrm_jax import small_files
from lrm_jax.errors import UserError

# Copied verbatim by `save`: with these a tokenizer loads as it was. The
# model's own config.json belongs to its checkpoint, not to the tokenizer.
_FILES = (
  'tokenizer.json',
  'tokenizer.model',
  'tokenizer_config.json',
  'chat_template.jinja',
  'generation_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
)
# Bytes of one of them; that of Gemma 3 has 33 million.
_MOST = 1 << 27


# What ends a turn in the templates of Qwen, Llama, Gemma and Phi. The files
# of base models, and of some others, name only the end of a text, and a model
# whose turn has ended goes on with the user's.
END_OF_TURN = (
  '<|im_end|>',
  '<|eot_id|>',
  '<|eom_id|>',
  '<end_of_turn>',
  '<|end|>',
)


@dataclasses.dataclass(frozen=True)
class Settings:
  """The tokenizer's files and what they state.

  Attributes:
    directory: where they were read, for messages.
    files: name -> content, byte for byte.
    tokens: such as `{'eos_token': '</s>'}`; a token that is not stated or
      null is not a key.
    added_tokens: id -> text of tokens beyond the base vocabulary.
    eos_ids: ids that end a response according to the generation settings;
      `()` where they are silent.
    chat_template: jinja source, None where the model has none.
  """

  directory: pathlib.Path
  files: Mapping[str, bytes]
  tokens: Mapping[str, str]
  added_tokens: Mapping[int, str]
  eos_ids: tuple[int, ...]
  chat_template: str | None

  def fingerprint(self, vocabulary: str) -> str:
    """SHA-256 of what decides on prompts, ids and ends, as hexadecimal digits.

    What no tokenizer reads, such as a window stated beside it, is not in it.

    Args:
      vocabulary: the name of the file that the tokenizer is made of.
    """
    stated = [
      vocabulary,
      hashlib.sha256(self.files[vocabulary]).hexdigest(),
      sorted(self.tokens.items()),
      sorted(self.added_tokens.items()),
      self.eos_ids,
      self.chat_template,
    ]
    return hashlib.sha256(json.dumps(stated).encode()).hexdigest()

  def save(self, directory: str | pathlib.Path) -> None:
    """Writes the tokenizer's files, unchanged, into `directory`."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in self.files.items():
      (directory / name).write_bytes(content)


@dataclasses.dataclass(frozen=True)
class SpecialIds:
  """Ids of the special tokens; `bos` is None where there is none."""

  bos: int | None
  eos: tuple[int, ...]
  pad: int

  def drop_from(self, ids: Sequence[int], vocab_size: int) -> list[int]:
    """The ids that have a visible text.

    Drops bos, eos and pad, and ids outside the vocabulary: a model may pad
    its embedding, and an untrained one does sample those rows.
    """
    hidden = {self.bos, *self.eos, self.pad}
    return [
      i
      for i in np.asarray(ids).tolist()
      if i not in hidden and 0 <= i < vocab_size
    ]


def read_settings(directory: str | pathlib.Path) -> Settings:
  """Reads every settings file that `directory` has; all are optional.

  Args:
    directory: a model in the Hugging Face layout.

  Returns:
    What they state.

  Raises:
    UserError: a file is not JSON or states something that cannot be used.
  """
  directory = pathlib.Path(directory)
  config = _read_json(directory / 'tokenizer_config.json')
  generation = directory / 'generation_config.json'
  if not generation.exists():
    generation = directory / 'config.json'
  return Settings(
    directory=directory,
    files={
      name: _read(directory / name)
      for name in _FILES
      if small_files.exists(directory / name)
    },
    tokens={
      key: _token_text(directory, key, value)
      for key, value in config.items()
      if key in ('bos_token', 'eos_token', 'pad_token', 'unk_token')
      and value is not None
    },
    added_tokens=_added_tokens(directory, config),
    eos_ids=_eos_ids(generation, _read_json(generation)),
    chat_template=_chat_template(directory, config),
  )


def resolve(
  settings: Settings,
  to_id: Callable[[str], int | None],
  model_bos: int | None = None,
  model_eos: int | None = None,
  model_pad: int | None = None,
) -> SpecialIds:
  """Turns the stated tokens into ids.

  Args:
    settings: what the files state.
    to_id: text of a token -> its id, None where the vocabulary lacks it.
    model_bos: the id the vocabulary file itself declares, which counts where
      the settings name no such token; None where it declares none.
    model_eos: likewise; it ends a response beside those of the settings.
    model_pad: likewise; without any padding id, the first eos pads.

  Returns:
    The ids; `eos` has no repeats, the tokenizer's own eos token first, and
    what ends a turn in the chat template (END_OF_TURN) last.

  Raises:
    UserError: a named token is not in the vocabulary, or nothing ends a
      response.
  """
  stated = {}
  for key, text in settings.tokens.items():
    stated[key] = to_id(text)
    if stated[key] is None and key != 'unk_token':
      raise UserError(
        f'{settings.directory}/tokenizer_config.json: {key} {text!r} is not '
        'in the vocabulary; use the files of one and the same model'
      )
  eos = [stated['eos_token']] if 'eos_token' in stated else []
  eos += [] if model_eos is None else [model_eos]
  turns = [
    to_id(text)
    for text in END_OF_TURN
    if settings.chat_template is not None and text in settings.chat_template
  ]
  turns = [token for token in turns if token is not None]
  eos = tuple(dict.fromkeys((*eos, *settings.eos_ids, *turns)))
  if not eos:
    raise UserError(
      f'{settings.directory}: no end-of-sequence token is stated; add '
      '"eos_token" to tokenizer_config.json or "eos_token_id" to '
      'generation_config.json'
    )
  bos = stated['bos_token'] if 'bos_token' in stated else model_bos
  pad = eos[0] if model_pad is None else model_pad
  if 'pad_token' in stated:
    pad = stated['pad_token']
  return SpecialIds(bos=bos, eos=eos, pad=pad)


def _read_json(path: pathlib.Path) -> dict:
  """The object in a JSON file; empty where there is no such file."""
  if not small_files.exists(path):
    return {}
  try:
    content = small_files.read_json(path)
  except OSError as error:
    raise _unreadable(path, error) from error
  except ValueError as error:
    raise UserError(
      f'{path}: not JSON ({error}); download or export the file again'
    ) from error
  if not isinstance(content, dict):
    raise UserError(
      f'{path}: holds a JSON {type(content).__name__}, expected an object; '
      'download or export the file again'
    )
  return content


def _read(path: pathlib.Path) -> bytes:
  """The content of a file that goes wherever the model is exported to."""
  if small_files.leads_out(path):
    raise UserError(
      f'{path}: a link out of its folder, to a file that would be copied with '
      'the model; put the file itself there'
    )
  try:
    return small_files.read_bytes(path, _MOST)
  except OSError as error:
    raise _unreadable(path, error) from error


def _unreadable(path: pathlib.Path, error: OSError) -> UserError:
  return UserError(
    f'{path}: cannot be read ({error.strerror}); download or export the file '
    'again'
  )


def _token_text(directory: pathlib.Path, key: str, value: object) -> str:
  """The text of a token, stated as a string or as an added-token object."""
  if isinstance(value, dict) and 'content' in value:
    value = value['content']
  if not isinstance(value, str):
    raise UserError(
      f'{directory}/tokenizer_config.json: {key} is {value!r}; expected a '
      'string or an object with "content"'
    )
  return value


def _added_tokens(directory: pathlib.Path, config: dict) -> dict[int, str]:
  if 'added_tokens_decoder' not in config:
    return {}
  added = config['added_tokens_decoder']
  # Ids of 32 bits have at most ten digits.
  if not isinstance(added, dict) or not all(
    re.fullmatch('[0-9]{1,10}', key) for key in added
  ):
    raise UserError(
      f'{directory}/tokenizer_config.json: added_tokens_decoder must be an '
      'object keyed by token ids; export the tokenizer again'
    )
  return {
    int(key): _token_text(directory, f'added token {key}', value)
    for key, value in added.items()
  }


def _eos_ids(path: pathlib.Path, config: dict) -> tuple[int, ...]:
  value = config['eos_token_id'] if 'eos_token_id' in config else None
  if value is None:
    return ()
  ids = value if isinstance(value, list) else [value]
  if not all(type(i) is int and i >= 0 for i in ids):
    raise UserError(
      f'{path}: eos_token_id is {value!r}; expected a token id or a list of '
      'token ids'
    )
  return tuple(ids)


def _chat_template(directory: pathlib.Path, config: dict) -> str | None:
  """The template; a file of its own outranks tokenizer_config.json."""
  path = directory / 'chat_template.jinja'
  if small_files.exists(path):
    try:
      return _read(path).decode()
    except UnicodeDecodeError as error:
      raise UserError(
        f'{path}: not UTF-8 ({error}); download or export the file again'
      ) from error
  if 'chat_template' not in config or config['chat_template'] is None:
    return None
  template = config['chat_template']
  if isinstance(template, str):
    return template
  try:
    named = {entry['name']: entry['template'] for entry in template}
    is_text = all(
      isinstance(text, str) for item in named.items() for text in item
    )
  except (TypeError, KeyError):
    is_text = False
  if not is_text:
    raise UserError(
      f'{directory}/tokenizer_config.json: chat_template must be a string or '
      'a list of objects with the texts "name" and "template"'
    )
  if 'default' not in named:
    raise UserError(
      f'{directory}/tokenizer_config.json: chat_template names '
      f'{sorted(named)} but no "default"; rename the one to use'
    )
  return named['default']
