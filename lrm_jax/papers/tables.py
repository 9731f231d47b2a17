"""Tables of a paper in Markdown: our runs, and its claims.

They stand in `experiments/NAME/README.md` between two marks, and are written
there by `lrm table NAME`.
"""

import math
import statistics

from lrm_jax.errors import UserError
from lrm_jax.evaluation.intervals import Estimate
from lrm_jax.papers import estimates
from lrm_jax.papers.paper import Condition, Paper, side, verdict
from lrm_jax.papers.results import Record, Results
from lrm_jax.reporting import tables

BEGIN, END = '<!-- lrm table: begin -->', '<!-- lrm table: end -->'
_RUNS = (
  'run',
  'seeds',
  'accuracy, %',
  'after',
  'change, points',
  'tokens',
  'after',
  'change, %',
  'truncated, %',
  'sampled, M',
  'minutes',
)
_CLAIMS = ('claim', 'in the paper', 'here', 'verdict')
_SIGNS = {'holds': 'yes', 'fails': 'no', 'open': 'open'}


def render(paper: Paper, results: Results) -> str:
  """Both tables, and on what they were made."""
  rows = [run_row(results, run.name) for run in paper.runs]
  parts = [
    tables.markdown(_RUNS, rows),
    'Means over seeds and problems, 95 % intervals over both. Tokens are of '
    'responses.',
    tables.markdown(_CLAIMS, [claim_row(c, results) for c in paper.claims]),
    _made_on([run for r in paper.runs for run in results.runs(r.name)]),
  ]
  return '\n\n'.join(parts)


def run_row(results: Results, name: str) -> tuple[str, ...]:
  """One way of training, before and after."""
  runs = results.runs(name)
  right = [results.right(name, when) for when in ('before', 'after')]
  tokens = [results.tokens(name, when) for when in ('before', 'after')]
  mean = lambda key: statistics.fmean(run[key] for run in runs)
  truncated = statistics.fmean(
    run['evaluations']['after']['truncated'] for run in runs
  )
  return (
    name,
    ' '.join(str(run['seed']) for run in runs),
    f'{100 * right[0].mean():.1f}',
    f'{100 * right[1].mean():.1f}',
    interval(estimates.mean(100 * (right[1] - right[0]))),
    f'{tokens[0].mean():.1f}',
    f'{tokens[1].mean():.1f}',
    interval(
      estimates.scaled(100, estimates.relative_change(tokens[1], tokens[0]))
    ),
    f'{100 * truncated:.1f}',
    f'{mean("sampled_tokens") / 1e6:.2f}',
    f'{mean("seconds") / 60:.1f}',
  )


def claim_row(claim, results: Results) -> tuple[str, ...]:
  """One claim, its conditions in one cell."""
  found = [condition.estimate(results) for condition in claim.conditions]
  here = '<br>'.join(
    condition_text(c, e) for c, e in zip(claim.conditions, found, strict=True)
  )
  return claim.text, claim.paper, here, f'**{verdict(claim, found)}**'


def condition_text(condition: Condition, estimate: Estimate) -> str:
  """Such as `tokens, %: -74.1 [-75.0, -73.2], below -70: yes`."""
  word = 'above' if condition.is_above else 'below'
  kind = 'premise: ' if condition.is_premise else ''
  return (
    f'{kind}{condition.text}: {interval(estimate)}, {word} '
    f'{condition.bound:g}: {_SIGNS[side(condition, estimate)]}'
  )


def interval(estimate: Estimate) -> str:
  """A value and the ends of its interval; none of NaN."""
  if math.isnan(estimate.value):
    return 'none'
  return f'{estimate.value:+.1f} [{estimate.low:+.1f}, {estimate.high:+.1f}]'


def insert(text: str, table: str) -> str:
  """A README with this table between its marks.

  Raises:
    UserError: it does not have them, once each and in order.
  """
  head, begin, rest = text.partition(BEGIN)
  old, end, tail = rest.partition(END)
  if not (begin and end) or BEGIN in old + tail or END in tail:
    raise UserError(
      f'README.md: expected one {BEGIN!r} and one {END!r} behind it'
    )
  return f'{head}{BEGIN}\n{table}\n{END}{tail}'


def _made_on(runs: list[Record]) -> str:
  """Commits, versions and machines of the runs, each once."""
  unique = lambda values: ', '.join(dict.fromkeys(values))
  versions = unique(
    ' '.join(f'{k} {v}' for k, v in run['versions'].items()) for run in runs
  )
  return (
    f'Made by commit {unique(run["commit"] for run in runs)} with {versions} '
    f'on {unique(run["machine"] for run in runs)}.'
  )
