"""How attention knows order: every scheme by hand, by loops and in use."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.models import attention, config, positions, transformer
from tests.models import attention_loop as loops
from tests.models import tiny

# Two packed rows with padding, one of a single sequence.
ROWS = ([4, 14, -2], [5, -15], [20])
OPTIONS = {
  'rope': {},
  'nope': {},
  'alibi': {},
  'hard_alibi': {},
  't5': {'query_width': 1.0},
  'lm_infinite': {'trained_positions': 6},
}
HEADS = [(4, 4), (6, 2), (4, 1)]
LONG = pytest.mark.long


def make_config(scheme, heads=(4, 2), **changes):
  fields = {'n_heads': heads[0], 'n_kv_heads': heads[1], 'positions': scheme}
  return loops.make_config(**fields | OPTIONS[scheme] | changes)


def inputs(cfg, rows=ROWS):
  at, segments = loops.layout(*rows)
  return at, segments, *loops.draw(cfg, *at.shape)


def test_every_scheme_is_tested_and_named():
  assert positions.SCHEMES.keys() == OPTIONS.keys() == set(config.POSITIONS)
  assert attention.KERNELS.keys() == set(config.ATTENTION)
  assert set(config.PLAIN_POSITIONS) < set(config.POSITIONS)
  assert set(config.PLAIN_ATTENTION) < set(config.ATTENTION)
  plain = {
    name
    for name, scheme in positions.SCHEMES.items()
    if scheme.scores is positions.SCHEMES['rope'].scores
  }
  assert plain == set(config.PLAIN_POSITIONS)


# By hand.


def test_alibi_slopes_as_published():
  """Press et al.: 1/2, 1/4 ... 1/256 for 8 heads; for 12 four more, between."""
  eight = [2**-1, 2**-2, 2**-3, 2**-4, 2**-5, 2**-6, 2**-7, 2**-8]
  np.testing.assert_array_equal(positions.slopes(8), eight)
  sixteen = positions.slopes(16)
  np.testing.assert_allclose(sixteen[:3], [0.70710678, 0.5, 0.35355339])
  between = [0.70710678, 0.35355339, 0.17677670, 0.08838835]
  np.testing.assert_allclose(positions.slopes(12), eight + between, rtol=1e-6)
  for heads in range(1, 40):
    np.testing.assert_allclose(
      positions.slopes(heads),
      [loops.slope(head, heads) for head in range(heads)],
      rtol=1e-6,
    )


def test_t5_buckets_by_hand():
  """0 to 15, then from 16 * 8^(n / 16): 18.2, 20.7, 23.6, 26.9, 30.6 ..."""
  starts = [16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113]
  expected = [*range(16)]
  for number, (start, end) in enumerate(
    zip(starts, [*starts[1:], 128], strict=True), start=16
  ):
    expected += [number] * (end - start)
  expected += [31] * 100
  found = positions.bucket(jnp.arange(228))
  assert found.dtype == jnp.int32
  np.testing.assert_array_equal(found, expected)
  assert [loops.bucket(d) for d in range(228)] == expected
  # What nobody may see has a bucket too.
  np.testing.assert_array_equal(positions.bucket(jnp.array([-1, -99])), 0)


@pytest.mark.parity
def test_t5_buckets_are_those_of_transformers():
  why = 'compares with transformers'
  torch = pytest.importorskip('torch', reason=why)
  pytest.importorskip('transformers', reason=why)
  from transformers.models.t5 import modeling_t5

  theirs = modeling_t5.T5Attention._relative_position_bucket(
    -torch.arange(5000), bidirectional=False, num_buckets=32, max_distance=128
  )
  np.testing.assert_array_equal(positions.bucket(jnp.arange(5000)), theirs)


def uniform(scheme, **changes):
  """Weights `[S, S]` per head of a row whose queries are all zero.

  Values are unit vectors that name their places.
  """
  cfg = make_config(scheme, (4, 4), **changes)
  length = cfg.head_dim
  at, segments = loops.layout([length])
  q, k, v, table = loops.draw(cfg, 1, length)
  v = jnp.broadcast_to(jnp.eye(length)[:, None], v.shape[1:])[None]
  out = loops.run(cfg, 0, at, segments, 0 * q, k, v, table)
  return np.moveaxis(np.asarray(out[0]), 1, 0), table


def test_alibi_by_hand():
  """Weights of zero products are powers of e^-m, for m of 1/4, 1/16 ..."""
  weights, _ = uniform('alibi')
  for head, slope in enumerate([2**-2, 2**-4, 2**-6, 2**-8]):
    expected = np.exp(-slope * np.array([2, 1, 0]))
    np.testing.assert_allclose(
      weights[head, 2, :3], expected / expected.sum(), rtol=1e-5
    )


def test_hard_alibi_by_hand():
  """Four heads: windows of 1 / 2^-4 and 1 / 2^-8 tokens, then none at all."""
  cfg = make_config('hard_alibi', (4, 4))
  at, segments = loops.layout([300])
  q, k, v, _ = loops.draw(cfg, 1, 300)
  v = jnp.broadcast_to(jnp.arange(300.0)[None, :, None, None], v.shape)
  out = loops.run(cfg, 0, at, segments, 0 * q, k, v)
  # The mean place of those seen by the last token.
  np.testing.assert_allclose(
    out[0, -1, :, 0], [(284 + 299) / 2, (44 + 299) / 2, 149.5, 149.5], rtol=1e-5
  )


def test_t5_by_hand():
  weights, table = uniform('t5')
  for head in range(4):
    expected = np.exp(np.asarray(table)[[2, 1, 0], head])
    np.testing.assert_allclose(
      weights[head, 2, :3], expected / expected.sum(), rtol=1e-5
    )


def test_without_positions_zero_products_are_uniform():
  for scheme in ('rope', 'nope'):
    weights, _ = uniform(scheme)
    expected = np.tri(8) / np.arange(1, 9)[:, None]
    np.testing.assert_allclose(weights, np.stack([expected] * 4), atol=1e-6)


# Loops.


@pytest.mark.parametrize('heads', HEADS, ids=str)
@pytest.mark.parametrize('scheme', OPTIONS)
def test_every_scheme_is_its_loop(scheme, heads):
  cfg = make_config(scheme, heads)
  given = inputs(cfg)
  found = loops.run(cfg, 0, *given)
  np.testing.assert_allclose(found, loops.loop(cfg, *given), atol=5e-6)


@pytest.mark.parametrize('scheme', OPTIONS)
def test_chunked_is_the_reference(monkeypatch, scheme):
  """Values and gradients; rows of 20 in chunks of 7, the last one padded."""
  monkeypatch.setattr(attention, 'CHUNK', 9)
  cfg = make_config(scheme, attention_softcap=2.0)
  given = inputs(cfg)
  expected = loops.gradients(cfg, *given)
  found = loops.gradients(dataclasses.replace(cfg, attention='chunked'), *given)
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize('scheme', ['alibi', 'hard_alibi', 't5'])
def test_schemes_go_with_windows_and_soft_caps(scheme):
  """The cap is of the product, not of what a scheme adds."""
  cfg = make_config(scheme, window=5, attention_softcap=0.5)
  given = inputs(cfg)
  found = loops.run(cfg, 0, *given)
  np.testing.assert_allclose(found, loops.loop(cfg, *given), atol=5e-6)


# Invariances.


@pytest.mark.parametrize('scheme', OPTIONS)
def test_packed_is_alone(scheme):
  cfg = make_config(scheme)
  at, segments, *qkv, table = inputs(cfg, ([7, 13],))
  packed = loops.run(cfg, 0, at, segments, *qkv, table)
  for start, end in ((0, 7), (7, 20)):
    alone = loops.run(
      cfg,
      0,
      at[:, start:end],
      np.ones((1, end - start), np.int32),
      *(x[:, start:end] for x in qkv),
      table,
    )
    np.testing.assert_allclose(packed[:, start:end], alone, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
  'heads', [pytest.param((4, 4), marks=LONG), (4, 1)], ids=str
)
@pytest.mark.parametrize('scheme', OPTIONS)
def test_cached_decoding_is_the_rows(scheme, heads):
  """Of 30 tokens, far beyond what LM-Infinite was trained on."""
  loops.assert_cached_is_rows(make_config(scheme, heads), length=30)


@pytest.mark.slow
@pytest.mark.parametrize(
  'scheme',
  [
    pytest.param(name, marks=() if name in ('t5', 'lm_infinite') else LONG)
    for name in OPTIONS
  ],
)
def test_a_model_decodes_what_it_is_taught(scheme):
  """The whole model, with prompts and responses of different lengths."""
  cfg = tiny.make_config(positions=scheme, **OPTIONS[scheme])
  params = tiny.make_params(cfg)
  prompts = tiny.sequences((3, 6), seed=2)
  responses = [tiny.sequences((4,), seed=3), tiny.sequences((17,), seed=4)]
  found = tiny.cached_logits(cfg, params, prompts, responses)
  for prompt, (response,), (ours,) in zip(
    prompts, responses, found, strict=True
  ):
    whole = np.concatenate([prompt, response])
    forced = tiny.forced_logits(cfg, params, whole, 24)
    np.testing.assert_allclose(ours, forced[len(prompt) - 1 :], atol=2e-5)
    assert forced.std() > 0.3


@pytest.mark.parametrize('scheme', ['rope', 'nope', 'alibi', 't5'])
@hypothesis.given(shift=st.integers(0, 5000))
@hypothesis.settings(max_examples=10, deadline=None)
def test_only_the_distance_counts(scheme, shift):
  cfg = make_config(scheme)
  at, *given = inputs(cfg)
  found = loops.run(cfg, 0, at + np.int32(shift), *given)
  # An angle of 5000 radians is right to 5000 * 2^-24.
  np.testing.assert_allclose(
    found, loops.run(cfg, 0, at, *given), atol=3e-3 if scheme == 'rope' else 0
  )


@pytest.mark.parametrize('scheme', ['rope', 'alibi', 't5', 'lm_infinite'])
def test_the_distance_does_count(scheme):
  cfg = make_config(scheme)
  at, *given = inputs(cfg)
  found = loops.run(cfg, 0, 2 * at, *given)
  assert np.abs(found - loops.run(cfg, 0, at, *given)).max() > 0.05


def test_without_an_encoding_order_does_not_count():
  """What the last token of each sequence sees may come in any order."""
  cfg = make_config('nope')
  at, segments, q, k, v, _ = inputs(cfg, ([20],))
  order = np.random.default_rng(0).permutation(20)
  found = loops.run(cfg, 0, at, segments, q, k[:, order], v[:, order])
  expected = loops.run(cfg, 0, at, segments, q, k, v)
  np.testing.assert_allclose(found[:, -1], expected[:, -1], atol=1e-6)


# LM-Infinite.


def test_within_its_training_length_lm_infinite_is_rope():
  given = inputs(make_config('rope'))
  found = loops.run(make_config('lm_infinite', trained_positions=20), 0, *given)
  expected = loops.run(make_config('rope'), 0, *given)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  # 19 tokens back is now as far as 18.
  shorter = loops.run(
    make_config('lm_infinite', trained_positions=18), 0, *given
  )
  assert np.abs(shorter[2, -1] - expected[2, -1]).max() > 1e-3
  np.testing.assert_allclose(shorter[:2], expected[:2], atol=1e-6)


def test_lm_infinite_sees_the_start_and_its_window_in_one_softmax():
  """Of 40 tokens with zero queries: the first 10 and the last 6, 1/16 each."""
  cfg = make_config('lm_infinite', (2, 1), head_dim=40, max_positions=40)
  at, segments = loops.layout([40])
  q, k, v, _ = loops.draw(cfg, 1, 40)
  v = jnp.eye(40)[None, :, None]
  weights = loops.run(cfg, 0, at, segments, 0 * q, k, v)[0, :, 0]
  expected = np.zeros(40)
  expected[:10] = expected[-6:] = 1 / 16
  np.testing.assert_allclose(weights[-1], expected, atol=1e-6)
  # Token 12 is in both windows' reach: 0 to 9, and 7 to 12.
  np.testing.assert_allclose(weights[12, :13], 1 / 13, atol=1e-6)


def test_lm_infinite_bounds_the_distance():
  """However far the start is, its scores are those of distance 6."""
  cfg = make_config('lm_infinite', (2, 1))
  q, k, v, _ = loops.draw(cfg, 1, 2)
  segments = np.ones((1, 2), np.int32)
  run = lambda distance: loops.run(
    cfg, 0, np.array([[0, distance]], np.int32), segments, q, k, v
  )
  at_limit = run(6)
  for distance in (7, 100, 60_000):
    np.testing.assert_allclose(run(distance), at_limit, atol=1e-6)
  rope = loops.run(
    make_config('rope', (2, 1)), 0, np.array([[0, 6]]), segments, q, k, v
  )
  np.testing.assert_allclose(at_limit, rope, atol=1e-6)
  assert np.abs(run(5) - at_limit).max() > 1e-3


def test_lm_infinite_keeps_the_factor_of_its_rope():
  """YaRN multiplies both sides of a product, the far ones too."""
  which = dataclasses.replace(
    loops.make_config().rope,
    kind='yarn',
    settings=(('factor', 4.0), ('original_max_position_embeddings', 64)),
  )
  cfg = make_config('lm_infinite', rope=which)
  given = inputs(cfg)
  found = loops.run(cfg, 0, *given)
  np.testing.assert_allclose(found, loops.loop(cfg, *given), atol=5e-6)


# Randomised positions.


@pytest.mark.parametrize('limit', [12, 13, 40])
def test_randomised_positions_of_packed_rows(limit):
  """Increasing within each sequence, below the limit; 0 for padding."""
  segments = np.array([[1] * 5 + [2] * 7, [1] * 2 + [2] + [3] * 6 + [0] * 3])
  found = np.asarray(
    positions.randomised(jax.random.key(limit), segments, limit)
  )
  assert found.dtype == np.int32 and found.shape == segments.shape
  assert not found[segments == 0].any()
  for row, numbers in zip(found, segments, strict=True):
    for number in range(1, numbers.max() + 1):
      mine = row[numbers == number]
      assert (np.diff(mine) > 0).all()
      assert mine[0] >= 0 and mine[-1] < limit


def test_all_positions_there_are():
  segments = np.ones((3, 9), int)
  found = positions.randomised(jax.random.key(0), segments, 9)
  np.testing.assert_array_equal(found, [np.arange(9)] * 3)


def test_randomised_positions_are_uniform_subsets():
  """Of 2 out of 4 positions all six pairs occur, about as often.

  In either sequence of the row, and of either pair with every other.
  """
  segments = np.array([[1, 1, 2, 2]] * 3000)
  found = np.asarray(positions.randomised(jax.random.key(0), segments, 4))
  expected = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
  for half in (found[:, :2], found[:, 2:]):
    pairs, counts = np.unique(half, axis=0, return_counts=True)
    assert pairs.tolist() == expected
    # Five standard deviations, (3000 * 1/6 * 5/6)^(1/2) = 20.4 each.
    assert np.abs(counts - 500).max() < 102
  both, counts = np.unique(found, axis=0, return_counts=True)
  # Of 36, (3000 / 36)^(1/2) = 9.1 each.
  assert len(both) == 36 and np.abs(counts - 3000 / 36).max() < 46


def test_more_randomised_positions_than_there_are():
  with pytest.raises(UserError, match=r'5 tokens .*limit=4; raise the limit'):
    positions.randomised(jax.random.key(0), np.ones((1, 5), int), 4)


def test_a_model_takes_randomised_positions():
  """Not their differences alone: a gap is seen."""
  cfg = tiny.make_config(positions='rope')
  params = tiny.make_params(cfg)
  tokens, at, segments = tiny.pack([tiny.sequences((9,))], 9)
  spread = positions.randomised(jax.random.key(1), segments, 64)
  plain, _ = transformer.apply(cfg, params, tokens, at, segments)
  other, _ = transformer.apply(cfg, params, tokens, spread, segments)
  assert jnp.isfinite(other).all()
  assert jnp.abs(plain - other).max() > 0.1
