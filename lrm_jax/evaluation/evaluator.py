"""Evaluation: every problem, G samples each, one batch at a time."""

import dataclasses
from collections.abc import Iterator, Sequence

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
  parts = [
    part
    for _, part in stream(
      collector,
      params,
      problems,
      cap=cap,
      seed=seed,
      temperature=temperature,
      target=target,
      description=description,
    )
  ]
  joined = jax.tree.map(lambda *x: np.concatenate(x), *parts)
  rows = np.arange(len(problems), dtype=np.int32)
  return dataclasses.replace(joined, problem_index=rows)


def stream(
  collector: Collector,
  params: Params,
  problems: Sequence[Problem],
  *,
  cap: int,
  seed: int,
  temperature: float,
  target: int = 0,
  description: str = 'eval',
  first: int = 0,
) -> Iterator[tuple[int, Rollouts]]:
  """The batches of `evaluate`, each as soon as it is graded.

  Args:
    collector: see `evaluate`.
    params: likewise.
    problems: likewise; all N, also those that were done before.
    cap: likewise.
    seed: likewise.
    temperature: likewise.
    target: likewise.
    description: likewise.
    first: place of the first problem that is still to do.

  Yields:
    (place of its first problem, responses) of each batch, in order.
  """
  key = rng.stream(seed, 'evaluation')
  size = collector.sampler.groups
  places = range(first, len(problems), size)
  batches = [
    [problems[i] for i in range(start, min(start + size, len(problems)))]
    for start in places
  ]
  begun = [collector.begin(batch, cap=cap, target=target) for batch in batches]
  means = []
  with metrics.Progress(len(problems), description, start=first) as progress:
    found = collector.stream(
      params,
      list(zip(batches, begun, strict=True)),
      key=key,
      temperature=temperature,
    )
    for start, part in zip(places, found, strict=True):
      yield start, part
      means.append((part.correct.mean(), part.length.mean()))
      accuracy, tokens = map(float, np.mean(means, axis=0))
      progress.update(
        start + len(part.length), {'accuracy': accuracy, 'tokens': tokens}
      )
