"""What is drawn, and where."""

import re
import xml.etree.ElementTree

import pytest

from lrm_jax.reporting import charts
from lrm_jax.reporting.charts import Point, Series
from lrm_jax.reporting.figures import MOST_ROWS, Figures

NAN = float('nan')


def parse(markup):
  """The drawing as a tree; it must be whole."""
  return xml.etree.ElementTree.fromstring(f'<svg>{markup}</svg>')


def of_class(tree, name):
  return [e for e in tree.iter() if name in e.get('class', '').split()]


def test_a_line_goes_through_its_points():
  drawing = charts.lines([Series('a', [0, 10], [0, 5])], unit='u', zero=True)
  (line,) = of_class(parse(drawing), 'line')
  # From the lower left of the axes to the upper right.
  left, right = charts.LEFT, charts.RIGHT
  bottom, top = charts.BOTTOM, charts.TOP
  assert line.get('d') == f'M{left}.0,{bottom}.0L{right}.0,{top}.0'
  assert 's0' in line.get('class') and 'd0' in line.get('class')


def test_series_differ_in_more_than_colour():
  seen = set()
  for style in range(20):
    key = charts.key(style)
    colour = re.search(r'line (s\d)', key)[1]
    dash = re.search(r'(d\d)', key)[1]
    shape = re.search(r' d="([^"]+)"', key)[1]
    seen.add((colour, dash, shape))
    assert colour == f's{style % 7}'
  assert len(seen) == 20
  assert len({(dash, shape) for _, dash, shape in seen}) == 20


def test_a_long_curve_is_smoothed_and_thinned():
  ys = [float(i % 2) for i in range(5000)]
  series = Series('a', list(range(5000)), ys, faint=True)
  tree = parse(charts.lines([series], unit='u'))
  (line,), (faint,) = of_class(tree, 'line'), of_class(tree, 'faint')
  assert line.get('d').count('L') == faint.get('d').count('L') == 499
  heights = {float(y) for y in re.findall(r',([\d.]+)', line.get('d'))}
  # Means of zeros and ones: half-way up.
  assert max(heights) - min(heights) < 5


def test_whiskers_only_where_an_error_is_known():
  series = Series('a', [0, 1], [5, 6], dots=True, error=[1, NAN])
  tree = parse(charts.lines([series], unit='u'))
  assert len(of_class(tree, 'whisker')) == 1
  assert len(of_class(tree, 'mark')) == 2


def point(name, x, y, **changes):
  found = Point(name, x, y, NAN, NAN, 0, hollow=False)
  return found._replace(**changes)


def test_the_best_points_beat_each_other_in_nothing():
  a, b, c = point('a', 10, 50), point('b', 20, 80), point('c', 30, 70)
  assert charts.best_points([c, a, b]) == [a, b]
  # Of equal length the better one; of equal points one.
  assert charts.best_points([a, point('d', 10, 60)])[0].name == 'd'
  assert len(charts.best_points([a, a])) == 1


def test_the_front():
  points = [
    point('a', 10, 50, hollow=True),
    point('a', 20, 80, x_error=2, y_error=5),
    point('b', 40, 90, style=1),
  ]
  tree = parse(charts.front(points))
  assert len(of_class(tree, 'hollow')) == 1 and len(of_class(tree, 'full')) == 2
  assert len(of_class(tree, 'whisker')) == 2
  assert len(of_class(tree, 'way')) == 1 and len(of_class(tree, 'front')) == 1
  assert [e.text for e in of_class(tree, 'name')] == ['b', 'a']
  many = [point(f'n{i}', i, i) for i in range(9)]
  assert not of_class(parse(charts.front(many)), 'name')


def test_names_do_not_cover_each_other():
  points = [point(name, 10, 50, style=i) for i, name in enumerate('abc')]
  names = of_class(parse(charts.front(points)), 'name')
  heights = sorted(float(e.get('y')) for e in names)
  assert min(b - a for a, b in zip(heights, heights[1:], strict=False)) >= 12


def test_a_histogram_stacks_its_parts():
  tree = parse(charts.stacked([0, 10, 20], [[1, 0], [1, 2]], 'tokens'))
  parts = of_class(tree, 'part')
  assert [e.get('class') for e in parts] == ['part p0', 'part p1', 'part p1']
  low, high = parts[0], parts[1]
  assert float(high.get('y')) + float(high.get('height')) == pytest.approx(
    float(low.get('y')), abs=0.02
  )
  # Two of two: up to the top.
  assert float(parts[2].get('y')) == charts.TOP
  assert not of_class(parse(charts.stacked([0, 10], [[0]], 'x')), 'part')


def test_bars_are_as_long_as_their_values():
  drawing, height = charts.bars(['x', 'y'], [[1.0, 2.0]], lambda v: f'{v} s')
  bars = of_class(parse(drawing), 'bar')
  widths = [float(e.get('width')) for e in bars]
  assert widths[1] == pytest.approx(2 * widths[0])
  assert '2.0 s' in drawing and height > 40
  none, _ = charts.bars(['x'], [[0.0]], str)
  assert of_class(parse(none), 'bar')


def test_a_figure_has_a_title_a_text_and_its_numbers():
  figures = Figures()
  assert figures.curve('t', 'x', [Series('a', [], [])], unit='u') is None
  series = [
    Series('<a>', list(range(100)), list(range(100))),
    Series('b', [0.0], [1.0], style=1),
  ]
  first = figures.curve('<title>', 'text', series, unit='u')
  tree = parse(first)
  (svg,) = (e for e in tree.iter('svg') if e.get('role') == 'img')
  ids = {e.get('id'): ''.join(e.itertext()) for e in tree.iter()}
  found = [ids[name] for name in svg.get('aria-labelledby').split()]
  assert found == ['<title>', 'text']
  rows = list(tree.find('.//tbody'))
  assert len(rows) == MOST_ROWS
  assert [cell.text for cell in rows[0]] == ['0', '0', '1']
  assert [cell.text for cell in rows[-1]] == ['99', '99', '–']
  assert '<a>' in [e.text for e in tree.iter('span')]
  second = figures.curve('t', 'text', series[:1], unit='u')
  assert 'figure-2-title' in second and 'legend' not in second
