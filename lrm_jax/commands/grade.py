"""`lrm grade`: verdicts on the responses of a JSON Lines file.

  {"response": ..., "answer": ..., ...} -> the same row and
  {"correct": bool, "extracted": str or null, "status": str}

`status` is one of ok, no_answer, timeout (nobody knows), too_long: see
`rewards.math_answer.Verdict`.
"""

import collections
import dataclasses
import time
from typing import Any

from absl import flags

from lrm_jax import jsonl, metrics, storage
from lrm_jax.commands import output
from lrm_jax.data import prompts
from lrm_jax.rewards.math_answer import Verdict
from lrm_jax.rewards.pool import Grader

# Rows between two steps of the progress line.
_CHUNK = 256
_FIELDS = {'response': (str,), 'answer': (str, int, float)}
STATUSES = ('ok', 'no_answer', 'timeout', 'too_long')


def define_flags(flag_values: flags.FlagValues) -> None:
  """Adds the flags of the verb."""
  flags.DEFINE_string(
    'input',
    None,
    'JSON Lines file (.gz too); each row has response and answer, the gold '
    'answer.',
    flag_values,
  )
  flags.DEFINE_string(
    'output',
    None,
    'JSON Lines file to write: the rows with correct, extracted and status. '
    'summary.json goes beside it.',
    flag_values,
  )
  flags.DEFINE_float(
    'timeout',
    5.0,
    'Processor seconds one comparison may take.',
    flag_values=flag_values,
  )
  flags.DEFINE_boolean(
    'require_closed_think',
    False,
    'Responses were sampled after an open <think>: one without </think> has '
    'no answer. Otherwise it is read as a whole, unless it opens <think> '
    'itself or its row has the thinking_length that lrm sample writes.',
    flag_values,
  )
  flags.mark_flags_as_required(['input', 'output'], flag_values)


def run(flag_values: flags.FlagValues) -> None:
  """Grades --input into --output and summary.json.

  Args:
    flag_values: parsed flags of `define_flags`.

  Raises:
    UserError: a file that cannot be read or written, or a row without
      `response` or `answer`. Nothing is written then.
  """
  begin = time.monotonic()
  target = output.output_file(flag_values.output)
  rows = jsonl.read_rows(flag_values.input, _FIELDS)
  verdicts = _grade(rows, flag_values)
  storage.make_folder(target.parent)
  jsonl.write_rows(
    target,
    (
      row | dataclasses.asdict(verdict)
      for row, verdict in zip(rows, verdicts, strict=True)
    ),
  )
  correct = sum(verdict.correct for verdict in verdicts)
  counts = collections.Counter(verdict.status for verdict in verdicts)
  summary = {
    'verb': 'grade',
    'rows': len(rows),
    'correct': correct,
    'accuracy': correct / len(rows) if rows else None,
    'statuses': {status: counts[status] for status in STATUSES},
    'seconds': time.monotonic() - begin,
  }
  jsonl.write_json(target.with_name('summary.json'), summary)
  print(_describe(summary, target))


def _grade(
  rows: list[dict[str, Any]], flag_values: flags.FlagValues
) -> list[Verdict]:
  # `lrm sample` states the thinking of a response whose prompt opened it.
  pairs = [
    (
      prompts.THINK_OPEN + row['response']
      if 'thinking_length' in row
      else row['response'],
      str(row['answer']),
    )
    for row in rows
  ]
  grader = Grader(
    timeout=flag_values.timeout,
    require_closed_think=flag_values.require_closed_think,
  )
  verdicts = []
  with grader, metrics.Progress(len(rows), 'grade') as progress:
    for start in range(0, len(pairs), _CHUNK):
      verdicts += grader.grade(pairs[start : start + _CHUNK])
      correct = sum(verdict.correct for verdict in verdicts)
      progress.update(len(verdicts), {'accuracy': correct / len(verdicts)})
  return verdicts


def _describe(summary: dict[str, Any], target: storage.Path) -> str:
  share = '' if summary['accuracy'] is None else f' ({summary["accuracy"]:.1%})'
  others = [
    f'{summary["statuses"][status]} {status}'
    for status in STATUSES[1:]
    if summary['statuses'][status]
  ]
  notes = f'; {", ".join(others)}' if others else ''
  return (
    f'{summary["correct"]} of {summary["rows"]} correct{share}{notes}, '
    f'in {summary["seconds"]:.1f} s\n'
    f'wrote {target} and {target.with_name("summary.json")}'
  )
