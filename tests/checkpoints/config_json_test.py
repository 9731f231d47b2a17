"""config.json of old and new transformers; what we cannot run is named."""

import dataclasses

import jax
import pytest

from lrm_jax.checkpoints import huggingface
from tests.checkpoints.hf_models import edit_config, refusal


def test_config_of_transformers_5(tied, untied):
  config = huggingface.read_config(tied)
  assert dataclasses.asdict(config) == {
    'vocab_size': 61,
    'd_model': 32,
    'n_layers': 2,
    'n_heads': 4,
    'n_kv_heads': 2,
    'head_dim': 12,
    'd_ff': 44,
    'max_positions': 64,
    'rope_theta': 1e6,
    'rms_eps': 1e-6,
    'tie_embeddings': True,
    'qkv_bias': True,
    'param_dtype': 'float32',
    'compute_dtype': 'float32',
    'logits_dtype': 'float32',
    'remat': 'none',
    'scan_unroll': 1,
  }
  other = huggingface.read_config(untied)
  assert (other.head_dim, other.n_kv_heads) == (8, 4)
  assert (other.rope_theta, other.rms_eps) == (1e4, 1e-5)
  assert not other.tie_embeddings


def test_config_of_transformers_4(untied):
  """Plain rope_theta, null rope_scaling, torch_dtype, head_dim left out."""
  expected = huggingface.read_config(untied)
  edit_config(
    untied,
    drop=('rope_parameters', 'layer_types', 'dtype'),
    rope_theta=10000,
    rope_scaling=None,
    sliding_window=4096,
    use_mrope=False,
    torch_dtype='bfloat16',
    head_dim=None,
  )
  assert huggingface.read_config(untied) == expected


def test_absent_fields_mean_what_transformers_means(tied):
  edit_config(
    tied,
    drop=(
      'rope_parameters',
      'rms_norm_eps',
      'max_position_embeddings',
      'tie_word_embeddings',
      'hidden_act',
      'architectures',
    ),
  )
  config = huggingface.read_config(tied)
  assert (config.rope_theta, config.rms_eps) == (1e4, 1e-6)
  assert (config.max_positions, config.tie_embeddings) == (32768, False)


def test_settings_are_the_callers(tied):
  config, params = huggingface.load(
    tied, param_dtype='bfloat16', compute_dtype='bfloat16', remat='dots'
  )
  assert (config.param_dtype, config.compute_dtype) == ('bfloat16',) * 2
  assert config.remat == 'dots'
  dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(params)}
  assert dtypes == {'bfloat16'}


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'model_type': 'llama'}, ['model_type="llama"', '"qwen2"']),
    (
      {'architectures': ['Qwen2ForSequenceClassification']},
      ['architectures', 'Qwen2ForSequenceClassification', 'Qwen2ForCausalLM'],
    ),
    ({'hidden_act': 'gelu'}, ['hidden_act="gelu"', '"silu"']),
    ({'use_sliding_window': True}, ['use_sliding_window=true', 'false']),
    (
      {'layer_types': ['full_attention', 'sliding_attention']},
      ['layer_types="sliding_attention"', '"full_attention"'],
    ),
    (
      {'rope_scaling': {'type': 'yarn', 'factor': 4.0}},
      ['rope_scaling.type="yarn"', '"default"'],
    ),
    (
      {'rope_parameters': {'rope_type': 'linear', 'rope_theta': 1e4}},
      ['rope_parameters.rope_type="linear"', '"default"'],
    ),
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


@pytest.mark.parametrize('name', ['model_type', 'hidden_size', 'vocab_size'])
def test_config_fields_that_are_needed(tied, name):
  message = refusal(huggingface.read_config, edit_config(tied, drop=(name,)))
  assert f'no field {name}' in message


@pytest.mark.parametrize('text', ['', '[]', '{"model_type"', '\xff'])
def test_config_that_is_no_json_object(tied, text):
  (tied / 'config.json').write_bytes(text.encode('latin-1'))
  assert 'not a JSON object' in refusal(huggingface.read_config, tied)


def test_directories_that_are_not_there(tmp_path, tied):
  message = refusal(huggingface.load, tmp_path / 'nowhere')
  assert 'nowhere: no such directory' in message
  (tied / 'config.json').unlink()
  assert 'config.json: cannot be read' in refusal(huggingface.load, tied)
