"""How soon each way of choosing problems is right so often; then the table.

  python experiments/curricula/run.py [RUNS_DIR]

Every config of configs/curricula, three seeds each. Repeat the command to
continue. Two cores take about an hour.
"""

import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # as a script

import unattended  # noqa: E402

HERE = pathlib.Path(__file__).parent
CONFIGS = unattended.ROOT / 'configs' / 'curricula'


def main() -> None:
  """Runs all jobs, one worker per processor, then the table."""
  runs = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else 'runs/curricula')
  unattended.train(unattended.of_folder(CONFIGS, seeds=(0, 1, 2)), runs)
  subprocess.run([sys.executable, HERE / 'table.py', runs], check=True)


if __name__ == '__main__':
  main()
