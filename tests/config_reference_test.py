"""The page of keys, parts and methods: whole, and not stale."""

import pathlib

from lrm_jax import configuration
from lrm_jax.objectives import tables
from tests import config_reference

ROOT = pathlib.Path(__file__).parents[1]


def test_the_page_is_not_stale():
  """`python -m tests.config_reference` writes it."""
  assert config_reference.PAGE.read_text('utf-8') == config_reference.page()


def test_every_key_has_a_line():
  said = config_reference.comments(
    (ROOT / 'configs' / 'default.py').read_text('utf-8')
  )
  values = configuration.flatten(
    configuration.load(ROOT / 'configs' / 'default.py')
  )
  assert set(said) == {
    key for key in values if not key.startswith('objective.')
  }
  assert all(said.values())
  assert said['train.truncation.top_p'] == 'mass; 1: off'


def test_every_part_is_explained():
  assert set(config_reference.DECIDES) == set(tables.PARTS)
  for name, table in tables.PARTS.items():
    text = config_reference.part(name)
    assert all(f'| `{key}` |' in text for key in table)


def test_a_line_of_a_part():
  lines = config_reference.part('loss').split('\n')
  assert lines[0] == '**loss**: loss of a token, sequence or group'
  (line,) = (line for line in lines if line.startswith('| `ppo_clip`'))
  assert line.endswith(' | `low=0.2` `high=0.2` `dual=inf` |')
  # A line end in a default does not end the row.
  assert r'`separator="\n\n"`' in config_reference.part('measures')
