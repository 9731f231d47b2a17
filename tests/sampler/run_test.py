"""Requests in any order, of any length, some taken back: each answered once."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrm_jax.sampler import engine, lane, run, slots
from tests import tiny

VOCAB, EOS, SAMPLES, MAX_TOKENS = 32, 5, 2, 70
CONFIG = tiny.config(vocab_size=VOCAB, n_layers=1, max_positions=256)
PARAMS = tiny.params(CONFIG)
SAMPLER = engine.Sampler(
  CONFIG,
  samples=SAMPLES,
  slots=6,
  max_prompt_tokens=100,
  max_tokens=MAX_TOKENS,
  eos_ids=(EOS,),
  pad_id=0,
  think_close_ids=(9,),
  kv_tokens=512,
  lanes=2,
)
KEYS = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(0), 99)))

_GROUPS = st.lists(
  st.tuples(
    st.integers(1, 100),  # tokens of the prompt
    st.lists(st.integers(1, MAX_TOKENS), min_size=1, max_size=SAMPLES),
    st.integers(0, 12),  # submitted after that many have ended
    st.booleans(),  # taken back later
  ),
  min_size=1,
  max_size=9,
)


@settings(max_examples=25, deadline=None)
@given(groups=_GROUPS)
def test_each_request_is_answered_once_and_nothing_leaks(groups):
  blocks = SAMPLER._start(PARAMS)
  going = run.Run(blocks, SAMPLES)
  caps, taken_back, waiting = {}, set(), []
  for tokens, wanted, after, unwanted in groups:
    requests = []
    for cap in wanted:
      index = len(caps)
      caps[index] = cap
      requests.append(lane.Request(index, KEYS[index], cap, 1.0))
      if unwanted:
        taken_back.add(index)
    waiting.append((after, np.full(tokens, 7, np.int32), requests))
  waiting.sort(key=lambda each: each[0])
  answers, cancelled = {}, set()

  def submit(ended):
    while waiting and waiting[0][0] <= ended:
      going.submit(*waiting.pop(0)[1:])

  submit(0)
  while True:
    for done in going:
      assert done.index not in answers and done.index not in cancelled
      answers[done.index] = done
      submit(len(answers))
      if len(answers) == 2:
        cancelled |= taken_back - answers.keys()
        going.cancel(cancelled)
    if not waiting:
      break
    submit(waiting[0][0])
  late = taken_back - cancelled
  assert answers.keys() >= caps.keys() - taken_back
  assert answers.keys() <= caps.keys() - cancelled | late
  for index, done in answers.items():
    assert 1 <= len(done.ids) <= caps[index]
    assert done.ended == (done.ids[-1] == EOS)
    assert done.ended or len(done.ids) == caps[index]
  for each in blocks:
    _assert_nothing_is_left(each)
  SAMPLER._states = [each.state for each in blocks]


def test_groups_that_wait_for_room_are_taken_back():
  """More than the lanes hold: those in the queue go as others do."""
  blocks = SAMPLER._start(PARAMS)
  going = run.Run(blocks, SAMPLES)
  prompt = np.full(90, 7, np.int32)
  count = 40
  for i in range(count):
    requests = [lane.Request(2 * i + g, KEYS[i], 40, 1.0) for g in range(2)]
    going.submit(prompt, requests)
  answers, unwanted = set(), {*range(31, 50), 70, 79}
  for done in going:
    assert done.index not in answers
    answers.add(done.index)
    if len(answers) == 1:
      # Behind others that stay, so that each has to be found.
      assert len(going._waiting) > 10
      going.cancel(unwanted)
  assert answers == set(range(2 * count)) - unwanted
  for each in blocks:
    _assert_nothing_is_left(each)
  SAMPLER._states = [each.state for each in blocks]


def _assert_nothing_is_left(block):
  layout = SAMPLER.layout
  (each,) = block.lanes
  assert each.load == block.load == 0
  assert sorted(each._free_pages) == list(range(layout.prompt_pages))
  assert sorted(each._free_prompts) == list(range(layout.prompts))
  held = len(each._free_rows) + len(each._cancelled)
  assert held == layout.requests
  assert len(set(each._free_rows)) == len(each._free_rows)
  # A last chunk has let go of what ended in the one before.
  block.advance()
  state = block.state
  assert not np.asarray(state.running).any()
  assert not np.asarray(state.waiting).any()
  free = slots._is_free(layout, slots._keep(state, state.running))
  assert np.asarray(free).all()


def test_more_samples_than_readers_are_refused():
  going = run.Run(SAMPLER._start(PARAMS), SAMPLES)
  requests = [lane.Request(i, KEYS[i], 5, 1.0) for i in range(SAMPLES + 1)]
  with pytest.raises(ValueError, match='3 samples of a prompt; 1 to 2'):
    going.submit(np.full(3, 7, np.int32), requests)


def test_groups_wait_for_the_lane_that_is_through_first():
  blocks = SAMPLER._start(PARAMS)
  going = run.Run(blocks, SAMPLES)
  for first in range(0, 24, SAMPLES):
    going.submit(
      np.full(9, 7, np.int32),
      [
        lane.Request(first + i, KEYS[first + i], 20, 1.0)
        for i in range(SAMPLES)
      ],
    )
  going._hand_out(blocks)
  # Of each, three decode and two or more wait: groups stay together.
  assert [each.load for each in blocks] == [6, 6]
  assert sum(len(group.requests) for group in going._waiting) == 12
  # Where many end at a time, more have to be there.
  blocks[1].lanes[0]._ended = 4
  going._hand_out(blocks)
  assert [each.load for each in blocks] == [6, 12]
  assert {done.index for done in going} == set(range(24))
