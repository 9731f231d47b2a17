"""The model card of a model that `lrm sft` made."""

from collections.abc import Mapping
from typing import Any

from lrm_jax import storage
from lrm_jax.reporting import tables


def write(summary: Mapping[str, Any], path: storage.Path) -> str:
  """Writes the card as Markdown; returns its headline.

  Args:
    summary: of an `lrm sft` run with an evaluation: parameters, accuracy,
      response_tokens, truncated, by_level, seconds, device, config.
    path: of the file.
  """
  settings = summary['config']['eval']
  rows = summary['by_level']
  headline = (
    f'accuracy {summary["accuracy"]:.3f}, {summary["response_tokens"]:.1f} '
    f'response tokens, {100 * summary["truncated"]:.1f} % truncated at '
    f'{settings["max_tokens"]}'
  )
  has_shortest = all('shortest_tokens' in row for row in rows)
  names = ['level', 'samples', 'accuracy', 'response tokens', 'truncated']
  table = tables.markdown(
    names + ['shortest correct trace'] * has_shortest,
    [
      (
        str(row['level']),
        str(row['n']),
        f'{row["accuracy"]:.3f}',
        f'{row["response_tokens"]:.1f}',
        f'{row["truncated"]:.3f}',
        *([str(row['shortest_tokens'])] if has_shortest else []),
      )
      for row in rows
    ],
  )
  path.write_text(
    f"""# Model card

A decoder-only transformer in the Qwen2 layout with
{summary['parameters']:,} parameters, made by `lrm sft`.

Measured on {settings['problems']} held-out problems with
{settings['samples']} samples each at temperature {settings['temperature']}:
{headline}.

{table}

Lengths are in tokens, end-of-sequence included. Trained on
`{summary['config']['data']['train']}`, evaluated on
`{summary['config']['data']['eval']}` (held out);
{summary['seconds'] / 60:.1f} minutes on {summary['device']}.

The model is a small stand-in for a large reasoning model: it reasons step by
step between `<think>` and `</think>`, slips, re-checks far more often than it
needs to, and answers in `\\boxed{{}}`. It knows nothing else.
""",
    encoding='utf-8',
  )
  return headline
