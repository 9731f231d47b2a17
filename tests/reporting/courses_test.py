"""What the figures over steps are made of, worked by hand."""

import math

import numpy as np
import pytest

from lrm_jax import jsonl
from lrm_jax.reporting import courses, samples, sections, workdirs
from lrm_jax.reporting.figures import Figures
from tests.reporting import folders
from tests.reporting.markup_test import read


def gathered(*paths):
  """Runs, and the tallies of their files."""
  runs = workdirs.read_all([str(path) for path in paths])
  nothing = lambda *_: None
  tallies = list(
    samples.gather(samples.sources(runs), 9, samples.Problems(), nothing)
  )
  return runs, tallies


def text(figures):
  return ' '.join(read(figure).text for figure in figures)


def test_the_first_step_of_a_run_compiles(tmp_path):
  """Of 9 s and 1 s the median is 5 s: without the first it is 1 s."""
  runs, _ = gathered(folders.write_run(tmp_path / 'run', steps=2))
  shown = text(courses.phases(Figures(), runs))
  assert 'sample1update2' in shown.replace('verify0shape0select0credit0', '')
  assert '1 s' in shown and '5 s' not in shown
  runs[0].metrics.clear()
  assert not courses.phases(Figures(), runs)


def test_tokens_are_counted_up_to_a_step(tmp_path):
  runs, _ = gathered(folders.write_run(tmp_path / 'run', steps=3))
  (series,) = courses._metric(runs, 'accuracy', 100.0, 'sampled')
  assert series.x == [1000.0, 2000.0, 3000.0]
  assert series.y == pytest.approx([51.0, 52.0, 53.0])


def test_advantages_by_hand(tmp_path):
  folder = folders.write_run(tmp_path / 'run', steps=2)
  rows = [
    folders.training_row(2, sample=0, advantage=2.0),
    folders.training_row(2, sample=1, advantage=1.0),
    folders.training_row(2, sample=2, advantage=-3.0, correct=False),
    # Dropped, and without a gradient.
    folders.training_row(2, sample=3, advantage=None, kept=False),
    folders.training_row(2, sample=4, advantage=0.0),
  ]
  jsonl.write_rows(folder / 'rollouts' / 'step_000002.jsonl.gz', rows)
  runs, tallies = gathered(folder)
  of = lambda measure: courses._of_steps(runs[0], 0, tallies, measure)
  right = of(courses._mean_of(True))
  assert right.x == [1.0, 2.0] and right.y == [1.5, 1.5]
  assert of(courses._mean_of(False)).y == [-0.5, -3.0]
  figures = {
    name: read(figure).text
    for figure in courses.dynamics(Figures(), runs, tallies)
    for name in ('Spread of advantages', 'Responses without a gradient')
    if name in figure
  }
  # The deviation of 2, 1 and -3 is sqrt(14 / 3) = 2.160; of step 1, whose
  # advantages are 1.5, and -0.5 three times, sqrt(3) / 2.
  assert figures['Spread of advantages'].endswith('steprun10.86622.16')
  # None of 8, and 2 of 5.
  assert figures['Responses without a gradient'].endswith('steprun10240')


def test_a_step_without_any_gradient_is_a_step_at_100_percent(tmp_path):
  folder = folders.write_run(tmp_path / 'run', steps=3)
  path = folder / 'rollouts' / 'step_000002.jsonl.gz'
  # One response was dropped, the other has an advantage of 0.
  dropped = {'advantage': None, 'kept': False}
  rows = [
    folders.training_row(2, **dropped),
    folders.training_row(2, sample=1, advantage=0.0),
  ]
  jsonl.write_rows(path, rows)
  jsonl.write_rows(folder / 'rollouts' / 'step_000003.jsonl.gz', [])
  runs, tallies = gathered(folder)
  shown = {
    name: read(figure).text
    for figure in courses.dynamics(Figures(), runs, tallies)
    for name in ('Spread of advantages', 'Responses without a gradient')
    if name in figure
  }
  # Steps and values: the third step has no response, and is none.
  assert shown['Responses without a gradient'].endswith('steprun102100')
  # Of nothing there is no spread, and no mean.
  assert shown['Spread of advantages'].endswith('steprun10.866')
  of = lambda measure: courses._of_steps(runs[0], 0, tallies, measure)
  assert of(courses._mean_of(True)).x == [1.0]


def test_evaluations_over_steps(tmp_path):
  runs, _ = gathered(folders.write_run(tmp_path / 'run', steps=4))
  (series,) = courses._evaluated(runs, 'accuracy', 100.0)
  assert (series.x, series.y) == ([0.0, 4.0], [50.0, 75.0])
  # 1.96 standard errors of 0.02.
  assert series.error == pytest.approx([3.92, 3.92], abs=1e-3)
  runs, _ = gathered(folders.write_eval(tmp_path / 'eval'))
  assert not courses._evaluated(runs, 'accuracy', 100.0)


def test_begin_and_end_of_a_run_without_evaluations(tmp_path):
  runs, tallies = gathered(
    folders.write_run(tmp_path / 'run', steps=11, evaluated=False)
  )
  ends = sections._ends(tallies)
  assert list(ends) == [
    'rollouts of steps 1 to 2',
    'rollouts of steps 10 to 11',
  ]
  assert [t.source.step for t in ends['rollouts of steps 10 to 11']] == [10, 11]
  assert list(sections._ends(tallies[:1])) == ['step 1']


def test_errors_that_are_known(tmp_path):
  runs, tallies = gathered(folders.write_run(tmp_path / 'run', rows=True))
  last = runs[0].last
  tally = next(t for t in tallies if t.source.kind == 'after')
  # One of two right in each problem: no spread, whatever the summary says.
  correct = lambda t: t.correct
  assert sections.error(last, 'accuracy', tally, correct) == 0
  stated = sections.error(last, 'accuracy', None, correct)
  assert stated == pytest.approx(1.96 * 0.02, abs=1e-5)
  assert np.isnan(sections.error(last, 'response_tokens', None, None))
  assert sections.with_error(0.5, 0.02, sections.percent) == '50.0 % ± 2.0'
  assert sections.with_error(12.0, math.nan, sections.tokens) == '12.0'
  assert sections.probability(0.0001) == '< 0.001'
  assert sections.probability(0.0421) == '0.042'
