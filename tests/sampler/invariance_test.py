"""What a sample is does not depend on how it is made: bit for bit."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.compilation import CompileWatch
from lrm_jax.models import output_head, transformer
from lrm_jax.models.cache import PAGE
from lrm_jax.sampler import engine, lane, run, slots
from tests import tiny

pytestmark = pytest.mark.slow

N, WIDTH, MAX_TOKENS, SAMPLES = 14, 70, 140, 3
VOCAB, EOS = 64, 5
CONFIG = tiny.config(vocab_size=VOCAB, n_layers=1, max_positions=256)
PARAMS = tiny.params(CONFIG)
# Caps of three pages, and prompts of one and two.
CAPS = np.array([140, 3, 65, 140, 64, 1, 100, 140, 20, 130, 7, 140, 63, 90])
LENGTH = np.random.default_rng(3).integers(1, WIDTH + 1, N).astype(np.int32)
LENGTH[:3] = 64, 65, WIDTH


@functools.cache
def _prompts():
  random = np.random.default_rng(2)
  return random.integers(6, VOCAB, (N, WIDTH)).astype(np.int32)


def _params():
  """End-of-sequence tokens are rare, so that samples grow long."""
  head = np.array(PARAMS['head'])
  head[:, EOS] *= 0.3
  return PARAMS | {'head': head}


def _sampler(**changes):
  fields = {
    'samples': SAMPLES,
    'slots': 64,
    'max_prompt_tokens': WIDTH,
    'max_tokens': MAX_TOKENS,
    'eos_ids': (EOS,),
    'pad_id': 0,
    'think_close_ids': (9,),
  }
  return engine.Sampler(CONFIG, **fields | changes)


def _generate(sampler, rows=range(N), samples=None):
  rows = list(rows)
  return sampler.generate(
    _params(),
    _prompts()[rows],
    LENGTH[rows],
    problem_ids=[f'problem-{row}' for row in rows],
    caps=CAPS[rows],
    key=rng.stream(0, 'invariance'),
  )


@functools.cache
def _whole():
  found = _generate(_sampler())
  # Otherwise little is tested.
  assert (found.length > 2 * PAGE).sum() >= 6
  assert 0.1 < found.truncated.mean() < 0.9
  return found


def _assert_same(found, rows=range(N)):
  rows = list(rows)
  for name in ('response_ids', 'length', 'truncated', 'logp'):
    np.testing.assert_array_equal(
      getattr(found, name), getattr(_whole(), name)[rows]
    )


@pytest.mark.parametrize(
  'changes',
  [
    {'slots': 8},
    pytest.param({'slots': 1}, marks=pytest.mark.long),
    pytest.param({'slots': 512, 'lanes': 1}, marks=pytest.mark.long),
    {'slots': 128, 'lanes': 2},
    pytest.param({'slots': 200, 'lanes': 3}, marks=pytest.mark.long),
  ],
)
def test_the_number_of_slots_and_lanes(changes):
  _assert_same(_generate(_sampler(**changes)))


@pytest.mark.parametrize(
  'fewest', [1, pytest.param(SAMPLES, marks=pytest.mark.long)]
)
def test_a_part_of_a_sampler(fewest):
  """Made for more and longer samples, and used for others in between."""
  sampler = _sampler(samples=8, fewest_samples=fewest, max_tokens=180)
  part = sampler.part(samples=SAMPLES, max_tokens=MAX_TOKENS)
  _assert_same(_generate(part))
  watch = CompileWatch()
  assert _generate(sampler).logp.shape == (N, 8, 180)
  _assert_same(_generate(part))
  assert watch.count == 0
  with pytest.raises(ValueError, match='samples=9; .* room for 8'):
    sampler.part(samples=9, max_tokens=1)
  with pytest.raises(ValueError, match='max_tokens=181; .* room for 180'):
    sampler.part(samples=1, max_tokens=181)
  with pytest.raises(ValueError, match='caps reach 140 tokens'):
    _generate(sampler.part(samples=1, max_tokens=139))


@pytest.mark.long
def test_a_number_of_slots_that_is_no_multiple_of_8():
  """All of them are used, the last ones too; the sums of those differ."""
  _assert_same(_generate(_sampler(slots=23, lanes=1)))


def test_the_order_of_the_queue():
  rows = np.random.default_rng(0).permutation(N)
  _assert_same(_generate(_sampler(slots=8), rows), rows)


# The first has room for one response.
@pytest.mark.parametrize(
  'tokens',
  [160, 2048] + [pytest.param(x, marks=pytest.mark.long) for x in (256, 384)],
)
def test_pages_that_run_out(tokens):
  """Samples wait, or are begun again; all come out as they would have."""
  sampler = _sampler(kv_tokens=tokens, lanes=1)
  assert sampler.layout.response_pages == tokens // PAGE
  _assert_same(_generate(sampler))
  assert (sampler.stats.preempted > 0) == (tokens < 2048)


def test_a_dense_cache(monkeypatch):
  """Every response has room for its cap, in one piece, wherever it runs."""
  sampler = _sampler(lanes=1)
  layout = sampler.layout
  sampler.layout = dataclasses.replace(
    layout, response_pages=layout.requests * layout.pages_of_response
  )
  given = []

  def give(layout, state):
    given.append(layout)
    columns = jnp.arange(layout.pages_of_response)
    own = state.request[:, None] * layout.pages_of_response + columns
    begun = state.running[:, None] & (columns <= state.tokens[:, None] // PAGE)
    pages = jnp.where(begun, own, -1).astype(jnp.int32)
    return dataclasses.replace(state, pages=pages)

  monkeypatch.setattr(slots, '_give_pages', give)
  monkeypatch.setattr(slots, '_compact', lambda layout, state: state)
  _assert_same(_generate(sampler))
  assert given == [sampler.layout]


def test_the_law_is_that_of_the_model():
  """Over several pages of prompt and response, without any cache."""
  whole, count = _whole(), N * SAMPLES
  tokens = np.zeros((count, WIDTH + MAX_TOKENS), np.int32)
  lengths = np.repeat(LENGTH, SAMPLES)
  responses = whole.response_ids.reshape(count, MAX_TOKENS)
  for row, length in enumerate(lengths):
    tokens[row, :length] = _prompts()[row // SAMPLES, :length]
    tokens[row, length : length + MAX_TOKENS] = responses[row]

  @jax.jit
  def score(params, tokens):
    at = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    ones = np.ones_like(at)
    hidden, _ = transformer.apply(CONFIG, params, tokens, at, ones)
    return output_head.token_logp(
      CONFIG, params, hidden[:, :-1], tokens[:, 1:]
    )[0]

  expected = np.asarray(score(_params(), tokens))
  logp, ends = whole.logp.reshape(count, -1), whole.length.reshape(-1)
  for row, (start, end) in enumerate(zip(lengths - 1, ends, strict=True)):
    np.testing.assert_allclose(
      logp[row, :end], expected[row, start : start + end], atol=1e-4, rtol=0
    )


def test_prompts_that_are_not_shared():
  """Each sample on its own, with its own copy of the prompt."""
  sampler = _sampler()
  blocks = sampler._start(_params())
  names = rng.name_hashes([f'problem-{row}' for row in range(N)])
  keys = rng.sample_keys(rng.stream(0, 'invariance'), names, SAMPLES)
  going = run.Run(blocks, SAMPLES)
  for row, g in np.ndindex(N, SAMPLES):
    request = lane.Request(row * SAMPLES + g, keys[row, g], int(CAPS[row]), 1.0)
    going.submit(_prompts()[row, : LENGTH[row]], [request])
  whole = _whole()
  for done in going:
    at = divmod(done.index, SAMPLES)
    assert len(done.ids) == whole.length[at]
    np.testing.assert_array_equal(
      done.ids, whole.response_ids[at][: len(done.ids)]
    )
    np.testing.assert_array_equal(done.logp, whole.logp[at][: len(done.ids)])


def test_a_sample_goes_on_where_it_was_cut():
  """The tokens so far become prompt; what follows is what would have."""
  whole, sampler = _whole(), _sampler(max_prompt_tokens=2 * WIDTH)
  names = rng.name_hashes(['problem-0'])
  keys = rng.sample_keys(rng.stream(0, 'invariance'), names, SAMPLES)
  assert whole.length[0, 0] > 40
  prompt = _prompts()[0, : LENGTH[0]]
  so_far = whole.response_ids[0, 0, :24]
  going = run.Run(sampler._start(_params()), SAMPLES)
  rest = lane.Request(
    0, keys[0, 0], int(CAPS[0]) - 24, 1.0, before=tuple(so_far.tolist())
  )
  going.submit(np.concatenate([prompt, so_far]), [rest])
  (done,) = going
  length = whole.length[0, 0]
  np.testing.assert_array_equal(done.ids, whole.response_ids[0, 0, 24:length])
  np.testing.assert_allclose(done.logp, whole.logp[0, 0, 24:length], atol=1e-5)


def test_stored_in_fewer_bits():
  """The law moves a little, and lengths with it: by no more than rounding."""
  # The first token is that of the prompt's own pass; the second reads pages.
  whole = _whole()
  for dtype, limit in (('bfloat16', 0.05), ('int8', 0.2)):
    found = _generate(_sampler(kv_dtype=dtype))
    same = (found.response_ids == whole.response_ids)[..., :2].all(-1)
    same &= whole.length > 1
    assert same.mean() > 0.5
    gap = np.abs(found.logp - whole.logp)[same, 1]
    assert 0 < gap.max() < limit
