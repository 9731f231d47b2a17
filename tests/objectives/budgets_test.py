"""Budgets: published schedules, and what holds at every step."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from lrm_jax.errors import UserError
from lrm_jax.objectives import budgets
from tests.objectives.reference import budgets as expected

SIRI = {
  'siri_cosine': budgets.siri_cosine,
  'siri_stair': budgets.siri_stair,
  'siri_stair_cosine': budgets.siri_stair_cosine,
}
PUBLISHED = {'low': 8192, 'high': 16384, 'period': 640}
RMT = {
  'initial': 800,
  'least': 1,
  'gamma': 0.2,
  'steps': 4,
  'times': 1,
  'room': 0,
}
THINKPRUNE = {'caps': (4000, 3000, 2000), 'lengths': (2, 1, 3)}


def schedule(function, steps, /, **keys):
  """The caps of steps 1, 2, ..., all of them in one call."""
  return np.asarray(function(jnp.arange(1, steps + 1), **keys))


@pytest.mark.parametrize('step', [0, 1, 10_000])
def test_constant(step):
  cap = budgets.constant(step, cap=96)
  assert cap == expected.constant(step, 96) == 96
  assert cap.shape == ()
  assert cap.dtype == jnp.int32


def test_constant_may_be_traced():
  assert jax.jit(lambda step: budgets.constant(step, cap=7))(3) == 7


@pytest.mark.parametrize('cap', [0, -4])
def test_constant_needs_room(cap):
  message = f'^constant budget: cap = {cap} response tokens; give at least 1$'
  with pytest.raises(UserError, match=message):
    budgets.constant(0, cap=cap)


# A cycle of 8 steps between 100 and 200: phi = 0, pi/4, ..., 7 pi/4.
#   cosine: 150 + 50 cos(phi), cos(pi/4) = 0.7071: 150 +- 35.355
#   stair: low from pi/2 to below 3 pi/2
#   stair-cosine: high at 0; the edge starts at pi/4 (200), is halfway at pi/2
#     (150), low from 3 pi/4 to 5 pi/4, and back
@pytest.mark.parametrize(
  ('name', 'caps'),
  [
    ('siri_cosine', [200, 185, 150, 115, 100, 115, 150, 185]),
    ('siri_stair', [200, 200, 100, 100, 100, 100, 200, 200]),
    ('siri_stair_cosine', [200, 200, 150, 100, 100, 100, 150, 200]),
  ],
)
def test_a_cycle_of_eight(name, caps):
  keys = {'low': 100, 'high': 200, 'period': 8}
  np.testing.assert_array_equal(schedule(SIRI[name], 24, **keys), caps * 3)


# Between 1 and 2 tokens, a quarter into the cycle: 1.5, halves up.
def test_halves_are_rounded_up_on_both_ways():
  keys = {'low': 1, 'high': 2, 'period': 4}
  np.testing.assert_array_equal(
    schedule(budgets.siri_cosine, 4, **keys), [2, 2, 1, 2]
  )


@pytest.mark.parametrize('name', SIRI)
def test_published_landmarks(name):
  # SIRI-low is taken at the third trough, after 1600 steps.
  for step, cap in [(1, 16384), (321, 8192), (641, 16384), (1601, 8192)]:
    assert SIRI[name](step, **PUBLISHED) == cap


@pytest.mark.parametrize('name', SIRI)
@pytest.mark.parametrize('period', [1, 2, 3, 7, 64, 640])
def test_equals_the_formula(name, period):
  keys = {'low': 83, 'high': 1009, 'period': period}
  caps = schedule(SIRI[name], 2 * period, **keys)
  wanted = [
    getattr(expected, name)(step, **keys) for step in range(1, 2 * period + 1)
  ]
  # Rounded: half a token away at most.
  np.testing.assert_allclose(caps, wanted, atol=0.5 + 1e-9)


@pytest.mark.parametrize('name', SIRI)
@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
  low=st.integers(1, 40_000),
  extra=st.integers(0, 40_000),
  period=st.integers(1, 500),
  step=st.integers(1, 10**6),
)
def test_any_cycle(name, low, extra, period, step):
  function = functools.partial(
    SIRI[name], low=low, high=low + extra, period=period
  )
  cap = int(function(step))
  assert low <= cap <= low + extra
  assert function(1) == low + extra
  assert function(step + period) == cap
  mirrored = 2 - step % period + period  # even around the start of a cycle
  if name != 'siri_stair':  # its steps include one border, not the other
    assert function(mirrored) == cap


@pytest.mark.parametrize('border', [1, 3, 5, 7])
def test_stair_cosine_has_no_jumps(border):
  # Period 8000: borders at 1000, 3000, ... A step moves phi by 2 pi/8000, so
  # next to a border 2 phi moves by a = 2 * 7.854e-4 and the cap by
  # 5e5 (1 - cos a) = 0.617: one token; nowhere by more than 5e5 a = 785.4.
  caps = schedule(
    budgets.siri_stair_cosine, 8000, low=1, high=1_000_001, period=8000
  )
  at = border * 1000
  assert abs(caps[at] - caps[at - 1]) <= 1
  assert abs(caps[at + 1] - caps[at]) <= 1
  assert np.abs(np.diff(caps)).max() <= 786


@pytest.mark.parametrize('name', SIRI)
def test_a_flat_cycle_is_constant(name):
  caps = schedule(SIRI[name], 9, low=5, high=5, period=4)
  np.testing.assert_array_equal(caps, [5] * 9)


def test_stages():
  # Two steps, one, three, and then the last cap for good.
  caps = [4000, 4000, 3000, 2000, 2000, 2000, 2000]
  for step, cap in enumerate(caps, start=1):
    assert budgets.stages(step, **THINKPRUNE) == cap
    assert expected.stages(step, **THINKPRUNE) == cap
  assert budgets.stages(10**6, **THINKPRUNE) == 2000
  assert budgets.stages(5, caps=(7,), lengths=(2,)) == 7


# 0.2^(1/4) = 0.66874, squared 0.44721, cubed 0.29907: of 800 these are 534.99,
# 357.77 and 239.26; then 160, and no less.
def test_geometric_literal():
  caps = [800, 534, 357, 239, 160, 160, 160]
  assert schedule(budgets.geometric, 7, **RMT).tolist() == caps
  assert [budgets.geometric(s, **RMT) for s in range(1, 8)] == caps
  caps = schedule(budgets.geometric, 5, **RMT | {'least': 240})
  assert caps.tolist() == [800, 534, 357, 240, 240]
  caps = schedule(budgets.geometric, 5, **RMT | {'times': 2, 'room': 48})
  assert caps.tolist() == [1648, 1116, 762, 526, 368]
  assert budgets.geometric(0, **RMT) == 800


def test_geometric_is_whole_where_it_is_on_paper():
  keys = RMT | {'initial': 100, 'gamma': 0.58, 'steps': 1}
  assert 100 * 0.58 < 58
  assert schedule(budgets.geometric, 3, **keys).tolist() == [100, 58, 58]


@pytest.mark.parametrize('gamma', [0.001, 0.2, 0.3364, 0.58, 0.97, 1.0])
@pytest.mark.parametrize('steps', [1, 2, 3, 40])
def test_geometric_equals_the_formula(gamma, steps):
  keys = RMT | {'gamma': gamma, 'steps': steps, 'least': 3, 'times': 2}
  caps = schedule(budgets.geometric, steps + 3, **keys)
  wanted = [expected.geometric(s, **keys) for s in range(1, steps + 4)]
  assert caps.tolist() == wanted
  assert (np.diff(caps) <= 0).all()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'least': 0}, 'least = 0; give at least 1'),
    ({'steps': 0}, 'steps = 0; give at least 1'),
    ({'times': 0}, 'times = 0; give at least 1'),
    ({'gamma': 0.0}, 'gamma = 0.0; give one above 0, up to 1'),
    ({'gamma': 1.5}, 'gamma = 1.5; give one above 0, up to 1'),
    ({'room': -1}, 'room = -1; give at least 0'),
    ({'least': 801}, 'least = 801, initial = 800; give least <= initial'),
  ],
)
def test_geometric_refuses(change, message):
  with pytest.raises(UserError, match=f'^geometric: {message}$'):
    budgets.geometric(1, **RMT | change)


EVERY = {
  name: functools.partial(function, **PUBLISHED)
  for name, function in SIRI.items()
} | {
  'stages': functools.partial(budgets.stages, **THINKPRUNE),
  'geometric': functools.partial(budgets.geometric, **RMT),
}


@pytest.mark.parametrize('name', EVERY)
def test_jit_equals_eager(name):
  traced = jax.jit(EVERY[name])
  for step in (1, 3, 77, 320, 641, 100_000):
    cap = EVERY[name](step)
    assert (cap.shape, cap.dtype) == ((), jnp.int32)
    assert traced(step) == cap
    assert traced(jnp.int32(step)).dtype == jnp.int32
  steps = jnp.arange(1, 9)
  np.testing.assert_array_equal(
    jax.vmap(EVERY[name])(steps), [EVERY[name](s) for s in range(1, 9)]
  )


@pytest.mark.parametrize('name', SIRI)
@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'low': 0}, 'low = 0, high = 16384 response tokens; give 1 <= low <= hig'),
    ({'low': 16385}, 'low = 16385, high = 16384 response tokens'),
    ({'period': 0}, 'period = 0 steps; give at least 1'),
  ],
)
def test_cycles_that_are_refused(name, change, message):
  with pytest.raises(UserError, match=f'^{name}: {message}'):
    SIRI[name](1, **PUBLISHED | change)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'lengths': (2, 1)}, r'lengths = \(2, 1\); give as many lengths'),
    ({'caps': (), 'lengths': ()}, 'and at least one$'),
    ({'caps': (4000, 0, 2000)}, ': 0; give whole numbers of at least 1'),
    ({'lengths': (2, 1.5, 3)}, ': 1.5; give whole numbers of at least 1'),
    ({'lengths': (2, True, 3)}, ': True; give whole numbers of at least 1'),
  ],
)
def test_stages_that_are_refused(change, message):
  with pytest.raises(UserError, match=message):
    budgets.stages(1, **THINKPRUNE | change)
