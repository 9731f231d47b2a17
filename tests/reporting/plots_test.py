"""Pictures are written, small, and show what they were given."""

import numpy as np
import pytest

from lrm_jax.reporting import plots, smoothing

_PNG = b'\x89PNG\r\n\x1a\n'


def _run(steps, cap=128.0):
  noise = np.random.default_rng(0).normal(size=steps)
  return [
    {
      'step': step,
      'accuracy': 0.5 + 0.02 * float(noise[step]),
      'response_tokens': 100.0 - step / steps + float(noise[step]),
      'cap': cap,
    }
    for step in range(steps)
  ]


@pytest.fixture
def drawn(monkeypatch):
  """Collects the figures just before they are saved."""
  figures = []
  save = plots._save

  def collect(fig, path):
    figures.append(fig)
    save(fig, path)

  monkeypatch.setattr(plots, '_save', collect)
  return figures


def _labels(panel):
  return panel.get_legend_handles_labels()[1]


def test_training_curves_show_curve_cap_and_ends(tmp_path, drawn):
  path = tmp_path / 'curves.png'
  plots.training_curves(
    _run(300),
    path,
    before={'accuracy': 0.4, 'response_tokens': 120.0},
    after={'accuracy': 0.6, 'response_tokens': 60.0},
  )
  data = path.read_bytes()
  assert data.startswith(_PNG)
  assert len(data) < 100_000
  accuracy, tokens = drawn[0].axes
  assert _labels(accuracy) == ['training', 'before: 40.0%', 'after: 60.0%']
  assert _labels(tokens) == [
    'training',
    'cap',
    'before: 120.0 tokens',
    'after: 60.0 tokens',
  ]
  assert tokens.get_ylim()[0] == 0
  ends = [line.get_xydata()[0] for line in accuracy.lines[-2:]]
  np.testing.assert_allclose(ends, [[0, 40], [299, 60]])


def test_rows_without_a_value_are_left_out(tmp_path, drawn):
  rows = [
    {'step': 1, 'accuracy': 0.5},
    {'step': 2, 'accuracy': None, 'response_tokens': 7.0},
    {'step': 3, 'accuracy': 0.25},
  ]
  plots.training_curves(rows, tmp_path / 'curves.png')
  accuracy, tokens = drawn[0].axes
  np.testing.assert_allclose(accuracy.lines[0].get_xydata(), [[1, 50], [3, 25]])
  np.testing.assert_allclose(tokens.lines[0].get_xydata(), [[2, 7]])
  assert _labels(tokens) == ['training']


@pytest.mark.filterwarnings('error')
def test_run_without_steps_still_gives_a_picture(tmp_path):
  plots.training_curves([], tmp_path / 'empty.png')
  assert (tmp_path / 'empty.png').read_bytes().startswith(_PNG)


def test_comparison_has_one_line_a_run_told_apart(tmp_path, drawn):
  path = tmp_path / 'comparison.png'
  plots.comparison({'DLER': _run(50), 'GRPO': _run(30)}, path)
  assert len(path.read_bytes()) < 100_000
  for panel in drawn[0].axes:
    assert _labels(panel) == ['DLER', 'GRPO']
    first, second = panel.lines
    assert first.get_color() != second.get_color()
    assert first.get_linestyle() != second.get_linestyle()
    assert len(second.get_xydata()) == 30


def test_moving_average_by_hand():
  values = np.array([1.0, 2.0, 6.0, 3.0])
  np.testing.assert_allclose(
    smoothing.moving_average(values, 3), [1.5, 3.0, 11 / 3, 4.5]
  )
  np.testing.assert_allclose(smoothing.moving_average(values, 1), values)
