"""The store of memories: growth, duplicates, and continuing a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.objectives import memory as memories
from lrm_jax.objectives.memory import FIRST_CAPACITY, MemoryStore
from lrm_jax.structs import Memory

START = {
  'records': Memory({}, {'shortest': np.float32(np.inf)}),
  'price': Memory({'penalty': np.float32(0.5), 'window': np.zeros(3)}, {}),
  'counts': Memory({'steps': np.int32(0)}, {'seen': np.int32(7)}),
}


def make_ids(count):
  return [f'problem {i}' for i in range(count)]


def write(store, ids, values):
  """Puts `values` where the records are."""
  rows = np.asarray(values, np.float32)
  store.put(ids, {'records': Memory({}, {'shortest': rows})})


def read(store, ids):
  return store.take(ids)['records'].problem['shortest']


def test_unseen_problems_have_the_defaults():
  store = MemoryStore(START)
  taken = store.take(['a', 'b'])
  assert set(taken) == set(START)
  np.testing.assert_array_equal(
    taken['records'].problem['shortest'], [np.inf] * 2
  )
  np.testing.assert_array_equal(taken['counts'].problem['seen'], [7, 7])
  assert taken['records'].problem['shortest'].dtype == np.float32
  assert taken['counts'].problem['seen'].dtype == np.int32
  assert taken['price'].shared['penalty'] == np.float32(0.5)
  assert taken['price'].shared['penalty'].dtype == np.float32
  assert len(store) == 2


def test_a_problem_keeps_its_row():
  store = MemoryStore(START)
  store.take(['a', 'b', 'c'])
  write(store, ['a', 'b', 'c'], [1, 2, 3])
  np.testing.assert_array_equal(read(store, ['c', 'd', 'a']), [3, np.inf, 1])
  write(store, ['d', 'b'], [4, 5])
  np.testing.assert_array_equal(read(store, ['a', 'b', 'c', 'd']), [1, 5, 3, 4])
  assert len(store) == 4


def test_a_problem_may_stand_twice():
  store = MemoryStore(START)
  np.testing.assert_array_equal(read(store, ['a', 'b', 'a']), [np.inf] * 3)
  assert len(store) == 2
  write(store, ['a', 'b', 'a'], [1, 2, 1])
  np.testing.assert_array_equal(read(store, ['b', 'a', 'a']), [2, 1, 1])


def test_parts_are_put_one_by_one():
  store = MemoryStore(START)
  taken = store.take(['a'])
  store.put(['a'], {'counts': Memory({'steps': np.int32(3)}, {'seen': [8]})})
  after = store.take(['a'])
  assert after['counts'].shared['steps'] == 3
  np.testing.assert_array_equal(after['counts'].problem['seen'], [8])
  for part in ('records', 'price'):
    jax.tree.map(np.testing.assert_array_equal, after[part], taken[part])


def test_what_is_shared_can_be_put_without_problems():
  store = MemoryStore(START)
  store.take(['a'])
  write(store, ['a'], [1])
  taken = store.take([])
  assert taken['records'].problem['shortest'].shape == (0,)
  price = Memory({'penalty': np.float32(2), 'window': np.ones(3)}, {})
  store.put([], {'price': price})
  assert store.take([])['price'].shared['penalty'] == 2
  np.testing.assert_array_equal(read(store, ['a']), [1])


def test_device_arrays_come_back_as_numpy():
  store = MemoryStore(START)
  double = jax.jit(lambda tree: jax.tree.map(lambda x: x * 2, tree))
  store.put(['a', 'b'], double(store.take(['a', 'b'])))
  taken = store.take(['b'])
  assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(taken))
  assert taken['price'].shared['penalty'] == 1
  np.testing.assert_array_equal(taken['counts'].problem['seen'], [14])
  # 0-d, as at the start: the compiled step sees the same shapes.
  assert taken['price'].shared['penalty'].shape == ()


def test_nothing_outside_reaches_the_tables():
  window = np.zeros(2)
  start = {'part': Memory({'window': window}, {'row': np.float32(1)})}
  store = MemoryStore(start)
  taken = store.take(['a'])['part']
  taken.shared['window'][:] = 9
  taken.problem['row'][:] = 9
  again = store.take(['a'])['part']
  np.testing.assert_array_equal(again.shared['window'], [0, 0])
  np.testing.assert_array_equal(again.problem['row'], [1])
  rows = np.full(1, 2.0, np.float32)
  mine = np.ones(2)
  store.put(['a'], {'part': Memory({'window': mine}, {'row': rows})})
  mine[:], rows[:], window[:] = 9, 9, 9
  state, ids = store.get_state()
  state['part'].shared['window'][:] = 9
  ids.append('b')
  after = store.take(['a'])['part']
  np.testing.assert_array_equal(after.shared['window'], [1, 1])
  np.testing.assert_array_equal(after.problem['row'], [2])
  assert len(store) == 1


@pytest.mark.parametrize(
  'count',
  [FIRST_CAPACITY - 1, FIRST_CAPACITY, FIRST_CAPACITY + 1, 5 * FIRST_CAPACITY],
)
def test_growth_keeps_what_was_there(count):
  store = MemoryStore(START)
  first = make_ids(FIRST_CAPACITY - 2)
  store.take(first)
  write(store, first, np.arange(len(first)))
  ids = make_ids(count)
  wanted = np.full(count, np.inf)
  wanted[: len(first)] = np.arange(len(first))
  np.testing.assert_array_equal(read(store, ids), wanted)
  write(store, ids[-1:], [0.5])
  assert read(store, ids[-1:]) == [0.5]
  np.testing.assert_array_equal(read(store, first), wanted[: len(first)])


def test_tables_are_only_made_when_they_are_full(monkeypatch):
  made = []
  tables = memories._tables
  monkeypatch.setattr(
    memories, '_tables', lambda *args: made.append(args[1]) or tables(*args)
  )
  store = MemoryStore(START)
  for first in range(0, 4 * FIRST_CAPACITY, 8):
    store.take(make_ids(4 * FIRST_CAPACITY)[first : first + 8])
  assert made == [FIRST_CAPACITY * k for k in (1, 2, 4)]


def test_many_thousands_of_problems():
  store = MemoryStore(START)
  ids = make_ids(30_000)
  order = np.random.default_rng(0).permutation(30_000)
  for batch in np.split(order, 60):
    names = [ids[i] for i in batch]
    assert np.isinf(read(store, names)).all()
    write(store, names, batch)
  assert len(store) == 30_000
  np.testing.assert_array_equal(read(store, ids), np.arange(30_000))


@pytest.mark.parametrize('count', [0, 3, FIRST_CAPACITY, 1000])
def test_a_new_store_continues_where_the_old_one_was(count):
  old, ids = MemoryStore(START), make_ids(count)
  old.take(ids)
  write(old, ids, np.arange(count))
  price = Memory({'penalty': np.float32(2), 'window': np.ones(3)}, {})
  old.put([], {'price': price})
  tables, names = old.get_state()
  assert names == ids

  new = MemoryStore(START)
  like = new.like(count)
  assert jax.tree.structure(like) == jax.tree.structure(tables)
  for wanted, saved in zip(
    jax.tree.leaves(like), jax.tree.leaves(tables), strict=True
  ):
    assert (wanted.shape, wanted.dtype) == (saved.shape, saved.dtype)
  # A checkpoint comes back as device arrays, which cannot be written to.
  new.set_state(jax.tree.map(jnp.asarray, tables), names)
  assert len(new) == count

  more = [*reversed(ids), *(f'new {i}' for i in range(2 * FIRST_CAPACITY))]
  for store in (old, new):
    write(store, more[:1] if count else [], [77] if count else [])
  jax.tree.map(np.testing.assert_array_equal, new.take(more), old.take(more))
  jax.tree.map(
    np.testing.assert_array_equal, new.get_state()[0], old.get_state()[0]
  )
  assert new.get_state()[1] == old.get_state()[1]


def test_what_comes_later_is_not_in_a_saved_state():
  store = MemoryStore(START)
  store.take(['a'])
  tables, ids = store.get_state()
  write(store, ['a'], [1])
  store.take(['b'])
  assert ids == ['a']
  assert np.isinf(tables['records'].problem['shortest']).all()


def test_without_any_memory():
  store = MemoryStore({})
  assert store.take(make_ids(100)) == {}
  store.put(make_ids(100), {})
  assert store.get_state() == ({}, make_ids(100))
  assert store.like(100) == {}
