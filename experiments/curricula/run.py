"""How soon each way of choosing problems is right so often; then the table.

  python experiments/curricula/run.py [RUNS_DIR]

Every config of configs/curricula, three seeds each. Repeat the command to
continue. Two cores take about 40 minutes.
"""

import pathlib
import subprocess
import sys

from lrm_jax.papers import jobs

HERE = pathlib.Path(__file__).parent
CONFIGS = jobs.ROOT / 'configs' / 'curricula'


def main() -> None:
  """Runs all jobs, one worker per processor, then the table."""
  runs = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else 'runs/curricula')
  jobs.train(jobs.of_folder(CONFIGS, seeds=(0, 1, 2)), runs)
  subprocess.run([sys.executable, HERE / 'table.py', runs], check=True)


if __name__ == '__main__':
  main()
