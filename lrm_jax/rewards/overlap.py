"""Grading beside something else: pairs go in as they come, verdicts come out.

The grader takes one call at a time and is fastest with many pairs a call, so
one thread hands over whatever has come since its last call.
"""

import queue
import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Protocol

from lrm_jax.rewards.math_answer import Verdict
from lrm_jax.structs import Task

# How often somebody who waits looks whether he still has to.
_LOOK_SECONDS = 0.1


class GradesPairs(Protocol):
  """Such as `pool.Grader`."""

  def grade(
    self, pairs: list[tuple[str, str | Task]], check: Callable[[], None]
  ) -> list[Verdict]:
    """One verdict for each (response, gold answer or task).

    It calls `check` from time to time, and ends with what that raises.
    """


class _Dropped(Exception):
  """Nobody will read the verdicts."""


class Grading:
  """Verdicts by key; a context manager that waits for its thread.

  Where it is left by an exception, nobody reads the verdicts that are still to
  come: what waits is dropped, and the call that the grader is in is cut off.
  """

  def __init__(self, grader: GradesPairs):
    """The thread starts with the context."""
    self._grader = grader
    self._waiting: queue.SimpleQueue = queue.SimpleQueue()
    self._verdicts: dict = {}
    self._error: BaseException | None = None
    self._news = threading.Condition()
    self._is_dropped = threading.Event()
    self._thread = threading.Thread(target=self._work, daemon=True)

  def __enter__(self):
    self._thread.start()
    return self

  def __exit__(self, kind, error, traceback):
    if kind is not None:
      self._is_dropped.set()
    self._waiting.put(None)
    self._thread.join()

  def put(self, key: Hashable, response: str, gold: str | Task) -> None:
    """One more pair; its verdict will be known by `key`."""
    self._waiting.put((key, (response, gold)))

  def wait(
    self, keys: Iterable[Hashable], check: Callable[[], None] = lambda: None
  ) -> list[Verdict]:
    """The verdicts of keys that have been put, when all of them are there.

    Args:
      keys: of `put`.
      check: called ten times a second; what it raises ends the waiting.

    Raises:
      Whatever the grader or `check` raised.
    """
    keys = list(keys)
    is_done = lambda: self._error or self._verdicts.keys() >= set(keys)
    with self._news:
      while not self._news.wait_for(is_done, _LOOK_SECONDS):
        check()
      if self._error is not None:
        raise self._error
      return [self._verdicts[key] for key in keys]

  def _check(self) -> None:
    if self._is_dropped.is_set():
      raise _Dropped

  def _work(self) -> None:
    is_open = True
    while is_open:
      jobs = [self._waiting.get()]
      while not self._waiting.empty():
        jobs.append(self._waiting.get())
      is_open = None not in jobs
      jobs = [job for job in jobs if job is not None]
      is_unread = self._error is not None or self._is_dropped.is_set()
      if not jobs or is_unread:
        continue
      keys, pairs = zip(*jobs, strict=True)
      found, error = {}, None
      try:
        verdicts = self._grader.grade(list(pairs), self._check)
        found = dict(zip(keys, verdicts, strict=True))
      except BaseException as raised:  # `wait` raises it in its own thread.
        error = raised
      with self._news:
        self._error = error
        self._verdicts |= found
        self._news.notify_all()
