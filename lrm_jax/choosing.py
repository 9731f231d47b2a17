"""How a run lives with its curriculum: problems drawn, and what came of them.

A `Curriculum` is asked for the problems of a sampling round, and is shown

  verified   every group that a step sampled, with its verdicts
  credited   what the step trains on, with its advantages

What it learns stands in the `MemoryStore`, so checkpoints have it. Problems
come from a `ProblemStream`, whose random numbers go by position: problems of a
round that is let go return to it, and are drawn anew with the chances that hold
then. The formulas are in `objectives/`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
import numpy as np

from lrm_jax import assets
from lrm_jax.data import pass_rates, pipeline, sources
from lrm_jax.errors import UserError
from lrm_jax.objectives import allocation, binding, curricula, learned_curricula
from lrm_jax.objectives import recipe as recipe_lib
from lrm_jax.objectives.memory import MemoryStore
from lrm_jax.structs import Memory, Problem, Rollouts

# Of generated problems, which have no end, the start has every level in its
# share; other data is read whole.
GENERATED_PROBLEMS = 10_000

Features = Callable[[Sequence[Problem]], np.ndarray]


class Curriculum:
  """Problems as their stream has them, by pass rates or all alike."""

  def start_memory(self) -> dict[str, Memory]:
    """What it remembers before the first step, by its name."""
    return {}

  def draw(
    self,
    stream: pipeline.ProblemStream,
    memory: MemoryStore,
    count: int,
    *,
    step: int,
    features: Features,
  ) -> list[Problem]:
    """The problems of a sampling round.

    Args:
      stream: moves on.
      memory: read only.
      count: problems wanted.
      step: counted from 1.
      features: problems -> `[N, D]`; see `programs.make_features`.
    """
    del memory, step, features
    return stream.take(count)

  # Responses per problem that are sampled to see how many it should have; 0:
  # every problem has `train.samples`. See `Gvm.allot`.
  probes = 0

  def verified(
    self,
    memory: MemoryStore,
    problems: Sequence[Problem],
    rollouts: Rollouts,
    judged: np.ndarray,
  ) -> dict[str, float]:
    """Is shown all groups of a step, also those that are not trained on.

    Args:
      memory: may move on.
      problems: N of them.
      rollouts: to them, revised.
      judged: `[N, G]` bool; False where there is no verdict.

    Returns:
      Numbers for the metrics of the step: what was chosen, and why.
    """
    del memory, problems, rollouts, judged
    return {}

  def credited(
    self,
    memory: MemoryStore,
    problems: Sequence[Problem],
    mask: np.ndarray,
    advantage: np.ndarray,
  ) -> None:
    """Is shown what the step trains on.

    Args:
      memory: may move on.
      problems: B of them.
      mask: `[B, G, T]`, 1 on trained tokens of responses with a verdict.
      advantage: `[B, G, T]`.
    """
    del memory, problems, mask, advantage


class Levels(Curriculum):
  """`curricula.levels`: up to a level that grows with the steps."""

  def __init__(self, part: Callable, problems: Sequence[Problem]):
    """Raises UserError where the data has no level to begin with."""
    self._part, self._step = part, 1
    self._known = np.array(sorted(shares(problems, 'level')))
    if not self._known.any():
      raise UserError(
        'levels: the training problems state no level; give data that does, or '
        'another curriculum'
      )
    if not part(self._known, 1).any():
      raise UserError(
        f'levels: first = {part.keywords["first"]} is below every level of the '
        f'training problems, which begin at {self._known.min()}; raise it'
      )

  def draw(self, stream, memory, count, *, step, features):
    """See `Curriculum`."""
    self._step = step
    largest = self._part(self._known, step).max()
    chance = lambda problem: float(
      self._part(np.array([problem.level]), step)[0] / largest
    )
    return stream.take(count, chance)

  def verified(self, memory, problems, rollouts, judged):
    """See `Curriculum`."""
    weight = self._part(self._known, self._step)
    return {
      'curriculum_hardest_level': float(self._known[weight > 0].max()),
      'curriculum_level': float(np.mean([p.level for p in problems])),
    }


class Dump(Curriculum):
  """`learned_curricula.dump`: distributions that teach most.

  Problems of unknown level or domain are a distribution of their own.
  """

  def __init__(self, part: Callable, problems: Sequence[Problem]):
    """Raises UserError where there is only one distribution."""
    self._part, self._by = part, part.keywords['by']
    start = binding.companion(learned_curricula.dump_start, part)
    found = shares(problems, self._by) if self._by in _KEYS else {}
    self._start = start(len(found))
    self._rows = {name: row for row, name in enumerate(sorted(found))}
    self._share = np.array([found[name] for name in self._rows])

  def start_memory(self):
    """See `Curriculum`."""
    return {'dump': self._start}

  def draw(self, stream, memory, count, *, step, features):
    """See `Curriculum`."""
    odds = self._part(memory.take([])['dump']) / self._share
    chances = odds / odds.max()
    return stream.take(count, lambda problem: chances[self._row(problem)])

  def verified(self, memory, problems, rollouts, judged):
    """See `Curriculum`; the probabilities of the step's draws."""
    chances = self._part(memory.take([])['dump'])
    return {
      f'curriculum_{self._by}_{name}': float(chances[row])
      for name, row in self._rows.items()
    }

  def credited(self, memory, problems, mask, advantage):
    """See `Curriculum`."""
    tokens = mask.sum(-1)
    mean = (advantage * mask).sum(-1) / np.maximum(tokens, 1)
    row = np.array([self._row(problem) for problem in problems])
    row = np.broadcast_to(row[:, None], tokens.shape)
    there = tokens > 0
    now = memory.take([])['dump']
    learned = learned_curricula.dump_learn(now, row[there], mean[there])
    memory.put([], {'dump': learned})

  def _row(self, problem: Problem) -> int:
    return self._rows[getattr(problem, self._by)]


class Pcl(Curriculum):
  """`learned_curricula.pcl`: problems that are solved about half of the time.

  Those that were looked at and not kept are passed over: they come again in the
  next epoch.
  """

  def __init__(self, part: Callable, width: int):
    """A head for hidden states of this width."""
    self._part, self._seen = part, {}
    self._learn = binding.companion(learned_curricula.pcl_learn, part)
    self._start = binding.companion(learned_curricula.pcl_start, part)(width)

  def start_memory(self):
    """See `Curriculum`."""
    return {'pcl': self._start}

  def draw(self, stream, memory, count, *, step, features):
    """See `Curriculum`."""
    looked_at = stream.take(count * self._part.keywords['factor'])
    found = features(looked_at)
    value = learned_curricula.pcl_value(memory.take([])['pcl'], found)
    kept = self._part(value, count)
    # Within a step, parameters and so features stay.
    self._seen |= {looked_at[i].id: found[i] for i in kept}
    return [looked_at[i] for i in kept]

  def verified(self, memory, problems, rollouts, judged):
    """See `Curriculum`; the head learns from every group with a verdict."""
    now = memory.take([])['pcl']
    found = np.stack([self._seen[problem.id] for problem in problems])
    self._seen = {}
    value = learned_curricula.pcl_value(now, found)
    there = judged.any(1)
    right = (rollouts.right & judged).sum(1)
    rate = right[there] / judged.sum(1)[there]
    memory.put([], {'pcl': self._learn(now, found[there], rate)})
    error = value[there] - rate
    return {
      'curriculum_value': float(value.mean()),
      'curriculum_value_error': math.sqrt(np.mean(error**2))
      if len(error)
      else math.nan,
    }


class Gvm(Curriculum):
  """`allocation.gvm`: more responses where they teach more."""

  def __init__(self, part: Callable, room: int):
    """Up to `room` responses to a problem."""
    binding.companion(allocation.check, part)(room)
    self._part, self._room = part, room
    self._told: list[tuple[np.ndarray, np.ndarray]] = []
    self.probes = part.keywords['probes']

  def allot(self, probed: Rollouts, gradient: np.ndarray) -> np.ndarray:
    """How many responses each problem gets, `[B]`.

    Args:
      probed: graded probes, which are not trained on; those without a verdict
        count for nothing.
      gradient: `[B, G]`; of right ones, see `programs.make_gradients`.
    """
    judged = probed.there & probed.verified
    right = probed.right & judged
    rate = right.sum(1) / np.maximum(judged.sum(1), 1)
    mean = np.where(right, gradient, 0).sum(1) / np.maximum(right.sum(1), 1)
    count = self._part(rate, mean, self._room)
    self._told.append((rate, count))
    return count

  def verified(self, memory, problems, rollouts, judged):
    """See `Curriculum`."""
    rate, count = (np.concatenate(x) for x in zip(*self._told, strict=True))
    self._told = []
    return {
      'curriculum_probe_accuracy': float(rate.mean()),
      'curriculum_no_samples': float((count == 0).mean()),
      'curriculum_samples_max': int(count.max()),
    }


_KEYS = ('level', 'domain')


def shares(problems: Sequence[Problem], by: str) -> dict[Any, float]:
  """The share of the problems with each value of a field."""
  count = len(problems)
  if isinstance(problems, sources.ProblemSource) and problems.is_generated:
    count = problems.first(GENERATED_PROBLEMS)
  found: dict[Any, int] = {}
  for i in range(count):
    name = getattr(problems[i], by)
    found[name] = found[name] + 1 if name in found else 1
  return {name: number / count for name, number in found.items()}


def make(
  config: ml_collections.ConfigDict,
  recipe: recipe_lib.Recipe,
  problems: Sequence[Problem],
  width: int,
) -> Curriculum:
  """The curriculum of a recipe.

  Args:
    config: of the run.
    recipe: built from it.
    problems: to train on.
    width: of the model's hidden states.

  Raises:
    UserError: the data, or another part of the config, does not go with it.
  """
  part = recipe.curriculum
  if part.func in curricula.OF_PASS_RATES:
    return Curriculum()
  name = part.func.__name__
  if config.data.pass_rates is not None:
    raise UserError(
      f'data.pass_rates={config.data.pass_rates!r}: objective.curriculum='
      f'{name!r} reads none; leave it out'
    )
  if part.func is curricula.levels:
    return Levels(part, problems)
  if part.func is learned_curricula.dump:
    return Dump(part, problems)
  if config.train.partial_tokens:
    raise UserError(
      f'train.partial_tokens={config.train.partial_tokens}: '
      f'objective.curriculum={name!r} looks at the policy in the step that '
      'draws, and groups in flight are over in a later one; set it to 0'
    )
  if part.func is learned_curricula.pcl:
    return Pcl(part, width)
  if config.train.max_rounds > 1:
    raise UserError(
      f'train.max_rounds={config.train.max_rounds}: objective.curriculum='
      "'gvm' divides the responses of a step among its problems, so it has one "
      'round; set it to 1'
    )
  return Gvm(part, config.train.samples)


def make_stream(
  config: ml_collections.ConfigDict,
  recipe: recipe_lib.Recipe,
  problems: Sequence[Problem],
) -> pipeline.ProblemStream:
  """The problems, in the proportions of a curriculum of pass rates."""
  if config.data.pass_rates is None:
    if recipe.curriculum.func is curricula.easy_upweight:
      raise UserError(
        'objective.curriculum goes by pass rates and data.pass_rates is not '
        'set; give the summary.json of an `lrm eval` on these problems'
      )
    return pipeline.ProblemStream(problems, seed=config.seed)
  rates = pass_rates.load(assets.resolve_file(config.data.pass_rates))
  return pipeline.ProblemStream(
    problems,
    seed=config.seed,
    chance=pass_rates.chance(rates, recipe.curriculum, problems),
    curriculum=rates.fingerprint,
  )
