"""Evaluation: every problem, G samples each, one batch at a time."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from lrm_jax import metrics, rng
from lrm_jax.models.transformer import Params
from lrm_jax.rollout import Collector
from lrm_jax.structs import Problem, Rollouts


def evaluate(
  collector: Collector,
  params: Params,
  problems: Sequence[Problem],
  *,
  cap: int,
  seed: int,
  temperature: float,
  target: int = 0,
  description: str = 'eval',
) -> Rollouts:
  """Graded responses to all problems, with a progress line.

  The random stream is the same for every model, so two models are compared on
  common random numbers.

  Args:
    collector: fixes the samples per problem and the batch.
    params: the policy.
    problems: N of them.
    cap: response tokens.
    seed: of the evaluation stream.
    temperature: of sampling; 0 is greedy.
    target: what the prompts ask for, where the instruction states it.
    description: leads the progress line.

  Returns:
    `Rollouts` with B = N.
  """
  key = rng.stream(seed, 'evaluation')
  batch = collector.sampler.groups
  parts = []
  with metrics.Progress(len(problems), description) as progress:
    rows = range(len(problems))
    batches = [
      [problems[i] for i in rows[start : start + batch]]
      for start in rows[::batch]
    ]
    begun = [
      collector.begin(batch, cap=cap, target=target) for batch in batches
    ]
    for part in collector.stream(
      params,
      list(zip(batches, begun, strict=True)),
      key=key,
      temperature=temperature,
    ):
      parts.append(part)
      progress.update(
        sum(len(p.length) for p in parts),
        {
          'accuracy': float(np.mean([p.correct.mean() for p in parts])),
          'tokens': float(np.mean([p.length.mean() for p in parts])),
        },
      )
  joined = jax.tree.map(lambda *x: np.concatenate(x), *parts)
  rows = np.arange(len(problems), dtype=np.int32)
  return dataclasses.replace(joined, problem_index=rows)
