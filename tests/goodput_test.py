"""Goodput by hand, and over several starts of a run."""

import json
import types

import pytest

from lrm_jax import goodput
from lrm_jax.compilation import CompileWatch


@pytest.mark.parametrize(
  ('compiling', 'seconds'),
  [
    ([], 10),
    ([(12, 15)], 7),
    # Side by side, one within another, and out of order.
    ([(14, 16), (12, 15), (12.5, 13)], 6),
    # Begun before the step, or over after it.
    ([(5, 11), (19, 25)], 8),
    ([(1, 9), (21, 30)], 10),
    ([(1, 40)], 0),
    ([(10, 20)], 0),
  ],
)
def test_productive_seconds_of_a_step(compiling, seconds):
  assert goodput.productive(10, 20, compiling) == seconds


def test_the_first_start_is_kept(tmp_path):
  assert goodput.first_start(tmp_path, 100.5) == 100.5
  assert goodput.first_start(tmp_path, 900.0) == 100.5
  record = json.loads((tmp_path / 'start.json').read_text())
  assert record == {'started': 100.5}


def step(totals, workdir, began, ended):
  """Goodput after a step of some start of the run."""
  watch = types.SimpleNamespace(spans=[])
  started = goodput.first_start(workdir, began)
  return goodput.count_step(totals, began, ended, started, watch)


def test_time_between_starts_and_lost_steps_count_against_it(tmp_path):
  """Two steps of 10 s, the second one lost; an hour later it is done again."""
  totals = types.SimpleNamespace(seconds=0.0, productive_seconds=0.0)
  goodput.first_start(tmp_path, 1000.0)
  assert step(totals, tmp_path, 1010.0, 1020.0) == 10 / 20
  saved = dict(vars(totals))
  assert step(totals, tmp_path, 1020.0, 1030.0) == 20 / 30
  # The machine is taken away; the checkpoint has one step.
  resumed = types.SimpleNamespace(**saved)
  found = step(resumed, tmp_path, 4630.0, 4640.0)
  assert found == 20 / 3640
  assert resumed.seconds == 20


def test_compilation_of_a_step_is_not_productive():
  totals = types.SimpleNamespace(seconds=1.0, productive_seconds=0.5)
  watch = types.SimpleNamespace(spans=[(0.0, 3.0), (5.0, 6.0)])
  found = goodput.count_step(totals, 2.0, 10.0, -10.0, watch)
  assert totals.seconds == 1 + 8
  assert totals.productive_seconds == 0.5 + 6
  assert found == 6.5 / 20


def test_spans_of_programs(monkeypatch):
  watch = CompileWatch()
  monkeypatch.setattr('lrm_jax.clock.now', lambda: 50.0)
  watch._listen('/jax/core/compile/backend_compile_duration', 2.0)
  watch._listen('/jax/core/compile/jaxpr_trace_duration', 3.0)
  assert watch.spans == [(48.0, 50.0)]
