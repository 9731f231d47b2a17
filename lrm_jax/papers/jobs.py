"""Many runs, one on each processor, until all are done.

`train(jobs, runs)` makes RUNS/NAME_seedN of each job. Repeated, it continues:
finished runs stay, others resume from their last checkpoint. A run that fails
is reported, with its last words in RUNS/NAME_seedN.failed, and the rest goes
on.
"""

import dataclasses
import os
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence

from lrm_jax import clock, configuration, workdir
from lrm_jax.errors import UserError

# Of the source, where `configs/` and `experiments/` are.
ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Job:
  """One run.

  Attributes:
    name: of what is compared.
    seed: of all its streams.
    config: file.
    changes: keys and values beside the seed.
    verb: train or sft.
  """

  name: str
  seed: int
  config: pathlib.Path
  changes: tuple[tuple[str, object], ...] = ()
  verb: str = 'train'

  @property
  def folder(self) -> str:
    """Its workdir, below that of all runs."""
    return f'{self.name}_seed{self.seed}'

  @property
  def overrides(self) -> list[str]:
    """Its keys and values, as the command line has them."""
    changes = (('seed', self.seed), *self.changes)
    return [f'config.{key}={value}' for key, value in changes]

  def command(self, runs: pathlib.Path) -> list[str]:
    """That trains it."""
    return [
      sys.executable,
      '-m',
      'lrm_jax.main',
      self.verb,
      f'--config={self.config}',
      *(f'--{override}' for override in self.overrides),
      f'--workdir={runs / self.folder}',
    ]


def of_folder(configs: pathlib.Path, seeds: Sequence[int]) -> list[Job]:
  """Every config of a folder once, then with the other seeds."""
  names = {path.stem for path in configs.glob('*.py')}
  names = sorted(names - {'__init__', 'setting'})
  return [
    Job(name, seed, configs / f'{name}.py') for seed in seeds for name in names
  ]


def is_done(job: Job, runs: pathlib.Path) -> bool:
  """Whether the run has come to its end."""
  return (runs / job.folder / 'summary.json').exists()


def check(job: Job, runs: pathlib.Path) -> None:
  """Whether a run that is done is the one that is asked for.

  Where its model lies does not count: the folder of all runs may be moved.

  Raises:
    UserError: it was trained with other settings.
  """
  if not is_done(job, runs):
    return
  folder = runs / job.folder
  had = workdir.read_record(folder / 'config.json')['config']
  wanted = configuration.load(job.config, job.overrides)
  others = set(configuration.differences(had, wanted)) - {'model.path'}
  if others:
    raise UserError(
      f'{folder}: was trained with other settings '
      f'({", ".join(sorted(others))}); move it away to train it anew'
    )


def train(jobs: Sequence[Job], runs: pathlib.Path) -> None:
  """Trains all jobs, a worker pinned to each processor.

  Args:
    jobs: in their order; those that are done are passed over.
    runs: made if it is not there.
  """
  runs.mkdir(parents=True, exist_ok=True)
  todo: queue.Queue[Job] = queue.Queue()
  for job in jobs:
    if not is_done(job, runs):
      todo.put(job)
  can_pin = hasattr(os, 'sched_getaffinity')
  cores = sorted(os.sched_getaffinity(0)) if can_pin else [None]
  workers = [
    threading.Thread(target=_work, args=(todo, runs, core)) for core in cores
  ]
  for worker in workers:
    worker.start()
  for worker in workers:
    worker.join()


def _work(todo: queue.Queue, runs: pathlib.Path, core: int | None) -> None:
  """Trains jobs until there are none, on one processor."""
  if core is not None:
    # Of this thread, and of what it starts.
    os.sched_setaffinity(0, {core})
  while True:
    try:
      job = todo.get_nowait()
    except queue.Empty:
      return
    began = clock.now()
    log = runs / f'{job.folder}.log'
    code = _run(job, runs, log)
    # A table shows a run that failed as failed, with its last words.
    failed = runs / f'{job.folder}.failed'
    failed.unlink(missing_ok=True)
    if code:
      words = log.read_text(errors='replace').split('\n')
      failed.write_text([word for word in words if word.strip()][-1])
    verdict = 'done' if code == 0 else f'FAILED ({code}), see {log}'
    print(f'{job.folder}: {verdict} {clock.now() - began:.0f} s', flush=True)


def _run(job: Job, runs: pathlib.Path, log: pathlib.Path) -> int:
  """The exit code of a job; what it says goes into the log."""
  environment = os.environ | {
    # Sampler and evaluation are the same program for most runs.
    'JAX_COMPILATION_CACHE_DIR': str(runs.absolute() / 'compiled'),
  }
  with open(log, 'a') as file:
    return subprocess.run(
      job.command(runs), stdout=file, stderr=file, env=environment
    ).returncode
