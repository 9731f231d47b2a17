"""Budgets: how many tokens a response may have at each step.

`f(step, **keywords) -> cap`, an int32 scalar in response tokens, the
end-of-sequence token included. Steps are counted from 1, as in
`Rollouts.step`. The cap is a traced value downstream: a schedule recompiles
nothing. Schedules are tables made in float64, so their rounding depends
neither on the device nor on jit. They are looked up on the host, where nothing
is compiled for it, unless the step is a JAX array.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax.errors import UserError
from lrm_jax.objectives import ranges
from lrm_jax.structs import Array


def constant(step: Array | int, *, cap: int) -> Array:
  """`L_max(step) = cap`.

  Args:
    step: not used.
    cap: response tokens, at least 1.

  Returns:
    The cap, an int32 scalar.

  Raises:
    UserError: the cap leaves no room for a token.
  """
  del step
  if cap < 1:
    raise UserError(
      f'constant budget: cap = {cap} response tokens; give at least 1'
    )
  return np.int32(cap)


def siri_cosine(
  step: Array | int, *, low: int, high: int, period: int
) -> Array:
  """SIRI's cosine: `(high + low)/2 + (high - low)/2 * cos(phi)`.

      phi = 2 pi * ((step - 1) mod period) / period

  The first step of a cycle has the cap `high`, the middle one `low`. Caps are
  rounded to whole tokens, halves up.

  Source: SIRI, arXiv 2509.25176, with `low` 8192, `high` 16384 and three
  cycles of 640 steps. That its step 0 is our step 1 is a reconstruction.

  Args:
    step: RL step, counted from 1.
    low: smallest cap, response tokens, at least 1.
    high: largest cap.
    period: steps of a cycle, at least 1.

  Returns:
    The cap, an int32 scalar.

  Raises:
    UserError: no room for a token, `low` above `high`, or no cycle.
  """
  _check_cycle('siri_cosine', low, high, period)
  height = (1 + np.cos(_phase(period))) / 2
  return _in_cycle(step, low, high, height)


def siri_stair(step: Array | int, *, low: int, high: int, period: int) -> Array:
  """SIRI's stair: `low` in one half of the cycle, `high` in the other.

      low if pi/2 <= phi < 3 pi/2 else high

  with the phase of `siri_cosine`. That the middle half of the cycle is the
  compressed one is a reconstruction: the paper's order is high, low, high.

  Source: SIRI, arXiv 2509.25176.

  Args:
    step: RL step, counted from 1.
    low: smallest cap, response tokens, at least 1.
    high: largest cap.
    period: steps of a cycle, at least 1.

  Returns:
    The cap, an int32 scalar.

  Raises:
    UserError: no room for a token, `low` above `high`, or no cycle.
  """
  _check_cycle('siri_stair', low, high, period)
  quarters = 4 * np.arange(period)  # exact borders, where a phase is rounded
  is_low = (quarters >= period) & (quarters < 3 * period)
  return _in_cycle(step, low, high, np.where(is_low, 0.0, 1.0))


def siri_stair_cosine(
  step: Array | int, *, low: int, high: int, period: int
) -> Array:
  """SIRI's stair-cosine: stairs whose edges are half cosines.

      high                                      phi < pi/4 or phi >= 7 pi/4
      mid + half * cos(2 (phi - pi/4))          pi/4 <= phi < 3 pi/4
      low                                       3 pi/4 <= phi < 5 pi/4
      mid + half * cos(2 (phi - 3 pi/4))        5 pi/4 <= phi < 7 pi/4

  with the phase of `siri_cosine`, `mid = (high + low)/2` and
  `half = (high - low)/2`. It has no jumps. Caps are rounded to whole tokens,
  halves up.

  Source: SIRI, arXiv 2509.25176.

  Args:
    step: RL step, counted from 1.
    low: smallest cap, response tokens, at least 1.
    high: largest cap.
    period: steps of a cycle, at least 1.

  Returns:
    The cap, an int32 scalar.

  Raises:
    UserError: no room for a token, `low` above `high`, or no cycle.
  """
  _check_cycle('siri_stair_cosine', low, high, period)
  # Both edges at once: the schedule is even around phi = pi.
  edge = np.clip(_phase(period) - np.pi / 4, 0, np.pi / 2)
  return _in_cycle(step, low, high, (1 + np.cos(2 * edge)) / 2)


def stages(step: Array | int, *, caps: tuple, lengths: tuple) -> Array:
  """`caps[0]` for `lengths[0]` steps, then `caps[1]` for `lengths[1]`, ...

  After all stages the last cap stays.

  Source: ThinkPrune, arXiv 2504.01296: caps 4000, 3000, 2000, each stage
  a run of its own that starts from the checkpoint before. Here they are one
  run, so optimizer state is carried over; the lengths have no default.

  Args:
    step: RL step, counted from 1.
    caps: response tokens of each stage, at least 1.
    lengths: steps of each stage, at least 1.

  Returns:
    The cap, an int32 scalar.

  Raises:
    UserError: no stages, not as many lengths as caps, or a value that is not
      a whole number of at least 1.
  """
  if not caps or len(caps) != len(lengths):
    raise UserError(
      f'stages: caps = {caps!r} and lengths = {lengths!r}; give as many '
      'lengths (steps) as caps (response tokens), and at least one'
    )
  for value in (*caps, *lengths):
    if type(value) is not int or value < 1:
      raise UserError(
        f'stages: caps = {caps!r}, lengths = {lengths!r}: {value!r}; give '
        'whole numbers of at least 1'
      )
  ends = np.cumsum(lengths, dtype=np.int32)[:-1]
  stage = (step > ends).sum()
  return _look_up(np.array(caps, np.int32), stage)


def geometric(
  step: Array | int,
  *,
  initial: int,
  least: int,
  gamma: float,
  steps: int,
  times: int,
  room: int,
) -> Array:
  """RMT's budget, which decays: `cap = times B_t + room`.

      B_t = max(least, floor(initial gamma^(t / steps))),   t = step - 1

  The first step has the budget `initial`, step `steps + 1` would have
  `initial gamma`, and there it stays: with RMT's 800 and 0.2 it never falls
  below 160. What is whole on paper is whole here, though floats may
  lie 1e-13 below it.

  RMT's prompt asks for `B_t` tokens of thinking, and its reward is 0 from
  twice as many on: a cap of `2 B_t` and room for an answer cuts only what
  earns nothing for its length. The target `share_of_cap`, with the same
  `times` and `room`, is `B_t` again. With `times` 1 and no room the cap is
  `B_t` itself.

  Source: RMT, arXiv 2509.24375, with `initial` 800, `least` 1 and `gamma` 0.2.
  Deviations: there the cap is a fixed number, so that a right answer after
  more than `2 B_t` tokens of thinking is still right; here it may be cut.
  That its step 0 is our step 1 is a reconstruction.

  Args:
    step: RL step, counted from 1.
    initial: B of the first step, thinking tokens.
    least: smallest B, at least 1.
    gamma: what is left of B after all steps; above 0, up to 1.
    steps: T, over which it decays; the run's.
    times: budgets in a cap, at least 1.
    room: response tokens beside the thinking.

  Returns:
    The cap, an int32 scalar.

  Raises:
    UserError: a number that is not in its range, or `least` above `initial`.
  """
  ranges.COUNT.check('geometric', least=least, steps=steps, times=times)
  ranges.check_order('geometric', least=least, initial=initial)
  ranges.POSITIVE_SHARE.check('geometric', gamma=gamma)
  ranges.NOT_NEGATIVE.check('geometric', room=room)
  share = np.power(float(gamma), np.arange(steps + 1) / steps)
  budget = np.maximum(np.floor(initial * share + 1e-9), least)
  clip = jnp.clip if isinstance(step, jax.Array) else np.clip
  caps = (times * budget + room).astype(np.int32)
  return _look_up(caps, clip(step - 1, 0, steps))


def _check_cycle(name: str, low: int, high: int, period: int) -> None:
  if not 1 <= low <= high:
    raise UserError(
      f'{name}: low = {low}, high = {high} response tokens; give '
      '1 <= low <= high'
    )
  if period < 1:
    raise UserError(f'{name}: period = {period} steps; give at least 1')


def _phase(period: int) -> np.ndarray:
  """Phases of a cycle's steps, folded at pi: every schedule here is even."""
  position = np.arange(period)
  return 2 * np.pi * np.minimum(position, period - position) / period


def _in_cycle(
  step: Array | int, low: int, high: int, height: np.ndarray
) -> Array:
  """`low + (high - low) * height`, rounded, at the step's place in a cycle."""
  caps = np.floor(low + (high - low) * height + 0.5).astype(np.int32)
  return _look_up(caps, (step - 1) % len(caps))


def _look_up(caps: np.ndarray, at: Array | int) -> Array:
  return (jnp.asarray(caps) if isinstance(at, jax.Array) else caps)[at]
