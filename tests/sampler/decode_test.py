"""The compiled sampler against the teacher-forced transformer."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.compilation import CompileWatch
from lrm_jax.models import output_head, transformer
from lrm_jax.sampler import engine
from tests import tiny

PROMPTS, WIDTH, MAX_TOKENS = 6, 8, 24
VOCAB, PAD = 48, 0
# Two of 48: about every second response ends within its room.
EOS = (5, 6)
CONFIG = tiny.config(vocab_size=VOCAB)
PARAMS = tiny.params(CONFIG)
SAMPLES = 4
PROMPT_LENGTH = np.array([8, 3, 1, 5, 7, 2], np.int32)


def _prompts(width=WIDTH):
  ids = np.random.default_rng(0).integers(7, VOCAB, (PROMPTS, width))
  outside = np.arange(width) >= PROMPT_LENGTH[:, None]
  return np.where(outside, PAD, ids).astype(np.int32)


@functools.cache
def _sampler(round_tokens=8):
  return engine.Sampler(
    CONFIG,
    samples=SAMPLES,
    slots=16,
    max_prompt_tokens=20,
    max_tokens=MAX_TOKENS,
    eos_ids=EOS,
    pad_id=PAD,
    think_close_ids=(9,),
    round_tokens=round_tokens,
  )


def _generate(caps=MAX_TOKENS, temperature=1.0, round_tokens=8, prompts=None):
  return _sampler(round_tokens).generate(
    PARAMS,
    _prompts() if prompts is None else prompts,
    PROMPT_LENGTH,
    problem_ids=[str(i) for i in range(PROMPTS)],
    caps=np.broadcast_to(np.asarray(caps, np.int32), PROMPTS),
    key=rng.stream(0, 'test'),
    temperature=temperature,
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
    return output_head.token_logp(
      CONFIG, params, hidden, targets, temperature=temperature
    )[0]
  return output_head.logits(CONFIG, params, hidden)


def _teacher_forced(out, temperature=1.0, score=True):
  """`[B, G, T]` log-probabilities of the responses, or `[B, G, T, V]`."""
  width = WIDTH + MAX_TOKENS
  tokens = np.zeros((PROMPTS, SAMPLES, width + 1), np.int32)
  prompts = _prompts()
  for b, length in enumerate(PROMPT_LENGTH):
    tokens[b, :, :length] = prompts[b, :length]
    tokens[b, :, length : length + MAX_TOKENS] = out.response_ids[b]
  flat = tokens.reshape(-1, width + 1)
  positions = np.broadcast_to(np.arange(width), (len(flat), width))
  values = np.asarray(
    _forward(PARAMS, flat[:, :-1], positions, flat[:, 1:], temperature, score)
  ).reshape(PROMPTS, SAMPLES, width, *(() if score else (VOCAB,)))
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
  assert 0 < out.truncated.mean() < 1
  last = np.take_along_axis(out.response_ids, out.length[..., None] - 1, -1)
  np.testing.assert_array_equal(np.isin(last[..., 0], EOS), ~out.truncated)
  assert set(last[..., 0][~out.truncated]) == set(EOS)
  eos_tokens = np.isin(out.response_ids, EOS).sum(-1)
  np.testing.assert_array_equal(eos_tokens, ~out.truncated)
  np.testing.assert_array_equal(out.length[out.truncated], MAX_TOKENS)


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
      ~out.truncated, ~whole.truncated & (whole.length <= limit)
    )
    inside = _inside(out)
    np.testing.assert_array_equal(
      out.response_ids, np.where(inside, whole.response_ids, PAD)
    )
    np.testing.assert_array_equal(out.logp, np.where(inside, whole.logp, 0))
  assert watch.count == 0


@pytest.mark.parametrize(
  'round_tokens', [1, pytest.param(4, marks=pytest.mark.long), 32]
)
def test_the_length_of_a_round_changes_nothing(round_tokens):
  out, whole = _generate(round_tokens=round_tokens), _sampled()
  np.testing.assert_array_equal(out.response_ids, whole.response_ids)
  np.testing.assert_array_equal(out.length, whole.length)
  np.testing.assert_array_equal(out.truncated, whole.truncated)
  np.testing.assert_allclose(out.logp, whole.logp, atol=1e-5)


def test_the_width_of_padding_changes_nothing():
  prompts = np.pad(_prompts(), ((0, 0), (0, 9)), constant_values=PAD)
  out = _generate(prompts=prompts)
  np.testing.assert_array_equal(out.response_ids, _sampled().response_ids)
  np.testing.assert_allclose(out.logp, _sampled().logp, atol=1e-5)


def test_what_other_rounds_left_behind_does_not_matter():
  """The scratch is written before it is read, but for its last row."""
  whole, sampler = _sampled(), _sampler(8)
  spoil = lambda x: x.at[:-1].set(jax.numpy.nan)
  sampler._states = [
    dataclasses.replace(state, scratch=jax.tree.map(spoil, state.scratch))
    for state in sampler._states
  ]
  out = _generate()
  np.testing.assert_array_equal(out.response_ids, whole.response_ids)
  np.testing.assert_array_equal(out.logp, whole.logp)
