"""Evaluations of a training run.

  WORKDIR/evaluation/NAME.json       numbers, and what `stored.read` needs
  WORKDIR/evaluation/NAME.jsonl.gz   a row a sample, those of `sample_rows`; of
                                     all but the first `eval.responses` of a
                                     problem only the numbers

The rows are there before the numbers: who finds these finds those.
"""

import json
from typing import Any

from lrm_jax import clock, distributed, jsonl, storage
from lrm_jax import experiment as experiment_lib
from lrm_jax import workdir as run_folder
from lrm_jax.errors import UserError
from lrm_jax.evaluation import (
  evaluator,
  intervals,
  sample_rows,
  scores,
  settings,
)
from lrm_jax.experiment import Experiment
from lrm_jax.structs import Rollouts


def evaluate(
  experiment: Experiment, workdir: storage.Path, name: str, step: int
) -> dict[str, Any]:
  """Evaluates the policy of `step`, once.

  A run that is started again reads evaluation/NAME.json, unless that was
  written at another step (the run has been made longer since).
  """
  path = workdir / 'evaluation' / f'{name}.json'
  stored = distributed.from_main(lambda: read(path))
  if stored is not None and stored['step'] == step:
    return stored
  config = experiment.config
  began = clock.now()
  rollouts = evaluator.evaluate(
    experiment.eval_collector,
    experiment_lib.for_sampler(experiment),
    experiment.eval_problems,
    cap=config.eval.max_tokens,
    seed=config.seed,
    temperature=config.eval.temperature,
    target=config.eval.target,
    description=f'evaluate {name}',
  )
  summary = scores.summarize(rollouts) | {
    'step': step,
    'unverified': scores.count_unverified(rollouts),
    'seconds': clock.now() - began,
    'accuracy_se': intervals.clustered_standard_error(rollouts.correct),
    'by_level': scores.by_level(experiment.eval_problems, rollouts),
    'settings': settings.of_run(config, experiment.eval_problems),
    'identity': {
      'path': config.model.path,
      'step': step,
      'seed': config.seed,
      'tokenizer': experiment.tokenizer.fingerprint,
    },
  }

  def write() -> dict[str, Any]:
    storage.make_folder(path.parent)
    write_rows(experiment, path.with_name(f'{name}.jsonl.gz'), rollouts)
    run_folder.write_summary(path, summary)
    # As a later start will read it: what is not finite is None.
    return read(path)

  return distributed.from_main(write)


def write_rows(
  experiment: Experiment, path: storage.Path, rollouts: Rollouts
) -> None:
  """Writes the rows of an evaluation of all problems, whole or not at all."""
  rows = sample_rows.rows(
    experiment.tokenizer,
    experiment.eval_collector.grader,
    experiment.eval_problems,
    rollouts,
  )
  responses = experiment.config.eval.responses
  jsonl.write_rows(path, sample_rows.shortened(rows, responses))


def read(path: storage.Path) -> dict[str, Any] | None:
  """What `evaluate` wrote there; None if it did not.

  Raises:
    UserError: it is damaged.
  """
  if not path.exists():
    return None
  try:
    summary = json.loads(path.read_text('utf-8'))
  except (OSError, ValueError, RecursionError):
    summary = None
  if not isinstance(summary, dict) or 'step' not in summary:
    raise UserError(
      f'{path}: not the summary of an evaluation; remove it, and the run makes '
      'it again'
    )
  return summary
