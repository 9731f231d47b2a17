"""The reward of one's own that README shows."""

import pathlib

import numpy as np

from lrm_jax import configuration
from lrm_jax.objectives import recipe, tables

ROOT = pathlib.Path(__file__).parents[1]
FILE = ROOT / 'experiments' / 'own_reward' / 'thrifty.py'


class Four:
  """Two problems, two responses each."""

  thinking_length = np.array([[32, 256], [128, 16]])
  correct = np.array([[1.0, 1.0], [1.0, 0.0]])
  cap = np.array([256, 256])


def test_by_hand(monkeypatch):
  monkeypatch.setitem(tables.SHAPING, 'thrifty', None)  # gone again afterwards
  config = configuration.load(FILE)
  (part,) = recipe.build(config).shaping
  # 1 - 0.5 * 32 / 256, a half at the cap, 1 - 0.5 * 128 / 256; wrong: nothing.
  np.testing.assert_array_equal(
    part.function(Four), [[0.9375, 0.5], [0.75, 0.0]]
  )


def test_the_readme_shows_what_the_file_has():
  text = (ROOT / 'README.md').read_text('utf-8')
  (block,) = [
    part
    for part in text.split('```python\n')[1:]
    if part.startswith('def thrifty')
  ]
  assert FILE.read_text('utf-8').endswith(block.partition('```')[0])
