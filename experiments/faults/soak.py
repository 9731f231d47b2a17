"""Two thousand steps of a micro run: memory, files and speed stay as they are.

  python experiments/faults/soak.py --steps=2000

`lrm train` runs as a process of its own, with checkpoints, rollouts and
evaluations on the way. Once a second its memory, open files, threads and
children, and memory and open files of these, are read from /proc, and each
step's seconds from its metrics. The first `--warm` steps compile and fill
caches; after them, the first 200 steps are compared with the last 200. The
table goes to `results/soak.json`.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # for a start as a script

from lrm_jax import jsonl, phases  # noqa: E402

RESULTS = pathlib.Path(__file__).parent / 'results' / 'soak.json'
WINDOW = 200
# What `look` reads.
LOOKS = (
  *('rss_kb', 'files', 'threads'),
  *('children', 'children_rss_kb', 'children_files'),
)
# Of `config.py`: small, and all that happens in long runs does.
MICRO = {
  'train.problems': 2,
  'train.samples': 4,
  'train.max_rounds': 2,
  'train.mini_batches': 1,
  'train.max_tokens': 24,
  'objective.budget.cap': 24,
  'objective.shaping.difficulty_truncation.easy_cap': 20,
  'train.rows': 4,
  'train.row_length': 72,
  'train.groups': 2,
  'train.checkpoint_every': 100,
  'train.rollouts_every': 10,
  'data.train_problems': 0,
  'sampler.slots': 16,
  'optimizer.learning_rate': 1e-5,
  'eval.problems': 4,
  'eval.max_tokens': 24,
  'eval.every': 200,
}


def look(pid: int) -> dict[str, int]:
  """Kilobytes of memory, open files and threads of a process; its children.

  Of these, and theirs, memory and open files are summed.
  """
  below = [held(each) for each in descendants(pid)]
  return held(pid) | {
    'children': len(below),
    'children_rss_kb': sum(each['rss_kb'] for each in below),
    'children_files': sum(each['files'] for each in below),
  }


def held(pid: int) -> dict[str, int]:
  """What one process has; zeros once it has ended."""
  try:
    status = pathlib.Path(f'/proc/{pid}/status').read_text()
    fields = dict(line.split(':', 1) for line in status.splitlines())
    return {
      'rss_kb': int(fields['VmRSS'].split()[0]),
      'files': len(os.listdir(f'/proc/{pid}/fd')),
      'threads': int(fields['Threads']),
    }
  except (OSError, KeyError):
    return dict.fromkeys(('rss_kb', 'files', 'threads'), 0)


def descendants(pid: int) -> list[int]:
  """Children of all threads, and their children."""
  found = []
  for path in pathlib.Path(f'/proc/{pid}/task').glob('*/children'):
    try:
      found += [int(word) for word in path.read_text().split()]
    except OSError:
      pass  # The thread ended meanwhile.
  return found + [each for child in found for each in descendants(child)]


def watch(process: subprocess.Popen, metrics: pathlib.Path) -> list[dict]:
  """A row a second until the process ends, with the step it is at."""
  rows = []
  while process.poll() is None:
    step = metrics.read_bytes().count(b'\n') if metrics.exists() else 0
    row = {'step': step} | look(process.pid)
    if row['rss_kb']:  # Else it ended meanwhile.
      rows.append(row)
    time.sleep(1.0)
  return rows


def summarize(rows: list[dict], seconds: list[float], warm: int) -> dict:
  """What the first and the last steps after the warm-up have.

  Args:
    rows: of `watch`.
    seconds: of each step.
    warm: steps left out.
  """
  steps = len(seconds)
  windows = {
    'first': (warm, warm + WINDOW),
    'last': (steps - WINDOW, steps),
  }
  found = {}
  for name, (low, high) in windows.items():
    inside = [row for row in rows if low < row['step'] <= high]
    found[name] = {
      'steps': [low + 1, high],
      'median_step_seconds': statistics.median(seconds[low:high]),
      'mean_step_seconds': statistics.fmean(seconds[low:high]),
      **{key: statistics.median(row[key] for row in inside) for key in LOOKS},
    }
  ratio = lambda key: found['last'][key] / found['first'][key]
  return found | {
    'seconds_ratio': round(ratio('median_step_seconds'), 4),
    'rss_ratio': round(ratio('rss_kb'), 4),
    'children_rss_ratio': round(ratio('children_rss_kb'), 4),
  }


def main() -> None:
  """Runs it, and writes what came of it."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--steps', type=int, default=2000)
  parser.add_argument('--warm', type=int, default=200)
  parser.add_argument('--out', type=pathlib.Path, default=RESULTS)
  options = parser.parse_args()
  if options.steps < options.warm + 2 * WINDOW:
    parser.error(f'--steps: at least --warm and {2 * WINDOW} more')
  keys = MICRO | {'train.steps': options.steps}
  with tempfile.TemporaryDirectory(prefix='lrm_soak_') as folder:
    workdir = pathlib.Path(folder, 'run')
    process = subprocess.Popen(
      [
        *(sys.executable, '-m', 'lrm_jax.main', 'train'),
        f'--config={ROOT / "experiments" / "faults" / "config.py"}',
        f'--workdir={workdir}',
        *(f'--config.{key}={value}' for key, value in keys.items()),
      ],
      cwd=ROOT,
      env=os.environ | {'JAX_PLATFORMS': 'cpu'},
      stdout=subprocess.DEVNULL,
    )
    began = time.monotonic()
    rows = watch(process, workdir / 'metrics.jsonl')
    if process.returncode:
      sys.exit(process.returncode)
    metrics = jsonl.read_rows(workdir / 'metrics.jsonl')
  names = [f'seconds_{name}' for name in phases.NAMES]
  seconds = [sum(row[name] for name in names) for row in metrics]
  record = {
    'command': ' '.join(['python', *sys.argv]),
    'machine': f'{platform.machine()}, {os.cpu_count()} cores',
    'seconds': round(time.monotonic() - began),
    'steps': len(seconds),
  } | summarize(rows, seconds, options.warm)
  # The course of it, for a look.
  record['course'] = rows[:: max(1, len(rows) // 20)]
  options.out.parent.mkdir(exist_ok=True)
  options.out.write_text(json.dumps(record, indent=2) + '\n', 'utf-8')
  print(json.dumps(record, indent=2))


if __name__ == '__main__':
  main()
