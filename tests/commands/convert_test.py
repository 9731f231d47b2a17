"""`lrm convert`: the same model in another format, and a check that sees."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lrm_jax import main
from lrm_jax.checkpoints import (
  huggingface,
  model_source,
  orbax_models,
  weights,
)
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.commands import convert
from lrm_jax.models.config import DTYPES
from lrm_jax.structs import TrainState
from lrm_jax.tokenization import base
from tests import bits
from tests import tiny as tiny_lrm
from tests.checkpoints import family_models
from tests.checkpoints.hf_models import FIXTURES
from tests.models import tiny
from tests.tokenization import tiny as tiny_tokenizer

VARIANTS = sorted(path.parent.name for path in FIXTURES.glob('*/logits.npz'))
CARRIED = ('generation_config.json', 'chat_template.jinja', 'tokenizer.json')


def lrm(source, target, *flags):
  return main.main(
    ['lrm', 'convert', f'--from={source}', f'--to={target}', *flags]
  )


def summary(directory):
  return json.loads((directory / 'summary.json').read_text())


def refused(capsys, target, source, *flags):
  """The line of a conversion that must write nothing."""
  before = sorted(target.parent.rglob('*'))
  capsys.readouterr()
  assert lrm(source, target, *flags) == 2
  captured = capsys.readouterr()
  assert captured.err.startswith('lrm: error: ')
  assert captured.err.count('\n') == 1
  assert captured.out == ''
  assert sorted(target.parent.rglob('*')) == before
  return captured.err


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  """A model with all files that may lie beside the weights."""
  source = tmp_path_factory.mktemp('tokenizer')
  tiny_tokenizer.write_hf(source)
  (source / 'chat_template.jinja').write_text(tiny_tokenizer.QWEN_TEMPLATE)
  generation = {'eos_token_id': [5, 6], 'temperature': 0.6}
  tiny_tokenizer.write_json(source, 'generation_config.json', generation)
  tokenizer = base.load(source)
  config = family_models.config('gemma3', vocab_size=tokenizer.vocab_size + 1)
  directory = tmp_path_factory.mktemp('models') / 'hf'
  huggingface.save(directory, config, tiny.make_params(config), tokenizer)
  return directory


# Both ways.


@pytest.mark.parametrize('dtype', DTYPES)
def test_there_and_back_is_the_same(model, tmp_path, capsys, dtype):
  start = tmp_path / 'start'
  assert lrm(model, start, '--format=hf', f'--dtype={dtype}') == 0
  assert lrm(start, tmp_path / 'orbax', '--check') == 0
  assert orbax_models.is_model(tmp_path / 'orbax')
  assert lrm(tmp_path / 'orbax', tmp_path / 'hf', '--check') == 0
  printed = capsys.readouterr().out
  assert 'gemma3' in printed and 'logits differ by 0.0e+00' in printed
  before, after = bits.digests(start), bits.digests(tmp_path / 'hf')
  assert before.pop('summary.json') != after.pop('summary.json')
  assert after == before
  assert set(CARRIED) <= before.keys()
  beside = bits.digests(tmp_path / 'orbax')
  assert {name: beside[name] for name in CARRIED} == {
    name: before[name] for name in CARRIED
  }
  found = summary(tmp_path / 'orbax')
  assert (found['verb'], found['from_format'], found['format']) == (
    'convert',
    'hf',
    'orbax',
  )
  assert (found['from_dtype'], found['dtype']) == (dtype, dtype)
  assert found['check']['is_same'] and found['check']['max_difference'] == 0
  assert found['parameters'] == sum(
    x.size for x in load_file(start / weights.FILE).values()
  )


@pytest.mark.parametrize('name', VARIANTS)
def test_models_of_transformers(name, tmp_path):
  """Which have no tokenizer; their other files and ids go along."""
  source = FIXTURES / name
  assert lrm(source, tmp_path / 'orbax') == 0
  assert lrm(tmp_path / 'orbax', tmp_path / 'hf', '--check') == 0
  bits.assert_same(
    load_file(tmp_path / 'hf' / weights.FILE), load_file(source / weights.FILE)
  )
  file = 'generation_config.json'
  assert (tmp_path / 'hf' / file).read_text() == (source / file).read_text()
  before, after = (
    json.loads((directory / 'config.json').read_text())
    for directory in (source, tmp_path / 'hf')
  )
  for key in ('eos_token_id', 'bos_token_id', 'pad_token_id'):
    assert after.get(key) == before.get(key), key


@pytest.mark.parametrize('dtype', DTYPES)
def test_dtypes(model, tmp_path, dtype, capsys):
  flags = (f'--dtype={dtype}', '--format=hf', '--check')
  assert lrm(model, tmp_path / 'hf', *flags) == 0
  stored = load_file(tmp_path / 'hf' / weights.FILE)
  assert {str(tensor.dtype) for tensor in stored.values()} == {dtype}
  check = summary(tmp_path / 'hf')['check']
  assert check['max_difference'] == 0
  assert (check['max_rounding'] > 0) == (dtype != 'float32')
  assert ('itself moves them' in capsys.readouterr().out) == (
    dtype != 'float32'
  )


def test_an_earlier_conversion_is_replaced(model, tmp_path):
  for flags in (('--format=orbax',), ('--format=hf',), ('--format=orbax',)):
    assert lrm(model, tmp_path / 'to', *flags) == 0
  assert not (tmp_path / 'to' / weights.FILE).exists()
  assert [path.name for path in tmp_path.iterdir()] == ['to']


# Runs.


def make_run(workdir, verb='train', dtype='float32', **fields):
  """A workdir with checkpoints 3 and 10 of the tiny model."""
  config = tiny_lrm.config(param_dtype=dtype)
  path = str(tiny_lrm.model_directory())
  record = {'model': {'path': path, 'remat': 'dots'} | fields}
  workdir.mkdir(parents=True, exist_ok=True)
  (workdir / 'config.json').write_text(
    json.dumps({'verb': verb, 'config': record})
  )
  checkpoints, saved = RunCheckpoints(workdir, keep=5), {}
  for step in (3, 10):
    params = tiny_lrm.params(config, seed=step)
    saved[step] = {
      key: tiny.jax.tree.map(lambda x: x.astype(dtype), params[key])
      for key in params
    }
    state = TrainState(np.int32(step), saved[step], {})
    if verb == 'train':
      state = {'train': state, 'memory': {}}
    checkpoints.save(step, state, {})
  checkpoints.close()
  return config, saved


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('verb', ['train', 'sft'])
def test_checkpoints_of_a_run(tmp_path, verb, dtype):
  config, saved = make_run(tmp_path / 'run', verb, dtype)
  for flags, step in (((), 10), (('--step=3',), 3)):
    target = tmp_path / 'run' / 'export'
    assert lrm(tmp_path / 'run', target, '--check', *flags) == 0
    assert summary(target)['step'] == step
    assert summary(target)['from_format'] == 'run'
    found_config, found = huggingface.load(target, param_dtype=dtype)
    assert found_config == config
    bits.assert_same(found, saved[step])
  # What the run itself writes at its end.
  expected = tmp_path / 'expected'
  huggingface.save(expected, config, saved[3], tiny_lrm.tokenizer(), dtype)
  files = bits.digests(target)
  assert files.pop('summary.json')
  assert files == bits.digests(expected)


def test_a_run_that_made_its_own_model(tmp_path):
  fields = {
    'path': None,
    'new': {
      'family': 'qwen2',
      'vocab_size': tiny_lrm.tokenizer().vocab_size + 2,
      'd_model': 32,
      'n_layers': 2,
      'n_heads': 4,
      'n_kv_heads': 2,
      'head_dim': 8,
      'd_ff': 48,
      'max_positions': 128,
      'rope': {'theta': 1e4},
      'tie_embeddings': False,
      'scan_unroll': 2,
    },
  }
  config, saved = make_run(tmp_path / 'run', 'sft', **fields)
  shutil.copytree(tiny_lrm.tokenizer_directory(), tmp_path / 'run/tokenizer')
  assert lrm(tmp_path / 'run', tmp_path / 'hf', '--check') == 0
  found_config, found = huggingface.load(tmp_path / 'hf')
  assert found_config == config
  bits.assert_same(found, saved[10])
  base.load(tmp_path / 'hf')


def test_a_run_whose_model_has_moved(tmp_path, capsys):
  make_run(tmp_path / 'run', path='gone')
  target = tmp_path / 'hf'
  message = refused(capsys, target, tmp_path / 'run')
  assert "model.path='gone'" in message
  shutil.copytree(tiny_lrm.model_directory(), tmp_path / 'run' / 'model')
  assert lrm(tmp_path / 'run', target) == 0


def test_runs_that_are_refused(tmp_path, capsys):
  make_run(tmp_path / 'run')
  target = tmp_path / 'hf'
  message = refused(capsys, target, tmp_path / 'run', '--step=4')
  assert 'step 4; allowed: 3, 10' in message
  shutil.rmtree(tmp_path / 'run' / 'checkpoints')
  assert 'no checkpoint yet' in refused(capsys, target, tmp_path / 'run')
  make_run(tmp_path / 'other', adapters=4)
  assert 'model.adapters' in refused(capsys, target, tmp_path / 'other')
  make_run(tmp_path / 'wide', rms_eps=0.5)
  assert lrm(tmp_path / 'wide', target) == 0
  assert huggingface.read_config(target).rms_eps == 0.5


# Mistakes.


def test_mistakes_are_one_line(model, tmp_path, capsys):
  target = tmp_path / 'to'
  assert 'no such directory' in refused(capsys, target, tmp_path / 'nowhere')
  (tmp_path / 'empty').mkdir()
  assert 'config.json: cannot be read' in refused(
    capsys, target, tmp_path / 'empty'
  )
  assert '--step=3' in refused(capsys, target, model, '--step=3')
  assert '--from is read from there' in refused(capsys, model, model)
  shutil.copytree(model, tmp_path / 'cut')
  path = tmp_path / 'cut' / weights.FILE
  path.write_bytes(path.read_bytes()[:-1])
  assert 'cut off' in refused(capsys, target, tmp_path / 'cut')
  (tmp_path / 'to').mkdir()
  (tmp_path / 'to' / 'thesis.tex').write_text('')
  assert 'thesis.tex, which would be lost' in refused(capsys, target, model)
  assert lrm(model, target, '--dtype=int8') == 2
  assert 'float16' in capsys.readouterr().err


def test_a_failure_midway_leaves_nothing(model, tmp_path, capsys, monkeypatch):
  def fail(*args):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(weights, 'write', fail)
  message = refused(capsys, tmp_path / 'to', model, '--format=hf')
  assert 'No space left' in message


# The check.


@pytest.mark.parametrize('form', ['hf', 'orbax'])
def test_one_changed_tensor_is_seen(model, tmp_path, monkeypatch, capsys, form):
  place = huggingface if form == 'hf' else orbax_models
  save = place.save

  def damage(directory, config, params, *args, **kwargs):
    scale = params['layers']['mlp_norm']['scale']
    params['layers']['mlp_norm']['scale'] = scale.at[2, 5].add(0.5)
    save(directory, config, params, *args, **kwargs)

  monkeypatch.setattr(place, 'save', damage)
  target = tmp_path / 'to'
  assert lrm(model, target, f'--format={form}', '--check') == 1
  captured = capsys.readouterr()
  assert captured.err.startswith('lrm: check failed: ')
  assert captured.err.count('\n') == 1 and 'logits differ' in captured.err
  check = summary(target)['check']
  assert not check['is_same']
  assert check['max_difference'] > check['limit'] > 0
  # Without the flag nobody looks.
  assert lrm(model, target, f'--format={form}') == 0
  assert summary(target)['check'] is None


@pytest.mark.parametrize(
  'change', [lambda x: x.at[0].add(2.0), lambda x: x.at[0].set(np.nan)]
)
def test_changed_files_are_seen(model, tmp_path, change):
  target = tmp_path / 'to'
  assert lrm(model, target, '--format=hf', '--dtype=float32') == 0
  source = model_source.open_source(model)
  assert convert.compare(source, target, 'float32')['is_same']
  tensors = load_file(target / weights.FILE)
  name = 'model.norm.weight'
  tensors[name] = np.array(change(tiny.jnp.asarray(tensors[name])))
  save_file(tensors, target / weights.FILE, {'format': 'pt'})
  found = convert.compare(source, target, 'float32')
  assert not found['is_same'] and 'logits differ' in found['reason']


def test_a_changed_config_is_seen(model, tmp_path):
  """Even one that random tokens would not show."""
  target = tmp_path / 'to'
  assert lrm(model, target, '--format=hf') == 0
  path = pathlib.Path(target / 'config.json')
  fields = json.loads(path.read_text()) | {'max_position_embeddings': 65}
  path.write_text(json.dumps(fields))
  found = convert.compare(model_source.open_source(model), target, 'float32')
  assert not found['is_same']
  assert found['reason'] == 'max_positions is 65 there and 64 in --from'
