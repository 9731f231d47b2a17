"""Weights that are absent, damaged, or of another model are named."""

import json

import numpy as np
import pytest

from lrm_jax.checkpoints import huggingface
from tests.checkpoints.hf_models import (
  assert_same,
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
  message = refusal(huggingface.load, edit_config(untied, num_hidden_layers=1))
  assert 'unknown model.layers.2.input_layernorm.weight' in message


def test_wrong_shape_names_tensor_received_and_expected(untied):
  message = refusal(huggingface.load, edit_config(untied, intermediate_size=45))
  assert all(
    word in message
    for word in ('layers.0.mlp.gate_proj.weight', '(44, 32)', '(45, 32)')
  )


def test_dtypes_that_are_refused(untied):
  def quantize(tensors):
    name = 'model.layers.0.mlp.up_proj.weight'
    tensors[name] = tensors[name].astype(np.int8)

  message = refusal(huggingface.load, edit_tensors(untied, quantize))
  assert all(word in message for word in ('up_proj.weight', 'I8', 'BF16'))


def test_a_value_too_large_for_float16(untied, tmp_path):
  def enlarge(tensors):
    tensors['model.norm.weight'][3] = 7e4

  edit_tensors(untied, enlarge)
  message = refusal(huggingface.load, untied, param_dtype='float16')
  assert 'model.norm.weight' in message and 'bfloat16' in message
  config, params = huggingface.load(untied)
  refusal(huggingface.save, tmp_path / 'x', config, params, dtype='float16')
  assert not (tmp_path / 'x').exists()


def test_head_of_tied_embeddings(tied):
  expected = huggingface.load(tied)[1]

  def store_head(tensors):
    tensors['lm_head.weight'] = tensors['model.embed_tokens.weight'].copy()

  edit_tensors(tied, store_head)
  assert_same(huggingface.load(tied)[1], expected)

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
  assert_same(huggingface.load(untied)[1], expected)


def test_shards_that_are_absent_or_repeat_a_tensor(untied):
  write_shards(untied)
  first, second = sorted(untied.glob('model-*'))
  content = first.read_bytes()
  first.unlink()
  assert f'{first}: no such file' in refusal(huggingface.load, untied)
  first.write_bytes(content)
  second.write_bytes(content)
  assert 'in another shard too' in refusal(huggingface.load, untied)


@pytest.mark.parametrize('name', ['../secret.safetensors', '', 3, None])
def test_an_index_may_not_lead_elsewhere(untied, name):
  index = write_shards(untied)
  index.write_text(json.dumps({'weight_map': {'lm_head.weight': name}}))
  assert 'has no "weight_map"' in refusal(huggingface.load, untied)
