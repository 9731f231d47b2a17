"""A step of `lrm sft` at drawn positions, and with experts."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from configs import tiny_lrm
from lrm_jax import sft, sft_step
from lrm_jax.errors import UserError
from lrm_jax.models import feed_forward, transformer
from lrm_jax.models.config import Experts
from lrm_jax.structs import TrainState
from tests.models import tiny
from tests.sft_test import AS_THEY_ARE, PAIRS, pack_pairs

OPTIMIZER = optax.sgd(1.0)


def draw(limit, step, seed=0):
  """(positions drawn, rows) of the four demonstrations in two rows."""
  config = ml_collections.ConfigDict({'position_limit': limit, 'seed': seed})
  rows, _, _ = pack_pairs(PAIRS, rows=2, row_length=16)
  places = jax.jit(sft_step.make_places(config))
  return np.asarray(places(rows, jnp.int32(step))), rows


def test_without_a_limit_positions_are_those_of_the_tokens():
  at, rows = draw(0, 3)
  np.testing.assert_array_equal(at, rows.positions)


def test_positions_are_a_new_subset_for_every_sequence_and_step():
  at, rows = draw(200, 3)
  assert at.shape == (2, 16)
  segments = np.asarray(rows.segment_ids)
  assert segments.max() > 1
  for row, segment in zip(at, segments, strict=True):
    assert not row[segment == 0].any()
    for number in range(1, segment.max() + 1):
      mine = row[segment == number]
      assert (np.diff(mine) > 0).all() and mine[0] >= 0 and mine[-1] < 200
  assert not np.array_equal(at[0], at[1])
  np.testing.assert_array_equal(at, draw(200, 3)[0])
  for other in (draw(200, 4), draw(200, 3, seed=1)):
    assert not np.array_equal(at, other[0])


def run_step(config, params, places, load_balance=0.0):
  rows, mask, _ = pack_pairs(PAIRS, rows=2, row_length=16)
  params = jax.tree.map(jnp.array, params)
  state = TrainState(jnp.int32(0), params, OPTIMIZER.init(params))
  step = sft_step.make_step(
    config, OPTIMIZER, places, load_balance=load_balance
  )
  state, numbers = step(state, rows, mask)
  return state, numbers['loss']


def test_the_step_trains_at_the_positions_given():
  """Twice as far apart is another loss, but for a model without positions."""
  twice = lambda rows, step: 2 * rows.positions
  for scheme, is_same in (('rope', False), ('nope', True)):
    config = tiny.make_config(positions=scheme)
    params = tiny.make_params(config)
    (_, near), (_, far) = (
      run_step(config, params, places) for places in (AS_THEY_ARE, twice)
    )
    assert (near == far) == is_same


def test_the_load_balance_is_added():
  config = tiny.make_config(experts=Experts(4, 2, 8))
  params = tiny.make_params(config)
  rows, _, _ = pack_pairs(PAIRS, rows=2, row_length=16)
  _, plain = run_step(config, params, AS_THEY_ARE)
  state, loss = run_step(config, params, AS_THEY_ARE, load_balance=0.5)
  _, kept = transformer.apply(
    config, params, rows.tokens, rows.positions, rows.segment_ids
  )
  loads = feed_forward.loads(kept.routing, 2)
  extra = feed_forward.load_balance(loads, kept.routing)
  assert float(extra) > 2.0001  # Not all the same.
  assert float(loss - plain) == pytest.approx(0.5 * float(extra), rel=1e-4)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'position_limit': 100}, ('position_limit=100', 'rows reach 432')),
    ({'model.new.positions': 'nope'}, ("positions='nope'", "'lrm'")),
    ({'load_balance': 0.01}, ('load_balance=0.01', 'experts')),
    ({'load_balance': -1.0}, ('load_balance=-1.0', 'at least 0')),
  ],
)
def test_options_that_are_refused(changes, words):
  config = tiny_lrm.get_config()
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  with pytest.raises(UserError) as error:
    sft.check(config)
  assert all(word in str(error.value) for word in words)
