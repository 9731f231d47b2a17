"""The compiled sampler against the teacher-forced transformer."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.compilation import CompileWatch
from lrm_jax.models import transformer
from lrm_jax.sampler import decode
from tests import tiny

PROMPTS, WIDTH, MAX_TOKENS = 6, 8, 24
VOCAB, PAD = 48, 0
# Two of 48: about every second response ends within its room.
EOS = (5, 6)
CONFIG = tiny.config(vocab_size=VOCAB)
PARAMS = tiny.params(CONFIG)
SHAPE = decode.Shape(
  samples=4, max_tokens=MAX_TOKENS, eos_ids=EOS, pad_id=PAD, check_every=5
)
PROMPT_LENGTH = np.array([8, 3, 1, 5, 7, 2], np.int32)


def _prompts(width=WIDTH):
  ids = np.random.default_rng(0).integers(7, VOCAB, (PROMPTS, width))
  outside = np.arange(width) >= PROMPT_LENGTH[:, None]
  return np.where(outside, PAD, ids).astype(np.int32)


def _generate(caps=MAX_TOKENS, temperature=1.0, shape=SHAPE, prompts=None):
  problems = np.arange(PROMPTS, dtype=np.uint32)
  keys = rng.sample_keys(rng.stream(0, 'test'), problems, shape.samples)
  out = decode.generate(
    CONFIG,
    shape,
    PARAMS,
    _prompts() if prompts is None else prompts,
    PROMPT_LENGTH,
    np.broadcast_to(np.asarray(caps, np.int32), PROMPTS),
    keys,
    np.float32(temperature),
  )
  out = jax.device_get(out)
  return dataclasses.replace(
    out,
    response_ids=out.response_ids[..., :MAX_TOKENS],
    logp=out.logp[..., :MAX_TOKENS],
  )


@functools.cache
def _sampled():
  return _generate()


def _inside(out):
  return np.arange(MAX_TOKENS) < out.length[..., None]


@functools.partial(jax.jit, static_argnames='score')
def _forward(params, tokens, positions, targets, temperature, score):
  """Log-probabilities of targets, or all logits, without any cache."""
  ones = jax.numpy.ones_like(tokens)
  hidden, _ = transformer.apply(CONFIG, params, tokens, positions, ones)
  if score:
    return transformer.token_logp(
      CONFIG, params, hidden, targets, temperature=temperature
    )[0]
  return transformer.logits(CONFIG, params, hidden)


def _teacher_forced(out, temperature=1.0, score=True):
  """`[B, G, T]` log-probabilities of the responses, or `[B, G, T, V]`."""
  width = WIDTH + MAX_TOKENS
  tokens = np.zeros((PROMPTS, SHAPE.samples, width + 1), np.int32)
  prompts = _prompts()
  for b, length in enumerate(PROMPT_LENGTH):
    tokens[b, :, :length] = prompts[b, :length]
    tokens[b, :, length : length + MAX_TOKENS] = out.response_ids[b]
  flat = tokens.reshape(-1, width + 1)
  positions = np.broadcast_to(np.arange(width), (len(flat), width))
  values = np.asarray(
    _forward(PARAMS, flat[:, :-1], positions, flat[:, 1:], temperature, score)
  ).reshape(PROMPTS, SHAPE.samples, width, *(() if score else (VOCAB,)))
  return np.stack(
    [
      values[b, :, length - 1 : length - 1 + MAX_TOKENS]
      for b, length in enumerate(PROMPT_LENGTH)
    ]
  )


@pytest.mark.parametrize('temperature', [1.0, 0.7, 2.0])
def test_logp_is_that_of_the_teacher_forced_model(temperature):
  out = _generate(temperature=temperature)
  want = _teacher_forced(out, temperature)
  inside = _inside(out)
  assert out.logp[inside].std() > 0.5
  np.testing.assert_allclose(out.logp[inside], want[inside], atol=1e-4, rtol=0)


def test_greedy_takes_the_most_likely_token():
  out = _generate(temperature=0.0)
  inside = _inside(out)
  scores = _teacher_forced(out, score=False)
  np.testing.assert_array_equal(
    out.response_ids[inside], scores.argmax(-1)[inside]
  )
  want = _teacher_forced(out)
  np.testing.assert_allclose(out.logp[inside], want[inside], atol=1e-4, rtol=0)
  first = out.response_ids[:, :1]
  np.testing.assert_array_equal(
    out.response_ids, np.broadcast_to(first, out.response_ids.shape)
  )


def test_a_response_ends_with_its_first_eos():
  out = _sampled()
  assert 0 < out.ended.mean() < 1
  last = np.take_along_axis(out.response_ids, out.length[..., None] - 1, -1)
  np.testing.assert_array_equal(np.isin(last[..., 0], EOS), out.ended)
  assert set(last[..., 0][out.ended]) == set(EOS)
  eos_tokens = np.isin(out.response_ids, EOS).sum(-1)
  np.testing.assert_array_equal(eos_tokens, out.ended)
  np.testing.assert_array_equal(out.length[~out.ended], MAX_TOKENS)


def test_nothing_but_padding_follows_the_end():
  out = _sampled()
  outside = ~_inside(out)
  assert outside.any()
  assert (out.response_ids[outside] == PAD).all()
  assert (out.logp[outside] == 0).all()
  assert (out.logp[~outside] < 0).all()


def test_caps_cut_the_uncapped_sample_without_compiling():
  whole = _sampled()
  watch = CompileWatch()
  for caps in (1, 7, [0, 1, 5, 10, 23, 24]):
    out = _generate(caps)
    limit = np.broadcast_to(caps, PROMPTS)[:, None]
    np.testing.assert_array_equal(out.length, np.minimum(whole.length, limit))
    np.testing.assert_array_equal(
      out.ended, whole.ended & (whole.length <= limit)
    )
    inside = _inside(out)
    np.testing.assert_array_equal(
      out.response_ids, np.where(inside, whole.response_ids, PAD)
    )
    np.testing.assert_array_equal(out.logp, np.where(inside, whole.logp, 0))
  assert watch.count == 0


def test_the_interval_of_checks_and_growing_rooms_change_nothing(monkeypatch):
  monkeypatch.setattr(decode, 'FIRST_ROOM', 5)
  shape = dataclasses.replace(SHAPE, check_every=3)
  assert shape.rooms() == (6, 12, 24)
  out, whole = _generate(shape=shape), _sampled()
  np.testing.assert_array_equal(out.response_ids, whole.response_ids)
  np.testing.assert_array_equal(out.length, whole.length)
  np.testing.assert_array_equal(out.ended, whole.ended)
  np.testing.assert_allclose(out.logp, whole.logp, atol=1e-5)


@pytest.mark.parametrize(
  'max_tokens, every, rooms',
  [
    (24, 5, (25,)),
    (64, 16, (64,)),
    (129, 16, (64, 128, 144)),
    (1000, 16, (64, 128, 256, 512, 1008)),
    (300, 200, (200, 400)),
    (1, 1, (1,)),
  ],
)
def test_rooms_double_up_to_the_last(max_tokens, every, rooms):
  shape = dataclasses.replace(SHAPE, max_tokens=max_tokens, check_every=every)
  assert shape.rooms() == rooms


def test_the_width_of_padding_changes_nothing():
  prompts = np.pad(_prompts(), ((0, 0), (0, 9)), constant_values=PAD)
  out = _generate(prompts=prompts)
  np.testing.assert_array_equal(out.response_ids, _sampled().response_ids)
  np.testing.assert_allclose(out.logp, _sampled().logp, atol=1e-5)


class TestDraw:
  """`decode.draw` against the law it is meant to follow."""

  SCORES = np.array([1.0, 0.0, -1.0, 2.0, 0.5, -3.0, 1.5, -0.5], np.float32)
  SHAPE = (400, 500)

  def _draw(self, temperature, position=0):
    problems = rng.name_hashes([str(i) for i in range(self.SHAPE[0])])
    keys = rng.sample_keys(rng.stream(3, 'draw'), problems, self.SHAPE[1])
    scores = np.broadcast_to(self.SCORES, (*self.SHAPE, len(self.SCORES)))
    ids, logp = jax.jit(decode.draw)(
      scores, keys, np.int32(position), np.float32(temperature)
    )
    return np.asarray(ids), np.asarray(logp)

  def _law(self, temperature):
    weights = np.exp(self.SCORES.astype(np.float64) / temperature)
    return weights / weights.sum()

  @pytest.mark.parametrize('temperature', [0.5, 1.0, 2.0])
  def test_follows_the_softmax(self, temperature):
    ids, logp = self._draw(temperature)
    law = self._law(temperature)
    expected = law * ids.size
    counts = np.bincount(ids.ravel(), minlength=len(law))
    # Chi-square, 7 degrees of freedom: above 24.3 with probability 0.001.
    assert ((counts - expected) ** 2 / expected).sum() < 24.3
    np.testing.assert_allclose(logp, np.log(law)[ids], atol=1e-5)

  def test_positions_are_independent(self):
    law = self._law(1.0)
    first, second = self._draw(1.0, 0)[0], self._draw(1.0, 1)[0]
    expected = np.outer(law, law) * first.size
    counts = np.zeros_like(expected)
    np.add.at(counts, (first.ravel(), second.ravel()), 1)
    # 63 degrees of freedom: above 103.4 with probability 0.001.
    assert ((counts - expected) ** 2 / expected).sum() < 103.4

  def test_samples_of_a_problem_are_independent(self):
    law = self._law(1.0)
    ids = self._draw(1.0)[0]
    expected = np.outer(law, law) * ids.size / 2
    counts = np.zeros_like(expected)
    np.add.at(counts, (ids[:, ::2].ravel(), ids[:, 1::2].ravel()), 1)
    assert ((counts - expected) ** 2 / expected).sum() < 103.4

  def test_temperature_zero_is_the_argmax_at_temperature_one(self):
    ids, logp = self._draw(0.0)
    assert (ids == 3).all()
    np.testing.assert_allclose(logp, np.log(self._law(1.0)[3]), atol=1e-6)
