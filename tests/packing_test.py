"""Packed rows, and the way back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax import packing
from lrm_jax.errors import UserError
from lrm_jax.models import output_head, transformer
from tests import tiny
from tests.objectives import reference

VOCAB = 48


def _rollouts(prompt_length, length, seed=0):
  """Rollouts of random tokens in 1..VOCAB-1, padded with 0."""
  random = np.random.default_rng(seed)
  prompt_length = np.asarray(prompt_length, np.int32)
  length = np.asarray(length, np.int32)

  def tokens(counts):
    shape = (*counts.shape, counts.max())
    ids = random.integers(1, VOCAB, shape)
    inside = np.arange(shape[-1]) < counts[..., None]
    return np.where(inside, ids, 0).astype(np.int32)

  response_ids = tokens(length)
  return reference.rollouts(
    np.zeros(length.shape),
    length=length,
    prompt_ids=tokens(prompt_length),
    prompt_length=prompt_length,
    response_ids=response_ids,
  )


def _random_rollouts(seed, problems=9, samples=4, tokens=20):
  random = np.random.default_rng(seed)
  return _rollouts(
    random.integers(1, 7, problems),
    random.integers(1, tokens + 1, (problems, samples)),
    seed,
  )


def _pack(rollouts, keep=None, rows=4, row_length=32, groups=3, shared=False):
  return packing.pack_groups(
    rollouts,
    np.ones(rollouts.length.shape, bool) if keep is None else keep,
    rows=rows,
    row_length=row_length,
    groups_per_micro_batch=groups,
    shared=shared,
  )


def _segments(rows):
  """[(tokens, positions)] of every sequence of `[..., R, S]` rows.

  With what its segment continues; prefixes on their own are left out.
  """
  flat = [x.reshape(-1, x.shape[-1]) for x in jax.tree.leaves(rows)]
  if rows.prefix_ids is None:
    flat.append(flat[-1])
  found = []
  for tokens, positions, segment_ids, prefix_ids in zip(*flat, strict=True):
    continued = set(prefix_ids[prefix_ids != segment_ids].tolist())
    for segment in set(range(1, segment_ids.max() + 1)) - continued:
      at = np.flatnonzero(segment_ids == segment)
      assert len(at)
      assert (np.diff(at) == 1).all()
      (prefix,) = set(prefix_ids[at].tolist())
      if prefix != segment:
        before = np.flatnonzero(segment_ids == prefix)
        assert before.max() < at.min()
        at = np.concatenate([before, at])
      found.append((tuple(tokens[at].tolist()), positions[at].tolist()))
  return found


def _sequence(rollouts, b, g):
  prompt = rollouts.prompt_ids[b, : rollouts.prompt_length[b]]
  response = rollouts.response_ids[b, g, : rollouts.length[b, g]]
  return (*prompt.tolist(), *response.tolist())


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('seed', range(5))
def test_every_kept_sequence_is_packed_once(seed, shared):
  rollouts = _random_rollouts(seed)
  keep = np.random.default_rng(seed).random(rollouts.length.shape) < 0.6
  keep[2] = False
  packed = _pack(rollouts, keep, shared=shared)
  segments = _segments(packed.rows)
  want = [_sequence(rollouts, b, g) for b, g in np.argwhere(keep)]
  assert sorted(tokens for tokens, _ in segments) == sorted(want)
  for tokens, positions in segments:
    assert positions == list(range(len(tokens)))


@pytest.mark.parametrize('seed', range(5))
def test_places_outside_segments_are_empty(seed):
  rows = _pack(_random_rollouts(seed)).rows
  empty = rows.segment_ids == 0
  assert empty.any()
  assert (rows.tokens[~empty] > 0).all()
  assert (rows.tokens[empty] == 0).all()
  assert (rows.positions[empty] == 0).all()


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('seed', range(5))
def test_offsets_point_at_the_responses(seed, shared):
  rollouts = _random_rollouts(seed)
  keep = np.random.default_rng(seed).random(rollouts.length.shape) < 0.6
  packed = _pack(rollouts, keep, shared=shared)
  for m, q in np.argwhere(packed.groups >= 0):
    b = packed.groups[m, q]
    flat = jax.tree.map(lambda x: x[m].reshape(-1), packed.rows)  # noqa: B023
    for g in range(keep.shape[1]):
      start = packed.offsets[m, q, g]
      if not keep[b, g]:
        assert start == 0
        continue
      span = slice(start, start + rollouts.length[b, g])
      np.testing.assert_array_equal(
        flat.tokens[span], rollouts.response_ids[b, g][: rollouts.length[b, g]]
      )
      assert flat.positions[start] == rollouts.prompt_length[b]


def test_groups_stay_whole_and_unused_ones_are_absent():
  rollouts = _random_rollouts(0)
  keep = np.ones(rollouts.length.shape, bool)
  keep[[1, 5]] = False
  packed = _pack(rollouts, keep)
  groups = packed.groups[packed.groups >= 0].tolist()
  assert sorted(groups) == [0, 2, 3, 4, 6, 7, 8]
  assert packed.groups.shape == (9, 3)
  used = (packed.groups >= 0).any(1)
  np.testing.assert_array_equal(used, np.arange(9) < packed.count)
  assert (packed.rows.segment_ids[packed.count :] == 0).all()


@pytest.mark.parametrize('seed', range(5))
def test_few_micro_batches(seed):
  rollouts = _random_rollouts(seed, problems=32)
  packed = _pack(rollouts, rows=8, row_length=64, groups=16)
  used = packed.rows.segment_ids[: packed.count] > 0
  # All but the last are closed because a group of 4 sequences, of up to 26
  # tokens each, did not fit in.
  assert used[:-1].mean((1, 2)).min() > 0.8
  total = (rollouts.prompt_length[:, None] + rollouts.length).sum()
  assert packed.count <= -(-total // (8 * 64)) + 1


def test_the_limit_of_groups_holds():
  rollouts = _rollouts([1] * 5, np.ones((5, 2)))
  packed = _pack(rollouts, groups=2)
  assert packed.count == 3
  assert (packed.groups >= 0).sum(1).tolist() == [2, 2, 1, 0, 0]


def test_the_longest_groups_come_first():
  rollouts = _rollouts([1, 1, 1, 1], [[2, 2], [9, 9], [5, 5], [9, 9]])
  assert _pack(rollouts, groups=1).groups[:, 0].tolist() == [1, 3, 2, 0]


def test_a_group_goes_where_there_is_room():
  """15 leave a row of 16 too full for 4 + 4, but not for 1."""
  rollouts = _rollouts([1] * 3, [[14], [7], [0]])
  packed = _pack(rollouts, rows=1, row_length=16)
  assert packed.groups[:2].tolist() == [[0, 2, -1], [1, -1, -1]]
  assert packed.count == 2


def test_a_shared_prompt_by_hand():
  """All but its last token stand before the responses, longest first."""
  rollouts = _rollouts([3], [[1, 2]])
  rows = _pack(rollouts, rows=1, row_length=8, shared=True).rows
  a, b, c = rollouts.prompt_ids[0]
  (d, _), (e, f) = rollouts.response_ids[0]
  assert rows.tokens[0].tolist() == [[a, b, c, e, f, c, d, 0]]
  assert rows.positions[0].tolist() == [[0, 1, 2, 3, 4, 2, 3, 0]]
  assert rows.segment_ids[0].tolist() == [[1, 1, 2, 2, 2, 3, 3, 0]]
  assert rows.prefix_ids[0].tolist() == [[1, 1, 1, 1, 1, 1, 1, 0]]


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('shared', [False, True])
def test_segments_are_those_that_were_placed(seed, shared):
  rows = _pack(_random_rollouts(seed), shared=shared).rows
  starts, lengths = packing.segments(rows)
  found = []
  for ids, at in zip(
    rows.segment_ids.reshape(-1, rows.segment_ids.shape[-1]),
    rows.positions.reshape(-1, rows.positions.shape[-1]),
    strict=True,
  ):
    for segment in range(1, ids.max() + 1):
      inside = ids == segment
      found.append((at[inside].min(), inside.sum()))
  assert list(zip(starts, lengths, strict=True)) == found
  assert shared == (starts > 0).any()


def test_each_row_has_its_own_copy_of_a_shared_prompt():
  rollouts = _rollouts([3], [[3, 3]])
  packed = _pack(rollouts, rows=2, row_length=6, shared=True)
  np.testing.assert_array_equal(
    packed.rows.segment_ids[0], [[1, 1, 2, 2, 2, 2]] * 2
  )
  np.testing.assert_array_equal(packed.rows.prefix_ids[0], [[1] * 6] * 2)
  assert packed.offsets[0, 0].tolist() == [3, 9]


def test_a_prompt_of_one_token_is_not_shared():
  rows = _pack(_rollouts([1], [[3, 2]]), shared=True).rows
  np.testing.assert_array_equal(rows.prefix_ids, rows.segment_ids)


def test_nothing_kept_needs_no_micro_batch():
  rollouts = _random_rollouts(0)
  packed = _pack(rollouts, np.zeros(rollouts.length.shape, bool))
  assert packed.count == 0
  assert (packed.groups == -1).all()
  assert (packed.rows.segment_ids == 0).all()


def test_a_response_may_be_empty():
  rollouts = _rollouts([3, 2], [[0, 4], [1, 0]])
  packed = _pack(rollouts)
  assert sorted(tokens for tokens, _ in _segments(packed.rows)) == sorted(
    _sequence(rollouts, b, g) for b, g in np.ndindex(2, 2)
  )


def test_a_sequence_may_fill_a_row_and_no_more():
  rollouts = _rollouts([2], [[6, 6]])
  assert _pack(rollouts, rows=2, row_length=8).count == 1
  with pytest.raises(UserError) as info:
    _pack(rollouts, rows=2, row_length=7)
  assert str(info.value) == (
    'packing: one group has 2 sequences of up to 8 tokens, a micro-batch has '
    '2 rows of 7; raise train.row_length or train.rows'
  )


def test_a_group_that_needs_more_rows_is_refused():
  rollouts = _rollouts([2], [[6, 6, 6]])
  with pytest.raises(UserError, match='3 sequences of up to 8 tokens'):
    _pack(rollouts, rows=2, row_length=8)
  keep = np.array([[True, False, True]])
  assert _pack(rollouts, keep, rows=2, row_length=8).count == 1


def test_gather_takes_the_value_before_each_token():
  values = np.arange(12.0).reshape(2, 6)
  offsets = np.array([[1, 4], [7, 0]])
  got = packing.gather_responses(values, offsets, 2)
  # Token 1 is predicted at position 0, token 7 (second row) at 6; the last
  # is a sample left out, and only has to be finite.
  np.testing.assert_array_equal(got[0], [[0, 1], [3, 4]])
  np.testing.assert_array_equal(got[1, 0], [6, 7])
  assert np.isfinite(got).all()


@functools.partial(jax.jit, static_argnums=0)
def _logp(config, params, rows):
  """`[N, S]`, of the next token of each row."""
  hidden, _ = transformer.apply(config, params, *rows.inputs)
  targets = jnp.roll(rows.tokens, -1, axis=1)
  return output_head.token_logp(config, params, hidden, targets)[0]


@pytest.mark.parametrize('shared', [False, True])
def test_packed_logp_is_that_of_each_sequence_alone(shared):
  rollouts = _random_rollouts(3, problems=4, samples=3, tokens=10)
  config = tiny.config(vocab_size=VOCAB)
  params = tiny.params(config)
  packed = _pack(rollouts, rows=3, row_length=32, groups=2, shared=shared)
  assert packed.rows.segment_ids.max() > 1
  want = {}
  for b in range(4):  # In rows of the same shape, so one program serves both.
    alone = packing.empty_rows(3, 32)
    for g in range(3):
      packing.place(alone, g, 0, 1, _sequence(rollouts, b, g))
    want[b] = _logp(config, params, alone)
  for m in range(packed.count):
    rows = jax.tree.map(lambda x: x[m], packed.rows)  # noqa: B023
    values = _logp(config, params, rows)
    got = packing.gather_responses(values, packed.offsets[m], 10)
    for q, b in enumerate(packed.groups[m]):
      first = rollouts.prompt_length[b] - 1
      for g, count in enumerate(rollouts.length[b] if b >= 0 else []):
        np.testing.assert_allclose(
          got[q, g, :count], want[b][g, first : first + count], atol=1e-5
        )


class TestPackDemonstrations:
  LENGTHS = [(2, 3), (1, 6), (3, 1), (2, 2), (4, 4), (1, 1)]

  def _source(self, index):
    prompt, response = self.LENGTHS[index]
    return [10 + index] * prompt, [20 + index] * response

  def _pack(self, cursor, rows=2, row_length=8):
    return packing.pack_demonstrations(
      self._source, cursor, rows=rows, row_length=row_length
    )

  def test_by_hand(self):
    # 5 opens row 0, 7 row 1, 4 fits into neither.
    packed, mask, cursor = self._pack(0)
    assert cursor == 2
    assert packed.tokens.tolist() == [
      [10, 10, 20, 20, 20, 0, 0, 0],
      [11, 21, 21, 21, 21, 21, 21, 0],
    ]
    assert mask.tolist() == [
      [0, 0, 1, 1, 1, 0, 0, 0],
      [0, 1, 1, 1, 1, 1, 1, 0],
    ]
    assert mask.dtype == np.float32

  def test_goes_on_where_it_stopped(self):
    # 4 and 4 share a row, 8 fills the other, 2 has no place.
    packed, mask, cursor = self._pack(2)
    assert cursor == 5
    assert packed.tokens.tolist() == [
      [12, 12, 12, 22, 13, 13, 23, 23],
      [14, 14, 14, 14, 24, 24, 24, 24],
    ]
    assert packed.positions[0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert packed.segment_ids[0].tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert mask[0].tolist() == [0, 0, 0, 1, 0, 0, 1, 1]

  def test_one_longer_than_a_row_is_refused(self):
    with pytest.raises(
      UserError, match='demonstration 4 has 8 tokens.*holds 7'
    ):
      self._pack(4, row_length=7)
