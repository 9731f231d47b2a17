"""What all tests share."""

import gc
import os
import pathlib

import jax
import pytest

MAPS = pathlib.Path('/proc/self/maps')
# A third of what Linux allows a process by default.
MOST_MAPS = 20_000


def pytest_configure(config):
  """Keeps compiled programs: many tests, and each next run, need the same."""
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return  # The user's own, or that of the process that started this worker.
  if not config.pluginmanager.has_plugin('cacheprovider'):
    return
  keep = {
    'jax_compilation_cache_dir': str(config.cache.mkdir('programs')),
    'jax_persistent_cache_min_compile_time_secs': 0.3,
  }
  for name, value in keep.items():
    jax.config.update(name, value)
    # Of the commands that tests start.
    os.environ[name.upper()] = str(value)


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
