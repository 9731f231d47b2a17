"""What lies beside the weights: tokenizer files, generation settings, ids."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from lrm_jax import jsonl, small_files
from lrm_jax.tokenization import settings
from lrm_jax.tokenization.base import Tokenizer

_GENERATION = 'generation_config.json'
_IDS = ('bos_token_id', 'eos_token_id', 'pad_token_id')


class Extras(NamedTuple):
  """Files of a model that say nothing of its weights.

  Attributes:
    save: writes them into a directory.
    ids: fields of config.json, such as eos_token_id.
    generation: generation_config.json where `save` writes none; None: none.
  """

  save: Callable[[pathlib.Path], None]
  ids: dict[str, Any]
  generation: dict[str, Any] | None

  def write(self, directory: pathlib.Path) -> None:
    """Writes all files but config.json."""
    self.save(directory)
    path = directory / _GENERATION
    if self.generation is not None and not path.exists():
      jsonl.write_json(path, self.generation)


# Explicitly none: absent, they would be the defaults of their family, such as a
# padding id beyond a small vocabulary.
_NO_IDS = dict.fromkeys(_IDS)
NOTHING = Extras(lambda directory: None, _NO_IDS, None)


def of_tokenizer(tokenizer: Tokenizer) -> Extras:
  """Its files and its special ids.

  No padding in config.json: torch would take it for the row of the
  embedding that is never trained, and it often is the end-of-sequence token.
  """
  eos = list(tokenizer.eos_ids)
  ids: dict[str, Any] = {'eos_token_id': eos[0] if len(eos) == 1 else eos}
  if 'bos_token' in tokenizer.special_tokens:
    bos = tokenizer.encode(tokenizer.special_tokens['bos_token'])
    ids |= {'bos_token_id': bos[0]} if len(bos) == 1 else {}
  generation = ids | {'pad_token_id': tokenizer.pad_id}
  return Extras(tokenizer.save, _NO_IDS | ids, generation)


def of_directory(directory: pathlib.Path) -> Extras:
  """What a model directory has, as it is.

  Raises:
    UserError: one of the files is not what it should be.
  """
  stated = small_files.read_json(directory / 'config.json')
  ids = {name: stated[name] for name in stated if name in _IDS}
  return Extras(settings.read_settings(directory).save, ids, None)
