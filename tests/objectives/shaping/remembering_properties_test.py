"""Rewards that remember: against the loops, and what always holds."""

import functools

import jax
import numpy as np
import pytest

from lrm_jax.objectives.shaping import remembering
from tests.objectives import reference
from tests.objectives.reference import shaping_remembering as expected
from tests.objectives.shaping.remembering_cases import (
  FAST,
  GRID,
  OBSERVE,
  PARTS,
  START,
  VERDICTS,
  lengths,
  price,
  random,
  records,
)


@pytest.mark.parametrize('seed', [0, 1])
@pytest.mark.parametrize(
  ('name', 'keys'),
  [
    ('hapo', {'weight': 0.7}),
    ('hapo_linear', {'weight': 1.3, 'tolerance': 0.2}),
  ],
)
def test_records_equal_the_loops(name, keys, seed):
  part = jax.jit(functools.partial(getattr(remembering, name), **keys))
  shortest, values = np.full(12, np.inf), set()
  for batch in range(4):
    rollouts = random(4 * seed + batch, tokens=60)
    reward, memory = part(rollouts, records(*shortest))
    ours = memory.problem['shortest']
    wanted, shortest = getattr(expected, name)(rollouts, shortest, **keys)
    np.testing.assert_allclose(reward, wanted, atol=1e-6)
    np.testing.assert_array_equal(ours, np.array(shortest, np.float32))
    np.testing.assert_array_equal(ours[2::3], ours[0::3])
    values |= set(np.unique(np.round(wanted, 5)))
  assert len(values) > 15


@pytest.mark.parametrize('seed', [0, 1])
def test_price_equals_the_loops(seed):
  keys = {'rate': 0.03, 'reference': 0.4}
  memory, wanted = price(0.01), 0.01
  for batch in range(4):
    rollouts = random(4 * seed + batch)
    reward, memory = remembering.adaptive_penalty(rollouts, memory, **keys)
    terms, wanted = expected.adaptive_penalty(rollouts, wanted, **keys)
    np.testing.assert_allclose(reward, terms, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
      memory.shared['penalty'], wanted, rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize('seed', [0, 1])
def test_laser_equals_the_loops(seed):
  rollouts = random(seed, problems=30)
  adaptive = [3, 5, 4]
  np.testing.assert_array_equal(
    remembering.laser(rollouts, target_length=6, bonus=0.3),
    np.float32(expected.laser(rollouts, 6, 0.3)),
  )
  reward, _ = FAST['laser_d'](rollouts, lengths(*adaptive))
  np.testing.assert_array_equal(
    reward, expected.laser_d(rollouts, adaptive, 0.5)
  )
  reward_de, _ = FAST['laser_de'](rollouts, lengths(*adaptive))
  wanted = expected.laser_de(rollouts, adaptive, 2, 0.5, 0.5)
  np.testing.assert_array_equal(reward_de, wanted)
  assert set(np.unique(wanted)) == {-1, -0.5, 0, 1, 1.5}


@pytest.mark.parametrize('samples', [1, 3, 8])
@pytest.mark.parametrize('seed', [0, 1, 2, 3])
def test_observed_lengths_equal_the_loops(seed, samples):
  rollouts = random(seed, problems=6, samples=samples)
  adaptive = OBSERVE(rollouts, lengths(3, 3, 3)).shared['adaptive_length']
  wanted = expected.laser_d_observe(rollouts, [3, 3, 3], **GRID)
  np.testing.assert_array_equal(adaptive, wanted)


@pytest.mark.parametrize('name', PARTS)
def test_jit_equals_eager(name):
  rollouts, start = random(7, problems=3), START[name]
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7),
    FAST[name](rollouts, start),
    PARTS[name](rollouts, start),
  )


def test_jit_equals_eager_without_memory():
  part = functools.partial(remembering.laser, target_length=5)
  np.testing.assert_array_equal(jax.jit(part)(VERDICTS), part(VERDICTS))


CASES = {
  'all_right': {'correct': np.ones((3, 4)), 'length': np.full((3, 4), 5)},
  'all_wrong': {'correct': np.zeros((3, 4)), 'length': np.full((3, 4), 5)},
  'one_sample': {'correct': [[1], [0], [1]], 'length': [[1], [9], [3]]},
  'one_token': {'correct': np.eye(3, 4), 'length': np.ones((3, 4))},
  'no_token': {'correct': np.eye(3, 4), 'length': np.zeros((3, 4))},
  'all_truncated': {
    'correct': np.zeros((3, 4)),
    'length': np.full((3, 4), 9),
    'truncated': np.ones((3, 4)),
    'think_closed': np.zeros((3, 4)),
    'answered': np.zeros((3, 4)),
  },
}


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('name', PARTS)
def test_degenerate_batches_are_finite(name, case):
  rollouts = reference.rollouts(**CASES[case], tokens=9)
  memory = START[name]
  for _ in range(2):
    reward, memory = FAST[name](rollouts, memory)
    assert reward.dtype == np.float32
    assert reward.shape == rollouts.correct.shape
    assert np.isfinite(reward).all()
    assert not np.isnan(
      np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(memory)])
    ).any()


@pytest.mark.parametrize('case', ['all_wrong', 'all_truncated'])
@pytest.mark.parametrize('name', ['hapo', 'hapo_linear'])
def test_nothing_right_sets_no_record(name, case):
  rollouts = reference.rollouts(**CASES[case])
  reward, memory = PARTS[name](rollouts, START[name])
  assert not np.asarray(reward)[0].any()
  np.testing.assert_array_equal(memory.problem['shortest'], [np.inf, 5, 5])


def test_all_truncated_has_no_valid_format():
  rollouts = reference.rollouts(**CASES['all_truncated'], tokens=9)
  for name in ('laser_d', 'laser_de'):
    reward, _ = PARTS[name](rollouts, START[name])
    np.testing.assert_array_equal(reward, np.full((3, 4), -1))
  reward = remembering.laser(rollouts, target_length=9)
  np.testing.assert_array_equal(reward, np.full((3, 4), -1))


@pytest.mark.parametrize('name', PARTS)
def test_memory_keeps_its_shape(name):
  # Otherwise each batch would compile the step anew.
  memory = START[name]
  _, after = FAST[name](random(3, problems=3), memory)
  assert jax.tree.structure(after) == jax.tree.structure(memory)
  for old, new in zip(
    jax.tree.leaves(memory), jax.tree.leaves(after), strict=True
  ):
    assert (old.shape, old.dtype) == (new.shape, new.dtype)
