"""Pages and their pools against plain NumPy arrays."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_jax.models import cache
from tests.models import tiny

HEADS, WIDTH, PAGE = 2, 6, cache.PAGE
CONFIG = tiny.make_config(n_kv_heads=HEADS, head_dim=WIDTH)
# Three segments of different sizes; a few pages more than were asked for.
ASKED, SIZES = 70, (32, 32, 16)
PAGES = sum(SIZES)

write = jax.jit(cache.write_pool)
move = jax.jit(cache.move_pages)


def whole(pool):
  """The leaves of all segments, one after another."""
  leaves = zip(*map(jax.tree.leaves, pool), strict=True)
  return [np.concatenate(parts) for parts in leaves]


def read(pool, dtype=jnp.float32):
  """Keys and values `[pages, K, ...]` of the whole pool."""
  parts = zip(*(pages.read(dtype) for pages in pool), strict=True)
  return [np.concatenate(part) for part in parts]


def make_tokens(count, tokens, seed=0):
  """Keys `[count, K, WIDTH, tokens]` and values `[count, K, tokens, WIDTH]`."""
  random = np.random.default_rng(seed)
  # Scales of their own, so that a vector with another's is wrong.
  size = np.exp(random.normal(0, 2, (2, count, HEADS, 1, tokens)))
  k, v = size * random.standard_normal((2, count, HEADS, WIDTH, tokens))
  return k.astype(np.float32), np.swapaxes(v, 2, 3).astype(np.float32)


def full_pool(dtype, seed=0):
  """Every page of it written, whole."""
  pages = np.arange(PAGES)
  pool = cache.empty_pool(CONFIG, ASKED, dtype)
  return write(pool, pages, 0 * pages, *make_tokens(PAGES, PAGE, seed))


def assert_stored(dtype, found, expected):
  """`expected` float32 as `dtype` keeps it; keys and values `[n, K, ...]`."""
  for got, want, axis in zip(found, expected, (2, 3), strict=True):
    if dtype == 'int8':
      bound = np.abs(want).max(axis, keepdims=True) / 127 / 2
      assert (np.abs(got - want) <= bound * (1 + 1e-5)).all()
    else:
      kept = ml_dtypes.bfloat16 if dtype == 'bfloat16' else np.float32
      np.testing.assert_array_equal(got, want.astype(kept).astype(np.float32))


class TestPages:
  @pytest.mark.parametrize('dtype', cache.DTYPES)
  @pytest.mark.parametrize('tokens', [1, 8, PAGE])
  def test_what_was_written_is_read(self, dtype, tokens):
    """Parts of pages all over the pool; the second round writes over some."""
    pool = cache.empty_pool(CONFIG, ASKED, dtype)
    k, v = np.zeros((2, PAGES, HEADS, WIDTH, PAGE), np.float32)
    v = np.swapaxes(v, 2, 3).copy()
    random = np.random.default_rng(1)
    for seed in range(2):
      # Among them every end of a segment, and pages that do not exist.
      others = random.choice(np.arange(1, 31), 9, replace=False)
      page = np.r_[others, 0, 31, 32, 63, 64, 79, -1, -PAGES, PAGES, 999]
      block = random.integers(0, PAGE // tokens, len(page))
      new_k, new_v = make_tokens(len(page), tokens, seed)
      pool = write(pool, page, block, new_k, new_v)
      for row in range(15):
        at = slice(block[row] * tokens, (block[row] + 1) * tokens)
        k[page[row], :, :, at] = new_k[row]
        v[page[row], :, at] = new_v[row]
    assert_stored(dtype, read(pool), (k, v))

  @pytest.mark.parametrize('dtype', cache.DTYPES)
  def test_pages_that_do_not_exist_are_left_out(self, dtype):
    pool = full_pool(dtype)
    page = np.array([-1, -2, -PAGES, PAGES, PAGES + 1, 10 * PAGES])
    found = write(pool, page, 0 * page, *make_tokens(len(page), 8, 1))
    jax.tree.map(np.testing.assert_array_equal, found, pool)

  def test_dtypes(self):
    narrow = tiny.make_config(compute_dtype='bfloat16')
    for config, dtype, stored in (
      (CONFIG, 'compute', jnp.float32),
      (narrow, 'compute', jnp.bfloat16),
      (CONFIG, 'bfloat16', jnp.bfloat16),
      (CONFIG, 'int8', jnp.int8),
    ):
      pages = cache.empty_pool(config, 1, dtype)[0]
      assert pages.k.dtype == pages.v.dtype == stored
      assert (pages.k_scale is None) == (dtype != 'int8')
      assert [x.dtype for x in pages.read(jnp.bfloat16)] == [jnp.bfloat16] * 2

  def test_an_empty_pool_is_zero_and_large_enough(self):
    for dtype in cache.DTYPES:
      pool = cache.empty_pool(CONFIG, ASKED, dtype)
      assert tuple(len(pages.k) for pages in pool) == SIZES
      assert not any(leaf.any() for leaf in whole(pool))
      k, v = read(pool)
      assert k.shape == (PAGES, HEADS, WIDTH, PAGE)
      assert v.shape == (PAGES, HEADS, PAGE, WIDTH)


class TestQuantize:
  @pytest.mark.parametrize('axis', [0, 1, 2])
  def test_within_half_a_step(self, axis):
    random = np.random.default_rng(0)
    x = random.standard_normal((5, 6, 7)) * np.exp(
      random.normal(0, 5, (5, 6, 7))
    )
    x = x.astype(np.float32)
    found, scale = jax.jit(cache.quantize, static_argnums=1)(x, axis)
    assert found.dtype == jnp.int8 and scale.dtype == jnp.float32
    np.testing.assert_allclose(scale, np.abs(x).max(axis) / 127, rtol=1e-6)
    back = np.asarray(found, np.float64) * np.expand_dims(scale, axis)
    step = np.expand_dims(scale, axis)
    assert (np.abs(back - x) <= step / 2 * (1 + 1e-5)).all()
    # The largest of each vector, and so all of the range, is used.
    assert (np.abs(np.asarray(found, int)).max(axis) == 127).all()

  def test_signs_and_ends(self):
    found, scale = cache.quantize(jnp.array([[-127.0, 127, 63.4, 0]]), 1)
    assert found.tolist() == [[-127, 127, 63, 0]] and scale.tolist() == [1]

  def test_zeros_stay_zeros(self):
    found, scale = cache.quantize(jnp.zeros((2, 3)), 1)
    assert not found.any() and not scale.any()

  def test_bfloat16_is_quantized_in_float32(self):
    x = jnp.asarray(
      np.random.default_rng(0).standard_normal((4, 9)), 'bfloat16'
    )
    same = cache.quantize(x, 1), cache.quantize(x.astype(jnp.float32), 1)
    jax.tree.map(np.testing.assert_array_equal, *same)


class TestSegmentSizes:
  def test_some(self):
    assert cache.segment_sizes(0) == ()
    assert cache.segment_sizes(1) == (16,)
    assert cache.segment_sizes(33) == (32, 16)
    assert cache.segment_sizes(ASKED) == SIZES
    assert cache.segment_sizes(256) == (32, 32, 32, 48, 64, 48)

  @given(pages=st.integers(1, 10**6))
  def test_sums_and_growth(self, pages):
    sizes = cache.segment_sizes(pages)
    ends = np.cumsum(sizes)
    assert pages <= ends[-1] < pages + 16
    assert all(size % 16 == 0 for size in sizes)
    assert sizes[0] == min(32, ends[0])
    # By half, so that few are read in vain, and there are few.
    for before, size in zip(ends[:-1], sizes[1:], strict=True):
      assert 0 < size <= max(32, before / 2)
    for before, size in zip(ends[:-2], sizes[1:-1], strict=True):
      assert size > max(31, before / 2 - 16)

  @given(pages=st.integers(1, 10**4))
  def test_what_is_asked_for_rounded_up_is_cut_alike(self, pages):
    """`slots` counts pages, the pool those of its segments."""
    sizes = cache.segment_sizes(pages)
    assert cache.segment_sizes(sum(sizes)) == sizes


class TestMovePages:
  def _assert_moved(self, dtype, source, target):
    pool = full_pool(dtype)
    found = whole(move(pool, np.array(source), np.array(target)))
    for leaf, before in zip(found, whole(pool), strict=True):
      expected = before.copy()
      for a, b in zip(source, target, strict=True):
        if 0 <= b < PAGES:
          expected[b] = before[a]
      np.testing.assert_array_equal(leaf, expected)
    return whole(pool), found

  @pytest.mark.parametrize('dtype', cache.DTYPES)
  def test_within_and_across_segments(self, dtype):
    source = [79, 78, 64, 63, 40, 33, 32, 5, 31, 2]
    target = [0, 32, 70, 1, 31, 63, 30, 65, 41, 3]
    before, after = self._assert_moved(dtype, source, target)
    assert len(before) == (4 if dtype == 'int8' else 2)
    # Otherwise little is tested: no two pages are the same.
    for leaf in before:
      assert len(np.unique(leaf.reshape(PAGES, -1), axis=0)) == PAGES
    assert all((a != b).any() for a, b in zip(before, after, strict=True))

  def test_all_at_once(self):
    """Sources are read before anything is written: a cycle of all pages."""
    random = np.random.default_rng(0)
    source = random.permutation(PAGES)
    self._assert_moved('int8', source, np.roll(source, 1))

  @pytest.mark.parametrize('dtype', ['compute', 'int8'])
  def test_a_target_that_does_not_exist_takes_nothing(self, dtype):
    """Whatever its source is, one that does not exist either included."""
    source = [3, 40, 70, -1, PAGES, 10 * PAGES, -5]
    target = [PAGES, -1, 2 * PAGES, PAGES, -33, PAGES + 3, -PAGES]
    before, after = self._assert_moved(dtype, source, target)
    jax.tree.map(np.testing.assert_array_equal, before, after)


class TestRecent:
  def test_a_step_is_written_and_nothing_else(self):
    slots, tokens = 3, 4
    recent = cache.empty_recent(CONFIG, slots, tokens)
    assert recent.k.shape == (slots, HEADS, WIDTH, tokens)
    assert recent.v.shape == (slots, HEADS, tokens, WIDTH)
    k, v = make_tokens(slots, tokens)
    step = jax.jit(cache.Recent.write)
    for number, last in ((2, False), (0, False), (3, False), (1, True)):
      recent = step(recent, k[..., number], v[:, :, number], number)
      done = (recent.k == k).all((0, 1, 2))
      assert bool(done.all()) == last
      assert not recent.k[..., ~np.asarray(done)].any()
    np.testing.assert_array_equal(recent.k, k)
    np.testing.assert_array_equal(recent.v, v)

  def test_in_the_dtype_of_the_model(self):
    config = tiny.make_config(compute_dtype='bfloat16')
    make = functools.partial(cache.empty_recent, config, 1, 1)
    assert make().k.dtype == make().v.dtype == jnp.bfloat16
