"""The law over a stored set, under new logits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.models.output_head import ABSENT
from lrm_jax.sampler import truncation
from lrm_jax.sampler.truncation_rules import Rules
from tests.sampler import truncation_cases as cases

# --- Replay of a stored set ---


def chosen_of(kept, rank):
  """The kept id of a rank in every row, and its log-probability."""
  order = np.argsort(~np.asarray(kept.is_kept), axis=-1, kind='stable')
  at = order[:, rank][:, None]
  take = lambda x: np.take_along_axis(np.asarray(x), at, axis=-1)[:, 0]
  assert take(kept.is_kept).all()
  return take(kept.ids), take(kept.logp)


@pytest.mark.parametrize('temperature', [0.6, 1.0, 2.0])
@pytest.mark.parametrize('rank', [0, 1])
def test_the_sampler_s_own_logits_give_its_own_logp(temperature, rank):
  scores = cases.laws(80, 60, 8)
  kept = cases.truncate(
    scores, temperature, Rules(top_k=8, typical=0.98), most=32
  )
  is_wide = np.sum(kept.is_kept, axis=-1) > rank
  kept = jax.tree.map(lambda x: x[is_wide], kept)
  scores = scores[is_wide]
  chosen, logp = chosen_of(kept, rank)
  found = truncation.renormalize(
    scores / np.float32(temperature), kept.ids, kept.is_kept, chosen
  )
  np.testing.assert_allclose(found, logp, atol=1e-5)


def test_replay_by_hand():
  """Of 4, 3, 2, 1 tenths the stored set is the ids 2 and 0: 2/3 is of 0."""
  scores = np.log(np.float32([0.4, 0.3, 0.2, 0.1]))
  ids, is_kept = np.int32([2, 0, 9, 0]), np.bool_([True, True, False, False])
  replay = lambda chosen: truncation.renormalize(
    scores, ids, is_kept, np.int32(chosen)
  )
  np.testing.assert_allclose(replay(0), np.log(2 / 3), rtol=1e-6)
  np.testing.assert_allclose(replay(2), np.log(1 / 3), rtol=1e-6)
  # Not among them, so with them: 3 of 4 + 2 + 3.
  np.testing.assert_allclose(replay(1), np.log(1 / 3), rtol=1e-6)


def test_replay_of_a_single_id_is_certain():
  """Nothing can move it, and nothing does. The padding is not read."""
  scores = np.float32([1.0, 2.0, 3.0])
  ids, is_kept = np.int32([2, 99, -99]), np.bool_([1, 0, 0])
  with jax.debug_nans(True):
    value, slope = jax.value_and_grad(truncation.renormalize)(
      scores, ids, is_kept, np.int32(2)
    )
  assert value == 0
  np.testing.assert_array_equal(slope, 0)


def test_replay_keeps_the_set_under_other_logits():
  """The new logits' own two likeliest are others."""
  old = np.float32([3, 2, 1, 0])
  new = np.float32([0, 1, 2, 3])
  kept = cases.truncate(old, 1.0, Rules(top_k=2), most=3)
  found = truncation.renormalize(new, kept.ids, kept.is_kept, np.int32(0))
  np.testing.assert_allclose(found, -math.log(1 + math.e), rtol=1e-6)


def test_gradients_of_replay_stay_in_the_set():
  """One-hot less probability there, 0 elsewhere, also beside absent ids."""
  scores = np.float32([1.0, -500.0, 2.0, ABSENT, 0.0, 3.0])
  ids, is_kept = np.int32([5, 2, 4, 3]), np.bool_([1, 1, 1, 0])
  slope = jax.grad(truncation.renormalize)(scores, ids, is_kept, np.int32(2))
  q = np.exp([2.0, 0.0, 3.0]) / np.exp([2.0, 0.0, 3.0]).sum()
  np.testing.assert_allclose(
    slope, [0, 0, 1 - q[0], 0, -q[1], -q[2]], atol=1e-6
  )
  # A chosen id that the new logits make all but impossible.
  worst = jax.grad(truncation.renormalize)(scores, ids, is_kept, np.int32(1))
  assert np.all(np.isfinite(worst)) and worst[1] == pytest.approx(1)


def test_replay_of_the_whole_vocabulary_is_log_softmax():
  scores = cases.laws(20, 50, 9)
  kept = cases.truncate(scores, 1.0, Rules(), most=None)
  chosen = np.arange(20, dtype=np.int32)
  found = jax.jit(truncation.renormalize)(
    scores, kept.ids, kept.is_kept, chosen
  )
  expected = jax.nn.log_softmax(jnp.asarray(scores))[np.arange(20), chosen]
  np.testing.assert_allclose(found, expected, atol=2e-6)
