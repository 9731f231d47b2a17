"""Numbers, laws and comparisons that the tests of truncation share."""

import jax
import numpy as np
import pytest

from lrm_jax.sampler import truncation
from lrm_jax.sampler.truncation_rules import Rules
from tests.sampler import truncation_reference as reference

truncate = jax.jit(truncation.truncate, static_argnames='most')

# One of each that takes something away and leaves something, and the other
# ends of their ranges.
NUMBERS = {
  'top_n_sigma': (1.0, 0.3, 2.0),
  'top_h': (0.4, 0.1, 0.9),
  'top_h_cumulative': (0.4, 0.1, 0.9),
  'min_p': (0.1, 0.01, 1.0),
  'top_k': (5, 1, 1000),
  'top_p': (0.81, 0.01, 0.99),
  'typical': (0.51, 0.01, 0.95),
  'epsilon': (0.02, 3e-4, 0.9),
  'eta': (0.02, 3e-4, 0.9),
}

# Each takes a little.
MILD = {
  'top_n_sigma': 2.2,
  'top_h': 0.97,
  'top_h_cumulative': 0.95,
  'min_p': 0.01,
  'top_k': 20,
  'top_p': 0.97,
  'typical': 0.95,
  'epsilon': 0.02,
  'eta': 0.04,
}

# Out of order; by rank 1/2, 1/4, 1/8, 1/8 are the ids 2, 0, 1, 3. In units of
# ln 2 the entropy is 1/2 + 2/4 + 3/8 + 3/8 = 1.75, which is 1.2130 nats.
HALVES = np.log([0.25, 0.125, 0.5, 0.125])


def laws(rows, vocab, seed=0):
  """Logits from nearly flat to nearly certain."""
  random = np.random.default_rng(seed)
  width = random.uniform(0.5, 6, (rows, 1))
  return (random.normal(size=(rows, vocab)) * width).astype(np.float32)


def as_sets(kept):
  """`{id: logp}` of every row."""
  kept = jax.device_get(kept)
  width = kept.ids.shape[-1]
  flat = [x.reshape(-1, width) for x in (kept.ids, kept.logp, kept.is_kept)]
  return [
    dict(zip(ids[mask].tolist(), logp[mask].tolist(), strict=True))
    for ids, logp, mask in zip(*flat, strict=True)
  ]


def assert_is_reference(scores, temperature, settings, most=None):
  """`temperature` and `settings` are scalars, or of one number per row."""
  settings = {k: np.asarray(v) for k, v in settings.items()}
  kept = truncate(scores, temperature, Rules(**settings), most=most)
  assert kept.ids.shape[-1] == min(most or np.inf, scores.shape[-1])
  temperature = np.broadcast_to(temperature, len(scores))
  for row, found in enumerate(as_sets(kept)):
    own = {k: v.flat[row if v.size > 1 else 0] for k, v in settings.items()}
    heat = float(temperature[row])
    logp, mass = reference.truncate(scores[row], heat, own, most)
    assert set(found) == set(logp), (row, own)
    for i, value in logp.items():
      assert found[i] == pytest.approx(value, abs=2e-5, rel=1e-5)
    assert kept.mass[row] == pytest.approx(mass, rel=1e-4, abs=1e-7)


def kept_by(scores, temperature=1.0, most=None, **settings):
  """Kept ids of one row, as a sorted list."""
  kept = truncate(np.float32(scores), temperature, Rules(**settings), most=most)
  (found,) = as_sets(kept)
  return sorted(found)
