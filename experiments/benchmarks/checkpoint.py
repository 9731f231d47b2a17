"""A 1.5B checkpoint: seconds to read it, memory that takes, one forward pass.

  python experiments/benchmarks/checkpoint.py [REPEATS]

The shape of R1-Distill-Qwen-1.5B with random bfloat16 weights, in shards as
downloads are (3.6 GB in a temporary folder, removed at the end). Each repeat is
a process of its own: it reads the model into bfloat16 parameters, then runs 64
tokens twice, in bfloat16; the second time is without compilation. Where torch
and transformers are installed, theirs is measured in turns with ours. Prints a
line for each repeat and writes checkpoint.json beside this file: medians, and
the largest of the peaks. The files were written just before, so they come from
the page cache.
"""

import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax import jsonl
from lrm_jax.checkpoints import config_json, huggingface, key_maps, weights
from lrm_jax.models import output_head, presets, transformer

HERE = pathlib.Path(__file__).parent
TOKENS = 64
SHARD = 2 * 10**9
CONFIG = presets.build(
  'qwen2',
  vocab_size=151936,
  d_model=1536,
  n_layers=28,
  n_heads=12,
  n_kv_heads=2,
  head_dim=128,
  d_ff=8960,
  max_positions=131072,
  rope={'theta': 1e4},
  tie_embeddings=False,
)


def write(directory: pathlib.Path) -> int:
  """Writes the checkpoint, tensor by tensor; returns its bytes."""
  slots = key_maps.slots(CONFIG)
  shapes = {name: key_maps.tensor_shape(slots[name]) for name in slots}
  rng = np.random.default_rng(0)

  def draw(name: str) -> np.ndarray:
    values = rng.standard_normal(shapes[name], np.float32)
    # Norms are about one, and logits of about that size too.
    values = values * 0.02 + float(name.endswith('norm.weight'))
    return values.astype(jnp.bfloat16)

  jsonl.write_json(
    directory / 'config.json', config_json.render(CONFIG, 'bfloat16')
  )
  weights.write(directory, shapes, 'bfloat16', draw, SHARD)
  return sum(2 * int(np.prod(shape)) for shape in shapes.values())


def memory(field: str) -> int:
  """Bytes of this process: VmRSS now, VmHWM at most so far."""
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith(f'{field}:'):
      return 1024 * int(line.split()[1])
  raise ValueError(field)


def measure(directory: pathlib.Path) -> dict[str, float]:
  """One repeat."""
  jax.block_until_ready(jnp.zeros(1))
  before = memory('VmRSS')
  began = time.perf_counter()
  config, params = huggingface.load(
    directory, param_dtype='bfloat16', compute_dtype='bfloat16'
  )
  found = {'read_seconds': time.perf_counter() - began}
  found['read_peak_bytes'] = memory('VmHWM') - before
  ids = np.random.default_rng(1).integers(0, 151643, (1, TOKENS), np.int32)
  at = np.arange(TOKENS, dtype=np.int32)[None]

  @jax.jit
  def forward(params):
    hidden, _ = transformer.apply(config, params, ids, at, np.ones_like(at))
    return output_head.logits(config, params, hidden)

  for name in ('compile_and_forward_seconds', 'forward_seconds'):
    began = time.perf_counter()
    assert np.isfinite(np.asarray(forward(params))).all()
    found[name] = time.perf_counter() - began
  found['peak_bytes'] = memory('VmHWM') - before
  return found


def measure_transformers(directory: pathlib.Path) -> dict[str, float]:
  """One repeat of theirs."""
  import torch
  import transformers

  ids = np.random.default_rng(1).integers(0, 151643, (1, TOKENS))
  before = memory('VmRSS')
  began = time.perf_counter()
  model = transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=torch.bfloat16
  )
  found = {'read_seconds': time.perf_counter() - began}
  found['read_peak_bytes'] = memory('VmHWM') - before
  with torch.no_grad():
    for name in ('first_forward_seconds', 'forward_seconds'):
      began = time.perf_counter()
      assert torch.isfinite(model(torch.tensor(ids)).logits).all()
      found[name] = time.perf_counter() - began
  found['peak_bytes'] = memory('VmHWM') - before
  return found


MEASURES = {'lrm_jax': measure, 'transformers': measure_transformers}


def summarize(runs: list[dict[str, float]]) -> dict[str, float | list[float]]:
  """Medians and ranges of seconds, the largest of bytes."""
  result = {}
  for name in runs[0]:
    values = [run[name] for run in runs]
    if name.endswith('_bytes'):
      result[name] = max(values)
    else:
      result[name] = statistics.median(values)
      result[f'{name}_range'] = [min(values), max(values)]
  return result


def main(repeats: int) -> None:
  """Writes the checkpoint, runs the repeats, sums up."""
  has_peer = importlib.util.find_spec('transformers') is not None
  names = ['lrm_jax', 'transformers'] if has_peer else ['lrm_jax']
  with tempfile.TemporaryDirectory() as folder:
    size = write(pathlib.Path(folder))
    runs = {name: [] for name in names}
    for name in names * repeats:
      done = subprocess.run(
        [sys.executable, __file__, name, folder],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
      )
      runs[name].append(json.loads(done.stdout))
      print(name, done.stdout, end='', flush=True)
  result = {'model_bytes': size, 'repeats': repeats, 'tokens': TOKENS}
  result |= {name: summarize(runs[name]) for name in names}
  jsonl.write_json(HERE / 'checkpoint.json', result)
  print(json.dumps(result, indent=2))


if __name__ == '__main__':
  if sys.argv[1:] and sys.argv[1] in MEASURES:
    print(json.dumps(MEASURES[sys.argv[1]](pathlib.Path(sys.argv[2]))))
  else:
    main(int(sys.argv[1]) if sys.argv[1:] else 3)
