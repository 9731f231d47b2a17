"""What holds a policy that off-policy updates break; then table and plot.

  python experiments/stability/run.py [RUNS_DIR]

Every config of configs/stability, three seeds each. Repeat the command to
continue. Two cores take under an hour.
"""

import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # as a script

import unattended  # noqa: E402

HERE = pathlib.Path(__file__).parent
CONFIGS = unattended.ROOT / 'configs' / 'stability'
SEEDS = (0, 1, 2)


def jobs() -> list[unattended.Job]:
  """Every way once, then with the other seeds."""
  names = {path.stem for path in CONFIGS.glob('*.py')}
  names = sorted(names - {'__init__', 'setting'})
  return [
    unattended.Job(name, seed, CONFIGS / f'{name}.py')
    for seed in SEEDS
    for name in names
  ]


def main() -> None:
  """Runs all jobs, one worker per processor, then the table."""
  runs = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else 'runs/stability')
  unattended.train(jobs(), runs)
  subprocess.run([sys.executable, HERE / 'table.py', runs], check=True)


if __name__ == '__main__':
  main()
