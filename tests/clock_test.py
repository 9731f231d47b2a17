"""Durations and goodput under clocks that are set meanwhile."""

import time
import types

import pytest

from lrm_jax import clock, goodput


@pytest.mark.parametrize('jump', [-1e6, -5.0, 1e6])
def test_the_clock_of_the_machine_is_not_asked_again(jump, monkeypatch):
  before, real = clock.now(), time.time()
  assert before == pytest.approx(real, abs=5)
  monkeypatch.setattr(time, 'time', lambda: real + jump)
  assert 0 <= clock.now() - before < 5


def begin(workdir, now):
  """A start of a run: two steps of 10 s, at a clock that shows `now`."""
  totals = types.SimpleNamespace(seconds=0.0, productive_seconds=0.0)
  watch = types.SimpleNamespace(spans=[])
  started = goodput.first_start(workdir, now)
  return totals, lambda at: goodput.count_step(
    totals, now + at, now + at + 10, started, watch
  )


def test_goodput_after_a_clock_was_set_back(tmp_path):
  _, step = begin(tmp_path, 5000.0)
  assert step(10) == 10 / 20
  # Started again on a machine that is 4000 s behind.
  totals, step = begin(tmp_path, 1000.0)
  for at in (10, 20):
    share = step(at)
    assert share == 1
  assert totals.seconds == totals.productive_seconds == 20


def test_goodput_after_a_clock_was_set_forward(tmp_path):
  begin(tmp_path, 1000.0)
  totals, step = begin(tmp_path, 101_000.0)
  assert step(10) == 10 / 100_020
  assert totals.seconds == 10


def test_a_share_is_always_one():
  for productive, started, now in (
    (0.0, 5.0, 5.0),
    (0.0, 9.0, 5.0),
    (3.0, 9.0, 5.0),
    (3.0, 5.0, 6.0),
  ):
    assert 0 <= goodput.share(productive, started, now) <= 1
  assert goodput.share(3.0, 5.0, 11.0) == 0.5
