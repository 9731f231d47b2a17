"""Weights that are absent, damaged, or of another model are named."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest

from lrm_jax.checkpoints import huggingface, tensor_files, weights
from tests import bits
from tests.checkpoints.conftest import copy
from tests.checkpoints.hf_models import (
  edit_config,
  edit_tensors,
  refusal,
  write_shards,
)


def test_missing_and_unknown_tensors(untied):
  def rename(tensors):
    for name in [n for n in tensors if 'layers.1.' in n]:
      tensors[name.replace('layers.1', 'layers.2')] = tensors.pop(name)

  message = refusal(huggingface.load, edit_tensors(untied, rename))
  assert 'model.layers.1.input_layernorm.weight' in message
  assert 'and 9 more' in message
  edit_config(untied, num_hidden_layers=1, layer_types=['full_attention'])
  message = refusal(huggingface.load, untied)
  assert 'unknown model.layers.2.input_layernorm.weight' in message


def test_rotary_frequencies_of_old_transformers(tmp_path):
  """They follow from config.json; their dtype says nothing of the weights."""
  directory = copy('llama', tmp_path / 'llama')
  expected = huggingface.load(directory)[1]

  def store(name):
    def change(tensors):
      for weight in tensors:
        tensors[weight] = tensors[weight].astype(np.float16)
      for old in [n for n in tensors if 'inv_freq' in n]:
        del tensors[old]
      tensors[name] = np.ones(4, np.float32)

    return edit_tensors(directory, change)

  name = 'model.layers.1.self_attn.rotary_emb.inv_freq'
  found = huggingface.load(store(name))[1]
  half = lambda x: np.asarray(x, np.float16)
  bits.assert_same(jax.tree.map(half, found), jax.tree.map(half, expected))
  assert huggingface.stored_dtype(directory) == 'float16'
  for other in (f'{name}s', f'x.{name}', name.replace('1', 'x')):
    assert f'unknown {other}' in refusal(huggingface.load, store(other))


def test_wrong_shape_names_tensor_received_and_expected(untied):
  message = refusal(huggingface.load, edit_config(untied, intermediate_size=45))
  assert all(
    word in message
    for word in ('layers.0.mlp.down_proj.weight', '(32, 44)', '(32, 45)')
  )


def test_dtypes_that_are_refused(untied):
  def quantize(tensors):
    name = 'model.layers.0.mlp.up_proj.weight'
    tensors[name] = tensors[name].astype(np.int8)

  message = refusal(huggingface.load, edit_tensors(untied, quantize))
  assert all(word in message for word in ('up_proj.weight', 'I8', 'BF16'))


@pytest.mark.parametrize(
  ('kinds', 'expected'),
  [
    ((np.float16, np.float16), 'float16'),
    ((ml_dtypes.bfloat16, ml_dtypes.bfloat16), 'bfloat16'),
    ((np.float32, np.float32), 'float32'),
    # Neither holds the other.
    ((ml_dtypes.bfloat16, np.float16), 'float32'),
    ((ml_dtypes.bfloat16, np.float32), 'float32'),
  ],
)
def test_the_dtype_that_loses_nothing(untied, kinds, expected):
  def convert(tensors):
    for place, name in enumerate(sorted(tensors)):
      tensors[name] = tensors[name].astype(kinds[place % 2])

  assert huggingface.stored_dtype(edit_tensors(untied, convert)) == expected


def test_a_value_too_large_for_float16(untied, tmp_path):
  def enlarge(tensors):
    tensors['model.norm.weight'][3] = 7e4

  edit_tensors(untied, enlarge)
  message = refusal(huggingface.load, untied, param_dtype='float16')
  assert 'model.norm.weight' in message and 'bfloat16' in message
  config, params = huggingface.load(untied)
  refusal(huggingface.save, tmp_path / 'x', config, params, dtype='float16')
  assert [path.name for path in tmp_path.iterdir()] == [untied.name]


def test_head_of_tied_embeddings(tied, monkeypatch):
  expected = huggingface.load(tied)[1]

  def store_head(tensors):
    tensors['lm_head.weight'] = tensors['model.embed_tokens.weight'].copy()

  edit_tensors(tied, store_head)
  bits.assert_same(huggingface.load(tied)[1], expected)

  def widen_head(tensors):
    name = 'model.embed_tokens.weight'
    tensors[name] = tensors[name].astype(np.float16)
    tensors['lm_head.weight'] = tensors[name].astype(np.float32)

  edit_tensors(tied, widen_head)
  monkeypatch.setattr(tensor_files, '_BLOCK', 1000)
  huggingface.load(tied)

  def change_head(tensors):
    tensors['lm_head.weight'][7, 3] += 1e-3

  message = refusal(huggingface.load, edit_tensors(tied, change_head))
  assert 'lm_head.weight' in message and 'tie_word_embeddings' in message


def test_untied_head_must_be_there(untied):
  edit_tensors(untied, lambda tensors: tensors.pop('lm_head.weight'))
  assert 'lacks lm_head.weight' in refusal(huggingface.load, untied)


@pytest.mark.parametrize('keep', [0, 5, 40_000, -1])
def test_cut_off_weights(untied, keep):
  path = untied / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:keep])
  message = refusal(huggingface.load, untied)
  assert 'model.safetensors: not a whole safetensors file' in message


def test_weights_that_are_absent_or_pickled(untied):
  (untied / 'model.safetensors').unlink()
  assert f'no model.safetensors in {untied}' in refusal(
    huggingface.load, untied
  )
  (untied / 'pytorch_model.bin').write_bytes(b'\x80\x04.')
  message = refusal(huggingface.load, untied)
  assert 'pytorch_model.bin is a pickle' in message


# Shards.


def test_shards_are_read(untied):
  expected = huggingface.load(untied)[1]
  write_shards(untied)
  bits.assert_same(huggingface.load(untied)[1], expected)


def test_one_file_beside_shards(untied):
  """Nobody can tell which of them is meant."""
  content = (untied / weights.FILE).read_bytes()
  index = write_shards(untied)
  (untied / weights.FILE).write_bytes(content)
  for call in (huggingface.load, huggingface.stored_dtype):
    message = refusal(call, untied)
    assert f'{untied}: holds {weights.FILE} and {weights.INDEX}' in message
    assert 'remove the other' in message
  index.unlink()
  huggingface.load(untied)


def test_shards_that_are_absent_or_repeat_a_tensor(untied):
  write_shards(untied)
  first, second = sorted(untied.glob('model-*'))
  content = first.read_bytes()
  first.unlink()
  assert f'{first}: no such file' in refusal(huggingface.load, untied)
  first.write_bytes(content)
  second.write_bytes(content)
  assert 'in another shard too' in refusal(huggingface.load, untied)


@pytest.mark.parametrize(
  'name',
  [
    '../secret.safetensors',
    'a/b.safetensors',
    '..',
    '',
    3,
    None,
    'x\0.safetensors',
    '\ud800.safetensors',
  ],
)
def test_an_index_may_not_lead_elsewhere(untied, name):
  index = write_shards(untied)
  index.write_text(json.dumps({'weight_map': {'lm_head.weight': name}}))
  assert 'has no "weight_map"' in refusal(huggingface.load, untied)


@pytest.mark.parametrize('text', ['', '{}', '[]', '{"weight_map": {}}', '\xff'])
def test_an_index_that_is_none(untied, text):
  write_shards(untied).write_bytes(text.encode('latin-1'))
  assert 'has no "weight_map"' in refusal(huggingface.load, untied)


def test_an_index_of_other_shards_names_the_tensor(untied):
  index = write_shards(untied)
  places = json.loads(index.read_text())['weight_map']
  first, second = sorted(set(places.values()))

  def load(changes):
    fields = {'weight_map': places | changes}
    fields['weight_map'] = {k: v for k, v in fields['weight_map'].items() if v}
    index.write_text(json.dumps(fields))
    return refusal(huggingface.load, untied)

  name = min(places, key=places.get)
  message = load({'model.lost.weight': second})
  assert f'{second}: lacks model.lost.weight' in message
  assert f'{name} is in {first}' in load({name: second})
  assert f'{name} is in {first}' in load({name: None})


def test_shards_of_an_earlier_model(untied):
  write_shards(untied)
  other = untied / 'model-00003-of-00003.safetensors'
  other.write_bytes(next(untied.glob('model-*')).read_bytes())
  message = refusal(huggingface.load, untied)
  assert f'says nothing of {other.name}' in message
  # Files of other programs do not matter.
  other.rename(untied / 'consolidated.safetensors')
  huggingface.load(untied)


# Writing.


def write(directory, limit, count=12):
  """Tensors of 4 * 100 bytes, one of them ten times as large."""
  shapes = {f'layers.{i}.w': (10, 10) for i in range(count)}
  shapes['embedding'] = (100, 10)
  values = {n: np.full(shapes[n], i, np.float32) for i, n in enumerate(shapes)}
  directory.mkdir()
  weights.write(directory, shapes, 'float32', values.__getitem__, limit)
  return values


def test_shards_are_full_and_hold_whole_layers(tmp_path):
  values = write(tmp_path / 'model', limit=1600)
  index = json.loads((tmp_path / 'model' / weights.INDEX).read_text())
  assert index['metadata']['total_size'] == sum(
    x.nbytes for x in values.values()
  )
  shards = {}
  for name, file in index['weight_map'].items():
    shards.setdefault(file, []).append(name)
  assert sorted(shards) == [
    f'model-{i:05}-of-00004.safetensors' for i in range(1, 5)
  ]
  layers = lambda *numbers: {f'layers.{i}.w' for i in numbers}
  assert [set(shards[file]) for file in sorted(shards)] == [
    {'embedding'},
    layers(0, 1, 2, 3),
    layers(4, 5, 6, 7),
    layers(8, 9, 10, 11),
  ]
  found = weights.Weights(tmp_path / 'model')
  assert found.names() == values.keys()
  for name, value in values.items():
    ((_, rows),) = found.blocks(name, 0, len(value))
    np.testing.assert_array_equal(rows, value)


def test_one_file_up_to_the_limit(tmp_path):
  write(tmp_path / 'one', limit=4000 + 12 * 400)
  assert [p.name for p in (tmp_path / 'one').iterdir()] == [weights.FILE]
  write(tmp_path / 'two', limit=4000 + 12 * 400 - 1)
  assert len(list((tmp_path / 'two').glob('model-*'))) == 2
