"""Corrections: by hand, the loops, and policies that agree."""

import functools
import math

import jax
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import corrections, tables
from tests.objectives import reference
from tests.objectives.reference import corrections as expected_corrections

KEYWORDS = {
  'uncorrected': {},
  'token_truncated': {'cap': 1.3},
  'sequence_truncated': {'cap': 1.3},
  'token_masked': {'low': 0.7, 'high': 1.4},
  'sequence_masked': {'cap': 1.3},
}
EVERY = {
  name: jax.jit(functools.partial(tables.CORRECTIONS[name], **keywords))
  for name, keywords in KEYWORDS.items()
}


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('seed', range(3))
def test_equals_the_loops(name, seed):
  old_logp, sampler_logp, _, _, mask = reference.batch(seed)
  # What lies outside the mask may be anything.
  sampler_logp = np.where(mask > 0, sampler_logp, np.nan)
  weight, kept = EVERY[name](old_logp, sampler_logp, mask)
  expected, expected_mask = getattr(expected_corrections, name)(
    old_logp, sampler_logp, mask, **KEYWORDS[name]
  )
  np.testing.assert_allclose(
    np.where(mask > 0, weight, 1), np.where(mask > 0, expected, 1), rtol=1e-5
  )
  np.testing.assert_array_equal(kept, expected_mask)
  assert np.isfinite(weight).all()
  if name.endswith('masked'):
    assert 0 < np.sum(kept) < mask.sum()


@pytest.mark.parametrize('name', EVERY)
def test_the_same_policy_weighs_1(name):
  old_logp, *_, mask = reference.batch(0)
  weight, kept = EVERY[name](old_logp, old_logp, mask)
  np.testing.assert_array_equal(weight, 1)
  np.testing.assert_array_equal(kept, mask)


def test_by_hand():
  ones = np.ones((1, 1, 2), np.float32)
  old_logp = np.log(np.float32([[[4, 0.25]]]))
  weight, _ = corrections.token_truncated(old_logp, 0 * ones, ones)
  np.testing.assert_allclose(weight, [[[2, 0.25]]], rtol=1e-6)
  weight, _ = corrections.sequence_truncated(old_logp, 0 * ones, ones)
  np.testing.assert_allclose(weight, 1, rtol=1e-6)
  _, kept = corrections.token_masked(old_logp, 0 * ones, ones)
  np.testing.assert_array_equal(kept, [[[1, 0]]])
  weight, kept = corrections.sequence_masked(old_logp + 1, 0 * ones, ones)
  np.testing.assert_allclose(weight, math.exp(2), rtol=1e-6)
  np.testing.assert_array_equal(kept, 0)


@pytest.mark.parametrize(
  ('name', 'keys', 'message'),
  [
    ('token_truncated', {'cap': 0.5}, 'token_truncated: cap = 0.5; give at'),
    (
      'sequence_truncated',
      {'cap': 0.5},
      'sequence_truncated: cap = 0.5; give at least 1',
    ),
    ('token_masked', {'low': 1.5}, 'token_masked: low = 1.5; give one from 0'),
    ('token_masked', {'high': 0.5}, 'token_masked: high = 0.5; give at least'),
    ('sequence_masked', {'cap': 0.5}, 'sequence_masked: cap = 0.5; give at '),
  ],
)
def test_bounds_that_leave_out_a_ratio_of_1(name, keys, message):
  ones = np.ones((1, 1, 2), np.float32)
  with pytest.raises(UserError) as error:
    tables.CORRECTIONS[name](ones, ones, ones, **keys)
  assert str(error.value).startswith(message)
