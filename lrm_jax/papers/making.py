"""Trains what a table needs: models first, then runs, then those behind them.

Workdirs are RUNS/NAME_seedN; a model of `Paper.models` has seed 0.
"""

import pathlib

from lrm_jax.errors import UserError
from lrm_jax.papers import jobs, results
from lrm_jax.papers.jobs import Job
from lrm_jax.papers.paper import Paper, Run


def stages(paper: Paper, runs: pathlib.Path) -> list[list[Job]]:
  """Jobs in stages, each of which needs those before it.

  Args:
    paper: the table.
    runs: folder of all workdirs.

  Raises:
    UserError: runs that start from each other in a circle, or on other seeds.
  """
  models = [
    Job(name, 0, jobs.ROOT / config, verb='sft')
    for name, config in paper.models.items()
  ]
  found, made = [models] if models else [], set(paper.models)
  names = {run.name: run for run in paper.runs}
  left = list(paper.runs)
  while left:
    ready = [r for r in left if r.start not in names or r.start in made]
    if not ready:
      raise UserError(
        f'{paper.name}: runs start from each other: '
        f'{", ".join(run.name for run in left)}'
      )
    made |= {run.name for run in ready}
    left = [run for run in left if run not in ready]
    # One of each first, so that a table can be looked at early.
    order = [(seed, run) for run in ready for seed in run.seeds]
    order.sort(key=lambda pair: list(pair[1].seeds).index(pair[0]))
    found.append([_job(paper, run, seed, runs, names) for seed, run in order])
  return found


def make(paper: Paper, runs: pathlib.Path) -> list[results.Record]:
  """Trains what is not there yet; what all runs leave.

  Raises:
    UserError: a run that is there has other settings than the table, or one
      failed; its own words are in the message.
  """
  everything = stages(paper, runs)
  for stage in everything:
    for job in stage:
      jobs.check(job, runs)
    jobs.train(stage, runs)
    for job in stage:
      failed = runs / f'{job.folder}.failed'
      if not jobs.is_done(job, runs):
        words = failed.read_text() if failed.exists() else 'it was stopped'
        raise UserError(f'{runs / job.folder}: {words}')
  starts = {run.name: run.start for run in paper.runs}
  return [
    results.record(runs / job.folder, job.name, starts[job.name])
    for stage in everything
    for job in stage
    if job.verb == 'train'
  ]


def _job(
  paper: Paper, run: Run, seed: int, runs: pathlib.Path, names: dict[str, Run]
) -> Job:
  start = run.start
  if start in names:
    if seed not in names[start].seeds:
      raise UserError(
        f'{paper.name}: {run.name} has seed {seed}, and {start}, from which it '
        'starts, has not'
      )
    start = runs / f'{start}_seed{seed}' / 'model'
  elif start in paper.models:
    start = runs / f'{start}_seed0' / 'model'
  changes = {'model.path': start} | dict(paper.evaluation) | dict(run.changes)
  config = jobs.ROOT / run.config
  return Job(run.name, seed, config, tuple(changes.items()))
