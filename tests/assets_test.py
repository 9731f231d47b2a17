"""Models by name and by path."""

import pytest

from lrm_jax import assets
from lrm_jax.checkpoints import huggingface
from lrm_jax.data import prompts
from lrm_jax.errors import UserError
from lrm_jax.tokenization import base


@pytest.fixture
def shelf(tmp_path, monkeypatch):
  """Two embedded models, and what else may lie there."""
  for name in ('small_lrm', 'another'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'config.json').write_text('{}')
  (tmp_path / '__pycache__').mkdir()
  (tmp_path / '__init__.py').touch()
  monkeypatch.setattr(assets, '_ROOT', tmp_path)
  return tmp_path


def test_a_path_is_itself(shelf, tmp_path):
  directory = tmp_path / 'mine'
  directory.mkdir()
  assert assets.resolve(str(directory)) == directory


def test_a_name_is_an_embedded_model(shelf):
  assert assets.resolve('small_lrm') == shelf / 'small_lrm'


@pytest.mark.parametrize('name', ['smal_lrm', '__pycache__', '__init__.py'])
def test_anything_else_lists_the_names(shelf, name, monkeypatch):
  monkeypatch.chdir('/')
  with pytest.raises(UserError) as info:
    assets.resolve(name)
  assert str(info.value) == (
    f'model {name!r}: no such directory; give a directory in the Hugging Face '
    'layout, or one of the embedded models: another, small_lrm'
  )


def test_the_tiny_lrm_is_whole_and_small():
  directory = assets.resolve('tiny_lrm')
  model, params = huggingface.load(directory)
  tokenizer = base.load(directory)
  huggingface.check_shapes(model, params)
  assert huggingface.fit_vocabulary(model, tokenizer) == model
  prompt = prompts.format_prompt(tokenizer, 'Start=1 a:+2')
  assert prompt == '<|User|>Start=1 a:+2<|Assistant|><think>'
  (close,) = base.think_close_ids(tokenizer)
  assert tokenizer.decode([close]) == '</think>'
  files = [path for path in directory.iterdir() if path.is_file()]
  assert sum(path.stat().st_size for path in files) <= 2 * 2**20
  assert '| level |' in (directory / 'README.md').read_text('utf-8')
