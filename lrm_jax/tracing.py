"""Profiles of single steps: WORKDIR/profile, for xprof or TensorBoard."""

import contextlib
import pathlib
from collections.abc import Iterator

import jax


class Tracer:
  """Starts a trace before the first of some steps, ends it after the last.

  Use as a context manager around all steps of a run.
  """

  def __init__(self, workdir: pathlib.Path, steps: range):
    """Nothing is traced yet; `workdir` exists when the first step begins."""
    self._folder, self._steps = workdir / 'profile', steps
    self._is_on = False

  @contextlib.contextmanager
  def step(self, number: int) -> Iterator[None]:
    """A step of the run, the whole of it."""
    if number in self._steps and not self._is_on:
      jax.profiler.start_trace(self._folder)
      self._is_on = True
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
    if self._is_on:
      jax.profiler.stop_trace()
      self._is_on = False
