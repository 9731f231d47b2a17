"""One token per row, by the law of its logits."""

import jax
import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.sampler import draw


class TestDraw:
  """`draw` against the law it is meant to follow."""

  SCORES = np.array([1.0, 0.0, -1.0, 2.0, 0.5, -3.0, 1.5, -0.5], np.float32)
  SHAPE = (400, 500)

  def _draw(self, temperature, position=0):
    problems = rng.name_hashes([str(i) for i in range(self.SHAPE[0])])
    keys = rng.sample_keys(rng.stream(3, 'draw'), problems, self.SHAPE[1])
    keys = keys.reshape(-1, 2)
    scores = np.broadcast_to(self.SCORES, (len(keys), len(self.SCORES)))
    whole = lambda value, dtype: np.full(len(keys), value, dtype)
    ids, logp, *_ = jax.jit(draw.draw)(
      scores, keys, whole(position, np.int32), whole(temperature, np.float32)
    )
    reshape = lambda x: np.asarray(x).reshape(self.SHAPE)
    return reshape(ids), reshape(logp)

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


class TestPick:
  @pytest.mark.parametrize(
    'weights, uniform, entry',
    [
      ([1, 1, 2], 0.0, 0),
      ([1, 1, 2], 0.24, 0),
      ([1, 1, 2], 0.25, 1),
      ([1, 1, 2], 0.5, 2),
      ([1, 1, 2], 1 - 2**-23, 2),
      # Weights of 0 are never met, at either end or between.
      ([0, 0, 1], 0.0, 2),
      ([1, 0, 0], 1 - 2**-23, 0),
      ([1, 0, 1], 0.5, 2),
    ],
  )
  def test_the_entry_in_which_the_number_falls(self, weights, uniform, entry):
    weights = np.array([weights], np.float32)
    found = draw.pick(weights, np.array([uniform], np.float32))
    assert found.tolist() == [entry]


@pytest.mark.parametrize('vocabulary', [1, 127, 128, 129, 1000])
def test_vocabularies_of_any_size(vocabulary):
  """The last token is drawn, and no token that does not exist."""
  rows = 4000
  scores = np.zeros((rows, vocabulary), np.float32)
  keys = np.asarray(
    jax.random.key_data(jax.random.split(jax.random.key(1), rows))
  )
  ids, logp, *_ = draw.draw(
    scores, keys, np.zeros(rows, np.int32), np.ones(rows, np.float32)
  )
  assert ids.min() >= 0 and ids.max() < vocabulary
  np.testing.assert_allclose(logp, -np.log(vocabulary), atol=1e-5)
  if vocabulary <= 129:
    assert len(np.unique(ids)) == vocabulary


def test_rare_tokens_are_as_rare_as_they_should_be():
  """Beyond the 23 bits of one uniform number: 2^-20 each, a million rows."""
  rows, rare = 2**18, 512
  law = np.full(128 + rare, 2.0**-16)
  law[:128] = (1 - rare * 2.0**-16) / 128
  scores = np.broadcast_to(np.log(law).astype(np.float32), (rows, len(law)))
  keys = np.asarray(
    jax.random.key_data(jax.random.split(jax.random.key(2), rows))
  )
  ids, *_ = jax.jit(draw.draw)(
    scores, keys, np.zeros(rows, np.int32), np.ones(rows, np.float32)
  )
  expected = rows * rare * 2.0**-16
  found = int((np.asarray(ids) >= 128).sum())
  assert abs(found - expected) < 4 * np.sqrt(expected)
