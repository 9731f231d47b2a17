"""Segments that continue a shared one, against whole sequences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.models import attention
from tests.models import attention_loop as loops

SCHEMES = {
  'rope': {},
  'window': {'window': 4},
  'softcap': {'attention_softcap': 0.8},
  'alibi': {'positions': 'alibi'},
  't5': {'positions': 't5'},
  'lm_infinite': {'positions': 'lm_infinite', 'trained_positions': 4},
}
KERNELS = ('reference', 'chunked', 'dot_product')
CASES = [
  (kernel, scheme)
  for kernel in KERNELS
  for scheme in SCHEMES
  if kernel != 'dot_product' or scheme in ('rope', 'window')
]
# A prefix of three tokens that two segments continue, and another sequence.
AT = np.array([[0, 1, 2, 3, 4, 5, 3, 4, 0, 1, 0]])
SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 0]])
PREFIXES = np.array([[1, 1, 1, 1, 1, 1, 1, 1, 4, 4, 0]])
# Places of the whole sequences.
WHOLE = ([0, 1, 2, 3, 4, 5], [0, 1, 2, 6, 7], [8, 9])


@pytest.fixture
def two_chunks(monkeypatch):
  monkeypatch.setattr(attention, 'CHUNK', 4)
  monkeypatch.setattr(attention, 'PARTS', 2)


@pytest.mark.parametrize(('kernel', 'scheme'), CASES)
def test_a_continued_segment_is_a_whole_sequence(two_chunks, kernel, scheme):
  config = loops.make_config(n_kv_heads=2, attention=kernel, **SCHEMES[scheme])
  q, k, v, table = loops.draw(config, *AT.shape)
  rows = attention.make_rows(config, AT, SEGMENTS, table, PREFIXES)
  over_rows = jax.jit(attention.over_rows(config), static_argnums=1)
  found, _ = over_rows(rows, 0, q, k, v)
  for places in WHOLE:
    each = [np.asarray(x)[:, places] for x in (q, k, v)]
    ones = np.ones((1, len(places)), int)
    expected = loops.loop(config, AT[:, places], ones, *each, table)
    np.testing.assert_allclose(found[:, places], expected, atol=2e-6)


@pytest.mark.parametrize('kernel', KERNELS)
def test_gradients_stay_within_a_sequence(two_chunks, kernel):
  """A prefix learns from both that continue it, these not from each other."""
  config = loops.make_config(attention=kernel)
  q, k, v, table = loops.draw(config, *AT.shape)
  rows = attention.make_rows(config, AT, SEGMENTS, table, PREFIXES)

  def second(k, v):
    return attention.over_rows(config)(rows, 0, q, k, v)[0][:, 6:8].sum()

  for slopes in jax.jit(jax.grad(second, argnums=(0, 1)))(k, v):
    moved = jnp.abs(slopes).max(axis=(0, 2, 3)) > 0
    assert moved.tolist() == [True] * 3 + [False] * 3 + [True] * 2 + [False] * 3


@pytest.mark.parametrize('parts', [1, 2, 8])
def test_chunks_and_parts_change_nothing(monkeypatch, parts):
  """Gradients of the learned bias as well; 11 tokens in chunks of 2."""
  monkeypatch.setattr(attention, 'CHUNK', 2)
  monkeypatch.setattr(attention, 'PARTS', parts)
  config = loops.make_config(positions='t5')
  *qkv, table = loops.draw(config, *AT.shape)

  def slopes(name):
    changed = dataclasses.replace(config, attention=name)

    def loss(table, *qkv):
      rows = attention.make_rows(changed, AT, SEGMENTS, table, PREFIXES)
      out, _ = attention.over_rows(changed)(rows, 0, *qkv)
      return jnp.sum(out * jnp.cos(jnp.arange(out.size)).reshape(out.shape))

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(table, *qkv)

  found, expected = slopes('chunked'), slopes('reference')
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.abs(other).max() > 0.1


def test_splash_has_no_prefixes():
  config = loops.make_config(attention='splash')
  q, k, v, _ = loops.draw(config, *AT.shape)
  rows = attention.make_rows(config, AT, SEGMENTS, None, PREFIXES)
  with pytest.raises(
    UserError, match="attention='splash' keeps segments apart"
  ):
    attention.over_rows(config)(rows, 0, q, k, v)
