"""Grading beside something else: pairs go in as they come, verdicts come out.

The grader takes one call at a time and is fastest with many pairs a call, so
one thread hands over whatever has come since its last call.
"""

import queue
import threading
from collections.abc import Hashable, Iterable
from typing import Protocol

from lrm_jax.rewards.math_answer import Verdict


class GradesPairs(Protocol):
  """Such as `pool.Grader`."""

  def grade(self, pairs: list[tuple[str, str]]) -> list[Verdict]:
    """One verdict for each (response, gold answer)."""


class Grading:
  """Verdicts by key; a context manager that waits for its thread."""

  def __init__(self, grader: GradesPairs):
    """The thread starts with the context."""
    self._grader = grader
    self._waiting: queue.SimpleQueue = queue.SimpleQueue()
    self._verdicts: dict = {}
    self._error: BaseException | None = None
    self._news = threading.Condition()
    self._thread = threading.Thread(target=self._work, daemon=True)

  def __enter__(self):
    self._thread.start()
    return self

  def __exit__(self, *exception):
    self._waiting.put(None)
    self._thread.join()

  def put(self, key: Hashable, response: str, gold: str) -> None:
    """One more pair; its verdict will be known by `key`."""
    self._waiting.put((key, (response, gold)))

  def wait(self, keys: Iterable[Hashable]) -> list[Verdict]:
    """The verdicts of keys that have been put, when all of them are there.

    Raises:
      Whatever the grader raised.
    """
    keys = list(keys)
    with self._news:
      self._news.wait_for(
        lambda: self._error or self._verdicts.keys() >= set(keys)
      )
      if self._error is not None:
        raise self._error
      return [self._verdicts[key] for key in keys]

  def _work(self) -> None:
    is_open = True
    while is_open:
      jobs = [self._waiting.get()]
      while not self._waiting.empty():
        jobs.append(self._waiting.get())
      is_open = None not in jobs
      jobs = [job for job in jobs if job is not None]
      if not jobs or self._error is not None:
        continue
      keys, pairs = zip(*jobs, strict=True)
      found, error = {}, None
      try:
        found = dict(zip(keys, self._grader.grade(list(pairs)), strict=True))
      except BaseException as raised:  # `wait` raises it in its own thread.
        error = raised
      with self._news:
        self._error = error
        self._verdicts |= found
        self._news.notify_all()
