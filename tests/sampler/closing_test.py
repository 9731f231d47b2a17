"""Where thinking ends: followed and forced, against a walk over lists."""

import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.sampler import closing


def _written(pattern, ids):
  """Whether the pattern is in the ids, else how much of it they end with."""
  for end in range(len(ids) + 1):
    if tuple(ids[max(0, end - len(pattern)) : end]) == pattern:
      return len(pattern)
  return max(
    n
    for n in range(len(pattern))
    if n <= len(ids) and tuple(ids[len(ids) - n :]) == pattern[:n]
  )


@pytest.mark.parametrize(
  'pattern', [(7,), (7, 8), (7, 7), (7, 8, 7), (7, 7, 8), (7, 8, 7, 8, 9)]
)
def test_states_are_what_a_search_finds(pattern):
  random = np.random.default_rng(len(pattern))
  for _ in range(50):
    ids = random.integers(7, 10, (4, 12))
    state = jnp.zeros(4, jnp.int32)
    for t in range(12):
      state = closing.advance(pattern, state, jnp.asarray(ids[:, t]))
      expected = [_written(pattern, row[: t + 1]) for row in ids.tolist()]
      assert state.tolist() == expected
    assert [closing.state_of(pattern, row) for row in ids] == expected


def test_without_a_pattern_nothing_is_ever_closed():
  state = jnp.zeros(3, jnp.int32)
  assert closing.advance((), state, jnp.arange(3)).tolist() == [0, 0, 0]
  assert closing.state_of((), [1, 2]) == 0


def _forced(**changes):
  fields = {'state': 0, 'count': 0, 'tokens': 5, 'budget': 5} | changes
  arrays = {name: jnp.array([x], jnp.int32) for name, x in fields.items()}
  return int(closing.forced((9,), (4, 9, 6), **arrays)[0])


def test_the_ending_begins_with_the_budget_and_goes_on_to_its_end():
  assert _forced(tokens=4) == -1
  assert _forced() == 4
  assert _forced(tokens=6, count=1) == 9
  # Closed by now, and still one to come.
  assert _forced(tokens=7, count=2, state=1) == 6
  assert _forced(tokens=8, count=3, state=1) == -1


def test_closed_thinking_has_no_budget():
  assert _forced(tokens=20, state=1) == -1


def test_a_budget_of_nothing_and_one_without_end():
  assert _forced(tokens=0, budget=0) == 4
  assert _forced(tokens=10**6, budget=closing.ENDLESS) == -1


def test_without_an_ending_nothing_is_forced():
  one = jnp.ones(2, jnp.int32)
  found = closing.forced((9,), (), 0 * one, 0 * one, one, one)
  assert found.tolist() == [-1, -1]
