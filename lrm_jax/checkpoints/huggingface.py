"""Models in the Hugging Face layout, in and out.

  DIR/config.json             <-> ModelConfig
  DIR/model.safetensors       <-> parameters, by the table of `key_maps`
  DIR/generation_config.json      which ids end a response
  DIR/tokenizer*                  the tokenizer's own files

Large models are in shards, with model.safetensors.index.json. Tensors are
read and written one by one: beside the parameters themselves, no more than
one of their tensors is ever held. Pickled weights are not read: reading a
pickle can run any code.
"""

import collections
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import numpy as np

from lrm_jax import jsonl, storage
from lrm_jax.checkpoints import config_json, extras, key_maps, placing
from lrm_jax.checkpoints import weights as weights_lib
from lrm_jax.checkpoints.key_maps import Slot
from lrm_jax.checkpoints.replacing import replacing
from lrm_jax.checkpoints.weights import Weights, first
from lrm_jax.errors import UserError
from lrm_jax.models.config import DTYPES, ModelConfig
from lrm_jax.models.transformer import Params
from lrm_jax.structs import Array
from lrm_jax.tokenization.base import Tokenizer

# Rows that are transposed at once: eight times as fast as whole matrices.
_STRIP = 128


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


def stored_dtype(directory: str | os.PathLike[str]) -> str:
  """The dtype that holds all weights of a model exactly.

  Raises:
    UserError: weights that are absent, pickled or damaged.
  """
  return Weights(pathlib.Path(directory)).dtype()


def load(
  directory: str | os.PathLike[str],
  *,
  param_dtype: str = 'float32',
  sharding: placing.Sharding = None,
  **settings,
) -> tuple[ModelConfig, Params]:
  """Reads a model, block by block.

  The host holds the parameters that its own devices do not, one part of one
  leaf at a time, and a few megabytes beside it. A CPU device takes them over
  without a copy.

  Args:
    directory: a model in the Hugging Face layout; weights of float32,
      bfloat16 or float16.
    param_dtype: dtype of the parameters returned.
    sharding: where they go, see `placing`; None: to the default device.
    **settings: see `read_config`.

  Returns:
    The config, and the parameters in the tree of `transformer.init_params`.

  Raises:
    UserError: as `read_config`; or weights that are absent, pickled, damaged,
      or not exactly the tensors of that architecture.
  """
  directory = pathlib.Path(directory)
  config = read_config(directory, param_dtype=param_dtype, **settings)
  shapes = key_maps.leaf_shapes(config)
  shardings = placing.resolve(sharding, shapes)
  weights = Weights(directory)
  slots = key_maps.slots(config)
  _check_names(config, weights, slots)
  parts: dict[tuple[str, ...], list[tuple[str, Slot]]] = {}
  for name, blocks in slots.items():
    weights.check(name, key_maps.tensor_shape(blocks))
    for slot in blocks:
      parts.setdefault(slot.path, []).append((name, slot))
  if config.tie_embeddings and key_maps.HEAD in weights.names():
    _check_tied(weights, slots[key_maps.EMBEDDING][0].shape)
  leaves = {
    path: placing.place(
      shape,
      shardings[path],
      functools.partial(_read, weights, parts[path], param_dtype),
    )
    for path, shape in shapes.items()
  }
  return config, key_maps.nest(leaves)


def save(
  directory: str | os.PathLike[str],
  config: ModelConfig,
  params: Params,
  tokenizer: Tokenizer | None = None,
  dtype: str = 'float32',
  *,
  beside: extras.Extras = extras.NOTHING,
  shard_bytes: int = weights_lib.SHARD,
) -> None:
  """Writes a model; other processes see all of it or none.

  Everything goes to a hidden directory beside the target, which then takes
  its place. An earlier model there is replaced; any other content is refused.
  In a bucket, where no directory can be renamed, this holds of each file only.

  Args:
    directory: the target, here or in a bucket; parents are made.
    config: the architecture.
    params: NumPy or JAX arrays in the tree of `transformer.init_params`; one
      tensor at a time comes to the host.
    tokenizer: its files and its special ids are written too.
    dtype: of the stored weights; `load(save(x))` is bit for bit `x` where
      this is the dtype of `x`.
    beside: what is written in place of a tokenizer's files.
    shard_bytes: tensors in one file at most.

  Raises:
    UserError: the parameters or the tokenizer do not fit the config, the
      config cannot be said in this layout, or the target cannot be written.
      The target is untouched then.
  """
  if dtype not in DTYPES:
    raise UserError(
      f'dtype={dtype!r} is not one of {", ".join(DTYPES)}; choose one of them'
    )
  check_shapes(config, params)
  if tokenizer is not None:
    fit_vocabulary(config, tokenizer)
    beside = extras.of_tokenizer(tokenizer)
  fields = config_json.render(config, dtype) | beside.ids
  slots = key_maps.slots(config)
  with replacing(storage.as_path(directory)) as part:
    beside.write(part)
    jsonl.write_json(part / 'config.json', fields)
    weights_lib.write(
      part,
      {name: key_maps.tensor_shape(slots[name]) for name in slots},
      dtype,
      functools.partial(
        _tensor, slots, _reader(slots, dict(key_maps.flatten(params))), dtype
      ),
      shard_bytes,
    )


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


def fit_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
  """The config with `used_vocab`: the ids that the tokenizer has.

  Models pad their embedding to a round number of rows. No text has those ids,
  so they must not be sampled, and get no part of the probability. Added tokens
  may lack a row (Gemma 3 has one for images): a prompt that has one is refused
  by the sampler.

  Raises:
    UserError: the embedding has no row for some id that texts or ends have.
  """
  needed = max(
    tokenizer.text_vocab_size, 1 + max(*tokenizer.eos_ids, tokenizer.pad_id)
  )
  if needed > config.vocab_size:
    raise UserError(
      f'the tokenizer has {needed} ids but the model only '
      f'vocab_size={config.vocab_size}; use the files of one and the same model'
    )
  used = max(needed, tokenizer.vocab_size)
  used = used if used < config.vocab_size else 0
  return dataclasses.replace(config, used_vocab=used)


def _check_names(
  config: ModelConfig, weights: Weights, wanted: Iterable[str]
) -> None:
  names = weights.names()
  missing = sorted(set(wanted) - names)
  unread = {
    name
    for name in names - set(wanted)
    if not weights_lib.BUFFER.fullmatch(name)
  }
  # A tied head may be stored as well; `_check_tied` reads it.
  if config.tie_embeddings:
    unread.discard(key_maps.HEAD)
  for what, tensors in (('lacks', missing), ('has unknown', sorted(unread))):
    if tensors:
      raise UserError(
        f'{weights.directory}: {what} {first(tensors)}; config.json must '
        f'describe these very weights, those of a {config.family} model'
      )


# --- Reading ---


def _read(
  weights: Weights,
  parts: Sequence[tuple[str, Slot]],
  dtype: str,
  index: placing.Index,
) -> np.ndarray:
  """The part of a leaf that `index` picks, from their tensors."""
  block = placing.empty([stop - start for start, stop in index], dtype)
  for name, slot in parts:
    stack, place = index[: len(slot.index)], index[len(slot.index) :]
    if not all(a <= i < b for i, (a, b) in zip(slot.index, stack, strict=True)):
      continue
    at = tuple(i - a for i, (a, _) in zip(slot.index, stack, strict=True))
    target = block[(*at, ...)]
    (start, stop), *rest = place[::-1] if slot.transposed else place
    columns = tuple(slice(*bounds) for bounds in rest)
    first_row, last_row = slot.start + start, slot.start + stop
    for row, rows in weights.blocks(name, first_row, last_row):
      piece = weights_lib.cast(name, rows[:, *columns], dtype)
      if slot.transposed:
        _transpose(piece, target[:, row : row + len(piece)])
      else:
        target[row : row + len(piece)] = piece
  return block


def _check_tied(weights: Weights, shape: tuple[int, ...]) -> None:
  """The head of tied embeddings, where it is stored, repeats them."""
  weights.check(key_maps.HEAD, shape)
  for row, head in weights.blocks(key_maps.HEAD, 0, shape[0]):
    rows = weights.blocks(key_maps.EMBEDDING, row, row + len(head))
    # Their dtypes may differ, and with them the lengths of their blocks.
    if not all(np.array_equal(head[at : at + len(x)], x) for at, x in rows):
      raise UserError(
        f'{weights.directory}: {key_maps.HEAD} differs from '
        f'{key_maps.EMBEDDING}, but config.json says tie_word_embeddings: '
        'true; set it to false'
      )


# --- Writing ---


def _tensor(
  slots: Mapping[str, Sequence[Slot]],
  read: Callable[[Slot], np.ndarray],
  dtype: str,
  name: str,
) -> np.ndarray:
  """One of their tensors, on the host."""
  parts = []
  for slot in slots[name]:
    part = read(slot)
    if slot.transposed:
      part = _transpose(part, np.empty(part.shape[::-1], part.dtype))
    parts.append(part)
  tensor = parts[0] if len(parts) == 1 else np.concatenate(parts)
  return weights_lib.cast(name, tensor, dtype)


def _reader(
  slots: Mapping[str, Sequence[Slot]], leaves: Mapping[tuple[str, ...], Array]
) -> Callable[[Slot], np.ndarray]:
  """`slot -> its block` of the leaves, on the host.

  Leaves in the host's memory are looked at where they are. Of others, what
  stands at the same place of all layers is picked on the device by one program,
  so that nothing else of them is copied.
  """
  stacked = collections.defaultdict(dict)
  for slot in itertools.chain(*slots.values()):
    stacked[len(slot.index)][slot.path] = leaves[slot.path]

  # Of a layer, and of an expert in it.
  @functools.lru_cache(maxsize=2)
  def pick(index):
    return _pick(stacked[len(index)], index)

  def read(slot: Slot) -> np.ndarray:
    leaf = leaves[slot.path]
    if slot.index and not _is_here(leaf):
      return np.asarray(pick(slot.index)[slot.path])
    return np.asarray(leaf)[(*slot.index, ...)]

  return read


def _is_here(leaf: Array) -> bool:
  """Whether NumPy sees it without a copy."""
  if not isinstance(leaf, jax.Array):
    return True
  return [device.platform for device in leaf.devices()] == ['cpu']


@jax.jit
def _pick(leaves, index):
  return {path: leaf[index] for path, leaf in leaves.items()}


def _transpose(source: np.ndarray, target: np.ndarray) -> np.ndarray:
  """Fills `target` with the transpose, in strips that a cache can hold."""
  for start in range(0, len(source), _STRIP):
    stop = start + _STRIP
    target[:, start:stop] = source[start:stop].T
  return target
