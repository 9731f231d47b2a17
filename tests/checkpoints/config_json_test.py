"""config.json of old and new transformers; what we cannot run is named."""

import json

import jax
import pytest

from lrm_jax.checkpoints import config_json, huggingface
from lrm_jax.checkpoints.families import FAMILIES
from lrm_jax.models import presets, rope
from lrm_jax.models.config import Experts, ModelConfig
from lrm_jax.models.rope import KINDS, Rope
from tests.checkpoints.hf_models import FIXTURES, edit_config, refusal
from tests.models.rope_test import LITERALS

VARIANTS = sorted(path.parent.name for path in FIXTURES.glob('*/logits.npz'))
YARN = {
  'factor': 4.0,
  'original_max_position_embeddings': 16,
}


def read(name):
  return huggingface.read_config(FIXTURES / name)


def write(tmp_path, **fields):
  path = tmp_path / 'config.json'
  path.write_text(json.dumps(fields))
  return path


# What transformers wrote.


def test_config_of_transformers_5(tied, untied):
  config = huggingface.read_config(tied)
  assert config == ModelConfig(
    family='qwen2',
    vocab_size=61,
    d_model=32,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=12,
    d_ff=44,
    max_positions=64,
    rope=Rope(theta=1e6),
    rms_eps=1e-6,
    tie_embeddings=True,
    qkv_bias=True,
  )
  other = huggingface.read_config(untied)
  assert (other.head_dim, other.n_kv_heads) == (8, 4)
  assert (other.rope.theta, other.rms_eps) == (1e4, 1e-5)
  assert not other.tie_embeddings


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    (
      'qwen2_windows',
      {
        'windows': (0, 4, 4),
        'rope': Rope('yarn', 100.0, settings=tuple(YARN.items())),
      },
    ),
    ('qwen3', {'qk_norm': True, 'qkv_bias': False, 'head_dim': 12}),
    ('qwen3_moe', {'experts': Experts(6, 2, 24, True), 'qk_norm': True}),
    (
      'llama',
      {
        'qkv_bias': False,
        'head_dim': 8,
        'rope': Rope(
          'llama3',
          100.0,
          settings=(
            ('factor', 8.0),
            ('high_freq_factor', 4.0),
            ('low_freq_factor', 1.0),
            ('original_max_position_embeddings', 16),
          ),
        ),
      },
    ),
    (
      'llama_linear',
      {'rope': Rope('linear', 100.0, settings=(('factor', 2.0),))},
    ),
    ('mistral', {'windows': (4, 4)}),
    ('mistral_whole', {'windows': ()}),
    (
      'gemma2',
      {
        'windows': (4, 0),
        'attention_softcap': 3.0,
        'logits_softcap': 2.0,
        'query_width': 20,
        'activation': 'gelu_tanh',
        'norm_plus_one': True,
        'post_norms': True,
        'scale_embeddings': True,
        'tie_embeddings': False,
        'local_rope': None,
      },
    ),
    (
      'gemma3',
      {
        'windows': (4, 4, 4, 4, 4, 0, 4),
        'attention_softcap': 0,
        'logits_softcap': 3.0,
        'qk_norm': True,
        'rope': Rope('linear', 1000.0, settings=(('factor', 8.0),)),
        'local_rope': Rope('default', 100.0),
      },
    ),
    ('phi3', {'windows': (5, 5), 'qkv_bias': False, 'rope': Rope(theta=1e4)}),
    (
      'phi3_longrope',
      {
        'rope': Rope(
          'longrope',
          1e4,
          0.5,
          (
            ('factor', 16.0),
            ('long_factor', (1.0, 3.0, 6.0, 9.0)),
            ('original_max_position_embeddings', 4),
            ('short_factor', (1.0, 1.2, 1.5, 2.0)),
          ),
        ),
      },
    ),
  ],
)
def test_families(name, expected):
  config = read(name)
  assert {key: getattr(config, key) for key in expected} == expected
  preset = presets.PRESETS[config.family]
  assert {key: getattr(config, key) for key in preset} == preset


@pytest.mark.parametrize('name', VARIANTS)
def test_what_is_written_is_read_again(name, tmp_path):
  config = read(name)
  path = write(tmp_path, **config_json.render(config, 'float32'))
  assert config_json.parse(path) == config


@pytest.mark.parametrize('family', FAMILIES)
def test_fixtures_have_every_field_other_than_its_default(family):
  """So that a field which is read and not used, or not read, is seen."""
  configs = [read(name) for name in VARIANTS]
  mine = [config for config in configs if config.family == family]
  for field in FAMILIES[family].fields:
    if field.default is None:
      continue
    values = {getattr(config, field.ours) for config in mine}
    # Absent means the value of another field: of as many heads here.
    default = field.default
    if isinstance(default, str):
      default = mine[0].n_heads
    assert values - {default}, field.theirs


def test_every_family_has_a_fixture():
  assert {read(name).family for name in VARIANTS} == set(FAMILIES)


# Files of older transformers.


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


def test_r1_distill_llama(tmp_path):
  """The config.json of DeepSeek-R1-Distill-Llama-8B, fields that matter."""
  path = write(
    tmp_path,
    architectures=['LlamaForCausalLM'],
    attention_bias=False,
    hidden_act='silu',
    hidden_size=4096,
    intermediate_size=14336,
    max_position_embeddings=131072,
    mlp_bias=False,
    model_type='llama',
    num_attention_heads=32,
    num_hidden_layers=32,
    num_key_value_heads=8,
    pretraining_tp=1,
    rms_norm_eps=1e-05,
    rope_scaling={
      'factor': 8.0,
      'high_freq_factor': 4.0,
      'low_freq_factor': 1.0,
      'original_max_position_embeddings': 8192,
      'rope_type': 'llama3',
    },
    rope_theta=500000.0,
    tie_word_embeddings=False,
    torch_dtype='bfloat16',
    vocab_size=128256,
  )
  config = config_json.parse(path)
  assert (config.family, config.head_dim) == ('llama', 128)
  assert (config.rope.kind, config.rope.theta) == ('llama3', 5e5)
  assert dict(config.rope.settings)['original_max_position_embeddings'] == 8192


def test_gemma3_of_transformers_4(tmp_path):
  """rope_local_base_freq and sliding_window_pattern, no layer_types."""
  path = write(
    tmp_path,
    architectures=['Gemma3ForCausalLM'],
    model_type='gemma3_text',
    head_dim=256,
    hidden_activation='gelu_pytorch_tanh',
    hidden_size=1152,
    intermediate_size=6912,
    max_position_embeddings=32768,
    num_attention_heads=4,
    num_hidden_layers=26,
    num_key_value_heads=1,
    query_pre_attn_scalar=256,
    rope_local_base_freq=10000,
    rope_scaling=None,
    rope_theta=1000000,
    sliding_window=512,
    sliding_window_pattern=6,
    vocab_size=262144,
  )
  config = config_json.parse(path)
  assert config.windows == ((512,) * 5 + (0,)) * 4 + (512, 512)
  assert config.rope == Rope(theta=1e6)
  assert config.local_rope == Rope(theta=1e4)
  assert config.tie_embeddings


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
  assert (config.rope.theta, config.rms_eps) == (1e4, 1e-6)
  assert (config.max_positions, config.tie_embeddings) == (32768, False)


def test_settings_are_the_callers(tied):
  config, params = huggingface.load(
    tied, param_dtype='bfloat16', compute_dtype='bfloat16', remat='dots'
  )
  assert (config.param_dtype, config.compute_dtype) == ('bfloat16',) * 2
  assert config.remat == 'dots'
  dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(params)}
  assert dtypes == {'bfloat16'}


# Our own models.


@pytest.mark.parametrize(
  'schemes',
  [
    {'positions': 'lm_infinite', 'trained_positions': 16},
    {'windows': [0, 3], 'local_rope': {'theta': 10.0}},
  ],
)
def test_a_model_of_our_own(tmp_path, schemes):
  config = presets.build(
    vocab_size=61,
    d_model=32,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=8,
    d_ff=44,
    rope={'kind': 'truncated', 'theta': 100.0, 'settings': {'truncate': 8.0}},
    experts={'count': 3, 'used': 1, 'width': 5},
    post_norms=True,
    **schemes,
  )
  fields = config_json.render(config, 'float32')
  assert fields['model_type'] == 'lrm_jax'
  assert config_json.parse(write(tmp_path, **fields)) == config
  message = refusal(config_json.parse, write(tmp_path, model_type='lrm_jax'))
  assert 'no field' in message


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('family', ['qwen2', 'lrm'])
def test_rotary_positions_of_every_kind(tmp_path, family, kind):
  theta, width, window, settings, *_ = LITERALS[kind]
  if (family, kind) == ('qwen2', 'dynamic'):
    # In transformers the window stated is the one it was trained on.
    settings = settings | {'original_max_position_embeddings': window}
  config = presets.build(
    family,
    vocab_size=61,
    d_model=4 * width,
    n_layers=1,
    n_heads=4,
    n_kv_heads=2,
    head_dim=width,
    d_ff=8,
    max_positions=window,
    rope={'kind': kind, 'theta': theta, 'settings': settings},
  )
  fields = config_json.render(config, 'float32')
  found = config_json.parse(write(tmp_path, **fields))
  for name in ('kind', 'theta', 'fraction'):
    assert getattr(found.rope, name) == getattr(config.rope, name)
  tables = [rope.frequencies(c.rope, width, window) for c in (config, found)]
  assert tables[0][0].tolist() == tables[1][0].tolist()
  assert tables[0][1] == tables[1][1]


def test_r1_0528_qwen3(tmp_path):
  """Its rope_scaling has what transformers does not read."""
  published = {
    'rope_type': 'yarn',
    'factor': 4.0,
    'original_max_position_embeddings': 32768,
    'attn_factor': 0.8782488562869419,
  }
  fields = json.loads((FIXTURES / 'qwen3' / 'config.json').read_text())
  fields |= {
    'max_position_embeddings': 131072,
    'rope_parameters': None,
    'rope_scaling': published,
    'rope_theta': 1000000,
  }
  config = config_json.parse(write(tmp_path, **fields))
  assert config.rope == Rope(
    'yarn',
    1e6,
    settings=(('factor', 4.0), ('original_max_position_embeddings', 32768)),
  )
  # 0.1 ln 4 + 1, as of any YaRN that states no attention_factor.
  _, factor = rope.frequencies(config.rope, config.head_dim, 131072)
  assert factor == pytest.approx(1.1386294)
  fields['rope_scaling'] = published | {'rope_type': 'linear'}
  message = refusal(config_json.parse, write(tmp_path, **fields))
  assert 'attn_factor' in message
