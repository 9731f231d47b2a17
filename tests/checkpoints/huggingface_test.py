"""Models in and out: exact both ways, checked before, all or nothing."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from lrm_jax.checkpoints import extras, huggingface, tensor_files, weights
from lrm_jax.errors import UserError
from lrm_jax.models import presets
from lrm_jax.models.config import DTYPES
from lrm_jax.tokenization import base
from tests import bits
from tests.checkpoints import family_models
from tests.checkpoints.hf_models import FIXTURES, refusal, write_shards
from tests.models import tiny
from tests.tokenization import tiny as tiny_tokenizer

VARIANTS = sorted(path.parent.name for path in FIXTURES.glob('*/logits.npz'))


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('family', presets.PRESETS)
def test_import_of_export_is_the_same(tmp_path, family, dtype):
  """Bit for bit, from one file and from shards."""
  config = family_models.config(family, param_dtype=dtype)
  params = family_models.params(config)
  target = tmp_path / 'a' / 'model'
  for shard_bytes in (10**9, 9000):
    huggingface.save(
      target, config, params, dtype=dtype, shard_bytes=shard_bytes
    )
    shards = sorted(path.name for path in target.glob('*.safetensors'))
    assert (len(shards) > 5) == (shard_bytes == 9000)
    assert huggingface.stored_dtype(target) == dtype
    found_config, found = huggingface.load(target, param_dtype=dtype)
    assert found_config == config
    bits.assert_same(found, params)


@pytest.mark.parametrize('name', VARIANTS)
def test_export_of_import_is_the_same(tmp_path, name):
  """What transformers wrote, tensor by tensor."""
  config, params = huggingface.load(FIXTURES / name)
  huggingface.save(tmp_path / 'model', config, params)
  before = load_file(FIXTURES / name / 'model.safetensors')
  after = load_file(tmp_path / 'model' / 'model.safetensors')
  bits.assert_same(after, before)


@pytest.mark.parity
@pytest.mark.parametrize('name', VARIANTS)
def test_transformers_reads_our_shards(tmp_path, name):
  """Every tensor, and none is missing or left over."""
  why = 'reads with a live transformers'
  torch = pytest.importorskip('torch', reason=why)
  transformers = pytest.importorskip('transformers', reason=why)
  config, params = huggingface.load(FIXTURES / name)
  huggingface.save(
    tmp_path / 'model',
    config,
    params,
    # Without the ids that it has, Phi-3 takes others for padding.
    beside=extras.of_directory(FIXTURES / name),
    shard_bytes=20_000,
  )
  assert len(list((tmp_path / 'model').glob('*.safetensors'))) > 3
  theirs = transformers.AutoModelForCausalLM.from_pretrained(FIXTURES / name)
  found, info = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'model', output_loading_info=True
  )
  assert not any(info[key] for key in ('missing_keys', 'unexpected_keys'))
  expected = dict(theirs.state_dict())
  assert expected.keys() == dict(found.state_dict()).keys()
  for key, tensor in found.state_dict().items():
    assert torch.equal(tensor, expected[key]), key


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_widening_is_exact_and_may_be_undone(tmp_path, dtype):
  config = tiny.make_config(param_dtype=dtype)
  params = tiny.make_params(config)
  huggingface.save(tmp_path / 'model', config, params, dtype=dtype)
  stored = load_file(tmp_path / 'model' / 'model.safetensors')
  assert {str(tensor.dtype) for tensor in stored.values()} == {dtype}
  _, wide = huggingface.load(tmp_path / 'model')
  assert {str(leaf.dtype) for leaf in jax.tree.leaves(wide)} == {'float32'}
  bits.assert_same(jax.tree.map(lambda x: x.astype(dtype), wide), params)


def test_narrowing_rounds_as_jax_does(untied, tmp_path):
  config, params = huggingface.load(untied)
  huggingface.save(tmp_path / 'model', config, params, dtype='bfloat16')
  expected = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), params)
  for directory in (untied, tmp_path / 'model'):
    _, found = huggingface.load(directory, param_dtype='bfloat16')
    bits.assert_same(found, expected)


@pytest.mark.parametrize('block', [1, 100, 5000])
def test_long_tensors_are_read_in_blocks(untied, monkeypatch, block):
  _, expected = huggingface.load(untied)
  monkeypatch.setattr(tensor_files, '_BLOCK', block)
  bits.assert_same(huggingface.load(untied)[1], expected)


def test_parameters_are_on_the_default_device(untied):
  _, params = huggingface.load(untied)
  for leaf in jax.tree.leaves(params):
    assert isinstance(leaf, jax.Array)
    assert leaf.devices() == {jax.devices()[0]}
    assert not leaf.committed


def test_parameters_may_be_donated(untied):
  """Though the memory is NumPy's, nothing is written into it."""
  _, params = huggingface.load(untied)
  expected = jax.tree.map(lambda x: 2 * np.array(x), params)
  step = jax.jit(lambda x: jax.tree.map(lambda y: 2 * y, x), donate_argnums=0)
  bits.assert_same(step(params), expected)


@pytest.mark.parametrize('write', ['write_hf', 'write_spm'])
def test_tokenizer_and_special_ids(tmp_path, write):
  source = tmp_path / 'tokenizer'
  source.mkdir()
  getattr(tiny_tokenizer, write)(source)
  tokenizer = base.load(source)
  config = tiny.make_config(vocab_size=tokenizer.vocab_size + 3)
  params = tiny.make_params(config)
  huggingface.save(tmp_path / 'model', config, params, tokenizer)
  again = base.load(tmp_path / 'model')
  assert again.encode('So 4 times 5') == tokenizer.encode('So 4 times 5')
  assert again.eos_ids == tokenizer.eos_ids
  (eos,) = tokenizer.eos_ids
  (bos,) = tokenizer.encode(tokenizer.special_tokens['bos_token'])
  for name in ('config.json', 'generation_config.json'):
    fields = json.loads((tmp_path / 'model' / name).read_text())
    assert (fields['eos_token_id'], fields['bos_token_id']) == (eos, bos)
  assert fields['pad_token_id'] == tokenizer.pad_id


def test_several_eos_ids_survive(tmp_path):
  source = tiny_tokenizer.write_hf(tmp_path)
  generation = {'eos_token_id': [5, 6], 'temperature': 0.6}
  tiny_tokenizer.write_json(source, 'generation_config.json', generation)
  tokenizer = base.load(source)
  config = tiny.make_config(vocab_size=tokenizer.vocab_size)
  model = tmp_path / 'model'
  huggingface.save(model, config, tiny.make_params(config), tokenizer)
  assert base.load(model).eos_ids == tokenizer.eos_ids
  assert (
    json.loads((model / 'generation_config.json').read_text()) == generation
  )


# What is checked before anything is written.


def test_shapes_are_checked():
  config = tiny.make_config()
  params = tiny.make_params(config)
  huggingface.check_shapes(config, params)
  message = refusal(
    huggingface.check_shapes, dataclasses.replace(config, d_ff=24), params
  )
  gate = 'layers/mlp/gate/kernel is (2, 16, 20), expected (2, 16, 24)'
  assert gate in message
  untied = dataclasses.replace(config, tie_embeddings=False)
  message = refusal(huggingface.check_shapes, untied, params)
  assert 'head is missing, expected (16, 37)' in message
  extra = params | {'extra': np.zeros(3)}
  message = refusal(huggingface.check_shapes, config, extra)
  assert 'extra is (3,), not known' in message


def test_vocabulary_is_checked(tmp_path):
  tokenizer = base.load(tiny_tokenizer.write_hf(tmp_path))
  size = tokenizer.vocab_size
  fits = tiny.make_config(vocab_size=size)
  assert huggingface.fit_vocabulary(fits, tokenizer) == fits
  padded = tiny.make_config(vocab_size=size + 3)
  found = huggingface.fit_vocabulary(padded, tokenizer)
  assert found == dataclasses.replace(padded, used_vocab=size)
  small = tiny.make_config(vocab_size=size - 1)
  message = refusal(huggingface.fit_vocabulary, small, tokenizer)
  assert f'{size} ids' in message and f'vocab_size={size - 1}' in message


def test_added_tokens_may_lack_a_row(tmp_path):
  """As in Gemma 3 of 1B, whose tokenizer has one for images, the last id."""
  special = ('<bos>', '<eos>', '<pad>', '<image>')
  tokenizer = base.load(tiny_tokenizer.write_hf(tmp_path, special=special))
  rows = tokenizer.vocab_size - 1
  assert tokenizer.encode('<image>') == [rows]
  config = tiny.make_config(vocab_size=rows)
  assert huggingface.fit_vocabulary(config, tokenizer) == config
  small = tiny.make_config(vocab_size=rows - 1)
  assert f'{rows} ids' in refusal(huggingface.fit_vocabulary, small, tokenizer)


@pytest.mark.parametrize(
  ('changes', 'dtype', 'word'),
  [
    ({'qkv_bias': False}, 'float32', 'qkv_bias=False'),
    ({}, 'int8', "dtype='int8'"),
  ],
)
def test_exports_that_are_refused(tmp_path, changes, dtype, word):
  config = tiny.make_config(**changes)
  params = tiny.make_params(config)
  target = tmp_path / 'model'
  assert word in refusal(huggingface.save, target, config, params, dtype=dtype)
  assert not any(tmp_path.iterdir())


# All or nothing.


def test_an_earlier_model_is_replaced_as_a_whole(untied):
  """Shards by one file, one file by shards, many shards by few."""
  write_shards(untied)
  config = tiny.make_config()
  params = tiny.make_params(config)
  counts = []
  for shard_bytes in (10**9, 3000, 6000, 10**9):
    huggingface.save(untied, config, params, shard_bytes=shard_bytes)
    bits.assert_same(huggingface.load(untied)[1], params)
    counts.append(len(list(untied.glob('*.safetensors'))))
    assert (untied / weights.INDEX).exists() == (counts[-1] > 1)
    assert [p.name for p in untied.parent.iterdir()] == [untied.name]
  assert counts[0] == counts[3] == 1 < counts[2] < counts[1]


def test_a_failure_leaves_the_earlier_model(untied, monkeypatch):
  before = bits.digests(untied)
  config = tiny.make_config()
  params = tiny.make_params(config)

  def fail(*args, **kwargs):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(weights, 'write', fail)
  assert 'No space left' in refusal(huggingface.save, untied, config, params)
  assert bits.digests(untied) == before
  assert [p.name for p in untied.parent.iterdir()] == [untied.name]


@pytest.mark.parametrize('error', [OSError(28, 'No space'), KeyboardInterrupt])
def test_a_failure_midway_leaves_nothing(tmp_path, monkeypatch, error):
  """In the third of many shards."""
  config = tiny.make_config()
  params = tiny.make_params(config)
  write, calls = tensor_files.write, []

  def fail_later(path, *args):
    calls.append(path.name)
    if len(calls) == 3:
      path.write_bytes(b'half a file')
      raise error
    write(path, *args)

  monkeypatch.setattr(tensor_files, 'write', fail_later)
  with pytest.raises((UserError, KeyboardInterrupt)):
    huggingface.save(tmp_path / 'model', config, params, shard_bytes=3000)
  assert calls[2].startswith('model-00003-of-000')
  assert not any(tmp_path.iterdir())


def test_a_failure_between_the_two_renames_restores(untied, monkeypatch):
  before = bits.digests(untied)
  rename = pathlib.Path.rename

  def fail_for_part(path, target):
    if path.suffix == '.part':
      raise OSError(5, 'Input/output error')
    return rename(path, target)

  monkeypatch.setattr(pathlib.Path, 'rename', fail_for_part)
  config = tiny.make_config()
  refusal(huggingface.save, untied, config, tiny.make_params(config))
  assert bits.digests(untied) == before
  assert [p.name for p in untied.parent.iterdir()] == [untied.name]


@pytest.mark.parametrize('name', ['notes.md', 'folder/', 'summary.json'])
def test_other_peoples_files_are_not_replaced(tmp_path, name):
  config = tiny.make_config()
  target = tmp_path / 'target'
  target.mkdir()
  path = target / name
  path.mkdir() if name.endswith('/') else path.write_text('{}')
  params = tiny.make_params(config)
  message = refusal(huggingface.save, target, config, params)
  assert path.name in message and 'lost' in message
  assert path.exists()
  (tmp_path / 'file').write_text('')
  message = refusal(huggingface.save, tmp_path / 'file', config, params)
  assert 'is a file' in message
