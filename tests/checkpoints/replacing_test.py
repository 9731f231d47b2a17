"""What may take the place of what: nobody's file is lost."""

import pytest

from lrm_jax.checkpoints import peft_layout, replacing
from lrm_jax.tokenization import settings
from tests.checkpoints.config_json_test import VARIANTS
from tests.checkpoints.conftest import copy
from tests.checkpoints.hf_models import FIXTURES, refusal


def fill(directory, *names):
  directory.mkdir(exist_ok=True)
  for name in names:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if name.endswith('/') else path.write_text('{}')
  return directory


MODELS = {
  'file': ('model.safetensors',),
  'shards': (
    'model.safetensors.index.json',
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
  ),
  'orbax': ('params/_METADATA', 'params/manifest.ocdbt'),
}
MADE_BY_OTHERS = (
  'README.md',
  '.gitattributes',
  'spiece.model',
  'chat_template.json',
)


@pytest.mark.parametrize('form', MODELS)
def test_earlier_models(tmp_path, form):
  """With all that we write, and transformers; `lrm convert` its summary."""
  names = ('config.json', 'summary.json', *settings._FILES, *MADE_BY_OTHERS)
  target = fill(tmp_path / 'model', *MODELS[form], *names)
  replacing.check(target)
  with replacing.replacing(target) as part:
    (part / 'new').write_text('')
  assert [path.name for path in target.iterdir()] == ['new']
  assert [path.name for path in tmp_path.iterdir()] == ['model']


@pytest.mark.parametrize('name', VARIANTS)
def test_models_of_transformers(tmp_path, name):
  replacing.check(copy(name, tmp_path / name))
  assert 'npz' in refusal(replacing.check, FIXTURES / name)


@pytest.mark.parametrize(
  'name',
  [
    'results.json',
    'my_template.jinja',
    'other.model',
    'model_best.safetensors',
    'adapter_model.safetensors',
    'model-1-of-2.safetensors.bak',
    'notes.md',
    '.env',
    'runs/',
    'README.md/',
    'x.safetensors/',
  ],
)
@pytest.mark.parametrize('form', MODELS)
def test_a_stranger_is_named(tmp_path, form, name):
  target = fill(tmp_path / 'model', *MODELS[form], 'config.json', name)
  message = refusal(replacing.check, target)
  stranger = name.rstrip('/')
  assert f'holds {stranger}, which would be lost' in message
  assert (target / name).exists()


@pytest.mark.parametrize(
  'names', [('config.json',), ('tokenizer.json',), ('params/',), ('README.md',)]
)
@pytest.mark.parametrize('kind', [replacing.MODEL, replacing.ADAPTER])
def test_what_has_no_weights_is_no_model(tmp_path, kind, names):
  target = fill(tmp_path / 'model', *names)
  message = refusal(replacing.check, target, kind)
  assert f'holds {names[0].rstrip("/")}, which' in message


@pytest.mark.parametrize('form', MODELS)
def test_models_and_adapters_do_not_replace_each_other(tmp_path, form):
  model = fill(tmp_path / 'model', *MODELS[form])
  refusal(replacing.check, model, replacing.ADAPTER)
  names = (peft_layout.CONFIG, peft_layout.FILE)
  adapter = fill(tmp_path / 'adapter', *names, 'README.md')
  replacing.check(adapter, replacing.ADAPTER)
  assert all(name in refusal(replacing.check, adapter) for name in names)
  both = fill(adapter, *MODELS[form])
  for kind in (replacing.MODEL, replacing.ADAPTER):
    refusal(replacing.check, both, kind)
