"""Adapters in PEFT's layout: the same change of the same tensors."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from lrm_jax import jsonl
from lrm_jax.checkpoints import huggingface, peft_layout
from lrm_jax.models import lora as lora_lib
from lrm_jax.models import output_head
from lrm_jax.models.lora import Lora
from tests import bits
from tests.checkpoints.hf_models import FIXTURES, refusal
from tests.models import tiny
from tests.models.lora_test import trained

LORA = Lora(rank=2, alpha=6.0)
# One of each family; phi3 stores projections below each other.
VARIANTS = (
  'qwen2_untied',
  'qwen3',
  'qwen3_moe',
  'llama',
  'mistral',
  'phi3',
  'gemma2',
  'gemma3',
)


def read(directory):
  config = json.loads((directory / 'adapter_config.json').read_text())
  path = directory / 'adapter_model.safetensors'
  return config, safetensors.numpy.load_file(path)


def edit(directory, change):
  """Changes fields and tensors in place."""
  config, tensors = read(directory)
  change(config, tensors)
  (directory / 'adapter_config.json').write_text(json.dumps(config))
  path = directory / 'adapter_model.safetensors'
  safetensors.numpy.save_file(tensors, path)
  return directory


@pytest.fixture(scope='module', params=VARIANTS)
def variant(request):
  return request.param


@pytest.fixture(scope='module')
def model(variant):
  return huggingface.load(FIXTURES / variant)


@pytest.fixture(scope='module')
def saved(variant, model, tmp_path_factory):
  directory = tmp_path_factory.mktemp(variant)
  adapters = trained(LORA, model[1])
  peft_layout.save(directory, model[0], LORA, adapters, 'a/base')
  return directory, adapters


def test_weights_change_as_ours_do(model, saved, tmp_path):
  """W' - W = alpha / r B A of every tensor, patterns included, in float64."""
  config, params = model
  merged = lora_lib.merge(params, saved[1], LORA)
  for name, tree in (('before', params), ('after', merged)):
    huggingface.save(tmp_path / name, config, tree)
  before, after = (
    safetensors.numpy.load_file(tmp_path / name / 'model.safetensors')
    for name in ('before', 'after')
  )
  stated, tensors = read(saved[0])
  for name in before:
    module = name.removesuffix('.weight')
    key = f'base_model.model.{module}.lora_{{}}.weight'
    kind = module.rpartition('.')[2]
    if key.format('A') not in tensors:
      np.testing.assert_array_equal(before[name], after[name])
      assert kind not in stated['target_modules'] or 'bias' in name
      continue
    assert kind in stated['target_modules']
    rank = stated['rank_pattern'].get(kind, stated['r'])
    alpha = stated['alpha_pattern'].get(kind, stated['lora_alpha'])
    a, b = (np.float64(tensors.pop(key.format(x))) for x in 'AB')
    assert (len(a), b.shape[1]) == (rank, rank)
    expected = alpha / rank * b @ a
    assert np.abs(expected).max() > 0.01
    found = np.float64(after[name]) - np.float64(before[name])
    np.testing.assert_allclose(found, expected, atol=2e-6)
  assert not tensors


def test_reading_gives_back_what_was_written(model, saved):
  directory, adapters = saved
  found = peft_layout.load(directory, model[0], LORA)
  bits.assert_same(found, jax.device_get(adapters))


# --- By letter ---


@pytest.fixture
def directory(tmp_path):
  """Of a dense model with adapters on q and down."""
  adapters = trained(SOME, PARAMS)
  peft_layout.save(tmp_path / 'adapter', CONFIG, SOME, adapters, 'a/base')
  return tmp_path / 'adapter'


SOME = Lora(rank=2, alpha=6.0, targets=('q', 'down'))
CONFIG = tiny.make_config()
PARAMS = tiny.make_params(CONFIG)


def test_files_are_those_of_peft(directory):
  config, tensors = read(directory)
  assert config == {
    'base_model_name_or_path': 'a/base',
    'inference_mode': True,
    'peft_type': 'LORA',
    'task_type': 'CAUSAL_LM',
    'r': 2,
    'lora_alpha': 6,
    'target_modules': ['down_proj', 'q_proj'],
    'rank_pattern': {},
    'alpha_pattern': {},
    'bias': 'none',
    'lora_dropout': 0.0,
    'fan_in_fan_out': False,
    'use_rslora': False,
    'use_dora': False,
  }
  start = 'base_model.model.model.layers.'
  shapes = {name: tensor.shape for name, tensor in tensors.items()}
  assert shapes == {
    f'{start}{layer}.{module}.lora_{side}.weight': shape
    for layer in (0, 1)
    for module, side, shape in (
      ('self_attn.q_proj', 'A', (2, 16)),
      ('self_attn.q_proj', 'B', (24, 2)),
      ('mlp.down_proj', 'A', (2, 20)),
      ('mlp.down_proj', 'B', (16, 2)),
    )
  }
  assert {t.dtype for t in tensors.values()} == {np.dtype('float32')}


def test_some_of_what_is_fused(tmp_path):
  """Of phi3's qkv, k and v: rank 2 of each, and zeros in the rows of q."""
  config, params = huggingface.load(FIXTURES / 'phi3')
  lora = Lora(rank=2, alpha=3.0, targets=('v', 'k'))
  adapters = trained(lora, params)
  peft_layout.save(tmp_path, config, lora, adapters, 'base')
  stated, tensors = read(tmp_path)
  assert stated['target_modules'] == ['qkv_proj']
  assert stated['rank_pattern'] == {'qkv_proj': 4}
  assert stated['alpha_pattern'] == {'qkv_proj': 6}
  b = tensors[
    'base_model.model.model.layers.1.self_attn.qkv_proj.lora_B.weight'
  ]
  heads, kv = 4 * config.head_dim, 2 * config.head_dim
  assert b.shape == (heads + 2 * kv, 4)
  is_set = b != 0
  assert not is_set[:heads].any()
  assert is_set[heads : heads + kv, :2].all()
  assert is_set[heads + kv :, 2:].all()
  assert is_set.sum() == 2 * kv * 2
  found = peft_layout.load(tmp_path, config, lora)
  bits.assert_same(found, jax.device_get(adapters))


def test_earlier_adapters_are_replaced(directory):
  adapters = trained(SOME, PARAMS, seed=9)
  peft_layout.save(directory, CONFIG, SOME, adapters, 'a/base')
  assert sorted(p.name for p in directory.iterdir()) == [
    'adapter_config.json',
    'adapter_model.safetensors',
  ]
  found = peft_layout.load(directory, CONFIG, SOME)
  bits.assert_same(found, jax.device_get(adapters))


def test_what_peft_may_write_otherwise_is_read(directory):
  """Null for nothing, half precision, and fields that change nothing."""

  def change(config, tensors):
    config |= {'rank_pattern': None, 'lora_dropout': 0.1, 'revision': None}
    config['target_modules'] = ['q_proj', 'down_proj']
    del config['use_dora']
    for name, tensor in tensors.items():
      tensors[name] = tensor.astype(np.float16)

  found = peft_layout.load(edit(directory, change), CONFIG, SOME)
  _, tensors = read(directory)
  name = 'base_model.model.model.layers.1.mlp.down_proj.lora_A.weight'
  ours = found['layers']['mlp']['down']['kernel']['lora_a'][1]
  np.testing.assert_array_equal(ours.T, np.float32(tensors[name]))


Q = 'base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight'
CHANGES = {
  'other rank': (lambda c, t: c.update(r=4), ('r is 4', 'lora.rank')),
  'other alpha': (lambda c, t: c.update(lora_alpha=2), ('lora_alpha is 2',)),
  'no rank': (lambda c, t: c.pop('r'), ("'r'",)),
  'other scale': (lambda c, t: c.update(use_rslora=True), ('use_rslora',)),
  'other kind': (lambda c, t: c.update(peft_type='IA3'), ('"IA3"', '"LORA"')),
  'more modules': (
    lambda c, t: c['target_modules'].append('k_proj'),
    ('k_proj', 'lora.targets'),
  ),
  'a pattern': (lambda c, t: c.update(target_modules='.*_proj'), ('.*_proj',)),
  'a tensor less': (lambda c, t: t.pop(Q), (Q, 'missing')),
  'a tensor more': (lambda c, t: t.update(x=t[Q]), ('x is', 'not known')),
  'other shape': (lambda c, t: t.update({Q: t[Q][:-1]}), (Q, 'shape')),
}


@pytest.mark.parametrize('name', CHANGES)
def test_what_does_not_fit_is_refused(directory, name):
  change, words = CHANGES[name]
  message = refusal(peft_layout.load, edit(directory, change), CONFIG, SOME)
  for word in words:
    assert word in message


def test_mixed_projections_are_refused(tmp_path):
  """PEFT's own adapters of a fused module: B is nowhere zero."""
  config, params = huggingface.load(FIXTURES / 'phi3')
  peft_layout.save(tmp_path, config, LORA, trained(LORA, params), 'base')

  def change(_, tensors):
    for name, tensor in tensors.items():
      tensors[name] = tensor + 0.5

  message = refusal(peft_layout.load, edit(tmp_path, change), config, LORA)
  assert 'qkv_proj' in message or 'gate_up_proj' in message
  assert 'mixes projections' in message


def test_absent_and_damaged_files_are_refused(directory):
  path = directory / 'adapter_model.safetensors'
  path.write_bytes(path.read_bytes()[:100])
  message = refusal(peft_layout.load, directory, CONFIG, SOME)
  assert 'not a whole safetensors file' in message
  path.unlink()
  assert str(path) in refusal(peft_layout.load, directory, CONFIG, SOME)
  (directory / 'adapter_config.json').write_text('[]')
  for place in (directory, directory / 'absent'):
    message = refusal(peft_layout.load, place, CONFIG, SOME)
    assert 'adapter_config.json' in message


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  adapters = trained(SOME, PARAMS)
  message = refusal(
    peft_layout.save, tmp_path / 'file', CONFIG, SOME, adapters, 'base'
  )
  assert 'file: is a file' in message


def test_adapters_appear_whole_or_not_at_all(directory, monkeypatch):
  before = bits.digests(directory)
  adapters = trained(SOME, PARAMS, seed=9)
  write = jsonl.write_json

  def fail(path, value):
    assert bits.digests(directory) == before
    if path.name == 'adapter_config.json':
      raise OSError(28, 'No space left on device')
    write(path, value)

  monkeypatch.setattr(jsonl, 'write_json', fail)
  for place in (directory, directory.with_name('new')):
    message = refusal(peft_layout.save, place, CONFIG, SOME, adapters, 'base')
    assert 'cannot be written' in message and 'No space left' in message
  assert bits.digests(directory) == before
  assert [p.name for p in directory.parent.iterdir()] == [directory.name]


@pytest.mark.parametrize(
  'name', ['model.safetensors', 'results.json', 'tokenizer.json', 'params/']
)
def test_other_files_beside_adapters_are_kept(directory, name):
  path = directory / name
  path.mkdir() if name.endswith('/') else path.write_text('{}')
  before = bits.digests(directory)
  adapters = trained(SOME, PARAMS, seed=9)
  message = refusal(peft_layout.save, directory, CONFIG, SOME, adapters, 'base')
  assert f'holds {path.name}, which would be lost' in message
  assert bits.digests(directory) == before and path.exists()


def test_a_card_beside_adapters_goes_with_them(directory):
  (directory / 'README.md').write_text('')
  adapters = trained(SOME, PARAMS, seed=9)
  peft_layout.save(directory, CONFIG, SOME, adapters, 'base')
  assert not (directory / 'README.md').exists()


# --- Live: needs torch, transformers and peft ---

SEED = 11


@pytest.fixture(scope='module')
def live(variant, tmp_path_factory):
  """A fresh model in transformers, and ours read from what it saved."""
  why = 'compares with a live model of transformers'
  for name in ('torch', 'transformers', 'peft'):
    pytest.importorskip(name, reason=why)
  from tests.fixtures import make_parity

  theirs = make_parity.make_model(SEED, variant)
  directory = tmp_path_factory.mktemp(f'live_{variant}')
  theirs.save_pretrained(directory)
  return make_parity, theirs, *huggingface.load(directory)


def compute(config, params, rows):
  """Logits `[tokens, V]` of packed sequences."""
  tokens, at, segments = tiny.pack([rows], sum(map(len, rows)))
  hidden, _ = tiny.apply(config, params, tokens, at, segments)
  return np.asarray(output_head.logits(config, params, hidden))[0]


@pytest.mark.parity
def test_live_peft_computes_what_we_merged(live, tmp_path):
  import peft

  make_parity, theirs, config, params = live
  adapters = trained(LORA, params)
  peft_layout.save(tmp_path, config, LORA, adapters, 'base')
  rows, _, _ = make_parity.make_inputs(SEED)
  logits = lambda model: np.concatenate(
    [make_parity.reference_logits(model, row[None])[0] for row in rows]
  )
  plain = logits(theirs)
  adapted = peft.PeftModel.from_pretrained(theirs, tmp_path)
  expected = logits(adapted)
  # Not for the next test: the adapters go again.
  adapted.unload()
  assert np.abs(expected - plain).max() > 0.1
  merged = lora_lib.merge(params, adapters, LORA)
  found = compute(config, merged, rows)
  assert np.abs(found - expected).max() <= 1e-4


@pytest.mark.parity
def test_live_adapters_of_peft_are_read(tmp_path):
  """What PEFT saves of a model it adapted itself."""
  for name in ('torch', 'transformers', 'peft'):
    pytest.importorskip(name, reason='compares with a live adapter of PEFT')
  import peft
  import torch

  from tests.fixtures import make_parity

  theirs = make_parity.make_model(SEED, 'qwen2_tied')
  theirs.save_pretrained(tmp_path / 'base')
  settings = peft.LoraConfig(
    r=2,
    lora_alpha=6,
    target_modules=['q_proj', 'down_proj'],
    task_type='CAUSAL_LM',
  )
  adapted = peft.get_peft_model(theirs, settings)
  with torch.no_grad():
    for name, parameter in adapted.named_parameters():
      if 'lora_B' in name:
        parameter.normal_(std=0.2)
  adapted.save_pretrained(tmp_path / 'adapter')
  config, params = huggingface.load(tmp_path / 'base')
  adapters = peft_layout.load(tmp_path / 'adapter', config, SOME)
  rows, _, _ = make_parity.make_inputs(SEED)
  expected = np.concatenate(
    [make_parity.reference_logits(adapted.eval(), row[None])[0] for row in rows]
  )
  merged = lora_lib.merge(params, adapters, SOME)
  assert np.abs(compute(config, merged, rows) - expected).max() <= 1e-4
