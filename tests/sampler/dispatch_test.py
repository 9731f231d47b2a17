"""The device has its next chunk before the host looks at the last one."""

import jax
import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.rewards.math_answer import Verdict
from lrm_jax.rollout import Collector
from lrm_jax.sampler import decode, engine, lane
from lrm_jax.structs import Problem
from tests import tiny

PROBLEMS = [
  Problem(f'problem-{i}', f'Start={i} a:+2', str(i + 2), level=1)
  for i in range(12)
]
# Some of them end, long before the last does.
CAP = 200


@pytest.fixture(scope='module')
def sampler():
  tokenizer = tiny.tokenizer()
  config = tiny.config(
    vocab_size=tokenizer.vocab_size, n_layers=1, max_positions=256
  )
  made = engine.Sampler(
    config,
    samples=2,
    slots=16,
    max_prompt_tokens=32,
    max_tokens=CAP,
    eos_ids=tokenizer.eos_ids,
    pad_id=tokenizer.pad_id,
    think_close_ids=tokenizer.encode('</think>'),
    lanes=1,
  )
  return made, tiny.params(config)


def collect(sampler, params, grader):
  collector = Collector(tiny.tokenizer(), sampler, grader, 32)
  return collector.collect(
    params, PROBLEMS, cap=CAP, key=rng.stream(0, 'test'), temperature=1.0
  )


class Wrong:
  """Grades without looking."""

  def __init__(self, told=lambda count: None):
    self._told = told

  def grade(self, pairs, check):
    self._told(len(pairs))
    return [Verdict(False, None, 'no_answer')] * len(pairs)


def test_a_chunk_is_read_when_the_next_one_runs(sampler, monkeypatch):
  """Once, and it is small beside the keys and values."""
  events, sizes, numbers = [], [], {}
  chunk, get = decode.chunk, jax.device_get

  def dispatch(*args):
    state, trace = chunk(*args)
    numbers[id(trace)] = trace, len(numbers)
    events.append(('dispatch', len(numbers) - 1))
    return state, trace

  def read(tree):
    if isinstance(tree, decode.Trace):
      events.append(('read', numbers[id(tree)][1]))
      sizes.append(sum(leaf.nbytes for leaf in jax.tree.leaves(tree)))
    return get(tree)

  monkeypatch.setattr(lane.decode, 'chunk', dispatch)
  monkeypatch.setattr(lane.jax, 'device_get', read)
  made, params = sampler
  rollouts = collect(made, params, Wrong())
  assert rollouts.length.max() > 100
  # The one that warms it up is never read, and nor is the last one: nobody is
  # left whom it could tell of.
  first = events.index(('dispatch', 1))
  assert all(kind == 'dispatch' for kind, _ in events[:first])
  count = len(numbers)
  assert count > 5
  assert events[first:] == [
    ('dispatch', 1),
    *[
      event
      for i in range(2, count)
      for event in (('dispatch', i), ('read', i - 1))
    ],
  ]
  pools = made._states[0].response_pools
  kept = sum(leaf.nbytes for leaf in jax.tree.leaves(pools))
  assert max(sizes) < kept / 10


def test_verdicts_are_asked_for_while_others_are_sampled(sampler):
  made, params = sampler
  chunks = []
  rollouts = collect(
    made, params, Wrong(lambda count: chunks.append((made.stats.chunks, count)))
  )
  assert sum(count for _, count in chunks) == np.size(rollouts.length)
  first, last = chunks[0][0], chunks[-1][0]
  assert first < last / 2
  # In the order in which they end, and not all of them at a time.
  assert len(chunks) > 3
