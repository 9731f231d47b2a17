"""A pool of processes that grade what exact comparison leaves undecided.

  pairs -> grade_exact -> undecided, each once -> workers -> verdicts in order

Every worker is `python worker.py`, a fresh interpreter without JAX (nothing
is forked, and nothing of the caller's main module runs again) that talks JSON
lines over pipes.

What decides is processor time: a comparison may take `timeout` seconds of it,
and the kernel ends a worker that exceeds them. math-verify's own alarms would
not do: they work in main threads only, and no signal handler runs while one big
integer operation does. A worker that has used up its memory ends itself. In
both cases the answer is to blame, and nobody asks again.

The parent also keeps a deadline by wall clock, of `_MAX_SLOWDOWN` times as
much, for workers that do not run at all. Where a core is free it never matters,
and a verdict takes the timeout and less than a second more. It is no tighter,
since a verdict must not depend on what else the machine does: a run that is
resumed has to end in the same bits. For the same reason a pair whose worker was
lost to the clock or to a foreign signal (the kernel kills when the machine's
memory is gone) is compared once more, alone, before it counts as unverified.
Lost workers are replaced.
"""

import collections
import json
import math
import os
import pathlib
import selectors
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence

from lrm_jax import subprocesses
from lrm_jax.errors import UserError
from lrm_jax.rewards.batches import Batch
from lrm_jax.rewards.math_answer import (
  Verdict,
  extract_answer,
  grade_exact,
)
from lrm_jax.rewards.units import strip_unit
from lrm_jax.structs import Task

# Address space of one worker, interpreter and sympy (0.1 GB) included.
WORKER_MEMORY_BYTES = 2 * 1024**3
# Wall clock over processor time. What is left of a processor that training
# uses too is enough.
_MAX_SLOWDOWN = 4
# Loading sympy takes a second, but minutes on a cold network disk.
_START_SECONDS = 120.0
_START_ATTEMPTS = 3
# How often a call looks whether anybody still wants its verdicts.
_LOOK_SECONDS = 0.1
# From closing its output to having ended.
_EXIT_SECONDS = 1.0
# Parsers keep what they learn from each text. A fresh process now and then
# costs a second and bounds that.
_MAX_PAIRS_PER_WORKER = 5000
# Replies have 20 bytes, reasons for not starting some more.
_MAX_REPLY_BYTES = 1 << 14


class Grader:
  """Grades (response, gold answer) pairs; a context manager.

  Processes start with the first undecided pair and stay for later calls.
  `grade` may be called from any thread, one call at a time.

  Attributes:
    library: what the workers cannot do without.
    cure: the command that installs it.
    worker: the script of a worker, in this folder.
  """

  library = 'math-verify'
  cure = 'pip install math-verify'
  worker = 'worker.py'

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
      timeout: seconds of processor time one comparison may take. By wall
        clock it is cut off after four times as many, and tried once more.
      require_closed_think: as for `math_answer.extract_answer`.
      command: what starts a worker, before its two arguments; None for
        the class's own under this interpreter.

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
      worker = pathlib.Path(__file__).with_name(self.worker)
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
    self._of_tasks: Grader | None = None
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
    if self._of_tasks is not None:
      self._of_tasks.close()

  def grade(
    self,
    pairs: Sequence[tuple[str, str | Task]],
    check: Callable[[], None] = lambda: None,
  ) -> list[Verdict]:
    """Grades pairs of (response, gold answer), or (response, task).

    A comparison that outlives the timeout, or whose worker dies (out of
    memory, say) or talks nonsense, has the verdict 'timeout', not correct.

    Args:
      pairs: any texts; those with a task go to `tasks.TaskGrader`.
      check: called ten times a second while workers compare; what it raises
        ends the call, and the workers.

    Returns:
      One verdict per pair, in order. Equal pairs get equal verdicts.

    Raises:
      UserError: no worker can be started, as where math-verify is missing.
    """
    tasks = [i for i, (_, gold) in enumerate(pairs) if isinstance(gold, Task)]
    if tasks:
      answers = [i for i in range(len(pairs)) if i not in set(tasks)]
      verdicts = dict(
        zip(
          answers, self.grade([pairs[i] for i in answers], check), strict=True
        )
      )
      found = self._task_grader().grade([pairs[i] for i in tasks], check)
      verdicts |= zip(tasks, found, strict=True)
      return [verdicts[i] for i in range(len(pairs))]
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
        # Of each side of an equation.
        sides = '='.join(map(strip_unit, answer.split('=')))
        undecided[index] = (sides, strip_unit(gold))
    with self._lock:
      results = self._compare(list(dict.fromkeys(undecided.values())), check)
    for index, job in undecided.items():
      correct = results[job]
      status = 'timeout' if correct is None else 'ok'
      verdicts[index] = Verdict(correct is True, answers[index], status)
    return verdicts

  def _task_grader(self) -> 'Grader':
    """Its processes are others, and most runs need none."""
    if self._of_tasks is None:
      from lrm_jax.rewards import tasks

      self._of_tasks = tasks.TaskGrader(
        self._num_workers,
        self._timeout,
        require_closed_think=self._require_closed_think,
      )
    return self._of_tasks

  def _compare(
    self, jobs: list[tuple[str, str]], check: Callable[[], None]
  ) -> dict:
    """Job -> True, False or, where a worker was lost on it, None."""
    batch = Batch(collections.deque(jobs))
    try:
      while len(batch.results) < len(jobs):
        check()
        self._staff(len(jobs) - len(batch.results))
        self._hand_out(batch)
        for worker in self._wait():
          self._settle(worker, batch)
    except BaseException:
      # Such as Ctrl-C: a late reply would go to the next call's pair.
      _kill_all(self._workers)
      raise
    return batch.results

  def _hand_out(self, batch: Batch) -> None:
    seconds = _MAX_SLOWDOWN * self._timeout
    for worker in self._workers:
      if worker.is_idle and batch.waiting:
        worker.send(batch.waiting.popleft(), seconds)
    is_free = all(worker.job is None for worker in self._workers)
    idle = [worker for worker in self._workers if worker.is_idle]
    if batch.again and is_free and idle:
      idle[0].send(batch.again.popleft(), seconds)

  def _staff(self, outstanding: int) -> None:
    """Brings the workers to as many as have something to do."""
    for worker in [w for w in self._workers if w.is_idle and w.has_died]:
      self._dismiss(worker)
    for _ in range(min(self._num_workers, outstanding) - len(self._workers)):
      self._workers.append(_Worker(self._command))

  def _dismiss(self, worker: '_Worker') -> int:
    """Returns the status that it ended with."""
    self._workers.remove(worker)
    return worker.kill()

  def _wait(self) -> list['_Worker']:
    """Waits for news, but not long: the workers that wrote or are late."""
    deadline = min(worker.deadline for worker in self._workers)
    with selectors.DefaultSelector() as selector:
      for worker in self._workers:
        selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
      # The kernel's own unit is a millisecond; never wake up just too soon.
      seconds = max(0.0, deadline - time.monotonic()) + 1e-3
      events = selector.select(min(seconds, _LOOK_SECONDS))
    wrote = [key.data for key, _ in events]
    now = time.monotonic()
    late = [w for w in self._workers if w not in wrote and w.deadline <= now]
    return wrote + late

  def _settle(self, worker: '_Worker', batch: Batch) -> None:
    """Takes a worker's news in, and lets it go if it is of no more use."""
    job, message = worker.job, worker.receive()
    if message is not None:
      if 'error' in message:
        raise UserError(
          f'{self.library} cannot be loaded: {message["error"]}; install it '
          f'with `{self.cure}`'
        )
      self._failed_starts = 0
      if job is not None:
        batch.results[job] = message['correct']
      if 'last' in message or worker.num_pairs >= _MAX_PAIRS_PER_WORKER:
        self._dismiss(worker)
    elif worker.is_gone or worker.deadline <= time.monotonic():
      is_late = not worker.is_gone
      status = self._dismiss(worker)
      if job is not None:
        # Its own limit, its own error, or words that are no verdict.
        is_to_blame = status == -signal.SIGPROF or status >= 0
        is_to_blame = worker.is_broken or (is_to_blame and not is_late)
        batch.lose(job, is_to_blame)
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
    is_gone: its output has closed, or is of no use any more.
    is_broken: it has said what is no reply.
    num_pairs: pairs it has answered.
  """

  def __init__(self, command: Sequence[str]):
    # One seed for hashes: sympy's order of terms, and so a borderline
    # verdict, must not differ between runs.
    self.process = subprocesses.start(
      command, PYTHONHASHSEED='0', OPENBLAS_NUM_THREADS='1'
    )
    os.set_blocking(self.process.stdout.fileno(), False)
    self.job = None
    self.deadline = time.monotonic() + _START_SECONDS
    self.is_ready = False
    self.is_gone = False
    self.is_broken = False
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
    is_whole = self._received.endswith(b'\n')
    if not is_whole and len(self._received) <= _MAX_REPLY_BYTES:
      return None
    message, self._received = self._read(self._received), b''
    if message is None:
      self.is_broken = self.is_gone = True
      return None
    self.num_pairs += self.job is not None
    self.is_ready, self.job, self.deadline = True, None, math.inf
    return message

  def _read(self, line: bytes) -> dict | None:
    """The reply, if it is one that the present state may have."""
    try:
      message = json.loads(line)
    except (ValueError, RecursionError):
      return None
    if not isinstance(message, dict):
      return None
    if self.job is not None:
      is_reply = 'correct' in message and isinstance(message['correct'], bool)
    else:
      is_reply = not self.is_ready and bool({'ready', 'error'} & set(message))
    return message if is_reply else None

  def kill(self) -> int:
    """Ends the process; returns the status that it ended with."""
    return subprocesses.end(
      self.process, _EXIT_SECONDS if self.is_gone and not self.is_broken else 0
    )


def _kill_all(workers: list[_Worker]) -> None:
  while workers:
    workers.pop().kill()
