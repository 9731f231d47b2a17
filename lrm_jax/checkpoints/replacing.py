"""A directory that takes the place of an earlier one, all or nothing."""

import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import NamedTuple

from lrm_jax import storage
from lrm_jax.checkpoints import weights
from lrm_jax.errors import UserError

# The folder of parameters that orbax wrote, and its mark.
PARAMS = 'params'
MARK = '_METADATA'


class Kind(NamedTuple):
  """What an earlier directory may consist of: whatever else there is, is kept.

  Attributes:
    names: of its files.
    marks: those of them without which it is something else.
  """

  names: frozenset[str]
  marks: frozenset[str]


# Of cards and of Git, in whatever comes from the Hub.
_CARDS = ('README.md', '.gitattributes')
MODEL = Kind(
  frozenset(
    (
      *_CARDS,
      weights.FILE,
      weights.INDEX,
      'config.json',
      'generation_config.json',
      # Of `lrm convert`.
      'summary.json',
      # Tokenizers: `tokenization/settings.py` and what else transformers has.
      'tokenizer.json',
      'tokenizer.model',
      'tokenizer_config.json',
      'special_tokens_map.json',
      'added_tokens.json',
      'vocab.json',
      'merges.txt',
      'spiece.model',
      'chat_template.jinja',
      'chat_template.json',
    )
  ),
  frozenset((weights.FILE, weights.INDEX)),
)
_ADAPTER = ('adapter_config.json', 'adapter_model.safetensors')
ADAPTER = Kind(frozenset((*_CARDS, *_ADAPTER)), frozenset(_ADAPTER))
_SHARD = re.compile(r'model-[0-9]+-of-[0-9]+\.safetensors')
# What `replacing` calls its directories meanwhile.
_LEFT = re.compile(r'\.(?P<name>.+)\.[0-9]+\.(?P<end>part|old)')


@contextlib.contextmanager
def replacing(
  directory: storage.Path, kind: Kind = MODEL
) -> Iterator[pathlib.Path]:
  """A hidden directory beside `directory` that is moved there when complete.

  For a bucket it is one of this machine that is copied when complete: each file
  at once, but one after the other.

  Raises:
    UserError: there is something there that is not of this kind, or it cannot
      be written. What was there before is untouched then.
  """
  if storage.is_remote(directory):
    with _copying(directory, kind) as part:
      yield part
    return
  directory = directory.resolve()
  check(directory, kind)
  part, old = (
    directory.with_name(f'.{directory.name}.{os.getpid()}.{end}')
    for end in ('part', 'old')
  )
  try:
    part.mkdir(parents=True)
    yield part
    for path in part.rglob('*'):
      if path.is_file():
        with path.open('rb') as file:
          os.fsync(file.fileno())
    # No call exchanges two directories; between these two the target is away.
    if directory.exists():
      directory.rename(old)
    part.rename(directory)
  except OSError as error:
    raise UserError(
      f'{directory}: cannot be written ({" ".join(str(error).split())}); give '
      'a place with room where you may write'
    ) from error
  finally:
    if old.exists() and not directory.exists():
      old.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(part, ignore_errors=True)


def clean(folder: storage.Path) -> None:
  """Ends `replacing` for processes that were killed within it.

  A directory that was away, with nothing in its place yet, comes back; the
  others that were left are removed.

  Args:
    folder: that holds the directories; nobody else writes there now.
  """
  if storage.is_remote(folder) or not folder.exists():
    return
  for path in sorted(folder.iterdir()):
    found = _LEFT.fullmatch(path.name)
    if found is None or not path.is_dir():
      continue
    directory = path.with_name(found['name'])
    if found['end'] == 'old' and not directory.exists():
      path.rename(directory)
    else:
      shutil.rmtree(path)


@contextlib.contextmanager
def _copying(directory: storage.Path, kind: Kind) -> Iterator[pathlib.Path]:
  """`replacing` in a bucket."""
  with storage.explained(directory):
    check(directory, kind)
    earlier = list(directory.iterdir()) if directory.exists() else []
  with storage.Mirror(directory) as mirror:
    yield mirror.folder
    new = {path.name for path in mirror.folder.iterdir()}
  for path in earlier:
    if path.name not in new:
      path.rmtree() if path.is_dir() else path.unlink()


def check(directory: storage.Path, kind: Kind = MODEL) -> None:
  """Only an empty directory or an earlier one of its kind may be overwritten.

  Raises:
    UserError: it is something else, or holds a file of somebody else.
  """
  if directory.exists() and not directory.is_dir():
    raise UserError(f'{directory}: is a file; give a new or empty directory')
  paths = sorted(directory.iterdir()) if directory.exists() else []
  others = [path.name for path in paths if not _is_known(path, kind)]
  if not others and not any(_is_mark(path, kind) for path in paths):
    others = [path.name for path in paths]
  if others:
    raise UserError(
      f'{directory}: holds {weights.first(others)}, which would be lost; give '
      'a new or empty directory'
    )


def _is_known(path: storage.Path, kind: Kind) -> bool:
  if path.is_dir():
    return _is_mark(path, kind)
  is_shard = kind is MODEL and _SHARD.fullmatch(path.name)
  return path.name in kind.names or bool(is_shard)


def _is_mark(path: storage.Path, kind: Kind) -> bool:
  if path.is_dir():
    return kind is MODEL and path.name == PARAMS and (path / MARK).exists()
  return path.name in kind.marks
