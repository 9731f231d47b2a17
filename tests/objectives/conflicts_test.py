"""GTPO by hand; `credit_test` compares it with the loops."""

import math

import numpy as np

from lrm_jax.objectives import conflicts
from tests.objectives.credit_test import group


def run(words, advantages, name='gtpo', entropy=0.0, **keywords):
  rollouts, advantage, mask = group(words, advantages)
  function = getattr(conflicts, name)
  keywords = {'entropy_scale': 0.0} | keywords
  (found,), kept = function(
    rollouts, advantage, mask, entropy * mask, **keywords
  )
  np.testing.assert_array_equal(kept, mask)
  return np.asarray(found)[0]


def test_conflicts_by_hand():
  # `ab` begins all; `z` ends the first two. The third is alone with its `y`.
  found = run(['abcz', 'abdez', 'aby'], [1, -1, -1])
  np.testing.assert_array_equal(found[0, :4], [2, 2, 1, 2])
  np.testing.assert_array_equal(found[1, :5], [0, 0, -1, -1, 0])
  np.testing.assert_array_equal(found[2, :3], [0, 0, -1])


def test_a_token_of_both_runs_counts_four_times():
  found = run(['ab', 'ab'], [1, -1])
  np.testing.assert_array_equal(found, [[4, 4], [0, 0]])
  # In the code each is one conflict token of two.
  found = run(['ab', 'ab'], [1, -1], 'gtpo_released')
  np.testing.assert_array_equal(found, [[2, 2], [0, 0]])


def test_a_run_ends_where_they_first_differ():
  # `c` stands at the same place again, behind a difference: no conflict.
  found = run(['axcx', 'aycy'], [1, -1])
  np.testing.assert_array_equal(found, [[2, 1, 1, 1], [0, -1, -1, -1]])


def test_ids_of_one_sign_are_no_conflict():
  found = run(['ab', 'ab', 'cd'], [1, 1, -1])
  np.testing.assert_array_equal(found, [[1, 1], [1, 1], [-1, -1]])


def test_a_dropped_response_is_in_no_conflict():
  rollouts, advantage, mask = group(['ab', 'ab'], [1, -1])
  mask = mask.copy()
  mask[0, 1] = 0
  (found,), _ = conflicts.gtpo(
    rollouts, advantage * mask, mask, 0 * mask, entropy_scale=0.0
  )
  np.testing.assert_array_equal(found, [[[1, 1], [0, 0]]])


def test_the_entropy_filter_and_both_published_limits():
  # Mean entropy 0.695, between ln 2 = 0.6931 of the paper and 0.7 of the code.
  found = run(['ab', 'cd'], [1, -1], entropy=0.695, entropy_scale=0.1)
  np.testing.assert_array_equal(found, 0)
  found = run(
    ['ab', 'cd'], [1, -1], 'gtpo_released', entropy=0.695, entropy_scale=0.1
  )
  np.testing.assert_allclose(found, [[0.9305] * 2, [-1.0695] * 2], rtol=1e-5)
  found = run(
    ['ab', 'cd'],
    [1, -1],
    entropy=0.695,
    entropy_scale=0.1,
    entropy_limit=math.inf,
  )
  np.testing.assert_allclose(found[0], 0.9305, rtol=1e-5)
