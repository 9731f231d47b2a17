"""The picture shows every way of training, seed by seed."""

import numpy as np
from matplotlib import figure

from lrm_jax.papers import front, results
from lrm_jax.papers.paper import Paper, Run
from tests.papers import made_up

PAPER = Paper(
  'dler',
  (
    Run('dler', 'configs/quickstart.py', seeds=(0, 1)),
    Run('other', 'configs/quickstart.py', seeds=(0,)),
  ),
  (),
)


def _results(tmp_path):
  records = []
  for name, seed, tokens in (
    ('dler', 0, (10, 30)),
    ('dler', 1, (20, 40)),
    ('other', 0, (50, 70)),
  ):
    workdir = tmp_path / f'{name}_seed{seed}'
    made_up.write(workdir, seed=seed, tokens=tokens)
    records.append(results.record(workdir, name, 'tiny_lrm'))
  results.save(tmp_path / 'results.json', records)
  return results.Results.load(tmp_path / 'results.json')


def test_the_course_by_hand(tmp_path):
  tokens, right = front.course(_results(tmp_path), 'dler')
  np.testing.assert_array_equal(tokens, [[100, 100], [20, 30]])
  np.testing.assert_array_equal(right, [[0, 0], [75, 75]])


def test_the_picture(tmp_path, monkeypatch):
  figures = []
  save = figure.Figure.savefig
  monkeypatch.setattr(
    figure.Figure,
    'savefig',
    lambda self, *words, **more: [
      figures.append(self),
      save(self, *words, **more),
    ],
  )
  front.draw(PAPER, _results(tmp_path), tmp_path / 'front.png')
  (panel,) = figures[0].axes
  assert panel.get_legend_handles_labels()[1] == ['dler', 'other']
  course, start, seeds, mean = panel.lines[:4]
  np.testing.assert_array_equal(course.get_xydata(), [[100, 0], [25, 75]])
  np.testing.assert_array_equal(start.get_xydata(), [[100, 0]])
  np.testing.assert_array_equal(seeds.get_xydata(), [[20, 75], [30, 75]])
  np.testing.assert_array_equal(mean.get_xydata(), [[25, 75]])
  assert len((tmp_path / 'front.png').read_bytes()) < 100_000
