"""Groups that are taken out of flights, and flights in a checkpoint."""

import json

import jax
import numpy as np

from lrm_jax import flights
from lrm_jax.flights import Flight
from lrm_jax.structs import Problem
from tests.objectives import reference


def _flight(names, lengths, truncated, step, number=0):
  """Responses under a cap of 4 tokens."""
  length = np.array(lengths, np.int32)
  rollouts = reference.rollouts(
    correct=np.zeros(length.shape),
    length=length,
    truncated=np.array(truncated, bool),
    cap=np.full(len(names), 4),
    tokens=4,
    step=np.full(len(names), step),
  )
  problems = [Problem(name, f'{name}?', '1', level=2) for name in names]
  return Flight(problems, rollouts, step, number)


def _fleet():
  return [
    # Waits for its second sample; is over by its cap.
    _flight(['a', 'b'], [[2, 3], [4, 1]], [[False, True], [True, False]], 1),
    _flight(['c'], [[1, 2]], [[False, True]], 2),
    _flight(['b', 'd'], [[1, 1], [3, 4]], [[False] * 2, [False] * 2], 2, 1),
  ]


def test_a_group_is_over_when_all_its_responses_are():
  found = [flights.is_over(flight).tolist() for flight in _fleet()]
  assert found == [[False, True], [False], [True, True]]


def test_the_oldest_go_first():
  taken, rest = flights.take(_fleet(), 2)
  assert [p.id for p in taken.problems] == ['b', 'b']
  assert taken.rollouts.step.tolist() == [1, 2]
  assert taken.rollouts.length.tolist() == [[4, 1], [1, 1]]
  # The same problem twice: rows of this batch.
  assert taken.rollouts.problem_index.tolist() == [0, 0]
  left = [([p.id for p in f.problems], f.step, f.number) for f in rest]
  assert left == [(['a'], 1, 0), (['c'], 2, 0), (['d'], 2, 1)]
  assert rest[2].rollouts.length.tolist() == [[3, 4]]


def test_flights_that_are_used_up_are_gone():
  taken, rest = flights.take(_fleet(), 3)
  assert [p.id for p in taken.problems] == ['b', 'b', 'd']
  assert [f.number for f in rest] == [0, 0]


def test_what_ages_is_all_stale():
  old = flights.age(_fleet()[0])
  np.testing.assert_array_equal(old.rollouts.stale, old.rollouts.length)
  assert (_fleet()[0].rollouts.stale == 0).all()


def test_flights_come_back_from_a_checkpoint():
  fleet = _fleet()
  arrays, host = flights.get_state(fleet)
  host = json.loads(json.dumps(host))
  nothing = jax.tree.map(lambda x: x[:1], fleet[0].rollouts)
  like = flights.like(host, nothing)
  shape = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shape(like) == shape(arrays)
  for one, other in zip(fleet, flights.set_state(arrays, host), strict=True):
    assert one.problems == other.problems
    assert (one.step, one.number) == (other.step, other.number)
    jax.tree.map(np.testing.assert_array_equal, one.rollouts, other.rollouts)
