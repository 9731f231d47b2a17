"""The sampling rounds of a step: problems drawn, responses to all of them.

`Rounds` samples whole responses. `PartialRounds` gives every response a slice
of tokens at a time, and whoever is not over when enough groups are goes on in
the next step.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec

from lrm_jax import flights, flops, phases, responses, rng, sharding
from lrm_jax.collection import Collection
from lrm_jax.experiment import Experiment
from lrm_jax.flights import Flight
from lrm_jax.structs import Problem, Rollouts


class Rounds:
  """Rounds of whole responses, some of them begun ahead of time.

  While the last samples of a round leave slots empty, the problems of the next
  are sampled, `train.rounds_ahead` rounds at most. If it turns out that enough
  groups were kept without them, they are let go, and their problems are the
  next step's: what is trained on is the same with and without.
  """

  def __init__(
    self,
    experiment: Experiment,
    collection: Collection,
    cap: int,
    step: int,
  ):
    """Nothing is drawn yet."""
    self._experiment, self._collection = experiment, collection
    self._cap, self._step = cap, step
    self._count = problems_to_draw(experiment)
    self._begun: list[tuple[dict, list[Problem], int]] = []
    self._probed: list[Rollouts] = []

  def take(self, number: int) -> tuple[list[Problem], Rollouts]:
    """Problems and graded responses of a round."""
    config = self._experiment.config.train
    last = min(number + config.rounds_ahead, config.max_rounds - 1)
    while len(self._begun) <= last:
      self._begin()
    _, drawn, asked = self._begun[number]
    return drawn, self._collection.take(asked)

  def close(self, used: int) -> dict[str, float]:
    """Problems of the rounds from `used` on return to the stream.

    Returns:
      Numbers for the metrics of the step.
    """
    if used < len(self._begun):
      self._experiment.stream.set_state(self._begun[used][0])
    if not self._probed:
      return {}
    return {
      'probe_tokens': sum(int(probed.length.sum()) for probed in self._probed),
      'probe_flops': sum(
        flops.decode(
          self._experiment.model, probed.prompt_length, probed.length
        )
        for probed in self._probed
      ),
    }

  def _begin(self) -> None:
    experiment, number = self._experiment, len(self._begun)
    before = experiment.stream.get_state()
    with phases.phase('choose'):
      drawn = draw(experiment, self._count, self._cap, self._step)
      begun = experiment.collector.begin(
        drawn, **how(experiment, drawn, self._cap, self._step)
      )
    if experiment.curriculum.probes:
      begun = self._allot(drawn, begun)
    asked = self._collection.add(
      drawn,
      begun,
      key=key(experiment, self._step, number),
      temperature=experiment.config.train.temperature,
    )
    self._begun.append((before, drawn, asked))

  def _allot(self, drawn: list[Problem], begun: Rollouts) -> Rollouts:
    """Probes first; then so many responses as the curriculum wants."""
    experiment = self._experiment
    stream = rng.stream(experiment.config.seed, 'probe', self._step)
    asked = self._collection.add(
      drawn,
      responses.first(begun, experiment.curriculum.probes),
      key=rng.fold_in(stream, len(self._begun)),
      temperature=experiment.config.train.temperature,
    )
    probed = self._collection.take(asked)
    self._probed.append(probed)
    with phases.phase('choose'):
      norms = gradients(experiment, probed)
      count = experiment.curriculum.allot(probed, norms)
    return responses.first(begun, count)


class PartialRounds:
  """Rounds of groups that may have been begun in an earlier step.

  `train.in_flight` groups are sampled at the same time, `train.partial_tokens`
  tokens of each response, then again, until as many groups as a round needs
  are over. The oldest of these are the round; the others wait, as they are, for
  the next round or step. So a step does not wait for its longest response, at
  the price of tokens that older parameters have sampled: `Rollouts.stale`.
  Kimi k1.5 (arXiv 2501.12599, section 2.6.2) has the same per response; here
  groups stay together, so that advantages are those of one prompt.

  Random numbers go by the step in which a group was begun, so with parameters
  that stand still the responses are those of `Rounds`, up to rounding.
  """

  def __init__(
    self,
    experiment: Experiment,
    collection: Collection,
    cap: int,
    step: int,
  ):
    """What is in flight has been sampled by older parameters."""
    self._experiment, self._collection = experiment, collection
    self._cap, self._step = cap, step
    self._count = problems_to_draw(experiment)
    self._flights = [flights.age(flight) for flight in experiment.flights]
    self._begun = self._sampled = self._stale = self._taken = 0
    self._flops = 0

  def take(self, number: int) -> tuple[list[Problem], Rollouts]:
    """Problems and graded responses of a round."""
    del number  # Rounds are taken in order.
    while sum(flights.is_over(f).sum() for f in self._flights) < self._count:
      self._top_up()
      self._go_on()
    round_, self._flights = flights.take(self._flights, self._count)
    self._stale += int(round_.rollouts.stale.sum())
    self._taken += int(round_.rollouts.length.sum())
    return round_.problems, round_.rollouts

  def close(self, used: int) -> dict[str, float]:
    """The experiment keeps what is in flight.

    Returns:
      Numbers for the metrics of the step: what was sampled in it, the share of
      stale tokens in its rounds, and groups that stay in flight.
    """
    del used
    self._experiment.flights = self._flights
    return {
      'sampled_tokens': self._sampled,
      'model_flops_sample': self._flops,
      'stale_tokens': self._stale / max(1, self._taken),
      'in_flight': sum(len(flight.problems) for flight in self._flights),
    }

  def _top_up(self) -> None:
    """Begins as many groups as there is room for."""
    experiment = self._experiment
    most = max(experiment.config.train.in_flight, self._count)
    missing = most - sum(len(flight.problems) for flight in self._flights)
    if missing > 0:
      with phases.phase('choose'):
        drawn = draw(experiment, missing, self._cap, self._step)
        begun = experiment.collector.begin(
          drawn, **how(experiment, drawn, self._cap, self._step)
        )
      self._flights.append(Flight(drawn, begun, self._step, self._begun))
      self._begun += 1

  def _go_on(self) -> None:
    """Another slice for all that are not over."""
    config = self._experiment.config.train
    numbers = [
      self._collection.add(
        flight.problems,
        flight.rollouts,
        key=key(self._experiment, flight.step, flight.number),
        temperature=config.temperature,
        tokens=config.partial_tokens,
      )
      for flight in self._flights
    ]
    for i, number in enumerate(numbers):
      before, after = self._flights[i], self._collection.take(number)
      done = before.rollouts.length
      self._sampled += int((after.length - done).sum())
      self._flops += flops.decode(
        self._experiment.model, after.prompt_length, after.length, done=done
      )
      self._flights[i] = dataclasses.replace(before, rollouts=after)


def begin(
  experiment: Experiment,
  collection: Collection,
  cap: int,
  step: int,
) -> Rounds | PartialRounds:
  """The rounds of a step, as the config wants them.

  Args:
    experiment: whose problems they are.
    collection: of the collector for training.
    cap: tokens of a response that is begun now.
    step: counted from 1.
  """
  is_partial = experiment.config.train.partial_tokens > 0
  kind = PartialRounds if is_partial else Rounds
  return kind(experiment, collection, cap, step)


def draw(
  experiment: Experiment, count: int, cap: int, step: int
) -> list[Problem]:
  """The next problems, as the curriculum wants them."""
  return experiment.curriculum.draw(
    experiment.stream,
    experiment.memory,
    count,
    step=step,
    features=functools.partial(features, experiment, cap, step),
  )


def features(
  experiment: Experiment, cap: int, step: int, problems: Sequence[Problem]
) -> np.ndarray:
  """What the policy makes of prompts, `[N, D]`; see `make_features`.

  As many at a time as a micro-batch has rows: there is one shape.
  """
  target = how(experiment, problems, cap, step)['target']
  ids, length = experiment.collector.encode(problems, target)
  count, rows = len(problems), experiment.config.train.rows
  # A prompt of nothing would have no last token.
  ids = np.pad(ids, ((0, -count % rows), (0, 0)))
  length = np.pad(length, (0, -count % rows), constant_values=1)
  parts = [
    jax.device_get(
      experiment.programs.features(
        experiment.params,
        *sharding.put(
          (ids[at : at + rows], length[at : at + rows]),
          experiment.mesh,
          PartitionSpec(),
        ),
      )
    )
    for at in range(0, count, rows)
  ]
  return np.concatenate(parts)[:count]


def gradients(experiment: Experiment, rollouts: Rollouts) -> np.ndarray:
  """Norms of gradients `[B, G]`; see `make_gradients`.

  Of right responses; 0 for the others. As many at a time as a micro-batch has
  rows: there is one shape.
  """
  # Sizes that a mesh can divide; a row has room for prompt and response.
  sizes = experiment.config.train
  rows, width = sizes.rows, sizes.row_length
  norms = np.zeros(rollouts.length.shape, np.float32)
  right = np.argwhere(rollouts.right & rollouts.there)
  for start in range(0, len(right), rows):
    part = right[start : start + rows]
    ids, segments = (np.zeros((rows, width), np.int32) for _ in range(2))
    trained = np.zeros((rows, width), bool)
    for row, (b, g) in enumerate(part):
      prompt, response = rollouts.prompt_length[b], rollouts.length[b, g]
      end = prompt + response
      ids[row, :prompt] = rollouts.prompt_ids[b, :prompt]
      ids[row, prompt:end] = rollouts.response_ids[b, g, :response]
      segments[row, :end] = 1
      # A place is trained on what stands behind it.
      trained[row, prompt - 1 : end - 1] = ~rollouts.forced[b, g, :response]
    found = jax.device_get(
      experiment.programs.gradients(
        experiment.params,
        *sharding.put(
          (ids, segments, trained), experiment.mesh, PartitionSpec()
        ),
      )
    )
    norms[tuple(part.T)] = found[: len(part)]
  return norms


def problems_to_draw(experiment: Experiment) -> int:
  """Problems of one sampling round.

  A recipe that over-samples draws quarters of a batch: there are few shapes to
  compile for.
  """
  config = experiment.config
  part = experiment.recipe.oversampling
  memory = None
  if part.memory is not None:
    memory = experiment.memory.take([])[part.name]
  factor = part.function(memory)
  if factor == 1:
    return config.train.problems
  part = max(1, config.train.problems // 4)
  return math.ceil(int(config.train.problems * factor) / part) * part


def key(experiment: Experiment, step: int, number: int) -> jax.Array:
  """Of the random stream of the groups that a step began as its n-th."""
  stream = rng.stream(experiment.config.seed, 'sample', step)
  return rng.fold_in(stream, number)


def how(
  experiment: Experiment, problems: Sequence[Problem], cap: int, step: int
) -> dict[str, Any]:
  """How the problems of a step are sampled; see `Collector.begin`."""
  hashes = rng.name_hashes([problem.id for problem in problems])
  stream = rng.stream(experiment.config.seed, 'target', step)
  # Always the same few shapes.
  sizes = experiment.config.train
  padded = np.pad(
    hashes, (0, -len(hashes) % max(sizes.problems, sizes.in_flight))
  )
  target = jax.device_get(experiment.programs.target(stream, padded, cap))
  return {'cap': cap, 'target': target[: len(problems)], 'step': step}
