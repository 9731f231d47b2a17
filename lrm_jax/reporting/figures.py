"""A chart with all that belongs to it: words, legend, and its numbers."""

import itertools
from collections.abc import Iterator, Sequence

from lrm_jax.reporting import charts, scales
from lrm_jax.reporting.charts import Series
from lrm_jax.reporting.markup import Child, Markup, element, table

# Rows of the table below a curve; of more, some are left out evenly.
MOST_ROWS = 40

Legend = Sequence[tuple[Markup, str]]
Rows = Sequence[Sequence[Child]]


class Figures:
  """Makes figures; numbers them, since a drawing names its words by id."""

  def __init__(self):
    """None has been made."""
    self._numbers: Iterator[int] = itertools.count(1)

  def curve(
    self,
    title: str,
    text: str,
    series: Sequence[Series],
    *,
    unit: str,
    x_name: str = 'step',
    zero: bool = False,
    whole: bool = True,
  ) -> Markup | None:
    """Curves; None where no series has a point.

    Args:
      title: of the figure.
      text: what it shows, in a sentence.
      series: the curves.
      unit: see `charts.lines`.
      x_name: likewise.
      zero: likewise.
      whole: likewise.
    """
    series = [s for s in series if len(s.x)]
    if not series:
      return None
    drawing = charts.lines(
      series, unit=unit, x_name=x_name, zero=zero, whole=whole
    )
    legend = [(charts.key(s.style), s.name) for s in series]
    header = [x_name, *(s.name for s in series)]
    return self.figure(
      title,
      text,
      drawing,
      legend if len(legend) > 1 else (),
      header,
      _rows(series),
    )

  def figure(
    self,
    title: str,
    text: str,
    drawing: Markup,
    legend: Legend,
    header: Sequence[str],
    rows: Rows,
    height: int = charts.HEIGHT,
  ) -> Markup:
    """A drawing with its words.

    Args:
      title: of the figure.
      text: what it shows.
      drawing: what is in the SVG.
      legend: a key and a name of each series.
      header: of the table of its numbers.
      rows: of that table.
      height: of the drawing.
    """
    name = f'figure-{next(self._numbers)}'
    svg = element(
      'svg',
      {
        'viewBox': f'0 0 {charts.WIDTH} {height}',
        'role': 'img',
        'aria-labelledby': f'{name}-title {name}-text',
      },
      drawing,
    )
    keys = [
      element('li', {}, key, element('span', {}, text)) for key, text in legend
    ]
    return element(
      'figure',
      {},
      element(
        'figcaption',
        {},
        element('h3', {'id': f'{name}-title'}, title),
        element('p', {'id': f'{name}-text'}, text),
      ),
      svg,
      element('ul', {'class': 'legend'}, *keys) if keys else element('div', {}),
      element(
        'details',
        {},
        element('summary', {}, 'Numbers'),
        table(title, header, rows),
      ),
    )


def _rows(series: Sequence[Series]) -> list[list[str]]:
  """One row a place, with the values of all series."""
  places = sorted({x for s in series for x in s.x})
  if len(places) > MOST_ROWS:
    last = len(places) - 1
    chosen = {n * last // (MOST_ROWS - 1) for n in range(MOST_ROWS)}
    places = [places[index] for index in sorted(chosen)]
  found = [dict(zip(s.x, s.y, strict=True)) for s in series]
  return [
    [
      scales.number(x, 6),
      *(scales.number(y[x] if x in y else None) for y in found),
    ]
    for x in places
  ]
