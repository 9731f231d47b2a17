"""Short RL runs on fake devices, as processes of their own.

  python -m tests.mesh_run JOBS.json

`start` writes the jobs and runs them: on so many devices in each of so many
processes. A job is {'method', 'mesh', 'tensor', 'steps', 'workdir', 'model',
'changes'}, `tensor` being the devices of a lane of the sampler and `changes`
other keys of the config, and leaves `params.npz`, `metrics.jsonl` and rollouts
in its workdir.
"""

import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np

from lrm_jax import (
  assets,
  compilation,
  distributed,
  experiment,
  resuming,
  train,
)
from lrm_jax import workdir as run_folder
from lrm_jax.checkpoints import huggingface, key_maps
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.rewards.pool import Grader
from lrm_jax.tokenization import base
from tests import methods_test

ROOT = pathlib.Path(__file__).parents[1]
SIZES = {
  'train.rows': 8,
  'train.row_length': 96,
  'train.rollouts_every': 1,
  'train.checkpoint_every': 1,
  # Ends a whole process, and waits for grown-up models.
  'sampler.slots': 16,
}


def write_model(directory: pathlib.Path) -> None:
  """The tiny LRM, with its one key/value head twice: the same function."""
  source = assets.resolve('tiny_lrm')
  config, params = huggingface.load(source)
  twice = dataclasses.replace(config, n_kv_heads=2 * config.n_kv_heads)
  leaves = {
    path: np.concatenate([leaf, leaf], axis=-1)
    if path[-2] in ('k', 'v')
    else np.asarray(leaf)
    for path, leaf in key_maps.flatten(params)
    if len(path) > 1
  } | {path: leaf for path, leaf in key_maps.flatten(params) if len(path) == 1}
  huggingface.save(
    directory, twice, key_maps.nest(leaves), tokenizer=base.load(source)
  )


def free_address() -> str:
  """A port of this machine that nothing listens at."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    return f'localhost:{free.getsockname()[1]}'


def start(
  jobs: list[dict], folder: pathlib.Path, *, devices: int, processes: int = 1
) -> list[subprocess.Popen]:
  """Processes that do the jobs, one after the other, all of them each job."""
  path = folder / f'jobs_{devices}_{processes}.json'
  path.write_text(json.dumps(jobs))
  environment = os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
  }
  if processes > 1:
    environment |= {
      distributed.COORDINATOR: free_address(),
      distributed.COUNT: str(processes),
      distributed.START_TIMEOUT: '60',
    }
  return [
    subprocess.Popen(
      [sys.executable, '-m', 'tests.mesh_run', path],
      cwd=ROOT,
      env=environment
      | ({distributed.INDEX: str(index)} if processes > 1 else {}),
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for index in range(processes)
  ]


def run(jobs: list[dict], folder: pathlib.Path, **size: int) -> None:
  """Does the jobs; fails with what the processes said."""
  running = start(jobs, folder, **size)
  said = [each.communicate()[0] for each in running]
  for each, text in zip(running, said, strict=True):
    assert each.returncode == 0, text


def load(job: dict):
  """The config of a job."""
  config = methods_test.load(job['method'])
  changes = SIZES | {
    'model.path': job['model'],
    'train.steps': job['steps'],
    **{f'mesh.{name}': size for name, size in job['mesh'].items()},
    'sampler.tensor': job['tensor'],
    **job['changes'],
  }
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config


def do(job: dict, grader: Grader) -> None:
  """Trains, or goes on; writes the parameters."""
  config, workdir = load(job), pathlib.Path(job['workdir'])
  built = experiment.build(config, grader)
  mutable = resuming.mutable_keys(config)
  is_resumed = distributed.from_main(
    lambda: run_folder.open_run(workdir, config, 'train', mutable)
  )
  checkpoints = RunCheckpoints(workdir, keep=1)
  if is_resumed:
    resuming.restore(built, checkpoints)
  train.train(built, workdir, checkpoints, compilation.CompileWatch())
  checkpoints.close()
  params = distributed.whole(built.state.params)
  if distributed.is_main():
    np.savez(
      workdir / 'params.npz',
      **{'/'.join(path): leaf for path, leaf in key_maps.flatten(params)},
    )


if __name__ == '__main__':
  distributed.initialize()
  with Grader() as grader:
    for job in json.loads(pathlib.Path(sys.argv[1]).read_text()):
      do(job, grader)
  print(jax.process_index(), 'done')
