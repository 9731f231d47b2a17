"""`lrm eval`: accuracy and tokens of a model on a data set.

  WORKDIR/rollouts.jsonl.gz   one row per sample: those of `lrm sample`, with
                              correct and answer (the gold one)
  WORKDIR/pass_rates.jsonl    id, pass_rate and samples of each problem, as a
                              curriculum reads them (`data.pass_rates`)
  WORKDIR/summary.json        the numbers of the table, stable keys

Means run over all problems * n samples; every length is in tokens.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

from absl import flags

from lrm_jax import compilation, jsonl, records, rollout, storage, workdir
from lrm_jax.commands import loading, output
from lrm_jax.data import prompts, sources
from lrm_jax.evaluation import evaluator, scores
from lrm_jax.reporting import tables
from lrm_jax.rewards.pool import Grader
from lrm_jax.structs import Problem, Rollouts

# Of generated problems there is no end; a quick look takes these many.
_GENERATED_LIMIT = 256


def define_flags(flag_values: flags.FlagValues) -> None:
  """Adds the flags of the verb."""
  loading.define_flags(flag_values)
  text = flags.DEFINE_string
  text(
    'data',
    None,
    'Path of a .jsonl file with question and answer in each row, or '
    f'NAME[:SPLIT[:LEVELS]] with a name of {", ".join(sources.NAMES)}.',
    flag_values,
  )
  text(
    'split',
    'test',
    'Split of a named data set; test is the held-out split of generated ones.',
    flag_values,
  )
  text(
    'data_dir',
    None,
    'Where named data sets are kept; a benchmark whose problems are there as '
    'NAME.jsonl is not downloaded.',
    flag_values,
  )
  text(
    'workdir',
    None,
    'Folder, or gs://BUCKET/FOLDER, for rollouts.jsonl.gz, pass_rates.jsonl '
    'and summary.json; those of an earlier evaluation are replaced.',
    flag_values,
  )
  flags.DEFINE_integer(
    'n', 8, 'Responses per problem.', lower_bound=1, flag_values=flag_values
  )
  flags.DEFINE_integer(
    'max_tokens',
    None,
    'Response tokens at most; a response that reaches them is truncated.',
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'limit',
    None,
    f'Only the first problems (default: all; {_GENERATED_LIMIT} of a data set '
    'that is generated).',
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.mark_flags_as_required(['data', 'max_tokens', 'workdir'], flag_values)


def run(flag_values: flags.FlagValues) -> None:
  """Evaluates --model on --data; prints a table and writes into --workdir.

  Args:
    flag_values: parsed flags of `define_flags`.

  Raises:
    UserError: a model or data set that cannot be read, a prompt that does not
      fit, or a workdir that cannot be used. Nothing is made or written then.
  """
  begin = time.monotonic()
  loading.check_temperature(flag_values)
  folder = output.output_folder(flag_values.workdir)
  problems = _load_problems(flag_values)
  model = loading.load(flag_values)
  width = loading.prompt_width(
    model.config,
    {
      f'problem {problem.id}': prompts.encode_prompt(
        model.tokenizer, problem.question, flag_values.instruction
      )
      for problem in problems
    },
    flag_values.max_tokens,
  )
  sampler = loading.make_sampler(
    model,
    flag_values,
    samples=flag_values.n,
    prompts=len(problems),
    width=width,
  )
  storage.make_folder(folder)
  watch, started = compilation.CompileWatch(), time.monotonic()
  with Grader() as grader:
    rollouts = evaluator.evaluate(
      _collector(model, sampler, grader, width, flag_values),
      model.params,
      problems,
      cap=flag_values.max_tokens,
      seed=flag_values.seed,
      temperature=flag_values.temperature,
    )
  seconds = time.monotonic() - started
  _write_rollouts(folder, model, problems, rollouts)
  jsonl.write_rows(
    folder / 'pass_rates.jsonl', scores.pass_rates(problems, rollouts)
  )
  summary = _summarize(flag_values, problems, rollouts)
  # Grading counts: it is a part of what the evaluation takes.
  summary |= loading.speed(int(rollouts.length.sum()), seconds, watch.seconds)
  summary['seconds'] = time.monotonic() - begin
  workdir.write_summary(folder, summary)
  print(_describe(summary))
  written = 'summary.json, pass_rates.jsonl, rollouts.jsonl.gz'
  print(f'{folder}: {written} ({summary["seconds"]:.0f} s)')


def _collector(
  model: loading.Model, sampler, grader, width: int, flag_values
) -> rollout.Collector:
  return rollout.Collector(
    model.tokenizer,
    sampler,
    grader,
    width,
    flag_values.instruction,
    thinking_budget=loading.thinking_budget(flag_values),
  )


def _load_problems(flag_values: flags.FlagValues) -> list[Problem]:
  source = sources.load_problems(
    flag_values.data,
    split=flag_values.split,
    limit=flag_values.limit,
    data_dir=flag_values.data_dir,
  )
  count = len(source)
  if flag_values.limit is None and source.is_generated:
    count = min(count, _GENERATED_LIMIT)
  return [source[index] for index in range(count)]


def _write_rollouts(
  folder: storage.Path,
  model: loading.Model,
  problems: Sequence[Problem],
  rollouts: Rollouts,
) -> None:
  answers = {problem.id: problem.answer for problem in problems}
  rows = records.response_rows(model.tokenizer, problems, rollouts)
  jsonl.write_rows(
    folder / 'rollouts.jsonl.gz',
    (row | {'answer': answers[row['id']]} for row in rows),
  )


def _summarize(
  flag_values: flags.FlagValues,
  problems: Sequence[Problem],
  rollouts: Rollouts,
) -> dict[str, Any]:
  """`by_level` is empty where the data set states no levels."""
  has_levels = any(problem.level for problem in problems)
  return (
    {
      'verb': 'eval',
      'model': flag_values.model,
      'data': flag_values.data,
      'problems': len(problems),
      'samples': flag_values.n,
      'max_tokens': flag_values.max_tokens,
      'temperature': flag_values.temperature,
    }
    | scores.summarize(rollouts)
    | {
      'unverified': scores.count_unverified(rollouts),
      'accuracy_se': scores.accuracy_standard_error(rollouts),
      'by_level': scores.by_level(problems, rollouts) if has_levels else [],
    }
  )


def _describe(summary: dict[str, Any]) -> str:
  error = summary['accuracy_se']
  cost = summary['tokens_per_correct']
  rows = [
    (
      'accuracy',
      f'{summary["accuracy"]:.1%}',
      f'{100 * error:.1f} pp' if math.isfinite(error) else '-',
    ),
    ('response tokens', f'{summary["response_tokens"]:.1f}', ''),
    ('thinking tokens', f'{summary["thinking_tokens"]:.1f}', ''),
    ('truncated', f'{summary["truncated"]:.1%}', ''),
    ('tokens per correct', f'{cost:.1f}' if math.isfinite(cost) else '-', ''),
  ]
  if summary['unverified']:
    rows.append(('unverified responses', str(summary['unverified']), ''))
  title = (
    f'{summary["model"]} on {summary["data"]}: {summary["problems"]} problems '
    f'x {summary["samples"]} samples'
  )
  parts = [title, tables.aligned(('', 'mean', 'standard error'), rows)]
  if summary['by_level']:
    parts.append(tables.by_level(summary['by_level']))
  return '\n\n'.join(parts)
