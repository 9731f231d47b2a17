"""Rewards that remember: batch after batch by hand, and what is refused."""

import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import tables
from lrm_jax.objectives.memory import MemoryStore
from lrm_jax.objectives.shaping import remembering
from tests.objectives import reference
from tests.objectives.shaping.remembering_cases import (
  DE,
  GRID,
  PARTS,
  START,
  VERDICTS,
  lengths,
  price,
  random,
  records,
)

# HAPO. One problem, h = 100. cos(pi/4) = 0.707107, cos(3 pi/8) = 0.382683,
# cos(5 pi/8) = -0.382683, cos(3 pi/4) = -0.707107.
HAPO = [
  # length, right, wrong
  (1, 0.999877, 0.0),  # cos(pi/200)
  (50, 0.707107, 0.0),
  (75, 0.382683, 0.0),
  (100, 0.0, 0.0),  # the record itself earns nothing
  (125, -0.382683, -0.382683),
  (150, -0.7, -0.707107),  # from here on right is floored
  (199, -0.7, -0.999877),
  (200, -0.7, -1.0),
  (5000, -0.7, -1.0),
]
# h = 100, tolerance 0.1: free up to 110, then (L - 110)/100 off.
LINEAR = [
  (1, 0.99, 0.0),
  (50, 0.5, 0.0),
  (99, 0.01, 0.0),
  (100, 0.0, 0.0),
  (105, 0.0, 0.0),
  (110, 0.0, 0.0),
  (120, -0.1, -0.1),
  (180, -0.7, -0.7),
  (190, -0.7, -0.8),
  (210, -0.7, -1.0),
  (5000, -0.7, -1.0),
]


@pytest.mark.parametrize(
  ('part', 'cases'),
  [(remembering.hapo, HAPO), (remembering.hapo_linear, LINEAR)],
)
@pytest.mark.parametrize('weight', [1.0, 0.5])
def test_against_a_record(part, cases, weight):
  length, right, wrong = np.array(cases).T
  rollouts = reference.rollouts(
    correct=[np.ones_like(length), np.zeros_like(length)],
    length=[length, length],
    tokens=1,
  )
  reward, _ = part(rollouts, records(100, 100), weight=weight)
  np.testing.assert_allclose(
    reward, weight * np.array([right, wrong]), atol=1e-6
  )
  at_record = length == 100
  assert not np.asarray(reward)[:, at_record].any()


# Problems a, b, c; the shortest right response of each so far:
#   batch 1  a, b     a: right 8, wrong 3          -> a 8
#                     b: wrong 4, wrong 6          -> b none
#   batch 2  b, c     b: right 9, right 7          -> b 7
#                     c: right 5, wrong 2          -> c 5
#   batch 3  a, b, a  a: right 16, right 4         -> (with the second row) 2
#                     b: wrong 14, wrong 7         -> b 7
#                     a: right 2, wrong 16         -> 2
# Rewards of batch 3, h before it: a 8, b 7 (a twice: both rows h = 8).
#   a: right 16 = 2h: -0.7; right 4 = h/2: cos(pi/4) = 0.707107
#   b: wrong 14 = 2h: -1; wrong 7 = h: 0
#   a: right 2 = h/4: cos(pi/8) = 0.923880; wrong 16: -1
# Linear, tolerance 0.1, free up to 8.8 and 7.7:
#   a: right 16: over (16 - 8.8)/8 = 0.9: -0.7; right 4: 0.5
#   b: wrong 14: (14 - 7.7)/7 = 0.9: -0.9; wrong 7: 0
#   a: right 2: 0.75; wrong 16: -0.9
@pytest.mark.parametrize(
  ('name', 'last'),
  [
    ('hapo', [[-0.7, 0.707107], [-1.0, 0.0], [0.923880, -1.0]]),
    ('hapo_linear', [[-0.7, 0.5], [-0.9, 0.0], [0.75, -0.9]]),
  ],
)
def test_records_of_three_batches(name, last):
  store = MemoryStore({name: remembering.hapo_start()})

  def step(ids, **fields):
    reward, memory = PARTS[name](
      reference.rollouts(**fields), store.take(ids)[name]
    )
    store.put(ids, {name: memory})
    return reward, memory.problem['shortest']

  reward, shortest = step(
    'ab', correct=[[1, 0], [0, 0]], length=[[8, 3], [4, 6]]
  )
  assert not np.asarray(reward).any()
  np.testing.assert_array_equal(shortest, [8, np.inf])
  reward, shortest = step(
    'bc', correct=[[1, 1], [1, 0]], length=[[9, 7], [5, 2]]
  )
  assert not np.asarray(reward).any()
  np.testing.assert_array_equal(shortest, [7, 5])
  reward, shortest = step(
    'aba',
    correct=[[1, 1], [0, 0], [1, 0]],
    length=[[16, 4], [14, 7], [2, 16]],
    problem_index=[0, 1, 0],
  )
  np.testing.assert_allclose(reward, last, atol=1e-6)
  np.testing.assert_array_equal(shortest, [2, 7, 2])
  stored = store.take('abc')[name].problem['shortest']
  np.testing.assert_array_equal(stored, [2, 7, 5])


def test_a_right_answer_stays_above_every_wrong_one():
  rollouts = reference.rollouts(correct=[[1, 0]], length=[[9999, 1]], tokens=1)
  for part in (remembering.hapo, remembering.hapo_linear):
    term, _ = part(rollouts, records(3))
    right, wrong = np.asarray(rollouts.correct + term)[0]
    assert right > wrong


def test_tolerance_is_the_free_excess():
  rollouts = reference.rollouts(correct=[[1, 0]], length=[[150, 150]], tokens=1)
  reward, _ = remembering.hapo_linear(rollouts, records(100), tolerance=0.5)
  assert not np.asarray(reward).any()
  reward, _ = remembering.hapo_linear(rollouts, records(100), tolerance=0.0)
  np.testing.assert_array_equal(reward, [[-0.5, -0.5]])


# lambda_1 = 0.01, rate 0.1, reference 0.5. L = 10, 20, 30, 40 each time.
#   batch 1: 3 of 4 right: 0.01 + 0.1 (0.75 - 0.5) = 0.035
#   batch 2: 1 of 4 right: 0.035 - 0.025 = 0.01
#   batch 3: none right: 0.01 - 0.05 < 0: 0
#   batch 4: 2 of 4 right: 0 + 0 = 0
#   batch 5: all right: 0.05
def test_price_of_five_batches():
  keys = {'initial': 0.01, 'rate': 0.1, 'reference': 0.5}
  memory = remembering.adaptive_penalty_start(initial=0.01)
  assert memory.shared['penalty'].dtype == np.float32
  prices = [0.01, 0.035, 0.01, 0.0, 0.0, 0.05]
  for batch, right in enumerate([3, 1, 0, 2, 4]):
    rollouts = reference.rollouts(
      correct=[np.arange(4) < right],
      length=[[10, 20, 30, 40]],
      truncated=[[0, 0, 0, 1]],
    )
    reward, memory = remembering.adaptive_penalty(rollouts, memory, **keys)
    np.testing.assert_allclose(
      reward,
      [
        [
          -10 * prices[batch],
          -20 * prices[batch],
          -30 * prices[batch],
          -40 * prices[batch],
        ]
      ],
      rtol=1e-6,
      atol=1e-9,
    )
    np.testing.assert_allclose(
      memory.shared['penalty'], prices[batch + 1], rtol=1e-6, atol=1e-9
    )


def test_published_price():
  # 0.001 * 3000 tokens = 3; then + 0.001 (1 - 0.62) = 0.00138.
  rollouts = reference.rollouts(correct=[[1]], length=[[3000]], tokens=1)
  reward, memory = remembering.adaptive_penalty(rollouts, price(1e-3))
  np.testing.assert_allclose(reward, [[-3.0]], rtol=1e-6)
  np.testing.assert_allclose(memory.shared['penalty'], 0.00138, rtol=1e-6)


def test_laser():
  reward = remembering.laser(VERDICTS, target_length=5)
  np.testing.assert_array_equal(reward, [[1.5, 1.5, 1, -0.5, -0.5, -1, -1, -1]])
  reward = remembering.laser(VERDICTS, target_length=4, bonus=0.25)
  np.testing.assert_array_equal(reward[0, :3], [1.25, 1, 1])


# Of 8: 6 right is easy (6/8 >= 2/3), 5 medium (5/8 < 2/3), 3 medium (3/8 >=
# 1/3), 2 hard. All responses are 4 long, all tiers differ by one token.
@pytest.mark.parametrize(
  ('right', 'tier'), [(8, 0), (6, 0), (5, 1), (3, 1), (2, 2), (0, 2)]
)
def test_laser_d_tiers(right, tier):
  rollouts = reference.rollouts(
    correct=[np.arange(8) < right], length=np.full((1, 8), 4)
  )
  for allowed in (4, 3):
    adaptive = [9, 9, 9] if allowed == 3 else [1, 1, 1]
    adaptive[tier] = allowed
    reward, memory = PARTS['laser_d'](rollouts, lengths(*adaptive))
    paid = 1.5 if allowed == 4 else 1.0
    np.testing.assert_array_equal(
      reward, [[paid] * right + [-0.5] * (8 - right)]
    )
    np.testing.assert_array_equal(memory.shared['adaptive_length'], adaptive)


@pytest.mark.parametrize(
  ('right', 'tier'),
  [(2, 0), (1, 1), (0, 2)],  # exactly 2/3, exactly 1/3
)
def test_laser_d_borders_belong_to_the_easier_tier(right, tier):
  rollouts = reference.rollouts(
    correct=[np.arange(3) < right], length=np.full((1, 3), 4)
  )
  adaptive = [1, 1, 1]
  adaptive[tier] = 7
  reward, _ = PARTS['laser_d'](rollouts, lengths(*adaptive))
  np.testing.assert_array_equal(reward, [[1.5] * right + [-0.5] * (3 - right)])


# A hard group (0 of 4 right) with L_A = 6.
#   wrong, 6 tokens: not longer; wrong, 8 distinct tokens: explores;
#   0 1 0 1 0 1 0 1: the 2-grams from position 2 on repeat: 6 of 8 tokens;
#   8 tokens without a valid format.
def test_laser_de():
  rollouts = reference.rollouts(
    correct=[[0, 0, 0, 0]],
    length=[[6, 8, 8, 8]],
    answered=[[1, 1, 1, 0]],
    response_ids=[[[9, 9, 9, 9, 9, 9, 0, 0], range(8), [0, 1] * 4, range(8)]],
  )
  reward, memory = PARTS['laser_de'](rollouts, lengths(1, 1, 6))
  np.testing.assert_array_equal(reward, [[-0.5, 0.0, -0.5, -1.0]])
  np.testing.assert_array_equal(memory.shared['adaptive_length'], [1, 1, 6])
  # A share of exactly the threshold is not repetitive.
  reward, _ = remembering.laser_de(
    rollouts, lengths(1, 1, 6), **DE | {'threshold': 0.75}, bonus=0.25
  )
  np.testing.assert_array_equal(reward, [[-0.5, -0.25, -0.25, -1.0]])


def test_laser_de_pays_right_answers_as_laser_d():
  reward_d, _ = PARTS['laser_d'](VERDICTS, lengths(5, 5, 5))
  reward_de, _ = PARTS['laser_de'](VERDICTS, lengths(5, 5, 5))
  right = np.asarray(reward_d) > 0
  np.testing.assert_array_equal(
    np.asarray(reward_de)[right], np.asarray(reward_d)[right]
  )


def of_tier(right, *by_length, samples=8):
  """Verdicts and lengths of one monitor problem; `(count, length)` pairs."""
  length = [length for count, length in by_length for _ in range(count)]
  return [i < right for i in range(samples)], length


# Monitor of 8 samples; candidates 2, 4, 6, 8, 10; n = 5, 2, 1. The bonus
# length is the first with P >= 1/5, 1/2, 1.
#   easy: two problems, 16 responses: 3 within 2 (3/16 < 1/5), 4 within 4
#     (4/16 >= 1/5): 4
#   medium: 3 of 8 within 4, 4 of 8 within 6 (1/2): 6
#   hard: all within 8 only: 8
# Second look: no easy problem: 4 stays. Medium: 1/2 within 2: 2. Hard: one
# response of 11 tokens: none of the candidates holds all: 10.
def test_observed_lengths_of_two_looks():
  memory = remembering.laser_d_start(**GRID)
  np.testing.assert_array_equal(memory.shared['adaptive_length'], [10, 10, 10])
  looks = [
    [
      of_tier(8, (2, 1), (6, 9)),
      of_tier(6, (1, 2), (1, 3), (6, 10)),
      of_tier(5, (3, 3), (1, 6), (4, 7)),
      of_tier(0, (4, 1), (4, 8)),
    ],
    [
      of_tier(3, (4, 2), (4, 10)),
      of_tier(2, (7, 1), (1, 11)),
    ],
  ]
  for look, adaptive in zip(looks, ([4, 6, 8], [4, 2, 10]), strict=True):
    correct, length = zip(*look, strict=True)
    rollouts = reference.rollouts(correct=correct, length=length)
    memory = remembering.laser_d_observe(rollouts, memory, **GRID)
    assert memory.shared['adaptive_length'].dtype == np.int32
    np.testing.assert_array_equal(memory.shared['adaptive_length'], adaptive)


@pytest.mark.parametrize('threes', [1, 0])
def test_expected_counts_are_exact(threes):
  # Five responses: 1/5 of them, times n = 5, is 1 and not less. G = 8: ten
  # problems, 80 responses; 16 within 2 are 1/5, 15 are not.
  within = [2] * (15 + threes) + [9] * (65 - threes)
  rollouts = reference.rollouts(
    correct=np.ones((10, 8)), length=np.reshape(within, (10, 8))
  )
  memory = remembering.laser_d_observe(rollouts, lengths(7, 7, 7), **GRID)
  easy = 2 if threes else 10
  np.testing.assert_array_equal(memory.shared['adaptive_length'], [easy, 7, 7])


def test_groups_too_small_to_expect_a_right_answer():
  # G = 1: n = 0, 0, 1. An easy problem gets the largest length, whatever its
  # responses look like.
  rollouts = reference.rollouts(correct=[[1], [0]], length=[[1], [1]])
  memory = remembering.laser_d_observe(rollouts, lengths(4, 4, 4), **GRID)
  np.testing.assert_array_equal(memory.shared['adaptive_length'], [10, 4, 2])


@pytest.mark.parametrize(
  ('lower', 'upper', 'step', 'length', 'chosen'),
  [
    (4, 10, 4, 1, 4),  # nothing below the first candidate
    (4, 10, 4, 9, 10),  # candidates 4 and 8: upper is always the last resort
    (4, 4, 1, 9, 4),
  ],
)
def test_candidates(lower, upper, step, length, chosen):
  rollouts = reference.rollouts(correct=[[0, 0]], length=[[length, 1]])
  keys = {'lower': lower, 'upper': upper, 'step': step}
  memory = remembering.laser_d_observe(rollouts, lengths(9, 9, 9), **keys)
  np.testing.assert_array_equal(
    memory.shared['adaptive_length'], [9, 9, chosen]
  )


def test_companions():
  assert tables.MEMORIES['hapo'] is remembering.hapo_start
  assert tables.MEMORIES['hapo_linear'] is remembering.hapo_start
  for name in ('laser_d', 'laser_de'):
    assert tables.MEMORIES[name] is remembering.laser_d_start
    assert tables.OBSERVERS[name] is remembering.laser_d_observe
  start = remembering.hapo_start()
  assert start.problem['shortest'] == np.inf
  assert start.problem['shortest'].dtype == np.float32


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'lower': 0}, 'lower = 0, upper = 10 response tokens; give 1 <= lower'),
    ({'lower': 11}, 'lower = 11, upper = 10 response tokens'),
    ({'step': 0}, 'laser: step = 0; give at least 1'),
  ],
)
def test_grids_that_are_refused(change, message):
  with pytest.raises(UserError, match=message):
    remembering.laser_d_start(**GRID | change)


@pytest.mark.parametrize(
  ('name', 'keys', 'message'),
  [
    ('hapo', {'weight': -1.0}, 'weight = -1.0; give at least 0'),
    ('hapo_linear', {'weight': -1.0}, 'weight = -1.0; give at least 0'),
    ('hapo_linear', {'tolerance': -0.1}, 'tolerance = -0.1; give at least 0'),
    ('laser_de', DE | {'threshold': 1.5}, 'threshold = 1.5; give one from 0'),
  ],
)
def test_numbers_that_are_refused(name, keys, message):
  part = getattr(remembering, name)
  with pytest.raises(UserError, match=f'^{name}: {message}'):
    part(random(0, problems=3), START[name], **keys)


def test_a_target_below_one_token_is_refused():
  with pytest.raises(UserError, match='^laser: target_length = 0; give'):
    remembering.laser(random(0), target_length=0)


def test_a_negative_price_is_refused():
  with pytest.raises(UserError, match='initial = -0.1; give at least 0'):
    remembering.adaptive_penalty_start(initial=-0.1)
