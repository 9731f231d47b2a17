"""Charts as SVG: drawn once, in Python; colours and dashes are CSS classes.

A class `sN` is the colour of series N, `dN` its dash; each series has a shape
of its own too, so none is told apart by its colour alone. `page/charts.css`
has the colours, which follow the theme.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lrm_jax.reporting import scales, smoothing
from lrm_jax.reporting.markup import Markup, element, join

WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 382, 22, 204
COLOURS, DASHES = 7, 4
# Of longer curves, means of neighbours are drawn.
_MOST_POINTS = 500
# Names beside points are read as long as there are few.
_MOST_NAMED = 6
_SHAPES = (
  'M-4,0A4,4 0 1,1 4,0A4,4 0 1,1 -4,0Z',
  'M0,-5L5,0L0,5L-5,0Z',
  'M-3.6,-3.6H3.6V3.6H-3.6Z',
  'M0,-4.6L4.6,3.4H-4.6Z',
  'M0,4.6L4.6,-3.4H-4.6Z',
)


class Series(NamedTuple):
  """A curve.

  Attributes:
    name: for the legend.
    x: places, N of them, ascending.
    y: values.
    style: its number.
    faint: whether the values stand behind their running mean; else the line
      goes through them.
    dots: whether each value has a mark.
    error: half of the interval around each value, where it is known.
  """

  name: str
  x: Sequence[float]
  y: Sequence[float]
  style: int = 0
  faint: bool = False
  dots: bool = False
  error: Sequence[float] = ()


class Point(NamedTuple):
  """A model in the plane of tokens and accuracy.

  Attributes:
    name: of its run.
    x: mean tokens.
    y: accuracy in percent.
    x_error: half of its interval; NaN where it is not known.
    y_error: likewise.
    style: number of the run.
    hollow: whether it is the model before training.
  """

  name: str
  x: float
  y: float
  x_error: float
  y_error: float
  style: int
  hollow: bool


def lines(
  series: Sequence[Series],
  *,
  unit: str,
  x_name: str = 'step',
  zero: bool = False,
  whole: bool = True,
) -> Markup:
  """Curves over a common axis.

  Args:
    series: those without points are left out.
    unit: of the values, written above the axis.
    x_name: written below.
    zero: whether the axis of values has 0.
    whole: whether places are whole numbers.
  """
  xs = [x for s in series for x in s.x]
  ys = [y for s in series for y in s.y]
  ends = [
    y + sign * e
    for s in series
    for y, e in zip(s.y, s.error, strict=False)
    for sign in (-1, 1)
  ]
  across = scales.linear(xs, LEFT, RIGHT, whole=whole)
  up = scales.linear(ys + ends, BOTTOM, TOP, zero=zero)
  # Behind: what is faint; in front: what has marks.
  drawn = [_curve(s, across, up) for s in series if len(s.x)]
  return join([*_axes(across, up, x_name, unit), *drawn])


def front(points: Sequence[Point]) -> Markup:
  """Accuracy over tokens, with intervals; the best trade-offs are joined.

  A hollow point and the full one of its style are joined by a thin line. The
  front goes through full points that no other full one beats in both.

  Args:
    points: at least one.
  """
  xs = [
    p.x + s * e for p in points for s in (-1, 1) for e in (_or_0(p.x_error),)
  ]
  ys = [
    p.y + s * e for p in points for s in (-1, 1) for e in (_or_0(p.y_error),)
  ]
  across = scales.linear(xs, LEFT, RIGHT)
  up = scales.linear(ys, BOTTOM, TOP)
  parts = _axes(across, up, 'response tokens (mean)', 'accuracy, %')
  best = [
    (across.at(p.x), up.at(p.y))
    for p in best_points([p for p in points if not p.hollow])
  ]
  if len(best) > 1:
    # Along the axis first: between two models, the shorter one is had.
    steps = ''.join(f'H{_n(x)}V{_n(y)}' for x, y in best[1:])
    path = f'M{_n(best[0][0])},{_n(best[0][1])}{steps}'
    parts.append(element('path', {'class': 'front', 'd': path}))
  for point in points:
    parts += _crossed(point, across, up)
  hollow = {p.style: p for p in points if p.hollow}
  for point in points:
    if not point.hollow and point.style in hollow:
      start = hollow[point.style]
      parts.append(
        element(
          'line',
          {
            'class': f'way s{point.style % COLOURS}',
            'x1': across.at(start.x),
            'y1': up.at(start.y),
            'x2': across.at(point.x),
            'y2': up.at(point.y),
          },
        )
      )
  for point in points:
    kind = 'hollow' if point.hollow else 'full'
    parts.append(
      mark(point.style, across.at(point.x), up.at(point.y), f'big {kind}')
    )
  return join([*parts, *_names(points, across, up)])


def best_points(points: Sequence[Point]) -> list[Point]:
  """Those that no other beats: by tokens, accuracy rising."""
  found: list[Point] = []
  for point in sorted(points, key=lambda p: (p.x, -p.y)):
    if not found or point.y > found[-1].y:
      found.append(point)
  return found


def stacked(
  edges: Sequence[float], counts: Sequence[Sequence[int]], x_name: str
) -> Markup:
  """A histogram whose bars are parts on top of each other.

  Args:
    edges: B + 1 of them, ascending.
    counts: of each part, B numbers; parts have the classes `p0`, `p1`, ...
    x_name: of the axis.
  """
  total = np.sum(counts, axis=0)
  across = scales.linear(edges, LEFT, RIGHT)
  up = scales.linear(total, BOTTOM, TOP, zero=True)
  parts = _axes(across, up, x_name, 'responses')
  base = np.zeros(len(edges) - 1)
  for place, row in enumerate(counts):
    for bar, count in enumerate(row):
      if count:
        left, right = across.at(edges[bar]), across.at(edges[bar + 1])
        top, bottom = up.at(base[bar] + count), up.at(base[bar])
        box = {'x': left + 0.5, 'width': max(right - left - 1, 0.5)}
        box |= {'y': top, 'height': bottom - top, 'class': f'part p{place}'}
        parts.append(element('rect', box))
    base += row
  return join(parts)


def bars(
  names: Sequence[str],
  values: Sequence[Sequence[float]],
  show: Callable[[float], str],
) -> tuple[Markup, int]:
  """Horizontal bars, a group of them a name; and the height of the drawing.

  Args:
    names: of the groups.
    values: of each series, one number a group.
    show: a value as text, written behind its bar.
  """
  thick = 13 if len(values) == 1 else 9
  group = thick * len(values) + 9
  most = max((x for row in values for x in row), default=0.0)
  across = scales.Scale(0, most if most > 0 else 1, 76, RIGHT - 62, ())
  parts = []
  for place, name in enumerate(names):
    top = 8 + group * place
    middle = top + thick * len(values) / 2 + 4
    label = {'class': 'tick', 'x': 70, 'y': middle, 'text-anchor': 'end'}
    parts.append(element('text', label, name))
    for style, row in enumerate(values):
      y = top + thick * style
      end = across.at(row[place])
      box = {'x': 76, 'y': y, 'width': max(end - 76, 1), 'height': thick - 2}
      box['class'] = f'bar s{style % COLOURS}'
      parts.append(element('rect', box))
      text = {'class': 'tick', 'x': end + 5, 'y': y + thick / 2 + 3}
      parts.append(element('text', text, show(row[place])))
  return join(parts), 8 + group * len(names)


def mark(style: int, x: float, y: float, kind: str = '') -> Markup:
  """The shape of a series at a place."""
  return element(
    'path',
    {
      'class': f'mark s{style % COLOURS} {kind}'.strip(),
      'd': _SHAPES[style % len(_SHAPES)],
      'transform': f'translate({_n(x)} {_n(y)})',
    },
  )


def key(style: int) -> Markup:
  """A piece of a line with its mark, for a legend."""
  line = {'x1': 0, 'x2': 26, 'y1': 7, 'y2': 7}
  line['class'] = f'line s{style % COLOURS} d{style % DASHES}'
  box = {'class': 'key', 'viewBox': '0 0 26 14', 'aria-hidden': 'true'}
  return element('svg', box, element('line', line), mark(style, 13, 7))


def part_key(place: int) -> Markup:
  """A piece of a bar, for a legend."""
  box = {'class': 'key', 'viewBox': '0 0 26 14', 'aria-hidden': 'true'}
  inner = {'x': 4, 'y': 1, 'width': 18, 'height': 12}
  return element(
    'svg', box, element('rect', inner | {'class': f'part p{place}'})
  )


def _axes(
  across: scales.Scale, up: scales.Scale, x_name: str, unit: str
) -> list[Markup]:
  parts = [element('text', {'class': 'unit', 'x': 2, 'y': 12}, unit)]
  for value in up.ticks:
    y = up.at(value)
    ends = {'x1': LEFT, 'x2': RIGHT, 'y1': y, 'y2': y}
    parts.append(element('line', {'class': 'grid', **ends}))
    at = {'class': 'tick', 'x': LEFT - 6, 'y': y + 4, 'text-anchor': 'end'}
    parts.append(element('text', at, scales.tick(value, up.ticks)))
  for value in across.ticks:
    at = {'class': 'tick', 'x': across.at(value), 'y': BOTTOM + 16}
    parts.append(
      element(
        'text',
        {**at, 'text-anchor': 'middle'},
        scales.tick(value, across.ticks),
      )
    )
  at = {'class': 'unit', 'x': RIGHT, 'y': HEIGHT - 4, 'text-anchor': 'end'}
  return [*parts, element('text', at, x_name)]


def _curve(series: Series, across: scales.Scale, up: scales.Scale) -> Markup:
  colour = f's{series.style % COLOURS}'
  xs, ys = np.array(series.x, float), np.array(series.y, float)
  parts = []
  for x, y, error in zip(xs, ys, series.error, strict=False):
    if math.isfinite(error):
      ends = {'y1': up.at(y - error), 'y2': up.at(y + error)}
      at = {'x1': across.at(x), 'x2': across.at(x)}
      parts.append(
        element('line', {'class': f'whisker {colour}', **at, **ends})
      )
  width = smoothing.width_for(len(ys)) if series.faint else 1
  if width > 1:
    path = _path(*_thinned(xs, ys), across, up)
    parts.append(element('path', {'class': f'faint {colour}', 'd': path}))
    ys = smoothing.moving_average(ys, width)
  thin = _thinned(xs, ys)
  dash = f'd{series.style % DASHES}'
  path = _path(*thin, across, up)
  parts.append(element('path', {'class': f'line {colour} {dash}', 'd': path}))
  places = range(len(xs)) if series.dots else [len(xs) - 1]
  parts += [mark(series.style, across.at(xs[i]), up.at(ys[i])) for i in places]
  return element('g', {}, *parts)


def _thinned(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  if len(xs) <= _MOST_POINTS:
    return xs, ys
  means = lambda v: np.array(
    [p.mean() for p in np.array_split(v, _MOST_POINTS)]
  )
  return means(xs), means(ys)


def _path(
  xs: np.ndarray, ys: np.ndarray, across: scales.Scale, up: scales.Scale
) -> str:
  points = zip(xs.tolist(), ys.tolist(), strict=True)
  return 'M' + 'L'.join(f'{_n(across.at(x))},{_n(up.at(y))}' for x, y in points)


def _crossed(
  point: Point, across: scales.Scale, up: scales.Scale
) -> list[Markup]:
  """The intervals of a point, as far as they are known."""
  x, y = across.at(point.x), up.at(point.y)
  found = []
  if math.isfinite(point.x_error):
    left, right = (across.at(point.x + s * point.x_error) for s in (-1, 1))
    found.append({'x1': left, 'x2': right, 'y1': y, 'y2': y})
  if math.isfinite(point.y_error):
    low, high = (up.at(point.y + s * point.y_error) for s in (-1, 1))
    found.append({'x1': x, 'x2': x, 'y1': low, 'y2': high})
  kind = f'whisker s{point.style % COLOURS}'
  return [element('line', {'class': kind, **ends}) for ends in found]


def _names(
  points: Sequence[Point], across: scales.Scale, up: scales.Scale
) -> list[Markup]:
  """Names beside full points, none upon another; of many, the legend tells."""
  full = [p for p in points if not p.hollow]
  if len(full) > _MOST_NAMED:
    return []
  found, taken = [], []
  for point in sorted(full, key=lambda p: up.at(p.y)):
    x, y = across.at(point.x), up.at(point.y) - 9
    while any(abs(y - other) < 12 for other in taken):
      y += 12
    taken.append(y)
    is_right = x > (LEFT + RIGHT) / 2
    at = {'class': 'name', 'x': x - 8 if is_right else x + 8, 'y': y}
    at['text-anchor'] = 'end' if is_right else 'start'
    found.append(element('text', at, _shortened(point.name)))
  return found


def _shortened(name: str) -> str:
  return name if len(name) <= 24 else f'{name[:11]}…{name[-12:]}'


def _or_0(value: float) -> float:
  return value if math.isfinite(value) else 0.0


def _n(value: float) -> str:
  return f'{value:.1f}'
