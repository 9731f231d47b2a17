"""Profiles of single steps: WORKDIR/profile, for xprof or TensorBoard."""

import contextlib
from collections.abc import Iterator

import jax

from lrm_jax import storage


class Tracer:
  """Starts a trace before the first of some steps, ends it after the last.

  Use as a context manager around all steps of a run.
  """

  def __init__(self, workdir: storage.Path, steps: range):
    """Nothing is traced yet; `workdir` exists when the first step begins."""
    self._folder, self._steps = workdir / 'profile', steps
    self._mirror: storage.Mirror | None = None

  @contextlib.contextmanager
  def step(self, number: int) -> Iterator[None]:
    """A step of the run, the whole of it."""
    if number in self._steps and self._mirror is None:
      # XLA writes local files only.
      self._mirror = storage.Mirror(self._folder)
      jax.profiler.start_trace(self._mirror.folder)
    with jax.profiler.StepTraceAnnotation('lrm/step', step_num=number):
      yield
    if number + 1 not in self._steps:
      self._stop()

  def __enter__(self) -> 'Tracer':
    return self

  def __exit__(self, *exception) -> None:
    # What there is, if the run ends before the last of the steps.
    self._stop()

  def _stop(self) -> None:
    if self._mirror is not None:
      with self._mirror:
        jax.profiler.stop_trace()
      self._mirror = None
