"""Requests of any size through one compiled shape."""

import functools
import itertools

import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.compilation import CompileWatch
from lrm_jax.sampler import engine
from tests import tiny

N, WIDTH, MAX_TOKENS = 10, 8, 20
VOCAB = 48
EOS = 5  # Also the padding, as in the vocabularies we train.
CLOSE = (9,)
CONFIG = tiny.config(vocab_size=VOCAB, n_layers=1)  # Compiles in half the time.
PARAMS = tiny.params(CONFIG)
NAMES = [f'problem-{i}' for i in range(N)]


def _sampler(batch, max_tokens=MAX_TOKENS):
  return engine.Sampler(
    CONFIG,
    samples=3,
    batch=batch,
    max_tokens=max_tokens,
    eos_ids=(EOS, 6, 7),
    pad_id=EOS,
    think_close_ids=CLOSE,
  )


@functools.cache
def _prompts():
  random = np.random.default_rng(1)
  ids = random.integers(8, VOCAB, (N, WIDTH)).astype(np.int32)
  return ids, random.integers(1, WIDTH + 1, N).astype(np.int32)


def _generate(sampler, rows=range(N), caps=MAX_TOKENS, seed=0, params=PARAMS):
  rows = list(rows)
  ids, length = _prompts()
  return sampler.generate(
    params,
    ids[rows],
    length[rows],
    problem_ids=[NAMES[i] for i in rows],
    caps=caps,
    key=rng.stream(seed, 'test'),
  )


@functools.cache
def _whole():
  return _generate(_sampler(4))


def _assert_same(samples, rows, atol):
  rows = list(rows)
  for field in ('response_ids', 'length', 'truncated', 'thinking_length'):
    np.testing.assert_array_equal(
      getattr(samples, field), getattr(_whole(), field)[rows]
    )
  np.testing.assert_allclose(samples.logp, _whole().logp[rows], atol=atol)


def test_the_responses_differ_between_problems_and_samples():
  ids, length = _whole().response_ids, _whole().length
  long = [tuple(row) for row in ids[length > 3].tolist()]
  assert len(long) > 15
  assert len(set(long)) == len(long)
  assert 0 < _whole().truncated.mean() < 1
  assert 0 < _whole().think_closed.mean() < 1


@pytest.mark.parametrize('batch', [8, N])
def test_samples_do_not_depend_on_the_batch_size(batch):
  # Another shape may add up in another order: rounding, on logits around 10.
  _assert_same(_generate(_sampler(batch)), range(N), atol=1e-5)


@pytest.mark.parametrize(
  'rows', [[3], [7, 2], list(reversed(range(N))), [9, 0, 4, 1, 8]]
)
def test_samples_do_not_depend_on_the_other_problems(rows):
  watch = CompileWatch()
  _assert_same(_generate(_sampler(4), rows), rows, atol=1e-6)
  assert watch.count == 0


def test_the_seed_decides():
  same, other = _generate(_sampler(4)), _generate(_sampler(4), seed=1)
  np.testing.assert_array_equal(same.response_ids, _whole().response_ids)
  first = other.response_ids[..., 0] == _whole().response_ids[..., 0]
  assert first.mean() < 0.5


def test_caps_belong_to_their_prompts_across_batches():
  caps = np.array([3, 20, 1, 0, 7, 2, 20, 5, 11, 4])
  watch = CompileWatch()
  samples = _generate(_sampler(4), caps=caps)
  assert watch.count == 0
  length = np.minimum(_whole().length, caps[:, None])
  np.testing.assert_array_equal(samples.length, length)
  cut = _whole().truncated | (_whole().length > caps[:, None])
  np.testing.assert_array_equal(samples.truncated, cut)
  inside = np.arange(MAX_TOKENS) < length[..., None]
  np.testing.assert_array_equal(
    samples.response_ids[inside], _whole().response_ids[inside]
  )
  assert (samples.response_ids[~inside] == EOS).all()
  assert (samples.logp[~inside] == 0).all()


def test_other_parameters_run_the_same_program():
  params = tiny.params(CONFIG, seed=1)
  watch = CompileWatch()
  samples = _generate(_sampler(4), params=params)
  assert watch.count == 0
  assert not np.array_equal(samples.response_ids, _whole().response_ids)


def test_a_cap_beyond_the_room_is_refused():
  with pytest.raises(ValueError, match='caps reach 21 tokens.*room for 20'):
    _generate(_sampler(4), caps=MAX_TOKENS + 1)


def test_thinking_ends_before_its_closing_token():
  samples = _whole()
  for b, g in itertools.product(range(N), range(3)):
    ids = samples.response_ids[b, g, : samples.length[b, g]].tolist()
    closed = CLOSE[0] in ids
    assert samples.think_closed[b, g] == closed
    want = ids.index(CLOSE[0]) if closed else len(ids)
    assert samples.thinking_length[b, g] == want


class TestFindFirst:
  @pytest.mark.parametrize(
    'ids, length, pattern, found, index',
    [
      ([1, 2, 3, 4], 4, [2, 3], True, 1),
      ([2, 3, 2, 3], 4, [2, 3], True, 0),
      ([2, 2, 3, 0], 4, [2, 3], True, 1),
      ([1, 1, 2, 3], 4, [2, 3], True, 2),
      # The pattern must lie within the length as a whole.
      ([1, 1, 2, 3], 3, [2, 3], False, 3),
      ([2, 3, 2, 3], 2, [2, 3], True, 0),
      ([2, 3, 2, 3], 1, [2, 3], False, 1),
      ([2, 3, 2, 3], 0, [2, 3], False, 0),
      ([3, 2, 4, 3], 4, [2, 3], False, 4),
      ([5, 1, 1, 1], 4, [5], True, 0),
      ([1, 1, 1, 5], 4, [5], True, 3),
      # As long as the array, and longer.
      ([2, 3], 2, [2, 3], True, 0),
      ([2, 3], 2, [2, 3, 4], False, 2),
    ],
  )
  def test_one_row(self, ids, length, pattern, found, index):
    got = engine.find_first(np.array(ids), np.array(length), pattern)
    assert (bool(got[0]), int(got[1])) == (found, index)

  def test_agrees_with_a_search_one_by_one(self):
    random = np.random.default_rng(2)
    ids = random.integers(0, 2, (40, 5, 9))
    length = random.integers(0, 10, (40, 5))
    pattern = [1, 0, 1]
    found, index = engine.find_first(ids, length, pattern)
    assert index.dtype == np.int32
    assert 0 < found.mean() < 1
    for at in np.ndindex(length.shape):
      row = ids[at][: length[at]].tolist()
      hits = [i for i in range(len(row)) if row[i : i + 3] == pattern]
      assert found[at] == bool(hits)
      assert index[at] == (hits[0] if hits else length[at])
