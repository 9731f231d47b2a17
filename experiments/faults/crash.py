"""Kills a run at random moments; each time it ends as if nothing had been.

  python experiments/faults/crash.py --kills=50 --stops=20 --seed=0

A run of `config.py` is killed (SIGKILL) or stopped (SIGTERM) again and again,
each time in a phase chosen by lot, at its n-th time and some way into it, and
started again by the same command. Its end is compared with that of a run that
nobody disturbed: parameters, optimizer, memory, data cursor, exported model,
metrics, rollouts and evaluations, bit for bit; times alone may differ. The
table goes to `results/crash.json`, with `differences` and `failure` as found:
the matrix ends at the first.

SIGTERM goes to the whole process group, as schedulers send it: the verifier's
workers get it too.
"""

import argparse
import collections
import json
import os
import pathlib
import platform
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # for a start as a script

from experiments.faults import comparison  # noqa: E402

CONFIG = ROOT / 'experiments' / 'faults' / 'config.py'
RESULTS = pathlib.Path(__file__).parent / 'results' / 'crash.json'
# What `marked.py` tells, how often in a whole run, and seconds it may take.
PLACES = {
  'load': (1, 4.0),
  'evaluate': (4, 1.0),
  'choose': (20, 0.02),
  'sample': (20, 0.3),
  'verify': (20, 0.02),
  'shape': (20, 0.02),
  'select': (12, 0.01),
  'credit': (12, 0.05),
  'update': (12, 0.5),
  'record': (12, 0.03),
  'save': (6, 0.1),
  'publish': (6, 0.2),
  'export': (1, 0.1),
}
# Any key that is free to change may; how often a checkpoint is due does most.
INTERVALS = (1, 2, 5)


class Failed(Exception):
  """What a disturbed run did instead of going on.

  Attributes:
    rows: signals that it had been sent.
    differences: from the undisturbed run; [] where it did not come to an end.
  """

  def __init__(
    self, line: str, rows: list[dict] = (), differences: list[str] = ()
  ):
    super().__init__(line)
    self.rows, self.differences = list(rows), list(differences)


class Moment(NamedTuple):
  """When to disturb: at the n-th `place` of a start, `delay` seconds later."""

  place: str
  occurrence: int
  delay: float


def choose(rng: random.Random, place: str) -> Moment:
  """A moment of this phase."""
  times, seconds = PLACES[place]
  # Early ones more often: a start that has little left has few of them.
  occurrence = min(rng.randint(1, times), rng.randint(1, times))
  return Moment(place, occurrence, rng.uniform(0, seconds))


def command(workdir: pathlib.Path, *overrides: str) -> list[str]:
  """What starts the run, and goes on with it."""
  return [
    *(sys.executable, '-m', 'experiments.faults.marked', 'train'),
    *(f'--config={CONFIG}', f'--workdir={workdir}'),
    *(f'--config.{override}' for override in overrides),
  ]


def start(
  words: list[str], moment: Moment | None, number: int
) -> tuple[int, str, str | None]:
  """Starts a run, and disturbs it if the moment comes.

  Args:
    words: the command.
    moment: when; None for never.
    number: of the signal.

  Returns:
    Its exit code, its errors, and what it was at when the signal came; None
    if it ended before.
  """
  read, write = os.pipe()
  with tempfile.TemporaryFile('w+') as errors:
    process = subprocess.Popen(
      words,
      cwd=ROOT,
      env=os.environ | {'MARKS': str(write), 'JAX_PLATFORMS': 'cpu'},
      pass_fds=[write],
      stdout=subprocess.DEVNULL,
      stderr=errors,
      start_new_session=True,  # A group of its own, see `send`.
    )
    os.close(write)
    place = None
    try:
      with os.fdopen(read, 'rb', buffering=0) as marks:
        if moment is not None:
          place = disturb(process, marks, moment, number)
        while marks.read(1 << 16):
          pass  # Or it would wait for a reader.
      code = process.wait()
    finally:
      process.kill()  # Of another session: Ctrl-C does not reach it.
    errors.seek(0)
    return code, errors.read(), place


def disturb(process, marks, moment: Moment, number: int) -> str | None:
  """Waits for the moment, and sends the signal; what the process was at."""
  counts = collections.Counter()
  last, due = 'load', None
  while True:
    left = None if due is None else max(0.0, due - time.monotonic())
    if left == 0.0 or not select.select([marks], [], [], left)[0]:
      send(process, number)
      return last
    text = marks.read(1 << 16)
    if not text:
      return None
    for last in text.decode().split():
      counts[last] += 1
      if due is None and counts[moment.place] == moment.occurrence:
        due = time.monotonic() + moment.delay


def send(process: subprocess.Popen, number: int) -> None:
  """SIGTERM to the group that the process leads, others to it alone.

  A SIGKILL is that of the kernel, which picks one process.
  """
  if number == signal.SIGTERM:
    os.killpg(process.pid, number)
  else:
    process.send_signal(number)


def one_run(
  reference: pathlib.Path,
  folder: pathlib.Path,
  places: list[str],
  number: int,
  rng: random.Random,
) -> list[dict]:
  """Disturbs one run in these places, then lets it end, and compares.

  Returns:
    A row for each signal that came in time: signal, place, exit code.

  Raises:
    Failed: the run failed, or ended otherwise than the undisturbed one.
  """
  shutil.rmtree(folder, ignore_errors=True)
  interval = rng.choice(INTERVALS)
  words = command(folder, f'train.checkpoint_every={interval}')
  rows = []
  for place in places:
    moment = choose(rng, place)
    code, errors, hit = start(words, moment, number)
    if hit is not None:
      rows.append(
        {'signal': number.name, 'place': hit, 'code': code, 'at': moment}
      )
    stopped = 'stopped; ' in errors and 'give the same command again' in errors
    is_right = code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    if hit is None or (code == 0 and not stopped):
      if code != 0:
        raise Failed(f'{folder} failed by itself: {errors}', rows)
      break  # It had ended already, or went on to its end.
    if not is_right:
      line = f'{folder}: exit code {code} after {number.name}: {errors}'
      raise Failed(line, rows)
  code, errors, _ = start(words, None, number)
  if code != 0:
    raise Failed(f'{folder} failed after {rows}: {errors}', rows)
  found = comparison.differences(reference, folder)
  if found:
    raise Failed(f'{folder} differs after {rows}: {found}', rows, found)
  shutil.rmtree(folder)
  return rows


def matrix(
  folder: pathlib.Path, wanted: dict[signal.Signals, int], seed: int, each: int
) -> list[dict]:
  """Signals until there are as many as wanted, `each` per run at most.

  Raises:
    Failed: with the rows of all runs so far.
  """
  reference = folder / 'undisturbed'
  code, errors, _ = start(command(reference), None, signal.SIGKILL)
  if code != 0:
    raise Failed(f'the undisturbed run failed: {errors}')
  rng = random.Random(seed)
  rows = []
  for number, count in wanted.items():
    mine, turn = [], 0
    while len(mine) < count:
      places = list(PLACES)
      rng.shuffle(places)
      some = places[: min(each, count - len(mine))]
      try:
        mine += one_run(reference, folder / f'run{turn}', some, number, rng)
      except Failed as error:
        error.rows = rows + mine + error.rows
        raise
      turn += 1
      print(f'{number.name}: {len(mine)} of {count}', flush=True)
    rows += mine
  return rows


def main() -> int:
  """Runs the matrix, and writes what came of it; 1 if something differs."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kills', type=int, default=50)
  parser.add_argument('--stops', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--each', type=int, default=5, help='signals per run')
  parser.add_argument('--out', type=pathlib.Path, default=RESULTS)
  options = parser.parse_args()
  began = time.monotonic()
  wanted = {signal.SIGKILL: options.kills, signal.SIGTERM: options.stops}
  with tempfile.TemporaryDirectory(prefix='lrm_crash_') as folder:
    cache = {'JAX_COMPILATION_CACHE_DIR': str(pathlib.Path(folder, 'programs'))}
    os.environ.update(
      cache | {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
    )
    failure = None
    try:
      rows = matrix(pathlib.Path(folder), wanted, options.seed, options.each)
    except Failed as error:
      rows, failure = error.rows, error
  record = {
    'command': ' '.join(['python', *sys.argv]),
    'machine': f'{platform.machine()}, {os.cpu_count()} cores',
    'seconds': round(time.monotonic() - began),
  } | summarize(rows, wanted, failure)
  options.out.parent.mkdir(exist_ok=True)
  options.out.write_text(json.dumps(record, indent=2) + '\n', 'utf-8')
  print(json.dumps(record, indent=2))
  return 0 if failure is None else 1


def summarize(
  rows: list[dict],
  wanted: dict[signal.Signals, int],
  failure: Failed | None,
) -> dict:
  """How many signals were sent where, and what came of them."""
  counts = {
    number.name: collections.Counter(
      row['place'] for row in rows if row['signal'] == number.name
    )
    for number in wanted
  }
  return {
    'wanted': {number.name: count for number, count in wanted.items()},
    'signals': {name: sum(count.values()) for name, count in counts.items()},
    'places': {
      name: dict(sorted(count.items())) for name, count in counts.items()
    },
    'differences': [] if failure is None else failure.differences,
    'failure': None if failure is None else str(failure),
  }


if __name__ == '__main__':
  sys.exit(main())
