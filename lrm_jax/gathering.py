"""Phases 1 to 5 of a step: from the stream of problems to one batch.

choose   the stream gives problems, the budget a cap, the target a wish
sample   the engine gives G responses to each
verify   the grader gives each a verdict; what a revision cuts gets another
shape    verdicts, lengths and memory become rewards
select   groups that teach nothing are dropped, and more are sampled

What a part calls the batch is one sampling round: if selection asks for more,
the memory has moved on, and groups are ranked among those of their round.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from lrm_jax import experiment as experiment_lib
from lrm_jax import flops, phases, rng, rollout, unverified
from lrm_jax import rounds as rounds_lib
from lrm_jax.evaluation import scores
from lrm_jax.experiment import Experiment
from lrm_jax.objectives import oversampling
from lrm_jax.structs import Problem, Rollouts


class Scored(NamedTuple):
  """Of the trainer's graph, before the step; `[B, G, T]`, 0 where not trained.

  Attributes:
    logp: log-probabilities, nats.
    entropy: of the next-token laws, nats.
    gap: the largest |logp - the sampler's| of tokens that are not stale.
  """

  logp: np.ndarray
  entropy: np.ndarray
  gap: float


class Sampled(NamedTuple):
  """All groups of a step, in the order of its rounds; N of them.

  Attributes:
    problems: N of them.
    rollouts: their responses, revised; `problem_index` is of no use here.
    reward: `[N, G]`, shaped in the round of each.
    keep: `[N, G]` bool, what the selection says.
    judged: `[N, G]` bool, see `Batch`.
    rounds: `[N]` int, the round of each, from 0.
    chosen: `[B]` int, which of them the batch has, in its order.
  """

  problems: list[Problem]
  rollouts: Rollouts
  reward: np.ndarray
  keep: np.ndarray
  judged: np.ndarray
  rounds: np.ndarray
  chosen: np.ndarray


@dataclasses.dataclass(frozen=True)
class Batch:
  """One step's B groups, and the numbers of everything that was sampled.

  Attributes:
    problems: B of them.
    rollouts: their responses.
    reward: `[B, G]`, shaped.
    keep: `[B, G]` bool; nothing else is trained on.
    judged: `[B, G]` bool; False where there is no verdict, and the reward is
      that of what stands in for the response: see `unverified.py`.
    stats: means over all samples of the step, the dropped ones included.
    sampled: all groups of the step, those of the batch among them.
    scored: what the policy before the step says of the responses; None where
      nothing asks for it. See `updating.score`.
    demonstrated: `[B]`, the coefficient of groups whose first response was
      given; None for a recipe without. See `demonstrating.py`.
  """

  problems: list[Problem]
  rollouts: Rollouts
  reward: np.ndarray
  keep: np.ndarray
  judged: np.ndarray
  stats: dict[str, float]
  sampled: Sampled
  scored: Scored | None = None
  demonstrated: np.ndarray | None = None


def gather(experiment: Experiment, step: int) -> Batch:
  """Samples until B groups are kept or the rounds are over.

  Kept groups come first; if there are fewer than B, dropped ones fill the
  batch (they are not trained on, but the shapes never change).
  """
  config = experiment.config.train
  cap = int(experiment.recipe.budget(step))
  problems, parts = [], []
  params = experiment_lib.for_sampler(experiment)
  with experiment.collector.open(params) as collection:
    rounds = rounds_lib.begin(experiment, collection, cap, step)
    for sampling_round in range(config.max_rounds):
      with phases.phase('sample'):
        drawn, sampled = rounds.take(sampling_round)
      with phases.phase('verify'):
        revised = revise(experiment, drawn, sampled)
      with phases.phase('shape'):
        # What was sampled is counted only; one copy of kept sets is enough.
        counted = dataclasses.replace(sampled, kept_ids=None)
        parts.append((counted, revised, *shape(experiment, drawn, revised)))
      problems += drawn
      if sum(keep.any(1).sum() for *_, keep, _ in parts) >= config.problems:
        break
    numbers = rounds.close(len(parts))
  with phases.phase('select'):
    return select(experiment, problems, parts, cap, numbers)


def select(
  experiment: Experiment,
  problems: list[Problem],
  parts: list[tuple],
  cap: int,
  numbers: dict[str, float],
) -> Batch:
  """One batch of the rounds of a step, kept groups first.

  Args:
    experiment: its counts of tokens and its pass rate move on.
    problems: of all rounds.
    parts: of each round, rollouts as they were sampled and as they were
      revised, and what `shape` makes of them.
    cap: of the step.
    numbers: of the rounds, for the metrics.
  """
  config = experiment.config.train
  sampled, rollouts, reward, keep, judged = jax.tree.map(
    lambda *x: np.concatenate(x), *parts
  )
  record_pass_rate(experiment, float(keep.any(1).mean()))
  order = choose(keep, config.problems)
  rounds = np.repeat(np.arange(len(parts)), [len(p[2]) for p in parts])
  everything = Sampled(problems, rollouts, reward, keep, judged, rounds, order)
  told = experiment.curriculum.verified(
    experiment.memory, problems, rollouts, judged
  )
  stats = sampling_stats(sampled, reward, keep, judged, cap)
  stats['model_flops_sample'] = flops.decode(
    experiment.model, sampled.prompt_length, sampled.length
  )
  if 'probe_tokens' in numbers:
    stats['model_flops_sample'] += numbers.pop('probe_flops')
    stats['sampled_tokens'] += numbers['probe_tokens']
  stats |= numbers | told
  stats['revised'] = scores.mean(rollouts.removed[rollouts.there] > 0)
  experiment.sampled_tokens += stats['sampled_tokens']
  stats |= experiment.collector.sampler.stats.numbers()
  return batch_of(everything, stats | memory_stats(experiment))


def batch_of(sampled: Sampled, stats: dict[str, float]) -> Batch:
  """The batch of what a step has sampled."""
  order = sampled.chosen
  return Batch(
    *take(sampled.problems, sampled.rollouts, order),
    sampled.reward[order],
    sampled.keep[order],
    sampled.judged[order],
    stats,
    sampled,
  )


def choose(keep: np.ndarray, count: int) -> np.ndarray:
  """Which groups a batch has, `[B]`: kept ones first, in their order.

  Args:
    keep: `[N, G]` of all rounds of a step.
    count: B.
  """
  return np.argsort(~keep.any(1), kind='stable')[:count]


def take(
  problems: Sequence[Problem], rollouts: Rollouts, rows: np.ndarray
) -> tuple[list[Problem], Rollouts]:
  """Some groups, as a batch of their own."""
  problems = [problems[i] for i in rows]
  return problems, dataclasses.replace(
    jax.tree.map(lambda x: x[rows], rollouts),
    # Rows of the batch now, not of the round a group was sampled in.
    problem_index=rollout.first_rows(problems),
  )


def record_pass_rate(experiment: Experiment, rate: float) -> None:
  """Remembers kept groups / sampled groups, if the recipe goes by it."""
  part = experiment.recipe.oversampling
  if part.memory is not None:
    memory = experiment.memory.take([])[part.name]
    experiment.memory.put([], {part.name: oversampling.record(memory, rate)})


def revise(
  experiment: Experiment, problems: list[Problem], rollouts: Rollouts
) -> Rollouts:
  """The rollouts without the tokens that the recipe takes out."""
  start, stop = jax.device_get(experiment.programs.revision(rollouts))
  return experiment.collector.revise(problems, rollouts, start, stop)


def shape(
  experiment: Experiment, problems: list[Problem], rollouts: Rollouts
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Reward, keep and judged, all `[B, G]`; the memory moves on.

  What is not verified, or not there, is not kept, and the recipe does not see
  it: see `unverified.py`.
  """
  judged = rollouts.there
  if not experiment.config.train.keep_unverified:
    judged = judged & rollouts.verified
  problems, rollouts = unverified.shown(
    problems, dataclasses.replace(rollouts, verified=judged)
  )
  ids = [problem.id for problem in problems]
  reward, keep, memory = jax.device_get(
    experiment.programs.shape(rollouts, experiment.memory.take(ids))
  )
  if judged.any():
    experiment.memory.put(ids, memory)
  if not judged.all():
    keep = keep & unverified.usable(judged)
  return reward, keep, judged


def monitor(experiment: Experiment, step: int) -> None:
  """Every so many steps: shows the recipe samples of the monitor's problems.

  They are never trained on, but they cost tokens, and those are counted. What
  has no verdict is not shown, as in `shape`.
  """
  config = experiment.config
  every = config.train.monitor_every
  if not experiment.recipe.observes or (step - 1) % every:
    return
  problems = experiment.monitor_problems
  cap = int(experiment.recipe.budget(step))
  key = rng.stream(config.seed, 'monitor', step)
  rollouts = experiment.collector.collect(
    experiment_lib.for_sampler(experiment),
    problems,
    key=key,
    temperature=config.train.temperature,
    **rounds_lib.how(experiment, problems, cap, step),
  )
  experiment.sampled_tokens += int(rollouts.length.sum())
  if not config.train.keep_unverified:
    if not rollouts.verified.any():
      return
    problems, rollouts = unverified.shown(problems, rollouts)
  ids = [problem.id for problem in problems]
  memory = experiment.programs.observe(rollouts, experiment.memory.take(ids))
  experiment.memory.put(ids, memory)


def sampling_stats(
  rollouts: Rollouts,
  reward: np.ndarray,
  keep: np.ndarray,
  judged: np.ndarray,
  cap: int,
) -> dict[str, float]:
  """Means over every sample of a step as it was sampled, kept or not.

  Those of rewards and verdicts are over what is judged; NaN where nothing is.
  """
  summary = scores.summarize(rollouts)
  wrong = judged & (rollouts.correct == 0)
  summary['accuracy'] = scores.mean(rollouts.correct[judged])
  summary['response_tokens_wrong'] = scores.mean(rollouts.length[wrong])
  names = (
    'accuracy',
    'response_tokens',
    'response_tokens_correct',
    'response_tokens_wrong',
    'thinking_tokens',
    'truncated',
  )
  there = rollouts.there
  hits = {
    f'guard_{name}': scores.mean(values[there])
    for name, values in rollouts.guards.items()
  }
  measures = {
    f'measure_{name}': float(values[there].mean())
    for name, values in rollouts.measures.items()
  }
  return {name: summary[name] for name in names} | {
    'reward': scores.mean(reward[judged]),
    'cap': cap,
    'sampled_tokens': int(rollouts.length.sum()),
    'sampled_groups': len(keep),
    'kept_groups': int(keep.any(1).sum()),
    'unverified': scores.mean(~rollouts.verified[there]),
    **measures,
    **hits,
  }


def memory_stats(experiment: Experiment) -> dict[str, float]:
  """The single numbers that the recipe remembers."""
  return {
    f'memory_{part}_{key}': float(value)
    for part, memory in experiment.memory.take([]).items()
    for key, value in memory.shared.items()
    if np.ndim(value) == 0
  }
