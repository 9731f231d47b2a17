"""Requests of any size through one compiled shape."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.compilation import CompileWatch
from lrm_jax.sampler import engine
from lrm_jax.sampler.stops import Stops
from tests import tiny

N, WIDTH, MAX_TOKENS = 10, 8, 20
VOCAB = 48
EOS = 5  # Also the padding, as in the vocabularies we train.
CLOSE = (40,)  # In about every second response.
CONFIG = tiny.config(vocab_size=VOCAB, n_layers=1)  # Compiles in half the time.
PARAMS = tiny.params(CONFIG)
NAMES = [f'problem-{i}' for i in range(N)]


def _sampler(slots, max_tokens=MAX_TOKENS, **changes):
  return engine.Sampler(
    CONFIG,
    samples=3,
    slots=slots,
    max_prompt_tokens=WIDTH,
    max_tokens=max_tokens,
    eos_ids=(EOS, 6, 7),
    pad_id=EOS,
    think_close_ids=CLOSE,
    **changes,
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
  return _generate(_sampler(12))


def _assert_same(samples, rows):
  """Bit for bit."""
  rows = list(rows)
  for field in dataclasses.fields(samples):
    np.testing.assert_array_equal(
      getattr(samples, field.name), getattr(_whole(), field.name)[rows]
    )


def test_the_responses_differ_between_problems_and_samples():
  ids, length = _whole().response_ids, _whole().length
  long = [tuple(row) for row in ids[length > 3].tolist()]
  assert len(long) > 15
  assert len(set(long)) == len(long)
  assert 0 < _whole().truncated.mean() < 1
  assert 0 < _whole().think_closed.mean() < 1


@pytest.mark.parametrize(
  'rows', [[3], [7, 2], list(reversed(range(N))), [9, 0, 4, 1, 8]]
)
def test_samples_do_not_depend_on_the_other_problems(rows):
  watch = CompileWatch()
  _assert_same(_generate(_sampler(12), rows), rows)
  assert watch.count == 0


def test_the_seed_decides():
  same, other = _generate(_sampler(12)), _generate(_sampler(12), seed=1)
  np.testing.assert_array_equal(same.response_ids, _whole().response_ids)
  first = other.response_ids[..., 0] == _whole().response_ids[..., 0]
  assert first.mean() < 0.5


def test_caps_belong_to_their_prompts_across_batches():
  caps = np.array([3, 20, 1, 0, 7, 2, 20, 5, 11, 4])
  watch = CompileWatch()
  samples = _generate(_sampler(12), caps=caps)
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
  samples = _generate(_sampler(12), params=params)
  assert watch.count == 0
  assert not np.array_equal(samples.response_ids, _whole().response_ids)


def test_a_cap_beyond_the_room_is_refused():
  with pytest.raises(ValueError, match='caps reach 21 tokens.*room for 20'):
    _generate(_sampler(12), caps=MAX_TOKENS + 1)


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


def test_more_samples_than_four_times_the_slots():
  sampler = engine.Sampler(
    CONFIG,
    samples=65,
    slots=16,
    max_prompt_tokens=WIDTH,
    max_tokens=4,
    eos_ids=(EOS,),
    pad_id=EOS,
    think_close_ids=CLOSE,
  )
  ids, length = _prompts()
  samples = sampler.generate(
    PARAMS,
    ids[:1],
    length[:1],
    problem_ids=NAMES[:1],
    caps=4,
    key=rng.stream(0, 'test'),
  )
  assert (samples.length > 0).all()


def test_samples_that_a_text_ended_make_room_for_a_large_group():
  # As many as the device knows of, each let go by the host at its first token.
  sampler = engine.Sampler(
    CONFIG,
    samples=64,
    slots=16,
    max_prompt_tokens=WIDTH,
    max_tokens=40,
    eos_ids=(),
    pad_id=EOS,
    think_close_ids=CLOSE,
    stops=Stops(('x',), lambda ids: 'x' * len(ids)),
  )
  assert sampler.layout.requests == 64
  ids, length = _prompts()
  samples = sampler.generate(
    PARAMS,
    ids[:2],
    length[:2],
    problem_ids=NAMES[:2],
    caps=40,
    key=rng.stream(0, 'test'),
  )
  assert (samples.length == 1).all() and not samples.truncated.any()


def test_what_is_not_over_when_a_session_closes_is_not_decoded():
  sampler = _sampler(16)
  ids, length = _prompts()

  def rows(waits_for):
    with sampler.open(PARAMS) as session:
      numbers = [
        sampler.add(
          session,
          ids,
          length,
          problem_ids=NAMES,
          caps=MAX_TOKENS,
          key=rng.stream(seed, 'test'),
        )
        for seed in range(6)
      ]
      session.wait(numbers[waits_for])
    return sampler.stats.rows

  assert 0 < rows(waits_for=0) < 0.7 * rows(waits_for=-1)


def test_numbers_of_a_run():
  """By hand: nobody ends before the cap of 8, one round on 16 rows."""
  sampler = _sampler(16, max_tokens=8)
  sampler.layout = dataclasses.replace(sampler.layout, eos_ids=())
  ids, _ = _prompts()
  found = sampler.generate(
    PARAMS,
    ids[:2],
    np.array([8, 4], np.int32),
    problem_ids=NAMES[:2],
    caps=8,
    key=rng.stream(0, 'test'),
  )
  assert (found.length == 8).all()
  numbers = sampler.stats.numbers()
  # Two prompts of three samples, eight tokens each.
  assert numbers['rows_used'] == 2 * 3 * 8 / (16 * 8)
  assert numbers['preempted'] == 0
  # A prefill has 512 places.
  assert numbers['prefill_used'] == 12 / 512
  # When the round begins, six samples hold a page each and the prompts two:
  # pages of 32 tokens, K and V of every layer, float32. Twelve tokens in them.
  page = 32 * 2 * 4 * CONFIG.n_layers * CONFIG.n_kv_heads * CONFIG.head_dim
  assert numbers['kv_bytes_per_token'] == 8 * page / 12


def test_a_temperature_of_each_prompt():
  ids, length = _prompts()

  def sample(temperature):
    return _sampler(12).generate(
      PARAMS,
      ids,
      length,
      problem_ids=NAMES,
      caps=MAX_TOKENS,
      key=rng.stream(0, 'test'),
      temperature=temperature,
    )

  is_greedy = np.arange(N) % 2 == 0
  mixed = sample(np.where(is_greedy, 0.0, 1.0))
  for rows, temperature in ((is_greedy, 0.0), (~is_greedy, 1.0)):
    alone = sample(temperature)
    np.testing.assert_array_equal(
      mixed.response_ids[rows], alone.response_ids[rows]
    )
    np.testing.assert_array_equal(mixed.logp[rows], alone.logp[rows])


def test_one_session_at_a_time():
  sampler = _sampler(12)
  with sampler.open(PARAMS):
    part = sampler.part(samples=2, max_tokens=4)
    with pytest.raises(ValueError, match='is open; close it first'):
      part.open(PARAMS).__enter__()
  with pytest.raises(KeyError), sampler.open(PARAMS):
    raise KeyError
  # It has let go of everything.
  _assert_same(_generate(sampler), range(N))


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'prompt_length': np.zeros(1, np.int32)}, 'a prompt is empty'),
    ({'caps': MAX_TOKENS + 1}, 'caps reach 21 tokens'),
    ({'tokens': MAX_TOKENS + 1}, 'tokens reach 21 tokens'),
    ({'budgets': 3}, 'budgets need a sampler with `ending_ids`'),
  ],
)
def test_what_there_is_no_room_for(changes, message):
  sampler = _sampler(12)
  given = {
    'prompt_ids': np.full((1, WIDTH), 9, np.int32),
    'prompt_length': np.full(1, 3, np.int32),
    'problem_ids': ['any'],
    'caps': 4,
    'key': rng.stream(0, 'test'),
  }
  with sampler.open(PARAMS) as session:
    with pytest.raises(ValueError, match=message):
      sampler.add(session, **given | changes)
