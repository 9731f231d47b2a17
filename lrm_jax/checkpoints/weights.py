"""The safetensors files of a model directory, read and written.

One file, or shards with an index of the file that each tensor is in. Pickled
weights are refused: reading a pickle can run any code.
"""

import math
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from lrm_jax import jsonl, small_files
from lrm_jax.checkpoints import tensor_files
from lrm_jax.checkpoints.tensor_files import AGAIN, shown
from lrm_jax.errors import UserError

FILE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
# What transformers has, in bytes.
SHARD = 5 * 10**9

# What old versions of transformers stored of Llama beside the weights, and new
# ones pass over: rotary frequencies, which follow from config.json.
BUFFER = re.compile(r'model\.layers\.[0-9]+\.self_attn\.rotary_emb\.inv_freq')
_SHARD_NAME = 'model-{:05}-of-{:05}.safetensors'
_PICKLES = ('.bin', '.pt', '.pth', '.ckpt')


class Weights:
  """All tensors of a model, checked and read by name.

  No file stays open, and no more than a few megabytes are held.

  Args:
    directory: holds `model.safetensors`, or an index and its shards.

  Raises:
    UserError: no such file or both, only pickles, a file that is damaged, or
      shards that are not those of the index.
  """

  def __init__(self, directory: pathlib.Path):
    self.directory = directory
    self._tensors: dict[str, tensor_files.Stored] = {}
    if (directory / FILE).exists():
      # Either may be what is left of another model.
      if (directory / INDEX).exists():
        raise UserError(
          f'{directory}: holds {FILE} and {INDEX}, and only one of them can be '
          'meant; remove the other'
        )
      self._tensors = tensor_files.read_header(directory / FILE)
      return
    if not (directory / INDEX).exists():
      raise UserError(f'no {FILE} in {directory}; {_cure(directory)}')
    places = _read_index(directory / INDEX)
    for file in sorted(set(places.values())):
      tensors = tensor_files.read_header(directory / file)
      twice = sorted(self._tensors.keys() & tensors)
      if twice:
        raise UserError(
          f'{directory / file}: {first(twice)} is in another shard too; {AGAIN}'
        )
      self._tensors |= tensors
    self._check_index(places)

  def names(self) -> set[str]:
    """The names of all tensors."""
    return set(self._tensors)

  def dtype(self) -> str:
    """The dtype that holds all tensors exactly."""
    stored = {
      tensor.dtype
      for name, tensor in self._tensors.items()
      if not BUFFER.fullmatch(name)
    }
    for name, code in tensor_files.CODES.items():
      if stored == {code}:
        return name
    return 'float32'

  def check(self, name: str, shape: tuple[int, ...]) -> None:
    """Checks what a tensor is before any is read.

    Raises:
      UserError: it has another shape, or a dtype that is not read.
    """
    tensor = self._tensors[name]
    if tensor.shape != shape:
      raise UserError(
        f'{tensor.path}: {name} is {tensor.shape}, expected {shape} by '
        'config.json; use the files of one and the same model'
      )
    if tensor.dtype not in tensor_files.DTYPES:
      raise UserError(
        f'{tensor.path}: {name} is {shown(tensor.dtype)}, expected one of '
        f'{", ".join(tensor_files.DTYPES)}; export the model with one of these '
        'dtypes'
      )

  def blocks(
    self, name: str, start: int, stop: int
  ) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of a tensor in its stored dtype, as `tensor_files.read_blocks`."""
    return tensor_files.read_blocks(self._tensors[name], start, stop)

  def _check_index(self, places: Mapping[str, str]) -> None:
    """Shards and index are of one and the same model."""
    index = self.directory / INDEX
    for name in sorted(places.keys() | self._tensors.keys()):
      if name not in self._tensors:
        raise UserError(
          f'{self.directory / places[name]}: lacks {shown(name)}, which '
          f'{INDEX} says is there; {AGAIN}'
        )
      path = self._tensors[name].path
      if name not in places or places[name] != path.name:
        raise UserError(f'{index}: {shown(name)} is in {path.name}; {AGAIN}')
    others = {
      path.name
      for path in self.directory.iterdir()
      if re.fullmatch(r'model-\d+-of-\d+\.safetensors', path.name)
    }
    others -= set(places.values())
    if others:
      raise UserError(
        f'{index}: says nothing of {first(sorted(others))}; remove what is '
        f'left of another model, or {AGAIN}'
      )


def write(
  directory: pathlib.Path,
  shapes: Mapping[str, tuple[int, ...]],
  dtype: str,
  read: Callable[[str], np.ndarray],
  limit: int = SHARD,
) -> None:
  """Writes the weights as one file, or as shards with an index.

  Args:
    directory: exists, without weights.
    shapes: of all tensors.
    dtype: of them all.
    read: name -> tensor of that shape and dtype; one is held at a time.
    limit: bytes of tensors in a file; a larger tensor has one of its own.

  Raises:
    OSError: as writing files does.
  """
  width = np.dtype(tensor_files.DTYPES[tensor_files.CODES[dtype]]).itemsize
  sizes = {name: math.prod(shapes[name]) * width for name in shapes}
  shards: list[dict[str, tuple[int, ...]]] = [{}]
  room = limit
  for name in sorted(shapes, key=_by_layer):
    if sizes[name] > room and shards[-1]:
      shards.append({})
      room = limit
    shards[-1][name] = shapes[name]
    room -= sizes[name]
  if len(shards) == 1:
    tensor_files.write(directory / FILE, shapes, dtype, read)
    return
  places = {}
  for number, shard in enumerate(shards, start=1):
    file = _SHARD_NAME.format(number, len(shards))
    tensor_files.write(directory / file, shard, dtype, read)
    places |= dict.fromkeys(shard, file)
  jsonl.write_json(
    directory / INDEX,
    {
      'metadata': {'total_size': sum(sizes.values())},
      'weight_map': {name: places[name] for name in sorted(places)},
    },
  )


def cast(name: str, tensor: np.ndarray, dtype: str) -> np.ndarray:
  """A tensor in another dtype; itself where it has that dtype.

  Raises:
    UserError: finite values would become infinite.
  """
  with np.errstate(over='ignore'):
    cast = tensor.astype(
      tensor_files.DTYPES[tensor_files.CODES[dtype]], copy=False
    )
  # Of the dtypes weights come in, only float16 has a smaller range.
  if dtype == 'float16' and np.isinf(cast).sum() > np.isinf(tensor).sum():
    raise UserError(
      f'{name} has values beyond 65504, the largest float16; use bfloat16 or '
      'float32'
    )
  return cast


def first(items: Sequence[str], separator: str = ', ') -> str:
  """The first three, and how many more there are."""
  more = f' and {len(items) - 3} more' if len(items) > 3 else ''
  return separator.join(map(shown, items[:3])) + more


def _by_layer(name: str) -> list[tuple[int, str]]:
  """Sorts layer 10 behind layer 9, so that a shard holds whole layers."""
  words = re.split(r'(\d+)', name)
  return [(int(word) if word.isdecimal() else -1, word) for word in words]


def _read_index(path: pathlib.Path) -> dict[str, str]:
  """{name of a tensor: name of its file} of an index."""
  try:
    index = small_files.read_json(path, tensor_files.MAX_JSON)
    places = index['weight_map']
    # The index is input: it may not lead out of the directory.
    is_plain = bool(places) and all(
      name.endswith('.safetensors')
      and name.isprintable()
      and pathlib.PurePath(name).name == name
      for name in places.values()
    )
  except (ValueError, KeyError, AttributeError, TypeError):
    is_plain = False
  except OSError as error:
    raise UserError(
      f'{path}: cannot be read ({error.strerror}); {AGAIN}'
    ) from error
  if not is_plain:
    raise UserError(
      f'{path}: has no "weight_map" from tensors to file names; {AGAIN}'
    )
  return places


def _cure(directory: pathlib.Path) -> str:
  """What to do about a directory without safetensors."""
  if (directory / 'params').is_dir():
    return f'lrm convert --from={directory} --to=DIR writes one'
  pickles = [p.name for p in directory.iterdir() if p.suffix in _PICKLES]
  if not pickles:
    return AGAIN
  return (
    f'{first(sorted(pickles))} is a pickle, which may run code when it is '
    "read, so convert it with transformers' save_pretrained"
  )
