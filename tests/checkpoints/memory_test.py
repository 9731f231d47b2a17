"""Reading and writing a model takes its own size and little more.

Measured in a process of its own, as the most memory that was ever resident
less what was before: mapped files count there.
"""

import json
import pathlib
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.checkpoints import config_json, huggingface, key_maps, weights
from lrm_jax.models import presets

ROOT = pathlib.Path(__file__).parents[2]
MB = 10**6
# What is promised beside the model and its largest tensor.
ROOM = 200 * MB

CONFIG = presets.build(
  'qwen3',
  vocab_size=50_000,
  d_model=1024,
  n_layers=16,
  n_heads=16,
  n_kv_heads=4,
  head_dim=64,
  d_ff=4096,
  tie_embeddings=True,
  rope={'theta': 1e6},
)


def peak(field='VmHWM'):
  """Bytes, of this process."""
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith(f'{field}:'):
      return 1024 * int(line.split()[1])
  raise ValueError(field)


def sizes():
  """Bytes of each tensor in bfloat16."""
  slots = key_maps.slots(CONFIG).items()
  shapes = {name: key_maps.tensor_shape(blocks) for name, blocks in slots}
  return shapes, {name: 2 * int(np.prod(shapes[name])) for name in shapes}


def write_model(directory):
  """Random bits, in shards."""
  shapes, _ = sizes()
  noise = np.random.default_rng(0).integers(0, 2**16, 60 * MB, np.uint16)

  def read(name):
    count = int(np.prod(shapes[name]))
    return noise[:count].view(jnp.bfloat16).reshape(shapes[name])

  directory.mkdir()
  fields = config_json.render(CONFIG, 'bfloat16')
  (directory / 'config.json').write_text(json.dumps(fields))
  weights.write(directory, shapes, 'bfloat16', read, 250 * MB)


def measure(directory):
  """Loads and saves; prints bytes beyond those before each."""
  huggingface.load(ROOT / 'tests' / 'fixtures' / 'qwen3')  # Compiles, imports.
  before = peak('VmRSS')
  config, params = huggingface.load(directory, param_dtype='bfloat16')
  loaded = peak() - before
  huggingface.save(
    directory.with_name('copy'),
    config,
    params,
    dtype='bfloat16',
    shard_bytes=250 * MB,
  )
  print(json.dumps({'load': loaded, 'both': peak() - before}))


@pytest.mark.skipif(
  not pathlib.Path('/proc/self/status').exists(), reason='reads Linux /proc'
)
def test_peak_memory(tmp_path):
  write_model(tmp_path / 'model')
  try:
    done = subprocess.run(
      [
        sys.executable,
        '-m',
        'tests.checkpoints.memory_test',
        tmp_path / 'model',
      ],
      cwd=ROOT,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / 'model').iterdir()}
    assert {path.name for path in (tmp_path / 'copy').iterdir()} == names
  finally:
    shutil.rmtree(tmp_path)
  found = json.loads(done.stdout)
  _, bytes_of = sizes()
  model, largest = sum(bytes_of.values()), max(bytes_of.values())
  assert 550 * MB < model < 650 * MB
  # It is all there, and only once.
  assert model < found['load'] < model + largest + ROOM, found
  assert found['both'] < model + largest + ROOM, found


if __name__ == '__main__':
  measure(pathlib.Path(sys.argv[1]))
