"""Seconds of phases, one within another."""

import time

import pytest

from lrm_jax import phases


@pytest.fixture
def now(monkeypatch):
  """A clock that goes by hand."""
  at = [100.0]
  monkeypatch.setattr(time, 'perf_counter', lambda: at[0])

  def pass_by(seconds):
    at[0] += seconds

  return pass_by


def test_a_phase_within_another_takes_its_time_away(now):
  with phases.Clock() as clock:
    now(5)
    with phases.phase('sample'):
      now(1)
      with phases.phase('verify'):
        now(2)
        with phases.phase('sample'):
          now(4)
      now(8)
    now(16)
    with phases.phase('record'):
      now(32)
  with phases.phase('update'):
    now(64)
  zeros = dict.fromkeys(phases.NAMES, 0.0)
  assert clock.seconds == zeros | {'sample': 13, 'verify': 2, 'record': 32}
  assert clock.numbers()['seconds_verify'] == 2


def test_an_error_ends_its_phase(now):
  with phases.Clock() as clock:
    with pytest.raises(RuntimeError), phases.phase('shape'):
      now(3)
      raise RuntimeError
    now(9)
  assert clock.seconds['shape'] == 3


def test_there_are_eight_phases():
  assert len(set(phases.NAMES)) == 8
  with pytest.raises(ValueError, match="'sampel' is not one of choose, "):
    with phases.phase('sampel'):
      pass
