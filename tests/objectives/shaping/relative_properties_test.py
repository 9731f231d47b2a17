"""Rewards relative to a group: against the loops, and what always holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.objectives.shaping import capped, relative
from tests.objectives import reference
from tests.objectives.reference import shaping_relative
from tests.objectives.shaping.relative_cases import (
  BY_LENGTH,
  EAGER,
  EVERY,
  KEYS,
  choose,
  one_group,
  random,
)

# --- Against the loops ---


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('seed', [0, 1])
def test_equals_the_loops(name, seed):
  rollouts = random(seed)
  expected = getattr(shaping_relative, name)(rollouts, **KEYS[name])
  assert len(np.unique(expected)) > 10
  np.testing.assert_allclose(
    EVERY[name](rollouts), expected, rtol=1e-5, atol=1e-6
  )


@pytest.mark.parametrize('name', EAGER)
def test_jit_equals_eager(name):
  rollouts = random()
  eager = EAGER[name](rollouts)
  assert eager.dtype == jnp.float32
  np.testing.assert_allclose(EVERY[name](rollouts), eager, rtol=1e-5, atol=1e-6)


# --- What breaks them ---

# All right, all wrong, all truncated, one right, and equal lengths of one
# token, some right and all right.
GROUPS = {
  'all right': ([1, 1, 1], [3, 9, 7], [0, 0, 0]),
  'all wrong': ([0, 0, 0], [3, 9, 7], [0, 0, 0]),
  'truncated': ([1, 0, 1], [20, 20, 20], [1, 1, 1]),
  'one right': ([0, 1, 0], [3, 9, 7], [0, 0, 0]),
  'one token': ([1, 0, 1], [1, 1, 1], [0, 0, 0]),
  'equal': ([1, 1, 1], [6, 6, 6], [0, 0, 0]),
}


def degenerate():
  correct, length, truncated = map(list, zip(*GROUPS.values(), strict=True))
  return reference.rollouts(
    correct=correct,
    length=length,
    truncated=truncated,
    cap=[20] * len(GROUPS),
    measures={'compressibility': length, 'paragraphs': length},
  )


def alone():
  return reference.rollouts(
    correct=[[1], [0], [1]],
    length=[[3], [1], [20]],
    truncated=[[0], [0], [1]],
    measures={
      'compressibility': [[0.5], [0.5], [0.5]],
      'paragraphs': [[3], [0], [0]],
    },
  )


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('case', [degenerate, alone])
def test_degenerate_groups(name, case):
  rollouts = case()
  reward = np.asarray(EVERY[name](rollouts))
  assert np.isfinite(reward).all()
  expected = getattr(shaping_relative, name)(rollouts, **KEYS[name])
  np.testing.assert_allclose(reward, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  ('name', 'group', 'expected'),
  [
    ('group_lambda', 'equal', 0.7),  # 1 - 0.6 / 2
    ('group_lambda', 'all wrong', 0),
    ('sigmoid_length', 'equal', 0.8),  # 1 - 0.4 / 2
    ('sigmoid_length', 'truncated', 0),
    ('kimi', 'equal', 0),
    ('kimi', 'truncated', 0),
    ('o1_pruner', 'equal', 0),
    ('decoupled_length', 'equal', 1),
    ('decoupled_length', 'all wrong', 0),
    ('step_pruner', 'equal', 1),
    ('relative_length', 'equal', 0),
    ('relative_length', 'all wrong', 0),
  ],
)
def test_exactly_as_documented(name, group, expected):
  """Not merely close: rewards that tie must not differ by float error."""
  reward = np.asarray(EVERY[name](degenerate()))[list(GROUPS).index(group)]
  np.testing.assert_array_equal(reward, np.float32(expected))


@pytest.mark.parametrize(
  'name', ['sigmoid_length', 'kimi', 'o1_pruner', 'relative_length']
)
@pytest.mark.parametrize('samples', [3, 7, 24])
def test_equal_lengths_tie_exactly(name, samples):
  """Also where float32 cannot hold their sum."""
  rollouts = one_group([1] * samples, [16777213] * samples, tokens=1)
  assert len(np.unique(EVERY[name](rollouts))) == 1
  if name != 'sigmoid_length':
    assert not np.asarray(EVERY[name](rollouts)).any()


def test_step_pruner_without_eps():
  reward = relative.step_pruner(alone(), alpha=0.5, eps=0.0)
  np.testing.assert_array_equal(reward, [[1], [0], [1]])


# --- What the docstrings promise ---


@pytest.mark.parametrize('name', EVERY)
def test_members_of_a_group_may_be_permuted(name):
  rollouts = random()
  order = np.array([3, 0, 2, 1, 7, 4, 6, 5])
  np.testing.assert_allclose(
    EVERY[name](choose(rollouts, order)),
    np.asarray(EVERY[name](rollouts))[:, order],
    rtol=1e-5,
    atol=1e-6,
  )


@pytest.mark.parametrize('name', BY_LENGTH)
def test_a_shorter_right_response_never_earns_less(name):
  rollouts = random()
  counted = (rollouts.correct > 0) & ~rollouts.truncated
  reward = np.asarray(EVERY[name](rollouts))
  strict = 0
  for b in range(len(reward)):
    order = np.argsort(rollouts.length[b][counted[b]], kind='stable')
    fall = -np.diff(reward[b][counted[b]][order])
    assert (fall >= -1e-6).all()
    strict += (fall > 0).sum()
  assert strict > 10


def test_step_pruner_pays_for_fewer_steps_and_conciseness_for_its_score():
  rollouts = random()
  for name, measure, sign in [
    ('step_pruner', 'paragraphs', -1),
    ('conciseness', 'compressibility', 1),
  ]:
    reward = np.asarray(EVERY[name](rollouts))
    for b in range(len(reward)):
      right = rollouts.correct[b] > 0
      order = np.argsort(sign * rollouts.measures[measure][b][right])
      assert (np.diff(reward[b][right][order]) >= -1e-6).all()


@pytest.mark.parametrize(
  ('name', 'is_term'),
  [
    ('group_lambda', False),
    ('sigmoid_length', False),
    ('decoupled_length', False),
    ('conciseness', False),
    ('step_pruner', False),
    ('kimi', True),
    ('relative_length', True),
  ],
)
def test_wrong_is_never_above_right(name, is_term):
  rollouts = random()
  reward = np.asarray(EVERY[name](rollouts))
  if is_term:
    reward = reward + np.asarray(capped.outcome(rollouts))
  right = rollouts.correct > 0
  for b in range(len(reward)):
    if right[b].any() and not right[b].all():
      assert reward[b][right[b]].min() >= reward[b][~right[b]].max()


# Each with a wrong response first that ends above the right one behind it.
@pytest.mark.parametrize(
  ('name', 'keys', 'correct', 'length'),
  [
    ('alp', {'beta': 1e-3}, [0, 1], [1, 2002]),  # 1 - 0.5 * 2.002 < 0
    ('shorter_better', {}, [0, 1, 1], [1, 2002, 1]),  # 2 - 2.001 < 0
    # The mean is 20: 20 / 2 - 1 - 10 / 3 = 5.7, 20 / 29 - 1 + 5 / 3 = 1.4.
    ('o1_pruner', {}, [0, 1, 1], [2, 29, 29]),
  ],
)
def test_where_wrong_can_pass_right(name, keys, correct, length):
  rollouts = one_group(correct, length, tokens=1)
  reward = getattr(relative, name)(rollouts, **keys)
  if name == 'alp':
    reward = reward + capped.outcome(rollouts)
  assert reward[0, 0] > reward[0, 1]


def test_groups_do_not_see_each_other_but_by_their_rank():
  rollouts = random()
  row = slice(3, 4)
  alone = jax.tree.map(lambda x: x[row], rollouts)
  for name, function in EVERY.items():
    if name != 'group_lambda':
      np.testing.assert_allclose(
        function(alone), np.asarray(function(rollouts))[row], rtol=1e-5
      )
