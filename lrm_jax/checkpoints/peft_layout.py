"""Adapters in the layout of PEFT, out and in.

  DIR/adapter_config.json          rank, alpha, and the modules that have them
  DIR/adapter_model.safetensors    A and B of every module, float32

Names come from `key_maps`. Where a family stores several projections below
each other in one tensor, so are their adapters: with n of them, A has the n * r
rows of all, B their blocks and zeros elsewhere, and rank and alpha are n times
as large. That is the same change of the same weights.
"""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy

from lrm_jax import jsonl, small_files, storage
from lrm_jax.checkpoints import key_maps, replacing, tensor_files
from lrm_jax.checkpoints.key_maps import Slot
from lrm_jax.checkpoints.weights import first
from lrm_jax.errors import UserError
from lrm_jax.models import lora as lora_lib
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.lora import Lora
from lrm_jax.models.transformer import Params

CONFIG = 'adapter_config.json'
FILE = 'adapter_model.safetensors'

# How it was trained, and on what: says nothing about what A and B mean.
_NOT_READ = ('base_model_name_or_path', 'lora_dropout', 'inference_mode')


class _Module(NamedTuple):
  """A linear layer of theirs with its projections that have adapters."""

  name: str
  features: int
  slots: tuple[Slot, ...]


def save(
  directory: str | os.PathLike[str],
  config: ModelConfig,
  lora: Lora,
  adapters: Params,
  base: str,
) -> None:
  """Writes adapters; other processes see all of them or none.

  Args:
    directory: made where there is none; earlier adapters there are replaced.
    config: the architecture.
    lora: what the adapters were made with.
    adapters: NumPy or JAX arrays.
    base: what `base_model_name_or_path` shall say.

  Raises:
    UserError: the directory cannot be written, or holds something else. It is
      untouched then.
  """
  content = safetensors.numpy.save(
    _export(config, lora, adapters), metadata={'format': 'pt'}
  )
  stated = {'base_model_name_or_path': base, 'inference_mode': True}
  place = storage.as_path(directory)
  with replacing.replacing(place, replacing.ADAPTER) as part:
    (part / FILE).write_bytes(content)
    jsonl.write_json(part / CONFIG, stated | _render(config, lora))


def load(
  directory: str | os.PathLike[str], config: ModelConfig, lora: Lora
) -> Params:
  """Reads adapters of just this kind, such as PEFT or `save` wrote them.

  Returns:
    NumPy arrays in the tree of `lora.init`, float32.

  Raises:
    UserError: no such files, or adapters of another rank, alpha, targets or
      model, or with something that ours do not have.
  """
  directory = pathlib.Path(directory)
  _check_config(directory / CONFIG, _render(config, lora))
  stored = tensor_files.read_header(directory / FILE)
  adapters = jax.tree.map(
    lambda leaf: np.zeros(leaf.shape, np.float32), _shapes(config, lora)
  )
  leaves = dict(key_maps.flatten(adapters))
  expected = _export(config, lora, adapters)
  wrong = [
    name
    for name in sorted(expected.keys() | stored.keys())
    if name not in expected
    or name not in stored
    or expected[name].shape != stored[name].shape
    or stored[name].dtype not in tensor_files.DTYPES
  ]
  if wrong:
    raise UserError(
      f'{directory / FILE}: {first(wrong)} is missing, not known or of another '
      'shape or dtype; give adapters of this very model'
    )
  tensors = {name: _read(tensor) for name, tensor in stored.items()}
  for module in _modules(config, lora):
    a, b = (tensors[name] for name in _names(module))
    for slot, rows, columns in _blocks(module, lora):
      leaves[(*slot.path, lora_lib.A)][slot.index] = a[columns].T
      leaves[(*slot.path, lora_lib.B)][slot.index] = b[rows, columns].T
  # What did not fit into the blocks of a fused module is not zero.
  for name, tensor in _export(config, lora, adapters).items():
    if not np.array_equal(tensor, tensors[name]):
      raise UserError(
        f'{directory / FILE}: {name} mixes projections that have adapters of '
        'their own here; merge it into the model with PEFT instead'
      )
  return adapters


def _render(config: ModelConfig, lora: Lora) -> dict[str, Any]:
  """The content of adapter_config.json, but for names and places."""
  alpha = int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha
  # One name stands for the modules of all layers and experts.
  fused = {
    module.name.rpartition('.')[2]: len(module.slots)
    for module in _modules(config, lora)
  }
  return {
    'peft_type': 'LORA',
    'task_type': 'CAUSAL_LM',
    'r': lora.rank,
    'lora_alpha': alpha,
    'target_modules': sorted(fused),
    'rank_pattern': {k: n * lora.rank for k, n in fused.items() if n > 1},
    'alpha_pattern': {k: n * alpha for k, n in fused.items() if n > 1},
    'bias': 'none',
    'lora_dropout': 0.0,
    'fan_in_fan_out': False,
    'use_rslora': False,
    'use_dora': False,
  }


def _shapes(config: ModelConfig, lora: Lora) -> Params:
  base = key_maps.shapes(config)
  return jax.eval_shape(
    lambda key: lora_lib.init(lora, base, key), jax.random.key(0)
  )


def _modules(config: ModelConfig, lora: Lora) -> Iterator[_Module]:
  """Their linear layers that have at least one of our adapters."""
  paths = {path[:-1] for path, _ in key_maps.flatten(_shapes(config, lora))}
  for name, blocks in key_maps.slots(config).items():
    adapted = tuple(slot for slot in blocks if slot.path in paths)
    if adapted:
      features, _ = key_maps.tensor_shape(blocks)
      yield _Module(name.removesuffix('.weight'), features, adapted)


def _names(module: _Module) -> tuple[str, str]:
  """(of A, of B) in the file."""
  start = f'base_model.model.{module.name}'
  return f'{start}.lora_A.weight', f'{start}.lora_B.weight'


def _blocks(module: _Module, lora: Lora) -> Iterator[tuple[Slot, slice, slice]]:
  """(projection, its rows in their B, its columns there = its rows in A)."""
  for n, slot in enumerate(module.slots):
    rows = slice(slot.start, slot.start + slot.shape[0])
    yield slot, rows, slice(n * lora.rank, (n + 1) * lora.rank)


def _export(
  config: ModelConfig, lora: Lora, adapters: Params
) -> dict[str, np.ndarray]:
  """{their name: tensor} of A `[r, in]` and B `[out, r]`."""
  leaves = {p: np.asarray(leaf) for p, leaf in key_maps.flatten(adapters)}
  tensors = {}
  for module in _modules(config, lora):
    rank = len(module.slots) * lora.rank
    a = np.zeros((rank, module.slots[0].shape[1]), np.float32)
    b = np.zeros((module.features, rank), np.float32)
    for slot, rows, columns in _blocks(module, lora):
      a[columns] = leaves[(*slot.path, lora_lib.A)][slot.index].T
      b[rows, columns] = leaves[(*slot.path, lora_lib.B)][slot.index].T
    tensors |= dict(zip(_names(module), (a, b), strict=True))
  return tensors


def _check_config(path: pathlib.Path, wanted: dict[str, Any]) -> None:
  try:
    stated = small_files.read_json(path)
    modules, *_ = (stated[k] for k in ('target_modules', 'r', 'lora_alpha'))
    # A set to PEFT, in no order; a string is a pattern.
    if isinstance(modules, list):
      stated['target_modules'] = sorted(modules)
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{path}: not the adapter_config.json of a LoRA ({error}); give a '
      'directory that PEFT or a training run wrote'
    ) from error
  for name, value in wanted.items():
    if name in _NOT_READ or name not in stated:
      continue
    # PEFT writes null for some of what is empty or not said.
    if stated[name] is not None and stated[name] != value:
      raise UserError(
        f'{path}: {name} is {json.dumps(stated[name])}, lora.rank, lora.alpha, '
        f'lora.targets and the model ask for {json.dumps(value)}; set them to '
        'those of the adapters'
      )


def _read(tensor: tensor_files.Stored) -> np.ndarray:
  found = np.empty(tensor.shape, np.float32)
  for row, rows in tensor_files.read_blocks(tensor, 0, len(found)):
    found[row : row + len(rows)] = rows
  return found
