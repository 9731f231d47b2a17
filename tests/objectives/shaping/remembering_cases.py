"""What the tests of rewards that remember share."""

import functools
import math

import jax
import numpy as np

from lrm_jax.objectives.shaping import remembering
from lrm_jax.structs import Memory
from tests.objectives import reference

GRID = {'lower': 2, 'upper': 10, 'step': 2}
DE = GRID | {'ngram': 2, 'threshold': 0.5}
PARTS = {
  'adaptive_penalty': remembering.adaptive_penalty,
  'hapo': remembering.hapo,
  'hapo_linear': remembering.hapo_linear,
  'laser_d': functools.partial(remembering.laser_d, **GRID),
  'laser_de': functools.partial(remembering.laser_de, **DE),
}
FAST = {name: jax.jit(part) for name, part in PARTS.items()}
OBSERVE = jax.jit(functools.partial(remembering.laser_d_observe, **GRID))


def records(*shortest):
  return Memory({}, {'shortest': np.array(shortest, np.float32)})


def price(penalty):
  return Memory({'penalty': np.float32(penalty)}, {})


def lengths(*adaptive):
  return Memory({'adaptive_length': np.array(adaptive, np.int32)}, {})


START = {
  'adaptive_penalty': price(0.01),
  'hapo': records(math.inf, 5, 5),
  'hapo_linear': records(math.inf, 5, 5),
  'laser_d': lengths(2, 4, 6),
  'laser_de': lengths(2, 4, 6),
}


def random(seed, *, problems=12, samples=4, tokens=10):
  """Responses over a small vocabulary; every third problem occurs twice."""
  rng = np.random.default_rng(seed)
  shape = (problems, samples)
  index = np.arange(problems)
  index[2::3] = index[0::3]
  return reference.rollouts(
    correct=rng.random(shape) < rng.random((problems, 1)),
    length=rng.integers(1, tokens + 1, shape),
    tokens=tokens,
    truncated=rng.random(shape) < 0.3,
    answered=rng.random(shape) < 0.8,
    think_closed=rng.random(shape) < 0.8,
    response_ids=rng.integers(0, 3, (*shape, tokens)),
    problem_index=index,
  )


# Right within, at and beyond 5 tokens; wrong within and beyond; an answer
# without </think>; </think> without an answer; right but without </think>.
VERDICTS = reference.rollouts(
  correct=[[1, 1, 1, 0, 0, 0, 0, 1]],
  length=[[4, 5, 6, 4, 6, 4, 4, 4]],
  think_closed=[[1, 1, 1, 1, 1, 0, 1, 0]],
  answered=[[1, 1, 1, 1, 1, 1, 0, 1]],
)
