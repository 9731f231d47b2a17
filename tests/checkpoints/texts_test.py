"""What is said of a model's files, word for word."""

import dataclasses
import json

import numpy as np
import pytest

from lrm_jax.checkpoints import (
  config_json,
  huggingface,
  key_maps,
  peft_layout,
  tensor_files,
  weights,
  windows,
)
from lrm_jax.models.lora import Lora
from tests.checkpoints.config_json_test import read, write
from tests.checkpoints.hf_models import (
  FIXTURES,
  edit_config,
  edit_tensors,
  refusal,
  write_shards,
)

AGAIN = tensor_files.AGAIN
ORIGINAL = 'original_max_position_embeddings'
CURE = 'give the config.json of a model'


@pytest.mark.parametrize(
  ('variant', 'changes', 'text'),
  [
    (
      'llama',
      {'head_dim': 7},
      'head_dim=7 is odd; rotary positions need an even head_dim',
    ),
    (
      'llama',
      {'vocab_size': '9'},
      f'vocab_size="9" must be a positive int, at most 1073741824; {CURE}',
    ),
    (
      'llama',
      {'tie_word_embeddings': 1},
      f'tie_word_embeddings=1 must be true or false; {CURE}',
    ),
    (
      'llama',
      {'hidden_size': 30, 'head_dim': None},
      'hidden_size=30 is not a multiple of num_attention_heads=4; state '
      'head_dim',
    ),
    (
      'llama',
      {'hidden_size': 2**20, 'head_dim': None, 'num_attention_heads': 1},
      'hidden_size=1048576 is more than 65536 for each of '
      f'num_attention_heads=1; {CURE}',
    ),
    (
      'llama',
      {'rope_parameters': None, 'rope_scaling': [1]},
      f'rope_scaling=[1] must be an object or null; {CURE}',
    ),
    (
      'llama',
      {
        'rope_scaling': None,
        'rope_parameters': {'partial_rotary_factor': 0.5},
      },
      'rope_parameters.partial_rotary_factor=0.5 is not supported for '
      'LlamaForCausalLM; allowed: 1.0',
    ),
    (
      'llama',
      {'rope_scaling': None, 'rope_parameters': {'rope_theta': 1e39}},
      'rope_parameters: {"rope_theta": 1e+39} gives no frequencies (overflow '
      f'encountered in cast); {CURE}',
    ),
    (
      'llama',
      {'rope_scaling': None, 'rope_parameters': {'rope_type': 5}},
      f'rope_parameters.rope_type=5 must be a string, such as "yarn"; {CURE}',
    ),
    (
      'llama',
      {'rope_scaling': None, 'rope_parameters': {'rope_theta': -1}},
      f'rope_parameters.rope_theta=-1 must be a positive number; {CURE}',
    ),
    (
      'llama',
      {
        'rope_scaling': None,
        'rope_parameters': {
          'rope_type': 'yarn',
          'factor': 2.0,
          'rope_theta': 1,
        },
      },
      f'rope_parameters: rope_theta=1.0 must be above 1 for yarn; {CURE}',
    ),
    (
      'llama',
      {'layer_types': ['full_attention']},
      'layer_types=["full_attention"] must list num_hidden_layers=2 kinds; '
      f'{CURE}',
    ),
    (
      'llama',
      {'layer_types': ['full_attention', 'half']},
      'layer_types="half" is not supported; allowed: "full_attention"',
    ),
    (
      'mistral',
      {'layer_types': None, 'sliding_window': -1},
      'sliding_window=-1 must be a positive int, at most 1073741824, or null',
    ),
    (
      'gemma3',
      {'layer_types': None, 'sliding_window_pattern': 0},
      f'sliding_window_pattern=0 must be an int, at least 1; {CURE}',
    ),
    (
      'llama',
      {'mlp_bias': True},
      'mlp_bias=true is not supported; allowed: false or null',
    ),
  ],
)
def test_config_json(tmp_path, variant, changes, text):
  fields = json.loads((FIXTURES / variant / 'config.json').read_text())
  path = write(tmp_path, **fields | changes)
  assert refusal(config_json.parse, path) == f'{path}: {text}'


def test_the_trained_window_of_longrope(tmp_path):
  fields = json.loads((FIXTURES / 'phi3_longrope' / 'config.json').read_text())
  message = refusal(
    config_json.parse, write(tmp_path, **fields | {ORIGINAL: 1})
  )
  assert message.endswith(f'{ORIGINAL}=1 must be above 1 for longrope; {CURE}')


@pytest.mark.parametrize(
  ('lengths', 'rule', 'text'),
  [
    (
      (8, 0),
      'none',
      "a model of this family has no windows; export with family='lrm'",
    ),
    (
      (8, 4),
      'every_second',
      'windows of [4, 8] tokens: config.json has one length for all layers; '
      "export with family='lrm'",
    ),
    (
      (8, 0),
      'everywhere',
      'layers with a window and without: this family has one kind; export with '
      "family='lrm'",
    ),
  ],
)
def test_windows_that_a_family_does_not_have(lengths, rule, text):
  assert refusal(windows.render, lengths, rule, 2) == text


def test_what_cannot_be_said_of_a_model():
  config = dataclasses.replace(read('llama'), positions='nope')
  assert refusal(config_json.render, config, 'float32') == (
    "LlamaForCausalLM has positions='rope'; a model with positions='nope' "
    "cannot be exported as one; use family='lrm'"
  )
  assert refusal(huggingface.save, 'x', config, {}, dtype='int8') == (
    "dtype='int8' is not one of float32, bfloat16, float16; choose one of them"
  )


# Weights.


def test_weights_of_another_model(untied):
  path = untied / weights.FILE
  edit_config(untied, vocab_size=99)
  name = 'model.embed_tokens.weight'
  rows = tensor_files.read_header(path)[name].shape
  message = refusal(huggingface.load, untied)
  assert message.startswith(f'{path}: ') and message.endswith(
    'by config.json; use the files of one and the same model'
  )
  assert f'(99, {rows[1]})' in message
  edit_config(untied, drop=('layer_types',), vocab_size=61, num_hidden_layers=1)
  assert refusal(huggingface.load, untied).endswith(
    'and 9 more; config.json must describe these very weights, those of a '
    'qwen2 model'
  )


def test_weights_of_another_dtype(untied):
  def change(tensors):
    tensors[key_maps.HEAD] = tensors[key_maps.HEAD].astype(np.int32)

  assert refusal(huggingface.load, edit_tensors(untied, change)) == (
    f'{untied / weights.FILE}: lm_head.weight is I32, expected one of F32, '
    'BF16, F16; export the model with one of these dtypes'
  )


def test_a_head_that_is_not_tied(tied):
  def change(tensors):
    tensors[key_maps.HEAD] = tensors[key_maps.EMBEDDING] + 1

  assert refusal(huggingface.load, edit_tensors(tied, change)) == (
    f'{tied}: lm_head.weight differs from model.embed_tokens.weight, but '
    'config.json says tie_word_embeddings: true; set it to false'
  )


def test_no_weights(untied):
  (untied / weights.FILE).unlink()
  assert refusal(weights.Weights, untied) == (
    f'no model.safetensors in {untied}; {AGAIN}'
  )


def test_an_index_of_other_shards(untied):
  index = write_shards(untied)
  stated = json.loads(index.read_text())
  first, second = sorted(set(stated['weight_map'].values()))
  name = next(n for n, file in stated['weight_map'].items() if file == first)
  stated['weight_map'][name] = second
  index.write_text(json.dumps(stated))
  assert refusal(weights.Weights, untied) == (
    f'{index}: {name} is in {first}; {AGAIN}'
  )
  stated['weight_map'] |= {name: first, 'extra': second}
  index.write_text(json.dumps(stated))
  assert refusal(weights.Weights, untied) == (
    f'{untied / second}: lacks extra, which model.safetensors.index.json says '
    f'is there; {AGAIN}'
  )


def test_adapters_of_another_kind(tmp_path):
  config, path = read('llama'), tmp_path / peft_layout.CONFIG
  stated = peft_layout._render(config, Lora(rank=2, alpha=4.0))
  path.write_text(json.dumps(stated))
  wanted = Lora(rank=3, alpha=4.0)
  assert refusal(peft_layout.load, tmp_path, config, wanted) == (
    f'{path}: r is 2, lora.rank, lora.alpha, lora.targets and the model ask '
    'for 3; set them to those of the adapters'
  )
