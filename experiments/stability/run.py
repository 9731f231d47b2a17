"""What holds a policy that off-policy updates break; then table and plot.

  python experiments/stability/run.py [RUNS_DIR]

Every config of configs/stability, three seeds each. Repeat the command to
continue. Two cores take about an hour.
"""

import pathlib
import subprocess
import sys

from lrm_jax.papers import jobs

HERE = pathlib.Path(__file__).parent
CONFIGS = jobs.ROOT / 'configs' / 'stability'


def main() -> None:
  """Runs all jobs, one worker per processor, then the table."""
  runs = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else 'runs/stability')
  jobs.train(jobs.of_folder(CONFIGS, seeds=(0, 1, 2)), runs)
  subprocess.run([sys.executable, HERE / 'table.py', runs], check=True)


if __name__ == '__main__':
  main()
