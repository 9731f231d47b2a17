"""Groups in flight: begun in some step, not trained on yet."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from lrm_jax import responses, rollout
from lrm_jax.structs import Problem, Rollouts


@dataclasses.dataclass(frozen=True)
class Flight:
  """Groups that were begun together.

  Attributes:
    problems: B of them.
    rollouts: their responses so far; NumPy arrays.
    step: in which they were begun, from 1.
    number: which flight of that step.
  """

  problems: list[Problem]
  rollouts: Rollouts
  step: int
  number: int


def is_over(flight: Flight) -> np.ndarray:
  """`[B]` bool: all responses to a problem are."""
  return responses.is_over(flight.rollouts, flight.rollouts.cap).all(1)


def age(flight: Flight) -> Flight:
  """The flight, all of it sampled by parameters that are old now."""
  rollouts = flight.rollouts
  return dataclasses.replace(
    flight,
    rollouts=dataclasses.replace(rollouts, stale=rollouts.length.copy()),
  )


def take(flights: Sequence[Flight], count: int) -> tuple[Flight, list[Flight]]:
  """Groups that are over, and what is left.

  Args:
    flights: with at least `count` such groups.
    count: how many to take; the oldest ones.

  Returns:
    Those as one, with no step or number of its own (0), and the rest.
  """
  taken, rest = [], []
  for flight in flights:
    over = np.flatnonzero(is_over(flight))[:count]
    count -= len(over)
    others = np.setdiff1d(np.arange(len(flight.problems)), over)
    if len(over):
      taken.append(_rows(flight, over))
    if len(others):
      rest.append(_rows(flight, others))
  problems = [problem for flight in taken for problem in flight.problems]
  rollouts = jax.tree.map(
    lambda *x: np.concatenate(x), *[flight.rollouts for flight in taken]
  )
  # Rows of this batch, not of the flights that they come from.
  rollouts = dataclasses.replace(
    rollouts, problem_index=rollout.first_rows(problems)
  )
  return Flight(problems, rollouts, 0, 0), rest


def _rows(flight: Flight, rows: np.ndarray) -> Flight:
  return dataclasses.replace(
    flight,
    problems=[flight.problems[row] for row in rows],
    rollouts=jax.tree.map(lambda x: x[rows], flight.rollouts),
  )


def get_state(flights: Sequence[Flight]) -> tuple[dict, list[dict[str, Any]]]:
  """What a checkpoint holds of them: arrays by name, and plain JSON."""
  return (
    {str(i): flight.rollouts for i, flight in enumerate(flights)},
    [
      {
        'problems': [dataclasses.asdict(p) for p in flight.problems],
        'step': flight.step,
        'number': flight.number,
      }
      for flight in flights
    ],
  )


def like(host: list[dict[str, Any]], nothing: Rollouts) -> dict[str, Rollouts]:
  """Arrays of the shapes that `get_state` gave with this JSON.

  Args:
    host: the JSON.
    nothing: one group of the experiment, such as `Collector.begin` makes.
  """
  return {
    str(i): jax.tree.map(
      lambda x: np.repeat(x, len(flight['problems']), axis=0),  # noqa: B023
      nothing,
    )
    for i, flight in enumerate(host)
  }


def set_state(
  arrays: dict[str, Rollouts], host: list[dict[str, Any]]
) -> list[Flight]:
  """The flights of which `get_state` made these."""
  return [
    Flight(
      [Problem(**problem) for problem in flight['problems']],
      jax.tree.map(np.asarray, arrays[str(i)]),
      flight['step'],
      flight['number'],
    )
    for i, flight in enumerate(host)
  ]
