"""Small result tables as text.

A table is a header and rows of cells, all strings; `aligned` renders it for a
terminal of 80 columns, `markdown` for a README. Units: accuracy and truncated
are fractions in [0, 1] on input and percent in the table; every length is a
mean in tokens over all samples, right or wrong.
"""

from collections.abc import Callable, Mapping, Sequence

Rows = Sequence[Sequence[str]]
_NONE = '-'


def aligned(header: Sequence[str], rows: Rows) -> str:
  """Returns plain text: first column left, the others right-aligned."""
  widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
  lines = []
  for cells in (header, ['-' * width for width in widths], *rows):
    first, *others = (
      cell.rjust(width) if i else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    lines.append('  '.join([first, *others]).rstrip())
  return '\n'.join(lines)


def markdown(header: Sequence[str], rows: Rows) -> str:
  """Returns a Markdown table: first column left, the others right-aligned."""
  rule = [':---'] + ['---:'] * (len(header) - 1)
  return '\n'.join(
    '| ' + ' | '.join(cells) + ' |' for cells in (header, rule, *rows)
  )


def before_after(
  before: Mapping[str, float],
  after: Mapping[str, float],
  render: Callable[[Sequence[str], Rows], str] = aligned,
) -> str:
  """Returns the closing table of a run: what training changed.

  Both mappings need `accuracy`, `response_tokens`, `thinking_tokens` and
  `truncated`. Tokens per correct answer is all tokens spent over answers that
  were right, that is response_tokens / accuracy; '-' where nothing was right.
  Changes are in percentage points (pp) for fractions and in percent for tokens.
  """
  rows = [
    _fraction_row('accuracy', before['accuracy'], after['accuracy']),
    *(
      _token_row(key.replace('_', ' '), before[key], after[key])
      for key in ('response_tokens', 'thinking_tokens')
    ),
    _fraction_row('truncated', before['truncated'], after['truncated']),
    _token_row('tokens per correct', *map(_per_correct, (before, after))),
  ]
  return render(('', 'before', 'after', 'change'), rows)


def by_level(
  levels: Sequence[Mapping[str, float]],
  render: Callable[[Sequence[str], Rows], str] = aligned,
) -> str:
  """Returns one row a difficulty level, in the order given.

  Each mapping has `level`, `n` (samples), `accuracy` and `response_tokens`.
  """
  rows = [
    (
      str(level['level']),
      str(level['n']),
      f'{float(level["accuracy"]):.1%}',
      f'{float(level["response_tokens"]):.1f}',
    )
    for level in levels
  ]
  return render(('level', 'n', 'accuracy', 'response tokens'), rows)


def _per_correct(summary: Mapping[str, float]) -> float | None:
  accuracy = float(summary['accuracy'])
  return float(summary['response_tokens']) / accuracy if accuracy else None


def _fraction_row(name: str, old: float, new: float) -> tuple[str, ...]:
  change = f'{100 * (float(new) - float(old)):+.1f} pp'
  return (name, f'{float(old):.1%}', f'{float(new):.1%}', change)


def _token_row(
  name: str, old: float | None, new: float | None
) -> tuple[str, ...]:
  cells = [_NONE if x is None else f'{float(x):.1f}' for x in (old, new)]
  change = _NONE if not old or new is None else f'{new / old - 1:+.1%}'
  return (name, *cells, change)
