"""Which position schemes work at twice the steps they were trained on.

  python experiments/extrapolation/run.py [RUNS_DIR]

Trains a model for each scheme on chains of one to four steps, evaluates it on
four, six and eight, writes results.json beside this file and prints the table.
Repeat the command to continue: what is finished stays, a run that was stopped
resumes from its last checkpoint. Each processor trains one run at a time; on a
quiet one it takes about a minute.
"""

import concurrent.futures
import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys

import table

from lrm_jax import jsonl

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))  # the config imports `configs`
import data  # noqa: E402

SEEDS = (0, 1, 2)
TRAINED, TESTED = (1, 2, 3, 4), (4, 6, 8)  # steps
DEMONSTRATIONS, PROBLEMS = 6000, 256  # of each number of steps
LIMIT = 96  # positions that randomised ones are drawn from
WINDOW = 48  # tokens of a row in training
LONGEST = 83  # of a question of eight steps and its shortest trace

SCHEMES = {
  'rope': (),
  'alibi': ('--config.model.new.positions=alibi',),
  'nope': ('--config.model.new.positions=nope',),
  'hard_alibi': ('--config.model.new.positions=hard_alibi',),
  't5': ('--config.model.new.positions=t5',),
  # One that is not done after the steps of the others.
  'nope_long': (
    '--config.model.new.positions=nope',
    '--config.stages.a_short.steps=2000',
  ),
  'randomised': (f'--config.position_limit={LIMIT}',),
}


def rope(kind: str, factor: float) -> dict:
  """What config.json says of rotary positions of this kind."""
  return {
    'rope': {
      'kind': kind,
      'theta': 1e4,
      'fraction': 1.0,
      'settings': {'factor': factor},
    }
  }


# Name -> (whose weights, what its config.json says instead). Within a row of
# its training LM-Infinite is RoPE, so to train it would be to train that.
UNTRAINED = {
  'lm_infinite': (
    'rope',
    {'positions': 'lm_infinite', 'trained_positions': WINDOW},
  ),
  'rope, linear x 2': ('rope', rope('linear', 2.0)),
  'rope, NTK x 2': ('rope', rope('ntk', 2.0)),
  # As far apart as they are in training on average.
  'randomised, spread': ('randomised', rope('linear', LONGEST / LIMIT)),
}


def call(*command: str, core: int | None = None, runs: pathlib.Path) -> None:
  """Runs `lrm`, on one processor if it is named."""

  def pin():
    if core is not None:
      os.sched_setaffinity(0, {core})

  subprocess.run(
    ['lrm', *command],
    check=True,
    preexec_fn=pin,
    env=os.environ | {'JAX_COMPILATION_CACHE_DIR': str(runs / 'compiled')},
  )


def train(scheme: str, seed: int, runs: pathlib.Path, core: int | None) -> None:
  """Makes RUNS/SCHEME_seedSEED, if it is not finished yet."""
  workdir = runs / f'{scheme}_seed{seed}'
  if not (workdir / 'summary.json').exists():
    call(
      'sft',
      f'--config={HERE / "config.py"}',
      f'--config.seed={seed}',
      f'--config.data.train={runs / "train.jsonl"}',
      f'--workdir={workdir}',
      *SCHEMES[scheme],
      core=core,
      runs=runs,
    )


def train_all(runs: pathlib.Path) -> None:
  """All runs, one on each processor at a time."""
  can_pin = hasattr(os, 'sched_getaffinity')
  cores: queue.Queue = queue.Queue()
  for core in os.sched_getaffinity(0) if can_pin else [None]:
    cores.put(core)

  def work(job):
    core = cores.get()
    try:
      train(*job, runs, core)
    finally:
      cores.put(core)

  with concurrent.futures.ThreadPoolExecutor(cores.qsize()) as pool:
    jobs = [(scheme, seed) for seed in SEEDS for scheme in SCHEMES]
    list(pool.map(work, jobs))


def change(
  name: str, workdir: pathlib.Path, fields: dict, target: pathlib.Path
) -> None:
  """A copy of a run's model whose config.json differs."""
  shutil.copytree(workdir / 'model', target / 'model', dirs_exist_ok=True)
  path = target / 'model' / 'config.json'
  stated = json.loads(path.read_text())
  unknown = sorted(fields.keys() - stated.keys())
  if unknown:
    raise ValueError(f'{name}: config.json has no {unknown}')
  jsonl.write_json(path, stated | fields)


def evaluate(
  name: str, seed: int, workdir: pathlib.Path, test: pathlib.Path
) -> dict:
  """The row of results.json of the model in a workdir."""
  folder = workdir / 'eval'
  if not (folder / 'summary.json').exists():
    call(
      'eval',
      f'--model={workdir / "model"}',
      f'--data={test}',
      '--n=1',
      '--temperature=0',
      '--max_tokens=96',
      '--batch=256',
      f'--workdir={folder}',
      runs=workdir.parent,
    )
  problems = {row['id']: row for row in jsonl.read_rows(test)}
  mistakes = {level: {} for level in TESTED}
  for row in jsonl.read_rows(folder / 'rollouts.jsonl.gz'):
    problem = problems[row['id']]
    kind = data.first_mistake(problem['question'], row['response'])
    counts = mistakes[problem['level']]
    counts[kind] = counts.get(kind, 0) + 1  # noqa: B909
  summary = json.loads((folder / 'summary.json').read_text())
  return {
    'scheme': name,
    'seed': seed,
    'by_level': summary['by_level'],
    'first_mistakes': mistakes,
  }


def main() -> None:
  """Runs everything that is not there yet, then the table."""
  runs = pathlib.Path(
    sys.argv[1] if len(sys.argv) > 1 else 'runs/extrapolation'
  )
  runs = runs.absolute()
  runs.mkdir(parents=True, exist_ok=True)
  train_path, test = runs / 'train.jsonl', runs / 'test.jsonl'
  data.write(train_path, 'train', TRAINED, DEMONSTRATIONS)
  data.write(test, 'heldout', TESTED, PROBLEMS)
  train_all(runs)
  results = []
  for seed in SEEDS:
    for name in SCHEMES:
      results.append(evaluate(name, seed, runs / f'{name}_seed{seed}', test))
    for name, (source, fields) in UNTRAINED.items():
      folder = re.sub(r'\W+', '_', f'{name}_seed{seed}')
      change(name, runs / f'{source}_seed{seed}', fields, runs / folder)
      results.append(evaluate(name, seed, runs / folder, test))
  jsonl.write_json(HERE / 'results.json', results)
  print(table.render(results))


if __name__ == '__main__':
  main()
