"""Responses that are sampled in slices, by one sampler or by several."""

import functools

import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.sampler import engine
from lrm_jax.sampler.stops import Stops
from tests import tiny

N, G, WIDTH, MAX_TOKENS = 6, 3, 8, 24
VOCAB, EOS = 48, 5
CLOSE = (40,)
ENDING = (41, 40, 42)
CONFIG = tiny.config(vocab_size=VOCAB, n_layers=1)
PARAMS = tiny.params(CONFIG)
OTHER = tiny.params(CONFIG, seed=1)
BUDGET = 7


def _text(ids):
  return ''.join(chr(65 + i % 8) for i in ids)


@functools.cache
def _sampler(at_once):
  return engine.Sampler(
    CONFIG,
    samples=G,
    slots=12,
    max_prompt_tokens=WIDTH,
    max_tokens=MAX_TOKENS,
    eos_ids=(EOS, 6),
    pad_id=EOS,
    think_close_ids=CLOSE,
    ending_ids=ENDING,
    stops=Stops(('BC', 'FA', 'DH'), _text),
    round_tokens=4,
    at_once=at_once,
  )


def _ask(sampler, params, ended, **options):
  random = np.random.default_rng(1)
  ids = random.integers(8, VOCAB, (N, WIDTH)).astype(np.int32)
  with sampler.open(params) as session:
    number = sampler.add(
      session,
      ids,
      random.integers(1, WIDTH + 1, N).astype(np.int32),
      problem_ids=[f'problem-{i}' for i in range(N)],
      caps=np.array([MAX_TOKENS, 10, 0, 1, MAX_TOKENS, 17]),
      key=rng.stream(0, 'test'),
      budgets=BUDGET,
      on_end=lambda at, ids: ended.append((at, ids.tolist())),
      **options,
    )
    return session.wait(number)


@functools.cache
def _whole():
  ended = []
  return _ask(_sampler(0), PARAMS, ended), sorted(ended)


def _slices(at_once, sizes):
  """After each slice: the responses, and those that were told to be over."""
  found, samples = [], None
  for size in sizes:
    ended = []
    samples = _ask(
      _sampler(at_once), PARAMS, ended, so_far=samples, tokens=size
    )
    found.append((samples, sorted(ended)))
  return found


def test_the_case_has_everything_in_it():
  samples, ended = _whole()
  assert len(ended) == N * G
  assert samples.forced.any() and samples.truncated.any()
  long = samples.length > 12
  assert long.sum() > 3
  texts = [_text(ids) for _, ids in ended]
  stops = _sampler(0).stops.strings
  assert sum(text.endswith(stops) for text in texts) > 1


@pytest.mark.parametrize(
  'sizes', [(8, 8, 8), (1, 2, 3, 5, 8, 8), (8, 1, 1, 1, 1, 1, 1, 1, 1, 8)]
)
def test_slices_make_the_whole(sizes):
  samples, ended = _slices(8, sizes)[-1]
  whole, every = _whole()
  assert ended == every
  for name in (
    'response_ids',
    'length',
    'truncated',
    'forced',
    'think_closed',
    'thinking_length',
  ):
    np.testing.assert_array_equal(
      getattr(samples, name), getattr(whole, name), err_msg=name
    )
  # What went before is computed as a prompt, and not token by token.
  np.testing.assert_allclose(samples.logp, whole.logp, atol=1e-5)


def test_only_what_is_over_is_told():
  whole, _ = _whole()
  for given, (samples, ended) in zip(
    (8, 16, 24), _slices(8, (8, 8, 8)), strict=True
  ):
    np.testing.assert_array_equal(
      samples.length, np.minimum(whole.length, given)
    )
    over = whole.length <= given
    # A sample of just so many tokens that ends by itself is over too.
    assert [at for at, _ in ended] == list(zip(*np.nonzero(over), strict=True))


def test_others_may_go_on_with_it_and_what_there_was_stays():
  begun = _ask(_sampler(8), PARAMS, [], tokens=5)
  kept = begun.response_ids.copy(), begun.logp.copy()
  samples = _ask(_sampler(8), OTHER, [], so_far=begun, tokens=8)
  np.testing.assert_array_equal(begun.response_ids, kept[0])
  early = np.arange(MAX_TOKENS) < begun.length[..., None]
  np.testing.assert_array_equal(samples.logp[early], kept[1][early])
  np.testing.assert_array_equal(samples.response_ids[early], kept[0][early])
  later = _ask(_sampler(8), PARAMS, [], so_far=begun, tokens=8)
  assert (samples.response_ids != later.response_ids).any()
  # The same parameters from the start would have said something else.
  assert (
    samples.response_ids != _ask(_sampler(8), OTHER, []).response_ids
  ).any()


def test_a_session_with_nothing_to_do_is_over_at_once():
  whole, every = _whole()
  ended = []
  again = _ask(_sampler(8), PARAMS, ended, so_far=whole)
  assert sorted(ended) == every
  np.testing.assert_array_equal(again.response_ids, whole.response_ids)
