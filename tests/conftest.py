"""What all tests share."""

import gc
import pathlib

import jax
import pytest

MAPS = pathlib.Path('/proc/self/maps')
# A third of what Linux allows a process by default.
MOST_MAPS = 20_000


@pytest.fixture(scope='module', autouse=True)
def _room_for_programs():
  """Forgets compiled programs when they fill the process.

  XLA maps the code of each kernel of a CPU program on its own, and what is
  compiled stays; a process that runs all tests would reach the system's limit
  (`vm.max_map_count`), and die of it.
  """
  yield
  if MAPS.exists() and len(MAPS.read_bytes().splitlines()) > MOST_MAPS:
    jax.clear_caches()
    gc.collect()
