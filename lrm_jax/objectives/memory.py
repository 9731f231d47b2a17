"""Where the memory of a recipe lives between steps, unbounded in problems.

A part sees `Memory` with one row per problem of the batch. The store keeps
one row per problem ever seen: NumPy tables that double when they are full,
so that the compiled program, which only ever sees `[B]` rows, stays the same.
"""

import jax
import numpy as np

from lrm_jax.structs import Memory

FIRST_CAPACITY = 64


class MemoryStore:
  """The memories of all parts, by problem id.

  Args:
    start: by part, how each memory starts: `shared` arrays, and for `problem`
      the number an unseen problem has.
  """

  def __init__(self, start: dict[str, Memory]):
    self._start = start
    self._rows: dict[str, int] = {}
    self._tables = _tables(start, FIRST_CAPACITY)

  def __len__(self) -> int:
    """Problems with a row."""
    return len(self._rows)

  def take(self, ids: list[str]) -> dict[str, Memory]:
    """Copies of the memories, with the rows of these problems in this order.

    A problem never seen before gets a row with the defaults, whether or not
    something is put back.
    """
    known = len(self._rows)
    for name in ids:
      self._rows.setdefault(name, len(self._rows))
    if _capacity(len(self._rows)) > _capacity(known):
      self._grow()
    rows = [self._rows[name] for name in ids]
    return {
      part: Memory(
        shared={k: v.copy() for k, v in memory.shared.items()},
        problem={k: v[rows] for k, v in memory.problem.items()},
      )
      for part, memory in self._tables.items()
    }

  def put(self, ids: list[str], memories: dict[str, Memory]) -> None:
    """Writes back what the parts made of `take(ids)`.

    Parts that are not given stay as they are. A problem that stands in `ids`
    twice must have equal rows.
    """
    rows = [self._rows[name] for name in ids]
    for part, memory in jax.device_get(memories).items():
      table = self._tables[part]
      table.shared.update({k: np.array(v) for k, v in memory.shared.items()})
      for key, values in memory.problem.items():
        table.problem[key][rows] = values

  def get_state(self) -> tuple[dict[str, Memory], list[str]]:
    """A copy of the whole tables, and the ids of their rows in order.

    Rows beyond the ids hold the defaults.
    """
    return jax.tree.map(np.array, self._tables), list(self._rows)

  def set_state(self, tables: dict[str, Memory], ids: list[str]) -> None:
    """Continues where `get_state` was."""
    self._rows = {name: row for row, name in enumerate(ids)}
    self._tables = jax.tree.map(np.array, tables)

  def like(self, count: int) -> dict[str, Memory]:
    """Tables of the shape that a store with `count` problems has."""
    return _tables(self._start, _capacity(count))

  def _grow(self) -> None:
    tables = self.like(len(self._rows))
    for part, memory in self._tables.items():
      for key, old in memory.problem.items():
        new = tables[part].problem[key]
        new[: len(old)] = old
        memory.problem[key] = new


def _capacity(count: int) -> int:
  capacity = FIRST_CAPACITY
  while capacity < count:
    capacity *= 2
  return capacity


def _tables(start: dict[str, Memory], rows: int) -> dict[str, Memory]:
  return {
    part: Memory(
      shared={k: np.array(v) for k, v in memory.shared.items()},
      problem={
        k: np.full(rows, v, np.asarray(v).dtype)
        for k, v in memory.problem.items()
      },
    )
    for part, memory in start.items()
  }
