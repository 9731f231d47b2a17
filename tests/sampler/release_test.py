"""What a session leaves behind: buffers on a CPU, nothing elsewhere."""

import gc
import weakref

import jax
import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.sampler import block, engine
from tests.models import tiny

CONFIG = tiny.make_config(n_layers=1)
PARAMS = tiny.make_params(CONFIG)


@pytest.fixture
def sampler():
  return engine.Sampler(
    CONFIG,
    samples=2,
    slots=4,
    max_prompt_tokens=32,
    max_tokens=20,
    eos_ids=(5,),
    pad_id=0,
    think_close_ids=(9,),
    lanes=1,
  )


def sample(sampler, session):
  number = sampler.add(
    session,
    np.full((3, 7), 7, np.int32),
    np.full(3, 7, np.int32),
    problem_ids=['a', 'b', 'c'],
    caps=20,
    key=rng.stream(0, 'test'),
  )
  return session.wait(number)


def leaves(programs, state):
  """Weak references to what is made for sampling, not to the parameters."""
  weights = programs._weights.turned.layers, programs._weights.turned.head
  return [weakref.ref(x) for x in jax.tree.leaves((weights, state))]


@pytest.mark.parametrize('keeps', [True, False])
def test_what_a_session_leaves(sampler, keeps, monkeypatch):
  """The session itself is still there, as it is in a loop that goes on."""
  sampler._keeps = keeps
  warmed = []
  warm = block.Block.warm
  monkeypatch.setattr(
    block.Block, 'warm', lambda self: (warmed.append(self), warm(self))
  )
  found = []
  for _ in range(2):
    with sampler.open(PARAMS) as session:
      found.append(sample(sampler, session))
      (mine,) = session._run._blocks
      made = leaves(mine._programs, mine.state)
      assert len(made) > 20
    gc.collect()
    assert session is not None
    left = [each for each in made if each() is not None]
    # The tables of who is where are made anew for every session.
    assert bool(left) == (sampler._states[0] is not None) == keeps
  np.testing.assert_array_equal(found[0].response_ids, found[1].response_ids)
  assert len(warmed) == 1
  # Whoever looks for what is left finds it where it is kept.
  assert len(jax.tree.leaves(sampler._states)) > 10 or not keeps


def test_a_closed_session_takes_nothing(sampler):
  with sampler.open(PARAMS) as session:
    pass
  with pytest.raises(ValueError, match='session is over'):
    sample(sampler, session)
