"""Named random streams."""

import itertools

import jax
import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.compilation import CompileWatch


def _data(keys):
  return np.asarray(jax.random.key_data(keys))


def test_name_hash_is_the_start_of_sha256():
  # SHA-256 of 'abc' begins ba 78 16 bf; the number is little-endian.
  assert rng.name_hash('abc') == 0xBF1678BA
  # That of '' begins e3 b0 c4 42.
  assert rng.name_hash('') == 0x42C4B0E3


def test_name_hashes_keep_all_32_bits():
  hashes = rng.name_hashes(['abc', 'ä', ''])
  assert hashes.dtype == np.uint32
  assert hashes.tolist() == [0xBF1678BA, rng.name_hash('ä'), 0x42C4B0E3]
  assert rng.name_hashes([]).shape == (0,)


def test_streams_differ_by_seed_name_and_step():
  keys = [
    tuple(_data(rng.stream(seed, name, step)).tolist())
    for seed, name, step in itertools.product(
      (0, 1), ('sample', 'evaluation'), (0, 1, 2)
    )
  ]
  assert len(set(keys)) == 12


@pytest.mark.parametrize('seed', [0, 1, -1, 2**31 + 5, 2**32 - 1])
@pytest.mark.parametrize('step', [0, 7, 2**31 - 1])
def test_streams_are_those_of_jax(seed, step):
  fold = jax.random.fold_in
  key = fold(jax.random.key(seed), rng.name_hash('sample'))
  np.testing.assert_array_equal(
    _data(rng.stream(seed, 'sample', step)), _data(fold(key, step))
  )
  np.testing.assert_array_equal(
    _data(rng.fold_in(key, step)), _data(fold(key, step))
  )


def test_nothing_is_compiled():
  watch = CompileWatch()
  key = rng.fold_in(rng.stream(12, 'any', 34), 56)
  rng.sample_keys(key, rng.name_hashes(['a', 'b', 'c']), 7)
  assert watch.count == 0


def test_sample_keys_fold_in_the_problem_then_the_sample():
  key = rng.stream(0, 'sample')
  problems = rng.name_hashes(['a', 'b'])
  keys = rng.sample_keys(key, problems, 3)
  assert (keys.shape, keys.dtype) == ((2, 3, 2), np.uint32)
  fold = jax.random.fold_in
  for b, g in np.ndindex(2, 3):
    np.testing.assert_array_equal(
      keys[b, g], _data(fold(fold(key, problems[b]), g))
    )
  assert rng.sample_keys(key, rng.name_hashes([]), 3).shape == (0, 3, 2)


def test_sample_keys_depend_on_neither_neighbours_nor_count():
  key = rng.stream(0, 'sample')
  names = ['a', 'b', 'c', 'd']
  keys = rng.sample_keys(key, rng.name_hashes(names), 4)
  fewer = rng.sample_keys(key, rng.name_hashes(['d', 'b']), 2)
  np.testing.assert_array_equal(fewer, keys[[3, 1], :2])
  assert len({tuple(k) for k in keys.reshape(16, -1).tolist()}) == 16
