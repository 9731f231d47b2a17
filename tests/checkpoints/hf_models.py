"""Models that transformers saved, and ways to damage them."""

import json
import pathlib

import pytest
from safetensors.numpy import load_file, save_file

from lrm_jax.errors import UserError

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
METADATA = {'format': 'pt'}


def edit_config(directory, drop=(), **changes):
  path = directory / 'config.json'
  fields = json.loads(path.read_text()) | changes
  path.write_text(json.dumps({k: fields[k] for k in fields if k not in drop}))
  return directory


def edit_tensors(directory, change):
  tensors = load_file(directory / 'model.safetensors')
  change(tensors)
  save_file(tensors, directory / 'model.safetensors', METADATA)
  return directory


def refusal(call, *args, **kwargs):
  """The message of the UserError that a call must raise: one line."""
  with pytest.raises(UserError) as error:
    call(*args, **kwargs)
  assert '\n' not in str(error.value)
  return str(error.value)


def write_shards(directory):
  """Splits a model into two shards with an index."""
  tensors = load_file(directory / 'model.safetensors')
  (directory / 'model.safetensors').unlink()
  weight_map = {}
  for shard in range(2):
    name = f'model-{shard + 1:05}-of-00002.safetensors'
    part = dict(list(tensors.items())[shard::2])
    save_file(part, directory / name, METADATA)
    weight_map |= dict.fromkeys(part, name)
  index = directory / 'model.safetensors.index.json'
  index.write_text(json.dumps({'metadata': {}, 'weight_map': weight_map}))
  return index
