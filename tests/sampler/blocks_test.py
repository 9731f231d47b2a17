"""Pools that are read in blocks, as accelerators do, against segments."""

import dataclasses

import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.models import cache
from lrm_jax.sampler import engine, layout
from tests import tiny

N, WIDTH, MAX_TOKENS, SAMPLES, EOS = 6, 40, 150, 3, 5
CONFIG = tiny.config(vocab_size=64, n_layers=2, max_positions=256)
PROMPTS = np.random.default_rng(2).integers(6, 64, (N, WIDTH)).astype(np.int32)
LENGTH = np.array([40, 33, 3, 32, 17, 1], np.int32)


def generate(block, **changes):
  """Six prompts; little room, so that pages are moved and taken back."""
  sampler = engine.Sampler(
    CONFIG,
    samples=SAMPLES,
    slots=12,
    max_prompt_tokens=WIDTH,
    max_tokens=MAX_TOKENS,
    kv_tokens=32 * cache.PAGE,
    eos_ids=(EOS,),
    pad_id=0,
    think_close_ids=(9,),
    lanes=1,
    **changes,
  )
  sampler.layout = dataclasses.replace(sampler.layout, block=block)
  params = tiny.params(CONFIG)
  params = params | {'head': np.array(params['head'])}
  params['head'][:, EOS] *= 0.3
  found = sampler.generate(
    params,
    PROMPTS,
    LENGTH,
    problem_ids=[f'problem-{row}' for row in range(N)],
    caps=np.array([150, 3, 65, 150, 64, 140]),
    key=rng.stream(0, 'blocks'),
  )
  return found, sampler.stats


@pytest.mark.parametrize('kv_dtype', ['compute', 'int8'])
def test_blocks_give_what_segments_do(kv_dtype):
  segments, _ = generate(0, kv_dtype=kv_dtype)
  blocks, stats = generate(16, kv_dtype=kv_dtype)
  assert (segments.length > 3 * cache.PAGE).sum() >= 4
  np.testing.assert_array_equal(blocks.response_ids, segments.response_ids)
  np.testing.assert_array_equal(blocks.length, segments.length)
  # Sums of pages are added up in another order.
  np.testing.assert_allclose(blocks.logp, segments.logp, atol=2e-6)
  # Of little room a sample was begun again.
  assert stats.preempted


def test_a_block_is_a_part_of_the_only_segment():
  assert cache.segment_sizes(33, block=16) == (48,)
  assert cache.read_sizes(33, block=16) == (16, 16, 16)
  assert cache.read_sizes(33, block=0) == cache.segment_sizes(33)
  assert cache.segment_sizes(0, block=16) == ()


@pytest.mark.parametrize(
  ('platform', 'block', 'widths'),
  [('cpu', 0, (16, 32, 64)), ('tpu', 512, (64,)), ('gpu', 512, (64,))],
)
def test_accelerators_read_blocks(platform, block, widths):
  made = layout.make_layout(
    platform=platform,
    samples=4,
    fewest_samples=4,
    slots=64,
    max_prompt_tokens=64,
    max_tokens=4096,
    kv_tokens=0,
    at_once=0,
    round_tokens=8,
    eos_ids=(),
    close_ids=(),
    ending_ids=(),
    rules=(),
    most=None,
    kept=0,
    kv_dtype='compute',
  )
  assert (made.block, made.widths) == (block, widths)
