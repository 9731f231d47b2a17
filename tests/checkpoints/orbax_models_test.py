"""Models in orbax's format: exact both ways, all or nothing."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from lrm_jax.checkpoints import extras, huggingface, orbax_models
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.errors import UserError
from lrm_jax.structs import TrainState
from lrm_jax.tokenization import base
from tests import bits
from tests.checkpoints import family_models
from tests.checkpoints.hf_models import refusal, write_shards
from tests.models import tiny
from tests.tokenization import tiny as tiny_tokenizer


def load(directory, config, **options):
  return orbax_models.open_model(directory).load(config, **options)


@pytest.mark.parametrize(
  ('family', 'dtype'),
  [('qwen3_moe', 'bfloat16'), ('lrm', 'float32'), ('phi3', 'float16')],
)
def test_what_is_saved_comes_back(tmp_path, family, dtype):
  config = family_models.config(family, param_dtype=dtype)
  params = family_models.params(config)
  orbax_models.save(tmp_path / 'a' / 'model', config, params)
  directory = tmp_path / 'a' / 'model'
  assert orbax_models.is_model(directory)
  assert orbax_models.open_model(directory).dtype() == dtype
  assert huggingface.read_config(directory, param_dtype=dtype) == config
  bits.assert_same(load(directory, config), params)
  assert sorted(p.name for p in directory.iterdir()) == [
    'config.json',
    'params',
  ]


def test_other_dtypes_and_shardings(tmp_path):
  config = tiny.make_config()
  params = tiny.make_params(config)
  orbax_models.save(tmp_path / 'model', config, params)
  half = dataclasses.replace(config, param_dtype='bfloat16')
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  found = load(tmp_path / 'model', half, sharding=lambda path: here)
  bits.assert_same(found, jax.tree.map(lambda x: x.astype('bfloat16'), params))
  assert {leaf.sharding for leaf in jax.tree.leaves(found)} == {here}
  params['final_norm']['scale'] = params['final_norm']['scale'].at[0].set(1e5)
  orbax_models.save(tmp_path / 'model', config, params)
  half = dataclasses.replace(config, param_dtype='float16')
  message = refusal(load, tmp_path / 'model', half)
  assert 'final_norm/scale has values beyond' in message


def test_tokenizer_files_go_along(tmp_path):
  source = tmp_path / 'tokenizer'
  source.mkdir()
  tokenizer = base.load(tiny_tokenizer.write_hf(source))
  config = tiny.make_config(vocab_size=tokenizer.vocab_size)
  beside = extras.of_tokenizer(tokenizer)
  orbax_models.save(tmp_path / 'm', config, tiny.make_params(config), beside)
  again = base.load(tmp_path / 'm')
  assert again.eos_ids == tokenizer.eos_ids
  assert again.encode('So 4 times') == tokenizer.encode('So 4 times')


def test_any_earlier_model_is_replaced(untied):
  """Shards by orbax, and orbax by one file."""
  write_shards(untied)
  config = tiny.make_config()
  params = tiny.make_params(config)
  orbax_models.save(untied, config, params)
  assert not list(untied.glob('*.safetensors*'))
  message = refusal(huggingface.load, untied)
  assert 'lrm convert' in message
  huggingface.save(untied, config, params)
  assert not orbax_models.is_model(untied)
  bits.assert_same(huggingface.load(untied)[1], params)
  assert [p.name for p in untied.parent.iterdir()] == [untied.name]


def test_a_folder_that_is_only_called_params_is_kept(tmp_path):
  (tmp_path / 'model' / 'params').mkdir(parents=True)
  config = tiny.make_config()
  params = tiny.make_params(config)
  for save in (orbax_models.save, huggingface.save):
    assert 'params' in refusal(save, tmp_path / 'model', config, params)


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
  config = tiny.make_config()

  def fail(self, path, tree):
    path.mkdir()
    raise ValueError('RESOURCE_EXHAUSTED: no space\nleft')

  monkeypatch.setattr(ocp.StandardCheckpointer, 'save', fail)
  params = tiny.make_params(config)
  assert 'no space left' in refusal(
    orbax_models.save, tmp_path / 'model', config, params
  )
  assert not any(tmp_path.iterdir())


def test_other_shapes_name_the_leaf(tmp_path):
  config = tiny.make_config()
  params = tiny.make_params(config)
  orbax_models.save(tmp_path / 'model', config, params)
  wider = dataclasses.replace(config, d_ff=24)
  message = refusal(load, tmp_path / 'model', wider)
  assert (
    'layers/mlp/gate/kernel is (2, 16, 20), expected (2, 16, 24)' in message
  )
  assert 'embedding is missing' in refusal(
    orbax_models.save, tmp_path / 'x', config, {'layers': params['layers']}
  )


def test_damaged_files_are_one_line(tmp_path):
  config = tiny.make_config()
  orbax_models.save(tmp_path / 'model', config, tiny.make_params(config))
  for name in ('d', 'manifest.ocdbt', '_METADATA'):
    broken = shutil.copytree(tmp_path / 'model', tmp_path / 'broken')
    path = broken / 'params' / name
    shutil.rmtree(path) if path.is_dir() else path.write_bytes(b'\0')
    shutil.rmtree(broken / 'params' / 'ocdbt.process_0', ignore_errors=True)
    with pytest.raises(UserError, match='cannot be restored') as error:
      load(broken, config)
    assert '\n' not in str(error.value)
    shutil.rmtree(broken)


# Checkpoints of a run.


def save_run(workdir, config, wrap, steps=(3, 10)):
  """{step: parameters} of checkpoints with something like an optimizer."""
  saved = {}
  checkpoints = RunCheckpoints(workdir, keep=5)
  for step in steps:
    saved[step] = tiny.make_params(config, seed=step)
    moments = jax.tree.map(np.zeros_like, saved[step])
    state = TrainState(np.int32(step), saved[step], (moments, {}))
    checkpoints.save(step, wrap(state), {'seconds': 1.0})
  checkpoints.close()
  return saved


@pytest.mark.parametrize(
  'wrap', [lambda state: state, lambda state: {'train': state, 'memory': {}}]
)
def test_parameters_of_a_run(tmp_path, wrap, capfd):
  config = tiny.make_config()
  saved = save_run(tmp_path, config, wrap)
  capfd.readouterr()
  for asked, step in ((None, 10), (10, 10), (3, 3)):
    found_step, stored = orbax_models.open_run(tmp_path, asked)
    assert (found_step, stored.dtype()) == (step, 'float32')
    bits.assert_same(stored.load(config), saved[step])
  # Orbax does not warn of how it is used.
  assert 'WARNING' not in capfd.readouterr().err


def test_a_step_that_is_not_whole_is_passed_over(tmp_path, capsys):
  save_run(tmp_path, tiny.make_config(), lambda state: state)
  (tmp_path / 'checkpoints' / '10' / 'host' / 'metadata').unlink()
  found, _ = orbax_models.open_run(tmp_path, None)
  assert found == 3
  what = 'checkpoint 10 is not whole (host/metadata: missing)'
  assert what in capsys.readouterr().err
  assert what in refusal(orbax_models.open_run, tmp_path, 10)
  (tmp_path / 'checkpoints' / '3' / 'host' / 'metadata').unlink()
  assert 'none of its checkpoints is whole' in refusal(
    orbax_models.open_run, tmp_path, None
  )


def test_steps_that_are_not_there(tmp_path):
  message = refusal(orbax_models.open_run, tmp_path, None)
  assert 'no checkpoint yet' in message
  assert not any(tmp_path.iterdir())
  save_run(tmp_path, tiny.make_config(), lambda state: state)
  message = refusal(orbax_models.open_run, tmp_path, 4)
  assert 'no checkpoint of step 4; allowed: 3, 10' in message


def test_config_of_an_orbax_model_is_that_of_transformers(tmp_path):
  config = family_models.config('gemma2', param_dtype='bfloat16')
  orbax_models.save(tmp_path / 'm', config, family_models.params(config))
  fields = json.loads((tmp_path / 'm' / 'config.json').read_text())
  assert fields['architectures'] == ['Gemma2ForCausalLM']
  assert fields['torch_dtype'] == 'bfloat16'
