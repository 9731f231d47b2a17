"""`lrm eval`: accuracy and tokens of a model on data sets.

  WORKDIR/rollouts.jsonl.gz   one row per sample: those of `lrm sample`, with
                              verdict and problem, see `sample_rows.py`
  WORKDIR/pass_rates.jsonl    id, pass_rate and samples of each problem, as a
                              curriculum reads them (`data.pass_rates`)
  WORKDIR/summary.json        the numbers of the table, stable keys
  WORKDIR/chunks/             while it is not finished: what is done so far

Of several data sets each has all that in WORKDIR/NAME, and WORKDIR/summary.json
has all of theirs. Means run over all problems * n samples; every length is in
tokens. What was stopped goes on with the same command, and what has ended
prints its table again.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from lrm_jax import (
  compilation,
  jsonl,
  locking,
  rollout,
  workdir,
)
from lrm_jax.commands import evaluation_jobs, loading, output
from lrm_jax.commands.evaluation_jobs import GENERATED_LIMIT, Job
from lrm_jax.data import prompts, sources
from lrm_jax.evaluation import (
  chunks,
  describing,
  evaluator,
  sample_rows,
  scores,
  stored,
  summary,
)
from lrm_jax.rewards.pool import Grader
from lrm_jax.sampler.engine import Sampler


def define_flags(flag_values: flags.FlagValues) -> None:
  """Adds the flags of the verb."""
  loading.define_flags(flag_values)
  text = flags.DEFINE_string
  text(
    'data',
    None,
    'Path of a .jsonl file with question and answer in each row, or '
    f'NAME[:SPLIT[:LEVELS]] with a name of {", ".join(sources.NAMES)}; or '
    'several of these with commas between.',
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
    'Where named data sets are kept; NAME.jsonl there is not downloaded.',
    flag_values,
  )
  text(
    'workdir',
    None,
    'Folder, or gs://BUCKET/FOLDER, for rollouts.jsonl.gz, pass_rates.jsonl '
    'and summary.json; of several data sets each has a folder in it. The same '
    'command goes on there if it was stopped; delete the folder to begin anew.',
    flag_values,
  )
  integer = flags.DEFINE_integer
  integer(
    'n', 8, 'Responses per problem.', lower_bound=1, flag_values=flag_values
  )
  integer(
    'max_tokens',
    None,
    'Response tokens at most; a response that reaches them is truncated.',
    lower_bound=1,
    flag_values=flag_values,
  )
  integer(
    'target',
    0,
    'What prompts ask for, where --instruction has {target}, in tokens, or '
    '{level}, 0 to 2.',
    lower_bound=0,
    flag_values=flag_values,
  )
  integer(
    'limit',
    None,
    f'First problems alone (default: all; {GENERATED_LIMIT} if generated).',
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
      fit, or a workdir that cannot be used or holds another evaluation. Nothing
      is made or written then.
  """
  begin = time.monotonic()
  loading.check_temperature(flag_values)
  evaluation_jobs.check_target(flag_values)
  folder = output.output_folder(flag_values.workdir)
  jobs = evaluation_jobs.make(flag_values, folder)
  found = {job.name: chunks.check(job.folder, job.record) for job in jobs}
  todo = [job for job in jobs if found[job.name] is None]
  if todo:
    model = loading.load(flag_values)
    samplers = _samplers(flag_values, model, todo)
    with locking.held(folder), Grader() as grader:
      for job in todo:
        found[job.name] = _evaluate(
          flag_values, job, model, samplers[job.name], grader
        )
  for job in jobs:
    # A kill may have come in between.
    chunks.remove(job.folder)
  seconds = time.monotonic() - begin
  if len(jobs) == 1:
    print(describing.one(found[jobs[0].name]))
    written = 'summary.json, pass_rates.jsonl, rollouts.jsonl.gz'
  else:
    whole = summary.of_data_sets(found) | {'seconds': seconds}
    workdir.write_summary(folder, evaluation_jobs.common(jobs) | whole)
    print(describing.several(whole['sets'], whole))
    written = f'summary.json, and {", ".join(found)} with theirs'
  if not todo:
    written = f'nothing was left to sample; {written}'
  print(f'{folder}: {written} ({seconds:.0f} s)')


def _samplers(
  flag_values: flags.FlagValues, model: loading.Model, jobs: Sequence[Job]
) -> dict[str, tuple[Sampler, int]]:
  """The sampler of each job, and its room for prompts; equal ones are one."""
  made, found = {}, {}
  for job in jobs:
    width = loading.prompt_width(
      model.config,
      {
        f'problem {problem.id}': prompts.encode_prompt(
          model.tokenizer,
          problem.question,
          prompts.state_target(flag_values.instruction, flag_values.target),
        )
        for problem in job.problems
      },
      flag_values.max_tokens,
    )
    shape = min(len(job.problems), flag_values.batch), width
    if shape not in made:
      made[shape] = loading.make_sampler(
        model,
        flag_values,
        samples=flag_values.n,
        prompts=len(job.problems),
        width=width,
      )
    found[job.name] = made[shape], width
  return found


def _evaluate(
  flag_values: flags.FlagValues,
  job: Job,
  model: loading.Model,
  room: tuple[Sampler, int],
  grader: Grader,
) -> dict[str, Any]:
  """Goes on with an evaluation to its end; its summary, as it is stored."""
  began = time.monotonic()
  chunks.begin(job.folder, job.record)
  ids = [problem.id for problem in job.problems]
  done = chunks.count(job.folder, ids, flag_values.n)
  watch, tokens = compilation.CompileWatch(), 0
  if done < len(ids):
    collector = _collector(model, room, grader, flag_values)
    for first, rollouts in evaluator.stream(
      collector,
      model.params,
      job.problems,
      cap=flag_values.max_tokens,
      seed=flag_values.seed,
      temperature=flag_values.temperature,
      target=flag_values.target,
      description=f'eval {job.name}' if job.name else 'eval',
      first=done,
    ):
      asked = job.problems[first : first + len(rollouts.length)]
      rows = sample_rows.rows(model.tokenizer, grader, asked, rollouts)
      chunks.write(job.folder, first, rows)
      tokens += int(rollouts.length.sum())
  seconds = time.monotonic() - began
  numbers = _finish(flag_values, job, model)
  # Grading counts: it is a part of what the evaluation takes.
  numbers |= loading.speed(tokens, seconds, watch.seconds)
  numbers['seconds'] = time.monotonic() - began
  path = workdir.write_summary(job.folder, job.record | numbers)
  return chunks.read_summary(path)


def _collector(
  model: loading.Model,
  room: tuple[Sampler, int],
  grader: Grader,
  flag_values: flags.FlagValues,
) -> rollout.Collector:
  sampler, width = room
  return rollout.Collector(
    model.tokenizer,
    sampler,
    grader,
    width,
    flag_values.instruction,
    thinking_budget=loading.thinking_budget(flag_values),
  )


def _finish(
  flag_values: flags.FlagValues, job: Job, model: loading.Model
) -> dict[str, Any]:
  """Joins the chunks; the numbers of all samples."""
  kept = []

  def rows() -> Iterator[stored.Row]:
    for row in chunks.rows(job.folder, len(job.problems), flag_values.n):
      words, characters = stored.sizes(row)
      kept.append(
        stored.numbers_only(row) | {'words': words, 'characters': characters}
      )
      yield row

  jsonl.write_rows(job.folder / 'rollouts.jsonl.gz', rows())
  evaluation = stored.of_rows(
    str(job.folder),
    kept,
    samples=flag_values.n,
    settings=job.record['settings'],
    identity=job.record['identity'],
  )
  jsonl.write_rows(
    job.folder / 'pass_rates.jsonl', scores.pass_rates(job.problems, evaluation)
  )
  parameters = loading.count_parameters(model)
  return (
    {
      'problems': len(job.problems),
      'samples': flag_values.n,
      'max_tokens': flag_values.max_tokens,
      'temperature': flag_values.temperature,
      'parameters': parameters,
    }
    | summary.of_evaluation(evaluation, parameters)
    | summary.of_problems(evaluation, job.problems)
  )
