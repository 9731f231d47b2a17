"""Counts what XLA compiles, to show that nothing is compiled twice."""

import jax

from lrm_jax import clock

_COMPILED = '/jax/core/compile/backend_compile_duration'


class CompileWatch:
  """Programs compiled since it was made.

  Attributes:
    count: programs.
    seconds: the time they took, one after the other.
    spans: (began, ended) of each, in seconds of `clock.py`; those of several
      threads may overlap.
  """

  def __init__(self):
    self.count = 0
    self.seconds = 0.0
    self.spans: list[tuple[float, float]] = []
    jax.monitoring.register_event_duration_secs_listener(self._listen)

  def _listen(self, event: str, seconds: float, **_) -> None:
    if event == _COMPILED:
      self.count += 1
      self.seconds += seconds
      now = clock.now()
      self.spans.append((now - seconds, now))
