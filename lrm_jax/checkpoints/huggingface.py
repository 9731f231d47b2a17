"""Models in the Hugging Face layout, in and out (Qwen2ForCausalLM).

  DIR/config.json             <-> ModelConfig
  DIR/model.safetensors       <-> parameters, by the table of `key_maps`
  DIR/generation_config.json      which ids end a response
  DIR/tokenizer*                  the tokenizer's own files

Sharded checkpoints (model.safetensors.index.json) are read. Pickled weights
are not: reading a pickle can run any code.
"""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from lrm_jax import jsonl
from lrm_jax.checkpoints import config_json, key_maps
from lrm_jax.checkpoints import weights as weights_lib
from lrm_jax.checkpoints.weights import Weights, first
from lrm_jax.errors import UserError
from lrm_jax.models.config import DTYPES, ModelConfig
from lrm_jax.models.transformer import Params
from lrm_jax.tokenization.base import Tokenizer

# What an earlier model may consist of, so that it can be replaced.
_PARTS = ('.json', '.safetensors', '.model', '.jinja')
_PART_NAMES = ('merges.txt', 'README.md')


def read_config(directory: str | os.PathLike[str], **settings) -> ModelConfig:
  """The architecture that DIR/config.json states.

  Args:
    directory: a model in the Hugging Face layout.
    **settings: fields of `ModelConfig` that the file does not decide, such as
      `compute_dtype='bfloat16'` or `remat='dots'`. The file's own dtype is
      that of the stored weights and decides nothing here.

  Raises:
    UserError: no such directory or file, or a field that is missing, wrong or
      asks for something this model does not do.
  """
  directory = pathlib.Path(directory)
  if not directory.is_dir():
    raise UserError(
      f'{directory}: no such directory; give a model directory with '
      f'config.json and {weights_lib.FILE}'
    )
  return config_json.parse(directory / 'config.json', **settings)


def load(
  directory: str | os.PathLike[str],
  *,
  param_dtype: str = 'float32',
  **settings,
) -> tuple[ModelConfig, Params]:
  """Reads a model, one tensor at a time.

  Args:
    directory: a model in the Hugging Face layout; weights of float32,
      bfloat16 or float16.
    param_dtype: dtype of the parameters returned.
    **settings: see `read_config`.

  Returns:
    The config, and the parameters as NumPy arrays in the tree of
    `transformer.init_params`.

  Raises:
    UserError: as `read_config`; or weights that are absent, pickled, damaged,
      or not exactly the tensors of that architecture.
  """
  directory = pathlib.Path(directory)
  config = read_config(directory, param_dtype=param_dtype, **settings)
  leaves = {
    path: np.empty(shape, jnp.dtype(param_dtype))
    for path, shape in key_maps.leaf_shapes(config).items()
  }
  slots = key_maps.slots(config)
  with contextlib.ExitStack() as stack:
    weights = Weights(directory, stack)
    _check_names(config, weights, slots)
    for name, blocks in slots.items():
      shape = key_maps.tensor_shape(blocks)
      tensor = _cast(name, weights.read(name, shape), param_dtype)
      for slot in blocks:
        block = tensor[slot.start : slot.start + slot.shape[0]]
        leaf = leaves[slot.path][(*slot.index, ...)]
        leaf[...] = block.T if slot.transposed else block
    if config.tie_embeddings and key_maps.HEAD in weights.names():
      _check_tied(weights, slots[key_maps.EMBEDDING][0].shape)
  return config, _nest(leaves)


def save(
  directory: str | os.PathLike[str],
  config: ModelConfig,
  params: Params,
  tokenizer: Tokenizer | None = None,
  dtype: str = 'float32',
) -> None:
  """Writes a model; other processes see all of it or none.

  Everything goes to a hidden directory beside the target, which then takes
  its place. An earlier model there is replaced; any other content is refused.

  Args:
    directory: the target; parents are made.
    config: the architecture.
    params: NumPy or JAX arrays in the tree of `transformer.init_params`.
    tokenizer: its files and its special ids are written too.
    dtype: of the stored weights; `load(save(x))` is bit for bit `x` where
      this is the dtype of `x`.

  Raises:
    UserError: the parameters or the tokenizer do not fit the config, the
      config cannot be said in this layout, or the target cannot be written.
      The target is untouched then.
  """
  if dtype not in DTYPES:
    raise UserError(f'dtype={dtype!r} is not one of {", ".join(DTYPES)}')
  check_shapes(config, params)
  if tokenizer is not None:
    check_vocabulary(config, tokenizer)
  ids = {} if tokenizer is None else _special_ids(tokenizer)
  fields = config_json.render(config, dtype) | ids
  with _replacing(pathlib.Path(directory)) as part:
    if tokenizer is not None:
      tokenizer.save(part)
      # A tokenizer that was loaded with this file brings it along.
      if not (part / 'generation_config.json').exists():
        generation = ids | {'pad_token_id': tokenizer.pad_id}
        jsonl.write_json(part / 'generation_config.json', generation)
    jsonl.write_json(part / 'config.json', fields)
    safetensors.numpy.save_file(
      _export(config, params, dtype),
      part / weights_lib.FILE,
      # transformers refuses a file that does not say this.
      metadata={'format': 'pt'},
    )
    # safetensors writes files that nobody else may read; the umask decides.
    shutil.copymode(part / 'config.json', part / weights_lib.FILE)


def check_shapes(config: ModelConfig, params: Params) -> None:
  """Checks that the parameters are those of the config.

  Raises:
    UserError: names up to three leaves that are missing, not known, or of
      another shape.
  """
  expected = key_maps.leaf_shapes(config)
  received = {path: leaf.shape for path, leaf in key_maps.flatten(params)}
  problems = [
    f'{"/".join(path)} is '
    + (f'{received[path]}' if path in received else 'missing')
    + (f', expected {expected[path]}' if path in expected else ', not known')
    for path in dict.fromkeys((*expected, *received))
    if path not in expected
    or path not in received
    or expected[path] != received[path]
  ]
  if problems:
    raise UserError(
      f'parameters do not fit the model config: {first(problems, "; ")}; '
      'use the config they were made with'
    )


def check_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> None:
  """Checks that the embedding has a row for every id of the tokenizer.

  Raises:
    UserError: it has not. A larger embedding is fine: models pad theirs.
  """
  needed = max(
    tokenizer.vocab_size, 1 + max(*tokenizer.eos_ids, tokenizer.pad_id)
  )
  if needed > config.vocab_size:
    raise UserError(
      f'the tokenizer has {needed} ids but the model only '
      f'vocab_size={config.vocab_size}; use the files of one and the same model'
    )


def _check_names(
  config: ModelConfig, weights: Weights, wanted: Iterable[str]
) -> None:
  names = weights.names()
  missing = sorted(set(wanted) - names)
  unread = names - set(wanted)
  # A tied head may be stored as well; `_check_tied` reads it.
  if config.tie_embeddings:
    unread.discard(key_maps.HEAD)
  for what, tensors in (('lacks', missing), ('has unknown', sorted(unread))):
    if tensors:
      raise UserError(
        f'{weights.directory}: {what} {first(tensors)}; config.json must '
        f'describe these very weights, those of a {config.family} model'
      )


def _check_tied(weights: Weights, shape: tuple[int, ...]) -> None:
  """The head of tied embeddings, where it is stored, repeats them."""
  head, embedding = (
    weights.read(name, shape) for name in (key_maps.HEAD, key_maps.EMBEDDING)
  )
  if not np.array_equal(head, embedding):
    raise UserError(
      f'{weights.directory}: {key_maps.HEAD} differs from '
      f'{key_maps.EMBEDDING}, but config.json says tie_word_embeddings: true; '
      'set it to false'
    )


def _cast(name: str, tensor: np.ndarray, dtype: str) -> np.ndarray:
  with np.errstate(over='ignore'):
    cast = tensor.astype(jnp.dtype(dtype))
  # Of the dtypes weights come in, only float16 has a smaller range.
  if dtype == 'float16' and np.isinf(cast).sum() > np.isinf(tensor).sum():
    raise UserError(
      f'{name} has values beyond 65504, the largest float16; use bfloat16 or '
      'float32'
    )
  return cast


def _export(
  config: ModelConfig, params: Params, dtype: str
) -> dict[str, np.ndarray]:
  """{their name: tensor}, each contiguous, as the file format wants it."""
  leaves = {p: np.asarray(leaf) for p, leaf in key_maps.flatten(params)}
  tensors = {}
  for name, blocks in key_maps.slots(config).items():
    parts = [leaves[slot.path][slot.index] for slot in blocks]
    parts = [
      part.T if slot.transposed else part
      for slot, part in zip(blocks, parts, strict=True)
    ]
    tensor = parts[0] if len(parts) == 1 else np.concatenate(parts)
    tensors[name] = np.ascontiguousarray(_cast(name, tensor, dtype))
  return tensors


def _nest(leaves: Mapping[tuple[str, ...], np.ndarray]) -> Params:
  tree = {}
  for path, leaf in leaves.items():
    node = tree
    for key in path[:-1]:
      node = node.setdefault(key, {})
    node[path[-1]] = leaf
  return tree


def _special_ids(tokenizer: Tokenizer) -> dict[str, int | list[int]]:
  """Ids for config.json.

  Padding is left out: torch would take it for the row of the embedding that
  is never trained, and it often is the end-of-sequence token.
  """
  eos = list(tokenizer.eos_ids)
  ids = {'eos_token_id': eos[0] if len(eos) == 1 else eos}
  if 'bos_token' in tokenizer.special_tokens:
    bos = tokenizer.encode(tokenizer.special_tokens['bos_token'])
    ids |= {'bos_token_id': bos[0]} if len(bos) == 1 else {}
  return ids


@contextlib.contextmanager
def _replacing(directory: pathlib.Path) -> Iterator[pathlib.Path]:
  """A directory that takes the place of `directory` once it is complete."""
  directory = directory.resolve()
  _check_replaceable(directory)
  part, old = (
    directory.with_name(f'.{directory.name}.{os.getpid()}.{end}')
    for end in ('part', 'old')
  )
  try:
    part.mkdir(parents=True)
    yield part
    for path in part.iterdir():
      with path.open('rb') as file:
        os.fsync(file.fileno())
    # No call exchanges two directories; between these two the target is away.
    if directory.exists():
      directory.rename(old)
    part.rename(directory)
  except (safetensors.SafetensorError, OSError) as error:
    raise UserError(
      f'{directory}: cannot be written ({" ".join(str(error).split())}); give '
      'a place with room where you may write'
    ) from error
  finally:
    if old.exists() and not directory.exists():
      old.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(part, ignore_errors=True)


def _check_replaceable(directory: pathlib.Path) -> None:
  """Only an empty directory or an earlier model may be overwritten."""
  if directory.exists() and not directory.is_dir():
    raise UserError(f'{directory}: is a file; give a new or empty directory')
  names = []
  if directory.exists():
    names = sorted(path.name for path in directory.iterdir())
  others = [
    name
    for name in names
    if not name.endswith(_PARTS) and name not in _PART_NAMES
  ]
  if others or (
    names and not {weights_lib.FILE, weights_lib.INDEX} & set(names)
  ):
    raise UserError(
      f'{directory}: holds {first(others if others else names)}, which would '
      'be lost; give a new or empty directory'
    )
