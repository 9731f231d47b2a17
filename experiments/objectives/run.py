"""Trains every method on the tiny LRM, unattended; then writes the table.

  python experiments/objectives/run.py [RUNS_DIR]

Repeat the command to continue: finished runs stay, others resume from their
last checkpoint. Each processor trains one run at a time. A run that fails is
reported and the rest goes on. Two cores take under four hours.
"""

import pathlib
import subprocess
import sys

from lrm_jax.papers import jobs

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


def plan() -> list[tuple[str, int]]:
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


def main() -> None:
  """Runs all jobs, one worker per processor, then the table."""
  runs = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else 'runs/objectives')
  jobs.train(
    [
      jobs.Job(name, seed, config_path(name), (('train.rollouts_every', 0),))
      for name, seed in plan()
    ],
    runs,
  )
  subprocess.run([sys.executable, HERE / 'table.py', runs], check=True)


if __name__ == '__main__':
  main()
