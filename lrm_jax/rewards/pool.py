"""A pool of processes that grade what exact comparison leaves undecided.

  pairs -> grade_exact -> undecided, each once -> workers -> verdicts in order

Every worker is `python worker.py`, a fresh interpreter without JAX (nothing
is forked, and nothing of the caller's main module runs again) that talks JSON
lines over pipes.

A comparison may take `timeout` seconds of processor time, so that a verdict
does not depend on what else the machine does; the kernel ends a worker that
exceeds them. math-verify's own alarms would not do: they work in main threads
only, and no signal handler runs while one big integer operation does. A worker
that has used up its memory ends itself. Behind that the parent keeps a deadline
by wall clock, and kills a worker that has passed it for whatever reason. Lost
workers are replaced.
"""

import collections
import json
import math
import os
import pathlib
import selectors
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence

from lrm_jax.errors import UserError
from lrm_jax.rewards.math_answer import (
  Verdict,
  extract_answer,
  grade_exact,
)
from lrm_jax.rewards.units import strip_unit

# Address space of one worker, interpreter and sympy (0.1 GB) included.
WORKER_MEMORY_BYTES = 2 * 1024**3
# Wall clock over processor time. What is left of a processor that training
# uses too is enough; it matters only when a worker stops running at all.
_MAX_SLOWDOWN = 4
# Loading sympy takes a second, but minutes on a cold network disk.
_START_SECONDS = 120.0
_START_ATTEMPTS = 3
# Parsers keep what they learn from each text. A fresh process now and then
# costs a second and bounds that.
_MAX_PAIRS_PER_WORKER = 5000


class Grader:
  """Grades (response, gold answer) pairs; a context manager.

  Processes start with the first undecided pair and stay for later calls.
  `grade` may be called from any thread, one call at a time.
  """

  def __init__(
    self,
    num_workers: int | None = None,
    timeout: float = 5.0,
    *,
    require_closed_think: bool = True,
    command: Sequence[str] | None = None,
  ):
    """Starts nothing yet.

    Args:
      num_workers: most processes at a time; None for one per CPU, 4 at most.
      timeout: seconds of processor time one comparison may take; it is also
        cut off after four times as many by wall clock.
      require_closed_think: as for `math_answer.extract_answer`.
      command: what starts a worker, before its two arguments; None for
        `worker.py` under this interpreter.

    Raises:
      UserError: a number that is not positive.
    """
    if num_workers is None:
      num_workers = min(4, os.cpu_count())
    for name, value in (('num_workers', num_workers), ('timeout', timeout)):
      if not value > 0:
        raise UserError(f'{name}: received {value}; must be positive')
    if command is None:
      # -P keeps this folder's modules from shadowing those of libraries.
      worker = pathlib.Path(__file__).with_name('worker.py')
      command = (sys.executable, '-P', str(worker))
    self._num_workers = num_workers
    self._timeout = timeout
    self._require_closed_think = require_closed_think
    self._command = (
      *command,
      str(timeout),
      str(WORKER_MEMORY_BYTES),
    )
    self._failed_starts = 0
    self._workers: list[_Worker] = []
    self._lock = threading.Lock()
    # Also when the caller forgets, and at the interpreter's exit.
    weakref.finalize(self, _kill_all, self._workers)

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.close()

  def close(self) -> None:
    """Kills every worker. The grader can be used again; it starts new ones."""
    with self._lock:
      _kill_all(self._workers)

  def grade(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
    """Grades pairs of (response, gold answer).

    A comparison that outlives the timeout, or whose worker dies (out of
    memory, say), is not repeated: its verdict is 'timeout' and not correct.

    Args:
      pairs: any texts.

    Returns:
      One verdict per pair, in order. Equal pairs get equal verdicts.

    Raises:
      UserError: no worker can be started, as where math-verify is missing.
    """
    strict = self._require_closed_think
    verdicts = [
      grade_exact(response, gold, require_closed_think=strict)
      for response, gold in pairs
    ]
    answers, undecided = {}, {}
    for index, (response, gold) in enumerate(pairs):
      if verdicts[index] is None:
        answer = extract_answer(response, require_closed_think=strict)
        answers[index] = answer
        undecided[index] = (strip_unit(answer), strip_unit(gold))
    with self._lock:
      results = self._compare(list(dict.fromkeys(undecided.values())))
    for index, job in undecided.items():
      correct = results[job]
      status = 'timeout' if correct is None else 'ok'
      verdicts[index] = Verdict(correct is True, answers[index], status)
    return verdicts

  def _compare(self, jobs: list[tuple[str, str]]) -> dict:
    """Job -> True, False or, where a worker was lost on it, None."""
    waiting = collections.deque(jobs)
    results = {}
    try:
      while len(results) < len(jobs):
        self._staff(len(jobs) - len(results))
        for worker in self._workers:
          if waiting and worker.is_idle:
            worker.send(waiting.popleft(), _MAX_SLOWDOWN * self._timeout)
        for worker in self._wait():
          self._settle(worker, results)
    except BaseException:
      # Such as Ctrl-C: a late reply would go to the next call's pair.
      _kill_all(self._workers)
      raise
    return results

  def _staff(self, outstanding: int) -> None:
    """Brings the workers to as many as have something to do."""
    for worker in [w for w in self._workers if w.is_idle and w.has_died]:
      self._dismiss(worker)
    for _ in range(min(self._num_workers, outstanding) - len(self._workers)):
      self._workers.append(_Worker(self._command))

  def _dismiss(self, worker: '_Worker') -> None:
    self._workers.remove(worker)
    worker.kill()

  def _wait(self) -> list['_Worker']:
    """Waits for news; returns the workers that wrote, died or are late."""
    deadline = min(worker.deadline for worker in self._workers)
    with selectors.DefaultSelector() as selector:
      for worker in self._workers:
        selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
      # The kernel's own unit is a millisecond; never wake up just too soon.
      events = selector.select(max(0.0, deadline - time.monotonic()) + 1e-3)
    wrote = [key.data for key, _ in events]
    now = time.monotonic()
    late = [w for w in self._workers if w not in wrote and w.deadline <= now]
    return wrote + late

  def _settle(self, worker: '_Worker', results: dict) -> None:
    """Takes a worker's news in, and lets it go if it is of no more use."""
    job, message = worker.job, worker.receive()
    if message is not None:
      if 'error' in message:
        raise UserError(
          f'math-verify cannot be loaded: {message["error"]}; install it with '
          '`pip install math-verify`'
        )
      self._failed_starts = 0
      if job is not None:
        results[job] = message['correct']
      if worker.num_pairs >= _MAX_PAIRS_PER_WORKER:
        self._dismiss(worker)
    elif worker.is_gone or worker.deadline <= time.monotonic():
      self._dismiss(worker)
      if job is not None:
        results[job] = None
      elif not worker.is_ready:
        self._count_failed_start()

  def _count_failed_start(self) -> None:
    self._failed_starts += 1
    if self._failed_starts >= _START_ATTEMPTS:
      self._failed_starts = 0
      raise UserError(
        f'the grading process `{" ".join(self._command)}` failed to start '
        f'{_START_ATTEMPTS} times in a row; run it by hand to see why'
      )


class _Worker:
  """One process, and what it is doing.

  Attributes:
    process: the interpreter that runs `worker.py`.
    job: the (answer, gold) pair at hand; None while idle or starting.
    deadline: when the present state has lasted too long; never while idle.
    is_ready: it has loaded math-verify.
    is_gone: its output has closed.
    num_pairs: pairs it has answered.
  """

  def __init__(self, command: Sequence[str]):
    # One seed for hashes: sympy's order of terms, and so a borderline
    # verdict, must not differ between runs. Ctrl-C is for the caller alone.
    self.process = subprocess.Popen(
      command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      env={**os.environ, 'PYTHONHASHSEED': '0'},
      start_new_session=True,
    )
    os.set_blocking(self.process.stdout.fileno(), False)
    self.job = None
    self.deadline = time.monotonic() + _START_SECONDS
    self.is_ready = False
    self.is_gone = False
    self.num_pairs = 0
    self._received = b''

  @property
  def is_idle(self) -> bool:
    return self.is_ready and self.job is None

  @property
  def has_died(self) -> bool:
    return self.process.poll() is not None

  def send(self, job: tuple[str, str], seconds: float) -> None:
    """Hands over a pair; its clock starts now."""
    self.job, self.deadline = job, time.monotonic() + seconds
    request = json.dumps({'answer': job[0], 'gold': job[1]}) + '\n'
    try:
      # At most 2 * MAX_CHARS * 12 bytes, which a pipe takes without waiting.
      self.process.stdin.write(request.encode())
      self.process.stdin.flush()
    except OSError:
      pass  # It has died; its closed output says so to `receive`.

  def receive(self) -> dict | None:
    """Its message, if a whole one has arrived; never waits."""
    try:
      received = os.read(self.process.stdout.fileno(), 1 << 16)
    except BlockingIOError:
      return None
    self.is_gone = not received
    self._received += received
    if not self._received.endswith(b'\n'):
      return None
    message, self._received = json.loads(self._received), b''
    self.num_pairs += self.job is not None
    self.is_ready, self.job, self.deadline = True, None, math.inf
    return message

  def kill(self) -> None:
    """Ends the process at once and releases its pipes."""
    self.process.kill()
    self.process.wait()
    for pipe in (self.process.stdin, self.process.stdout):
      try:
        pipe.close()
      except OSError:
        pass  # A request it never read.


def _kill_all(workers: list[_Worker]) -> None:
  while workers:
    workers.pop().kill()
