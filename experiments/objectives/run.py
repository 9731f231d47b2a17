"""Trains every method on the tiny LRM, unattended; then writes the table.

  python experiments/objectives/run.py [RUNS_DIR]

Repeat the command to continue: finished runs stay, others resume from their
last checkpoint. Each processor trains one run at a time. A run that fails is
reported and the rest goes on. Two cores take under four hours.
"""

import os
import pathlib
import queue
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
# Those that get three seeds.
HEADLINE = (
  'grpo',
  'dr_grpo',
  'dapo',
  'dler',
  'da_dler',
  'drpo',
  'grpo_lambda',
  'siri',
  'hapo',
  'adaptive_penalty',
  'dot',
  'cosine',
)


def methods() -> list[str]:
  """Every config of `configs/tiny`, the headline first."""
  stems = {path.stem for path in (ROOT / 'configs' / 'tiny').glob('*.py')}
  others = sorted(stems - {'__init__', 'setting'} - set(HEADLINE))
  return [*HEADLINE, *others]


def jobs() -> list[tuple[str, int]]:
  """(config, seed): every method once, then the headline again."""
  once = [(name, 0) for name in methods() + controls()]
  return once + [(name, seed) for seed in (1, 2) for name in HEADLINE]


def controls() -> list[str]:
  """Methods with one part changed."""
  paths = (ROOT / 'configs' / 'tiny' / 'controls').glob('*.py')
  return sorted(path.stem for path in paths if path.stem != '__init__')


def config_path(name: str) -> pathlib.Path:
  """Where a job's config is."""
  folder = ROOT / 'configs' / 'tiny'
  return folder / ('controls' if name in controls() else '') / f'{name}.py'


def work(todo: queue.Queue, runs: pathlib.Path, core: int | None) -> None:
  """Trains jobs until there are none, on one processor."""
  environment = os.environ | {
    # Sampler and evaluation are the same program for most methods.
    'JAX_COMPILATION_CACHE_DIR': str(runs.absolute() / 'compiled'),
  }

  def pin():
    if core is not None:
      os.sched_setaffinity(0, {core})

  while True:
    try:
      name, seed = todo.get_nowait()
    except queue.Empty:
      return
    workdir = runs / f'{name}_seed{seed}'
    if (workdir / 'summary.json').exists():
      continue
    began = time.time()
    with open(runs / f'{workdir.name}.log', 'a') as log:
      code = subprocess.run(
        [
          'lrm',
          'train',
          f'--config={config_path(name)}',
          f'--config.seed={seed}',
          '--config.train.rollouts_every=0',
          f'--workdir={workdir}',
        ],
        stdout=log,
        stderr=log,
        env=environment,
        preexec_fn=pin,
      ).returncode
    # The table shows a run that failed as failed, with its last words.
    failed = runs / f'{workdir.name}.failed'
    failed.unlink(missing_ok=True)
    if code:
      words = pathlib.Path(log.name).read_text(errors='replace').split('\n')
      failed.write_text([word for word in words if word.strip()][-1])
    verdict = 'done' if code == 0 else f'FAILED ({code}), see {log.name}'
    print(f'{workdir.name}: {verdict} {time.time() - began:.0f} s', flush=True)


def main() -> None:
  """Runs all jobs, one worker per processor, then the table."""
  runs = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else 'runs/objectives')
  runs.mkdir(parents=True, exist_ok=True)
  todo: queue.Queue = queue.Queue()
  for job in jobs():
    todo.put(job)
  can_pin = hasattr(os, 'sched_getaffinity')
  cores = sorted(os.sched_getaffinity(0)) if can_pin else [None]
  workers = [
    threading.Thread(target=work, args=(todo, runs, core)) for core in cores
  ]
  for worker in workers:
    worker.start()
  for worker in workers:
    worker.join()
  subprocess.run([sys.executable, HERE / 'table.py', runs], check=True)


if __name__ == '__main__':
  main()
