"""Numbers of a recipe, by hand."""

import types

import numpy as np
import pytest

from lrm_jax.gathering import Batch
from lrm_jax.replaying import sessions, tallies
from lrm_jax.replaying.players import Played
from lrm_jax.structs import Problem
from tests import tiny
from tests.objectives import reference


def test_quadrants_by_hand():
  """Medians 3 and 5: what equals the median is short."""
  right = np.array([[True, True, False, False], [True, False, False, True]])
  length = np.array([[1, 4, 2, 9], [5, 5, 5, 5]])
  found = tallies.quadrants(right, length)
  yes = {
    name: [tuple(at) for at in np.argwhere(x)] for name, x in found.items()
  }
  assert yes == {
    'right_short': [(0, 0), (1, 0), (1, 3)],
    'right_long': [(0, 1)],
    'wrong_short': [(0, 2), (1, 1), (1, 2)],
    'wrong_long': [(0, 3)],
  }


def played():
  """Three groups of two; the second is dropped, the third has no signal."""
  nan = np.nan
  rollouts = reference.rollouts(
    [[1, 0], [1, 1], [1, 0]], length=[[1, 2], [2, 2], [1, 3]]
  )
  selected = np.array([[True, True], [False, False], [True, True]])
  rows = np.array([0, 2])
  chosen = reference.rollouts(
    [[1, 0], [1, 0]],
    length=[[1, 2], [1, 3]],
    response_ids=[[[5, 0, 0], [6, 7, 0]], [[5, 0, 0], [6, 7, 8]]],
  )
  advantage = np.zeros((2, 2, 3), np.float32)
  advantage[0] = [[2, 0, 0], [-1, -1, 0]]
  credit = types.SimpleNamespace(advantages=(advantage,), mask=chosen.mask)
  problems = [Problem(name, '', '') for name in 'abc']
  batch = Batch([problems[0], problems[2]], chosen, None, None, None, {}, None)
  found = Played(
    reward=np.array([[1, 0], [nan, 3], [0.5, 0.5]]),
    selected=selected,
    chosen=rows,
    batch=batch,
    credit=credit,
    advantage=np.array([[2, -1], [nan, nan], [0, 0.0]]),
    kept=selected,
  )
  step = types.SimpleNamespace(
    number=7,
    rounds=np.array([0, 0, 1]),
    problems=problems,
    rollouts=rollouts,
    reward=np.array([[1, 0], [nan, 3], [0.5, 0.25]]),
    advantage=found.advantage,
    kept=np.array([[True, True], [True, False], [True, True]]),
  )
  return step, found


def test_a_tally_by_hand():
  step, found = played()
  tally = tallies.Tally()
  tally.add(step, found)
  summary = tally.summary(None)
  # Right and short: 1, 3 and 0.5, where the one without a verdict is left out.
  assert summary['reward'] == {
    'right_short': pytest.approx(1.5),
    'right_long': None,
    'wrong_short': None,
    'wrong_long': 0.25,
  }
  assert summary['samples'] == {
    'right_short': 3,
    'right_long': 0,
    'wrong_short': 0,
    'wrong_long': 2,
  }
  assert summary['advantage']['right_short'] == 1.0
  assert summary['advantage']['wrong_long'] == -0.5
  assert summary['samples_kept']['right_short'] == 2
  # The one that was dropped and the one with advantages of 0, of three.
  assert summary['zero_gradient_groups'] == 2 / 3
  # 1 + 2 + 1 + 3 of those and 2 + 2.
  assert summary['tokens_kept'] == 7 / 11
  assert summary['differs_from_recorded'] == {
    'reward': 1,
    'advantage': 0,
    'kept': 1,
  }
  rows = list(tally.rows('it'))
  assert len(rows) == 6
  assert rows[2] == {
    'recipe': 'it',
    'step': 7,
    'round': 0,
    'id': 'b',
    'sample': 0,
    'reward': None,
    'advantage': None,
    'kept': False,
  }


def test_a_group_beyond_the_batch_is_not_counted():
  step, found = played()
  found = found._replace(selected=np.ones((3, 2), bool))
  assert tallies.zero_gradient_groups(found) == {'asked': 2, 'zero': 1}
  assert tallies.zero_gradient_groups(played()[1]) == {'asked': 3, 'zero': 2}
  del step


def test_pushed_tokens_by_hand():
  step, found = played()
  tokenizer = tiny.tokenizer()
  of_logp = np.zeros((2, 2, 3), np.float32)
  of_logp[0] = [[-4, 0, 0], [1, 2, 0]]
  of_logp[1, 1] = [1.5, 0, -1]
  pushed = tallies.Pushed()
  pushed.add(step, found, of_logp, tokenizer)
  summary = pushed.summary(tokenizer)
  first, second = summary['pushed_tokens'][:2]
  assert (first['id'], first['sample'], first['position']) == ('a', 0, 0)
  assert first['push'] == 4 and first['correct']
  assert (second['id'], second['sample'], second['position']) == ('a', 1, 1)
  assert second['push'] == -2 and not second['correct']
  assert second['before'] == tokenizer.decode([6])
  assert len(summary['pushed_tokens']) == 5
  by_id = [(row['id'], row['push']) for row in summary['pushed_ids']]
  # 6 is pushed down twice, by 1 and 1.5.
  assert by_id == [(5, 4), (6, -2.5), (7, -2), (8, 1)]
  assert summary['pushed_ids'][0]['share'] == pytest.approx(4 / 9.5)


def test_cosines_by_hand():
  """(3, 4), (4, -3) and (6, 8), and nothing."""
  vectors = np.array([[3, 4], [4, -3], [6, 8], [0, 0.0]])
  found = sessions.cosines(vectors @ vectors.T)
  np.testing.assert_allclose(found[:3, :3], [[1, 0, 1], [0, 1, 0], [1, 0, 1]])
  assert np.isnan(found[3]).all()
