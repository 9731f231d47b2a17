"""Folders that only look like models: one line, at once, in little memory."""

import json
import os
import pathlib
import resource
import shutil
import signal

import pytest

from lrm_jax import main
from lrm_jax.checkpoints import model_source, peft_layout, tensor_files, weights
from lrm_jax.checkpoints.replacing import PARAMS
from lrm_jax.models.lora import Lora
from tests.checkpoints.config_json_test import read
from tests.checkpoints.hf_models import edit_config, refusal, write_shards

# Kilobytes that a refusal may take: a header that is parsed takes a part of it.
MEMORY = 500_000


@pytest.fixture(autouse=True)
def _limits():
  """Nothing waits for a pipe, or reads a device to its end."""

  def late(*_):
    raise AssertionError('it hangs')

  before = signal.signal(signal.SIGALRM, late)
  signal.alarm(30)
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  yield
  signal.alarm(0)
  signal.signal(signal.SIGALRM, before)
  grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
  assert grown < MEMORY


def pipe(path: pathlib.Path):
  path.unlink(missing_ok=True)
  os.mkfifo(path)


def device(path):
  path.unlink(missing_ok=True)
  path.symlink_to('/dev/zero')


def other_file(path):
  path.unlink(missing_ok=True)
  path.symlink_to('/etc/passwd')


def endless(path):
  """A hole of a terabyte."""
  path.write_bytes(b'{')
  os.truncate(path, 1 << 40)


def header(length):
  def write(path):
    path.write_bytes(length.to_bytes(8, 'little') + b'{}')
    os.truncate(path, 1 << 30)

  return write


def deep(path):
  path.write_text('{"model_type":' * 100_000)


def escapes(path):
  path.write_text(json.dumps({'model_type': '\x1b[2J\r\n' + 'x' * 10**6}))


WEIGHTS, CONFIG = weights.FILE, 'config.json'


@pytest.mark.parametrize(
  ('name', 'damage', 'words'),
  [
    (CONFIG, pipe, 'config.json: cannot be read (not a regular file); give'),
    (CONFIG, device, 'config.json: cannot be read (not a regular file); give'),
    (CONFIG, endless, 'config.json: cannot be read (more than 16777216 bytes)'),
    (CONFIG, deep, 'config.json: not a JSON object; download or export'),
    (CONFIG, other_file, 'config.json: not a JSON object; download or export'),
    (CONFIG, escapes, 'is not supported; allowed: "qwen2"'),
    (WEIGHTS, pipe, 'model.safetensors: not a whole safetensors file (no'),
    (WEIGHTS, device, 'model.safetensors: not a whole safetensors file (no'),
    (WEIGHTS, other_file, 'model.safetensors: not a whole safetensors file'),
    (WEIGHTS, header(2**63), 'it ends inside its header, at byte 1073741824'),
    (WEIGHTS, header(10**8), '(a header of 100000000 bytes); download'),
    (WEIGHTS, header(2**25), 'its header is not JSON'),
    ('tokenizer.json', pipe, 'tokenizer.json: cannot be read (not a regular'),
    ('merges.txt', other_file, 'merges.txt: a link out of its folder'),
    ('vocab.json', device, 'vocab.json: a link out of its folder'),
    (weights.INDEX, pipe, 'and only one of them can be meant; remove the'),
  ],
)
def test_a_command_ends_in_one_line(
  untied, tmp_path, capsys, name, damage, words
):
  damage(untied / name)
  target = tmp_path / 'to'
  code = main.main(['lrm', 'convert', f'--from={untied}', f'--to={target}'])
  error = capsys.readouterr().err
  assert code == 2 and not target.exists()
  assert error.startswith('lrm: error: ') and words in error
  assert error.count('\n') == 1 and error.strip().isprintable()
  assert len(error) < 2100 and 'root:' not in error


@pytest.mark.parametrize('damage', [pipe, device, endless])
def test_an_index_that_cannot_be_read(untied, damage):
  write_shards(untied)
  damage(untied / weights.INDEX)
  message = refusal(weights.Weights, untied)
  assert f'{weights.INDEX}: cannot be read (' in message


def test_an_index_that_names_files_anywhere(untied):
  index = write_shards(untied)
  for name in ('/etc/passwd', '../../etc/passwd', '/etc/passwd.safetensors'):
    index.write_text(json.dumps({'weight_map': {'lm_head.weight': name}}))
    assert 'has no "weight_map" from tensors' in refusal(
      weights.Weights, untied
    )


def test_a_shard_that_is_a_link_is_read_as_what_it_is(untied):
  """The cache of the hub is made of links; what they lead to is checked."""
  write_shards(untied)
  shard, _ = sorted(untied.glob('model-*'))
  kept = shutil.move(shard, untied.parent / 'blob')
  shard.symlink_to(kept)
  weights.Weights(untied)
  shard.unlink()
  shard.symlink_to('/etc/passwd')
  message = refusal(weights.Weights, untied)
  assert 'not a whole safetensors file' in message and 'nologin' not in message


@pytest.mark.parametrize('name', ['a.bin', 'b.pt', 'c.pth', 'd.ckpt'])
def test_pickles_are_refused_by_name(untied, name):
  (untied / WEIGHTS).rename(untied / name)
  message = refusal(weights.Weights, untied)
  assert f'{name} is a pickle, which may run code when it is read' in message
  assert 'save_pretrained' in message


def test_many_tensors_of_nothing(tmp_path):
  """Names cost, bytes do not."""
  one = {'dtype': 'F32', 'shape': [0], 'data_offsets': [0, 0]}
  text = json.dumps({f'{i:06}': one for i in range(100_000)}).encode()
  path = tmp_path / 'a.safetensors'
  path.write_bytes(len(text).to_bytes(8, 'little') + text)
  assert len(text) < tensor_files.MAX_JSON
  assert len(tensor_files.read_header(path)) == 100_000


# Workdirs of runs.


@pytest.mark.parametrize(
  'config',
  [
    {},
    {'model': None},
    {'model': []},
    {'model': {}},
    {'model': {'path': 3}},
    {'model': {'path': None}},
    {'model': {'path': None, 'new': [1]}},
  ],
)
def test_a_run_without_a_model(tmp_path, config):
  record = {'verb': 'train', 'config': config}
  (tmp_path / CONFIG).write_text(json.dumps(record))
  message = refusal(model_source.open_source, tmp_path)
  assert 'its config.json has no model.path or model.new; give' in message


@pytest.mark.parametrize(
  'new', [{}, {'family': 'x'}, {'n_layers': 'x'}, {'rope': 3}]
)
def test_a_run_of_a_new_model_that_is_none(tmp_path, new):
  record = {'verb': 'sft', 'config': {'model': {'path': None, 'new': new}}}
  (tmp_path / CONFIG).write_text(json.dumps(record))
  message = refusal(model_source.open_source, tmp_path)
  assert 'model.new of its config is no model (' in message
  assert 'use the version of lrm_jax that the run was made with' in message


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'n_kv_heads': 3}, 'model of its config is none ('),
    ({'rope': 7}, 'model of its config is none ('),
    ({'wings': 2}, 'its config has model.wings, which lrm convert does not'),
  ],
)
def test_a_run_that_changed_its_model(untied, tmp_path, changes, words):
  model = {'path': str(untied), **changes}
  record = {'verb': 'train', 'config': {'model': model}}
  (tmp_path / CONFIG).write_text(json.dumps(record))
  assert words in refusal(model_source.open_source, tmp_path)


def test_a_run_whose_model_has_gone(untied, tmp_path):
  record = {'verb': 'train', 'config': {'model': {'path': 'gone'}}}
  (tmp_path / CONFIG).write_text(json.dumps(record))
  message = refusal(model_source.open_source, tmp_path)
  assert "started from model.path='gone', which is not there; run" in message
  message = refusal(model_source.open_source, untied, 3)
  assert 'is a model, not the workdir of a run; leave it out' in message


# What orbax wrote, and PEFT.


@pytest.mark.parametrize('text', [b'', b'{', b'[' * 100_000, b'\xff', b'{}'])
def test_parameters_of_orbax_that_are_none(untied, text):
  (untied / PARAMS).mkdir()
  for name in ('_METADATA', '_CHECKPOINT_METADATA', '_sharding'):
    (untied / PARAMS / name).write_bytes(text)
  (untied / 'model.safetensors').unlink()
  message = refusal(model_source.open_source, untied)
  assert 'cannot be restored (' in message and len(message) < 600


LORA = Lora(rank=2, alpha=4.0)


@pytest.mark.parametrize(
  ('name', 'damage', 'words'),
  [
    (peft_layout.CONFIG, pipe, 'not the adapter_config.json of a LoRA ('),
    (peft_layout.CONFIG, deep, 'not the adapter_config.json of a LoRA ('),
    (peft_layout.CONFIG, endless, 'not the adapter_config.json of a LoRA ('),
    (peft_layout.FILE, pipe, 'not a whole safetensors file (no regular file)'),
    (peft_layout.FILE, header(2**63), 'it ends inside its header'),
    (peft_layout.FILE, header(10**8), 'a header of 100000000 bytes'),
  ],
)
def test_adapters_that_are_none(tmp_path, name, damage, words):
  config = read('llama')
  stated = peft_layout._render(config, LORA)
  (tmp_path / peft_layout.CONFIG).write_text(json.dumps(stated))
  damage(tmp_path / name)
  assert words in refusal(peft_layout.load, tmp_path, config, LORA)


def test_fields_that_are_there_twice(untied):
  """The last counts, as in transformers."""
  edit_config(untied)
  expected = model_source.open_source(untied).config
  text = (untied / CONFIG).read_text()
  (untied / CONFIG).write_text('{"hidden_size": 7, ' + text[1:])
  assert model_source.open_source(untied).config == expected
