"""config.json that asks for the impossible: refused by name, and at once."""

import dataclasses
import json

import pytest

from lrm_jax import main
from lrm_jax.checkpoints import config_json, huggingface
from tests.checkpoints.config_json_test import VARIANTS, read, write
from tests.checkpoints.hf_models import FIXTURES, edit_config, refusal

NAN, INFINITY = float('nan'), float('inf')
BILLION = 10**9
ORIGINAL = 'original_max_position_embeddings'


def refuse(tmp_path, variant, **changes):
  fields = json.loads((FIXTURES / variant / 'config.json').read_text())
  return refusal(config_json.parse, write(tmp_path, **fields | changes))


@pytest.mark.parametrize(
  ('variant', 'name', 'value', 'word'),
  [
    ('llama', 'rms_norm_eps', NAN, 'positive float'),
    ('llama', 'rms_norm_eps', INFINITY, 'positive float'),
    ('llama', 'rms_norm_eps', 10**400, 'positive float'),
    ('gemma2', 'final_logit_softcapping', NAN, 'positive float'),
    ('gemma2', 'query_pre_attn_scalar', -INFINITY, 'positive float'),
    ('llama', 'num_hidden_layers', 1001, 'at most 1000'),
    ('llama', 'num_hidden_layers', BILLION, 'at most 1000'),
    ('qwen3_moe', 'num_experts', 4097, 'at most 4096'),
    ('llama', 'vocab_size', 2**30 + 1, 'at most 1073741824'),
    ('llama', 'max_position_embeddings', 2**31, 'at most 1073741824'),
    ('llama', 'head_dim', 2**20, 'at most 65536'),
    ('llama', 'head_dim', 7, 'odd'),
    ('mistral', 'sliding_window', 2**31, 'at most 1073741824'),
  ],
)
def test_numbers_out_of_bounds(tmp_path, variant, name, value, word):
  message = refuse(tmp_path, variant, **{name: value})
  assert f'{name}={json.dumps(value)}' in message or name in message
  assert word in message


def test_a_head_may_not_get_everything(tmp_path):
  """Its frequencies alone would take gigabytes."""
  message = refuse(
    tmp_path,
    'llama',
    head_dim=None,
    hidden_size=2**30,
    num_attention_heads=1,
    num_key_value_heads=1,
  )
  assert 'hidden_size=1073741824' in message and '65536' in message


@pytest.mark.parametrize('name', ['num_hidden_layers', 'vocab_size'])
def test_what_is_within_bounds_is_read(tied, name):
  edit_config(tied, drop=('layer_types',), **{name: 1000})
  huggingface.read_config(tied)


def test_a_billion_layers_end_the_command(untied, tmp_path, capsys):
  edit_config(untied, drop=('layer_types',), num_hidden_layers=BILLION)
  flags = [f'--from={untied}', f'--to={tmp_path / "to"}']
  assert main.main(['lrm', 'convert', *flags]) == 2
  error = capsys.readouterr().err
  assert 'num_hidden_layers=1000000000' in error and error.count('\n') == 1


@pytest.mark.parametrize(
  ('group', 'word'),
  [
    ({'rope_type': ['yarn']}, 'rope_type=["yarn"] must be a string'),
    ({'type': {}}, 'type={} must be a string'),
    ({'rope_type': None}, 'rope_type=null must be a string'),
    ({'rope_type': 'yarn', 'factor': 2.0, 'rope_theta': 1}, 'theta=1.0 must'),
    ({'rope_type': 'yarn', 'factor': 2.0, 'rope_theta': 0.5}, 'above 1 for y'),
    ({'rope_type': 'yarn', 'factor': 2.0, ORIGINAL: 0}, f'{ORIGINAL}=0 must'),
    ({'rope_type': 'yarn', ORIGINAL: 'x'}, f'{ORIGINAL}="x" must'),
    ({'rope_type': 'yarn', ORIGINAL: NAN}, f'{ORIGINAL}=NaN must'),
    (
      {
        'rope_type': 'longrope',
        ORIGINAL: 1,
        'short_factor': [1.0] * 4,
        'long_factor': [1.0] * 4,
      },
      f'{ORIGINAL}=1 must be above 1 for longrope',
    ),
    ({'rope_type': 'linear', 'factor': 1e-320}, 'gives no frequencies'),
    ({'rope_type': 'linear', 'factor': 10**400}, 'gives no frequencies'),
    ({'rope_type': 'ntk', 'factor': 1e300}, 'gives no frequencies'),
    ({'rope_type': 'linear', 'factor': NAN}, 'factor=nan must be'),
    ({'rope_theta': 1e39}, 'gives no frequencies'),
    ({'rope_theta': 10**400}, 'rope_theta=1000'),
    ({'rope_theta': INFINITY}, 'rope_theta=Infinity'),
  ],
  ids=lambda x: json.dumps(x)[:60] if isinstance(x, dict) else '',
)
@pytest.mark.parametrize('name', ['rope_parameters', 'rope_scaling'])
def test_rotary_positions_that_are_none(tmp_path, name, group, word):
  changes = {'rope_parameters': None, name: group}
  message = refuse(tmp_path, 'qwen2_untied', **changes)
  assert f'config.json: {name}' in message and word in message, message


def test_the_trained_window_of_phi3(tmp_path):
  message = refuse(tmp_path, 'phi3_longrope', **{ORIGINAL: 1})
  assert f'{ORIGINAL}=1 must be above 1' in message


@pytest.mark.parametrize(
  'variant', [name for name in VARIANTS if not name.startswith('phi3')]
)
@pytest.mark.parametrize('group', [{}, {'rope_type': 'linear', 'factor': 2.0}])
def test_a_share_of_the_head_that_only_phi3_has(tmp_path, variant, group):
  changes = {'rope_parameters': group, 'partial_rotary_factor': 0.5}
  message = refuse(tmp_path, variant, **changes)
  assert 'partial_rotary_factor=0.5 is not supported' in message
  assert 'null or 1' in message
  fields = json.loads((FIXTURES / variant / 'config.json').read_text())
  expected = read(variant)
  for whole in (None, 1, 1.0):
    path = write(tmp_path, **fields | {'partial_rotary_factor': whole})
    assert config_json.parse(path) == expected


def test_a_share_in_its_group(tmp_path):
  group = {'rope_type': 'proportional', 'partial_rotary_factor': 0.5}
  fields = json.loads((FIXTURES / 'qwen3' / 'config.json').read_text())
  path = write(tmp_path, **fields | {'rope_parameters': group})
  assert config_json.parse(path).rope.settings == (('share', 0.5),)


@pytest.mark.parametrize('name', ['full_attention', 'sliding_attention'])
def test_groups_that_are_none(tmp_path, name):
  message = refuse(tmp_path, 'gemma3', rope_parameters={name: [1]})
  assert f'rope_parameters.{name}=[1] must be an object' in message


@pytest.mark.parametrize(
  ('variant', 'changes', 'word'),
  [
    ('gemma3', {'sliding_window_pattern': 0}, 'pattern=0 must be an int'),
    ('gemma3', {'sliding_window_pattern': 'x'}, 'pattern="x" must be an int'),
    (
      'qwen2_windows',
      {'use_sliding_window': True, 'max_window_layers': '3'},
      'max_window_layers="3" must be an int',
    ),
  ],
)
def test_counts_of_layers(tmp_path, variant, changes, word):
  message = refuse(tmp_path, variant, layer_types=None, **changes)
  assert word in message


@pytest.mark.parametrize(
  ('changes', 'word'),
  [
    ({'n_layers': BILLION}, 'n_layers=1000000000 must be of type int from 0'),
    ({'d_model': 'wide'}, 'd_model="wide" must be of type int'),
    ({'rms_eps': NAN}, 'rms_eps=NaN must be of type float'),
    ({'tie_embeddings': 1}, 'tie_embeddings=1 must be of type bool;'),
    ({'n_kv_heads': 0}, 'export the model again'),
    ({'rope': {'kind': ['yarn']}}, 'export the model again'),
    ({'rope': {'kind': 'yarn', 'theta': 1.0}}, 'export the model again'),
    ({'experts': {'count': BILLION, 'used': 1, 'width': 4}}, 'from 0 to 4096'),
  ],
)
def test_models_of_our_own(tmp_path, changes, word):
  config = dataclasses.replace(read('qwen2_untied'), family='lrm')
  fields = config_json.render(config, 'float32') | changes
  message = refusal(config_json.parse, write(tmp_path, **fields))
  assert word in message, message
