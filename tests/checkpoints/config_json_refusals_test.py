"""Fields of config.json that we cannot run, and files that are none."""

import dataclasses
import json

import pytest

from lrm_jax.checkpoints import config_json, huggingface
from lrm_jax.models.config import Experts
from lrm_jax.models.rope import Rope
from tests.checkpoints.config_json_test import read, write
from tests.checkpoints.hf_models import FIXTURES, edit_config, refusal

# Stretched: in transformers the window stated is the one it was trained on.
DYNAMIC = Rope(
  'dynamic',
  settings=(('factor', 2.0), ('original_max_position_embeddings', 8)),
)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'model_type': 'gpt2'}, ['model_type="gpt2"', '"qwen2"', '"gemma3_text"']),
    ({'model_type': 7}, ['model_type=7', '"llama"']),
    (
      {'architectures': ['Qwen2ForSequenceClassification']},
      ['architectures', 'Qwen2ForSequenceClassification', 'Qwen2ForCausalLM'],
    ),
    ({'hidden_act': 'gelu'}, ['hidden_act="gelu"', '"silu"']),
    (
      {'layer_types': ['full_attention', 'sliding_attention']},
      ['layer_types="sliding_attention"', '"full_attention"'],
    ),
    ({'layer_types': ['full_attention']}, ['layer_types', 'layers=2']),
    (
      {
        'use_sliding_window': True,
        'layer_types': ['full_attention', 'chunked_attention'],
      },
      ['layer_types="chunked_attention"', '"sliding_attention"'],
    ),
    (
      {
        'use_sliding_window': True,
        'sliding_window': -1,
        'layer_types': ['full_attention', 'sliding_attention'],
      },
      ['sliding_window=-1', 'positive int'],
    ),
    (
      {'rope_scaling': {'type': 'mrope', 'mrope_section': [1, 2]}},
      ['rope_scaling', "'mrope'", 'yarn'],
    ),
    (
      {'rope_parameters': {'rope_type': 'linear', 'rope_theta': 1e4}},
      ['rope_parameters', "'linear'", 'no factor'],
    ),
    (
      {
        'rope_parameters': {
          'rope_type': 'linear',
          'factor': 2.0,
          'speed': 1,
        }
      },
      ["'linear'", 'unknown speed', 'it takes factor'],
    ),
    (
      {'rope_parameters': {'rope_type': 'default', 'rope_theta': 'high'}},
      ['rope_theta="high"', 'positive number'],
    ),
    (
      {'rope_parameters': {'partial_rotary_factor': 0.5}},
      ['partial_rotary_factor=0.5', 'Qwen2ForCausalLM', '1.0'],
    ),
    ({'rope_parameters': [1]}, ['rope_parameters=[1]', 'object or null']),
    ({'quantization_config': {'bits': 4}}, ['quantization_config', 'null']),
    ({'hidden_size': '32'}, ['hidden_size="32"', 'positive int']),
    ({'num_hidden_layers': 0}, ['num_hidden_layers=0', 'positive int']),
    ({'num_key_value_heads': None}, ['num_key_value_heads=null', 'positive']),
    ({'vocab_size': True}, ['vocab_size=true', 'positive int']),
    ({'rms_norm_eps': -1.0}, ['rms_norm_eps=-1.0', 'positive float']),
    ({'tie_word_embeddings': 1}, ['tie_word_embeddings=1', 'true or false']),
    ({'num_key_value_heads': 3}, ['n_heads=4', 'n_kv_heads=3']),
    (
      {'hidden_size': 30, 'head_dim': None},
      ['hidden_size=30', 'num_attention_heads=4', 'head_dim'],
    ),
  ],
  ids=lambda x: str(next(iter(x.items()))) if isinstance(x, dict) else '',
)
def test_config_fields_that_are_refused(tied, changes, words):
  message = refusal(huggingface.read_config, edit_config(tied, **changes))
  assert all(word in message for word in words), message


@pytest.mark.parametrize(
  ('variant', 'changes', 'words'),
  [
    ('llama', {'attention_bias': True}, ['attention_bias=true', 'false']),
    ('llama', {'mlp_bias': True}, ['mlp_bias=true', 'false']),
    ('qwen3_moe', {'decoder_sparse_step': 2}, ['decoder_sparse_step=2', '1']),
    ('qwen3_moe', {'mlp_only_layers': [0]}, ['mlp_only_layers=[0]', '[]']),
    ('qwen3_moe', {'num_experts_per_tok': 9}, ['experts.used=9', 'count=6']),
    ('gemma2', {'hidden_activation': 'gelu'}, ['hidden_activation="gelu"']),
    (
      'gemma3',
      {'use_bidirectional_attention': True},
      ['use_bidirectional_attention=true'],
    ),
    ('gemma3', {'attn_logit_softcapping': 30.0}, ['softcapping=30', 'null']),
    ('gemma2', {'final_logit_softcapping': -1}, ['final_logit', 'positive']),
  ],
)
def test_fields_of_families_that_are_refused(tmp_path, variant, changes, words):
  fields = json.loads((FIXTURES / variant / 'config.json').read_text())
  path = write(tmp_path, **fields | changes)
  message = refusal(config_json.parse, path)
  assert all(word in message for word in words), message


@pytest.mark.parametrize('name', ['model_type', 'hidden_size', 'vocab_size'])
def test_config_fields_that_are_needed(tied, name):
  message = refusal(huggingface.read_config, edit_config(tied, drop=(name,)))
  assert f'no field {name}' in message


@pytest.mark.parametrize(
  ('name', 'changes', 'words'),
  [
    ('llama', {'qkv_bias': True}, ['LlamaForCausalLM', 'qkv_bias=True']),
    ('llama', {'windows': (4, 0)}, ['windows']),
    ('mistral', {'windows': (4, 0)}, ['one kind']),
    ('gemma2', {'windows': (4, 5)}, ['[4, 5]', 'one length']),
    ('qwen2_tied', {'positions': 'nope'}, ["positions='nope'", "'lrm'"]),
    ('gemma2', {'local_rope': Rope(theta=1.0)}, ['local_rope', "'lrm'"]),
    ('gemma3', {'local_rope': None}, ['local_rope=None']),
    ('qwen3', {'rope': Rope(fraction=0.5)}, ['rope', 'fraction=0.5']),
    ('qwen3', {'rope': DYNAMIC}, ["kind='dynamic'", "'lrm'"]),
    ('qwen3', {'experts': Experts(4, 2, 8)}, ['experts=Experts(count=4']),
    ('qwen3_moe', {'experts': None}, ['num_experts']),
  ],
)
def test_what_a_file_cannot_say(name, changes, words):
  config = dataclasses.replace(read(name), **changes)
  message = refusal(config_json.render, config, 'float32')
  assert all(word in message for word in words), message


@pytest.mark.parametrize('text', ['', '[]', '{"model_type"', '\xff'])
def test_config_that_is_no_json_object(tied, text):
  (tied / 'config.json').write_bytes(text.encode('latin-1'))
  assert 'not a JSON object' in refusal(huggingface.read_config, tied)


def test_directories_that_are_not_there(tmp_path, tied):
  message = refusal(huggingface.load, tmp_path / 'nowhere')
  assert 'nowhere: no such directory' in message
  (tied / 'config.json').unlink()
  assert 'config.json: cannot be read' in refusal(huggingface.load, tied)
