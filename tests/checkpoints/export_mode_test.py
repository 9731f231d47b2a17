"""Exported models: who may read the files, and what they may replace."""

import os
import stat

import pytest

from lrm_jax.checkpoints import huggingface
from tests import tiny


def _save(directory, **options):
  huggingface.save(
    directory,
    tiny.config(),
    tiny.params(tiny.config()),
    tiny.tokenizer(),
    **options,
  )


@pytest.fixture
def umask():
  """Sets the umask; puts the old one back."""
  old = os.umask(0)
  yield os.umask
  os.umask(old)


@pytest.mark.parametrize('mask', [0o022, 0o077, 0o002])
@pytest.mark.parametrize('shard_bytes', [10_000, 10**9])
def test_the_umask_decides_who_may_read(tmp_path, umask, mask, shard_bytes):
  umask(mask)
  _save(tmp_path / 'model', shard_bytes=shard_bytes)
  modes = {
    path.name: stat.S_IMODE(path.stat().st_mode)
    for path in (tmp_path / 'model').iterdir()
  }
  assert any(name.endswith('.safetensors') for name in modes)
  assert set(modes.values()) == {0o666 & ~mask}, modes
  folder = stat.S_IMODE((tmp_path / 'model').stat().st_mode)
  assert folder == 0o777 & ~mask


def test_a_model_with_its_card_may_be_replaced(tmp_path):
  _save(tmp_path / 'model')
  names = {path.name for path in (tmp_path / 'model').iterdir()}
  (tmp_path / 'model' / 'README.md').write_text('# Model card\n')
  _save(tmp_path / 'model')
  # The card was that of the model before: it goes with it.
  assert {path.name for path in (tmp_path / 'model').iterdir()} == names
