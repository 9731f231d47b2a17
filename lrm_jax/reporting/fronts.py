"""Accuracy over tokens: a front for each group of comparable runs."""

from collections.abc import Sequence

from lrm_jax.reporting import charts, grouping, paired, sections
from lrm_jax.reporting.charts import Point
from lrm_jax.reporting.figures import Figures
from lrm_jax.reporting.grouping import Group
from lrm_jax.reporting.markup import Markup
from lrm_jax.reporting.samples import Tally
from lrm_jax.reporting.workdirs import Run


def of_groups(
  figures: Figures,
  runs: Sequence[Run],
  tallies: Sequence[Tally],
  groups: Sequence[Group],
) -> list[Markup]:
  """A figure for each group: before (hollow) and after (full).

  Args:
    figures: makes them.
    runs: of the page.
    tallies: of all sources.
    groups: of these runs; without evaluations there is none, and no figure.
  """
  return [_of_group(figures, runs, tallies, group) for group in groups]


def _of_group(
  figures: Figures,
  runs: Sequence[Run],
  tallies: Sequence[Tally],
  group: Group,
) -> Markup:
  points, rows = [], []
  for place in group.places:
    run = runs[place]
    for made in (run.first, run.last):
      if made is None:
        continue
      tally = paired.of_evaluation(place, made.label, tallies)
      numbers = made.numbers
      y_error = sections.error(made, 'accuracy', tally, lambda t: t.correct)
      x_error = sections.error(
        made, 'response_tokens', tally, lambda t: t.length
      )
      points.append(
        Point(
          name=run.name,
          x=numbers['response_tokens'],
          y=100 * numbers['accuracy'],
          x_error=x_error,
          y_error=100 * y_error,
          style=place,
          hollow=made is run.first,
        )
      )
      rows.append(
        [
          run.name,
          made.label,
          sections.with_error(
            numbers['response_tokens'], x_error, sections.tokens
          ),
          sections.with_error(numbers['accuracy'], y_error, sections.percent),
        ]
      )
  named = dict.fromkeys((p.style, p.name) for p in points)
  return figures.figure(
    grouping.titled('Accuracy and tokens', group),
    'Up and to the left is better. Hollow: before training; full: the newest '
    'model. Whiskers are 95 % intervals where they are known; the dotted '
    'steps join models that no other beats in both.',
    charts.front(points),
    [(charts.key(style), name) for style, name in named]
    if len(named) > 1
    else (),
    ('run', 'model', 'response tokens', 'accuracy'),
    rows,
  )
