"""The safetensors files of a model directory, read tensor by tensor.

One file or shards with an index. Pickled weights are refused: reading a
pickle can run any code.
"""

import contextlib
import json
import pathlib
from collections.abc import Iterator, Sequence

# Not used by name: teaches NumPy the dtype 'bfloat16', which safetensors asks
# it for.
import ml_dtypes  # noqa: F401
import numpy as np
import safetensors

from lrm_jax.errors import UserError

FILE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'

_DTYPES = ('F32', 'BF16', 'F16')
_PICKLES = ('.bin', '.pt', '.pth', '.ckpt')
_AGAIN = 'download or export the model again'


class Weights:
  """All tensors of a model: opened, checked and read by name.

  Args:
    directory: holds `model.safetensors`, or else an index and its shards.
    stack: closes the files.

  Raises:
    UserError: no such file, only pickles, or a file that is damaged.
  """

  def __init__(self, directory: pathlib.Path, stack: contextlib.ExitStack):
    self.directory = directory
    self._files = {}
    for path in _paths(directory):
      with _readable(path):
        file = stack.enter_context(
          safetensors.safe_open(path, framework='numpy')
        )
        names = file.keys()
      twice = sorted(self._files.keys() & names)
      if twice:
        raise UserError(
          f'{path}: {first(twice)} is in another shard too; {_AGAIN}'
        )
      self._files |= dict.fromkeys(names, (path, file))

  def names(self) -> set[str]:
    """The names of all tensors."""
    return set(self._files)

  def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One tensor in its stored dtype: float32, bfloat16 or float16.

    Raises:
      UserError: it has another shape or dtype.
    """
    path, file = self._files[name]
    with _readable(path):
      view = file.get_slice(name)
      received, dtype = tuple(view.get_shape()), view.get_dtype()
      if received != shape:
        raise UserError(
          f'{path}: {name} is {received}, expected {shape} by config.json; '
          'use the files of one and the same model'
        )
      if dtype not in _DTYPES:
        raise UserError(
          f'{path}: {name} is {dtype}, expected one of {", ".join(_DTYPES)}; '
          'export the model with one of these dtypes'
        )
      return file.get_tensor(name)


def first(items: Sequence[str], separator: str = ', ') -> str:
  """The first three, and how many more there are."""
  more = f' and {len(items) - 3} more' if len(items) > 3 else ''
  return separator.join(items[:3]) + more


def _paths(directory: pathlib.Path) -> list[pathlib.Path]:
  """The weight files; like transformers, one whole file outranks shards."""
  if (directory / FILE).exists():
    return [directory / FILE]
  path = directory / INDEX
  if not path.exists():
    raise UserError(f'no {FILE} in {directory}; {_cure(directory)}')
  try:
    names = set(json.loads(path.read_bytes())['weight_map'].values())
    # The index is input: it may not lead out of the directory.
    is_plain = all(
      name.endswith('.safetensors') and pathlib.PurePath(name).name == name
      for name in names
    )
  except (ValueError, KeyError, AttributeError, TypeError):
    is_plain = False
  if not is_plain:
    raise UserError(
      f'{path}: has no "weight_map" from tensors to file names; {_AGAIN}'
    )
  return [directory / name for name in sorted(names)]


def _cure(directory: pathlib.Path) -> str:
  """What to do about a directory without safetensors."""
  pickles = [p.name for p in directory.iterdir() if p.suffix in _PICKLES]
  if not pickles:
    return _AGAIN
  return (
    f'{first(sorted(pickles))} is a pickle, which may run code when it is '
    "read, so convert it with transformers' save_pretrained"
  )


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> Iterator[None]:
  """Turns what an absent or damaged file raises into a UserError."""
  try:
    yield
  except FileNotFoundError:
    raise UserError(f'{path}: no such file; {_AGAIN}') from None
  except (safetensors.SafetensorError, OSError) as error:
    reason = ' '.join(str(error).split())
    raise UserError(
      f'{path}: not a whole safetensors file ({reason}); {_AGAIN}'
    ) from error
