"""What all tests share."""

import gc
import importlib.util
import os
import pathlib

import jax
import pytest

from lrm_jax.planning import topologies
from tests import bucket

# Files that take minutes: they come first, so that no worker is at one of them
# when the others have nothing left.
LONGEST = (
  *('methods_test.py', 'mesh_run_test.py', 'train_test.py'),
  *('invariance_test.py', 'positions_test.py', 'kinds_test.py'),
  *('lost_process_test.py', 'rounds_test.py', 'parity_test.py'),
  *('tpu_test.py', 'bucket_run_test.py', 'policy_test.py'),
  *('shared_lane_test.py', 'plan_test.py', 'load_balance_test.py'),
)
DEVICES = pathlib.Path('/dev')
MAPS = pathlib.Path('/proc/self/maps')
# A third of what Linux allows a process by default.
MOST_MAPS = 20_000


def pytest_configure(config):
  """What holds for all tests and the commands that they start."""
  # With the compiler for TPUs installed JAX looks for some, and says much.
  if not [*DEVICES.glob('accel*'), *DEVICES.glob('vfio/*')]:
    for name, value in topologies.NO_CHIPS.items():
      os.environ.setdefault(name, value)
  keep_programs(config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """The longest files first; whole files stay together.

  What is long is slow too: `-m 'not slow'` leaves both out.
  """
  for item in items:
    if item.get_closest_marker('long') is not None:
      item.add_marker('slow')
  place = {name: number for number, name in enumerate(LONGEST)}
  items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


def keep_programs(config):
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


@pytest.fixture(scope='session')
def store():
  """The bucket at gs://bucket; each test has a folder of its own in it."""
  # Not imported: it reads variables of the environment then.
  if importlib.util.find_spec('gcsfs') is None:
    pytest.skip("needs pip install 'lrm_jax[gcs]'")
  with bucket.serve() as store:
    yield store


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
