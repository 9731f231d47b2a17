"""Problems to graded rollouts, with responses written by hand."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from lrm_jax import records, rollout
from lrm_jax.data import prompts
from lrm_jax.errors import UserError
from lrm_jax.rewards import guards
from lrm_jax.rewards.pool import Grader
from lrm_jax.sampler.samples import untruncated
from lrm_jax.structs import Problem
from lrm_jax.tokenization import base
from tests import tiny
from tests.sampler import fake

PROBLEMS = [
  Problem('first', 'Start=1 a:+2', '3', level=1),
  Problem('second', 'Start=9 a:-5 b:*2', '8', level=2),
]
RESPONSES = [
  [' a:1+2=3</think>\\boxed{3}', ' a:1+2=4</think>\\boxed{4}'],
  [' a:9-5=4 Wait, \\boxed{8}', ' a:9-5=4 b:4*2=8</think>\\boxed{8}'],
]
WIDTH, ROOM = 32, 40


class Answers(fake.FakeSampler):
  """Answers with RESPONSES; remembers what it was asked."""

  def __init__(self):
    super().__init__(samples=2, max_tokens=ROOM)
    self.calls = []

  def respond(self, prompt_ids, prompt_length, **options):
    self.calls.append((self.params, prompt_ids, prompt_length, options))
    tokenizer = tiny.tokenizer()
    eos = tokenizer.eos_ids[0]
    # What lies beyond the length must not count.
    beyond = np.resize(tokenizer.encode('\\boxed{5}'), ROOM)
    ids = np.tile(beyond.astype(np.int32), (2, 2, 1))
    length = np.zeros((2, 2), np.int32)
    for at in np.ndindex(2, 2):
      response = [*tokenizer.encode(RESPONSES[at[0]][at[1]]), eos]
      length[at] = len(response)
      ids[at][: length[at]] = response
    closed = np.array([[True, True], [False, True]])
    logp = -np.arange(4 * ROOM, dtype=np.float32).reshape(2, 2, ROOM)
    return untruncated(ids, logp, length, ~closed, closed, length // 2)


@pytest.fixture
def collector():
  with Grader() as grader:
    yield rollout.Collector(tiny.tokenizer(), Answers(), grader, WIDTH)


def _caps():
  # The response that does not end has as many tokens as it may.
  cut = len(tiny.tokenizer().encode(RESPONSES[1][0])) + 1
  return np.array([ROOM, cut])


def _collect(collector, cap=None):
  cap = _caps() if cap is None else cap
  return collector.collect(
    'params', PROBLEMS, cap=cap, key=jax.random.key(7), temperature=0.6
  )


def test_verdicts_follow_problems_and_samples(collector):
  rollouts = _collect(collector)
  # The third never closes its thinking, so it has no answer.
  assert rollouts.correct.tolist() == [[1, 0], [0, 1]]
  assert rollouts.correct.dtype == np.float32
  assert rollouts.truncated.tolist() == [[False, False], [True, False]]
  assert rollouts.problem_index.tolist() == [0, 1]


def test_the_sampler_is_asked_for_the_templated_questions(collector):
  _collect(dataclasses.replace(collector, instruction='Be brief.'), cap=5)
  ((params, ids, length, options),) = collector.sampler.calls
  assert params == 'params'
  assert ids.shape == (2, WIDTH)
  for b, problem in enumerate(PROBLEMS):
    want = prompts.encode_prompt(
      tiny.tokenizer(), problem.question, 'Be brief.'
    )
    assert ids[b, : length[b]].tolist() == want
  assert options['problem_ids'] == ['first', 'second']
  assert options['caps'].tolist() == [5, 5]
  assert options['temperature'] == 0.6
  assert options['key'] == jax.random.key(7)


def test_caps_may_differ(collector):
  assert _collect(collector, cap=np.array([4, 9])).cap.tolist() == [4, 9]


def test_a_long_prompt_is_refused(collector):
  with pytest.raises(UserError, match='problem first: prompt has'):
    _collect(dataclasses.replace(collector, max_prompt_tokens=3))


def test_rows_say_what_was_sampled(collector):
  tokenizer = tiny.tokenizer()
  rollouts = _collect(collector)
  rows = records.response_rows(tokenizer, PROBLEMS, rollouts)
  rows = json.loads(json.dumps(rows))
  assert [(r['id'], r['sample']) for r in rows] == [
    ('first', 0),
    ('first', 1),
    ('second', 0),
    ('second', 1),
  ]
  assert [r['correct'] for r in rows] == [True, False, False, True]
  for row, (b, g) in zip(rows, np.ndindex(2, 2), strict=True):
    ids = [*tokenizer.encode(RESPONSES[b][g]), tokenizer.eos_ids[0]]
    assert row == {
      'id': PROBLEMS[b].id,
      'sample': g,
      'prompt_ids': prompts.encode_prompt(tokenizer, PROBLEMS[b].question),
      'response': RESPONSES[b][g],
      'response_ids': ids,
      'logp': [-float((2 * b + g) * ROOM + t) for t in range(len(ids))],
      'length': len(ids),
      'thinking_length': len(ids) // 2,
      'truncated': (b, g) == (1, 0),
      'correct': row['correct'],
      'verified': True,
      'guards': [],
    }


# --- Revisions ---


@pytest.fixture
def revisable(collector):
  tokenizer = tiny.tokenizer()
  collector.sampler.think_close_ids = base.think_close_ids(tokenizer)
  return collector


def _spans(*changes):
  """(start, stop) with `(at, start, stop)` set."""
  spans = np.zeros((2, 2, 2), np.int32)
  for at, start, stop in changes:
    spans[0][at], spans[1][at] = start, stop
  return spans


def test_a_cut_end_is_graded_again(revisable):
  rollouts = _collect(revisable)
  assert rollouts.correct[0, 0] == 1
  revised = revisable.revise(
    PROBLEMS, rollouts, *_spans(((0, 0), 3, rollouts.length[0, 0]))
  )
  assert revised.length[0, 0] == 3
  assert revised.truncated[0, 0] and not revised.think_closed[0, 0]
  assert revised.thinking_length[0, 0] == 3
  assert revised.correct[0, 0] == 0 and not revised.answered[0, 0]
  assert revised.removed[0, 0] == rollouts.length[0, 0] - 3
  # What is left was sampled as it is.
  np.testing.assert_array_equal(
    revised.sampler_logp[0, 0, :3], rollouts.sampler_logp[0, 0, :3]
  )
  assert (revised.sampler_logp[0, 0, 3:] == 0).all()
  for field in ('length', 'correct', 'removed', 'response_ids'):
    for at in ((0, 1), (1, 0), (1, 1)):
      np.testing.assert_array_equal(
        getattr(revised, field)[at], getattr(rollouts, field)[at]
      )


def test_a_piece_out_of_the_middle_leaves_log_probabilities_open(revisable):
  rollouts = _collect(revisable)
  at = (1, 1)  # ' a:9-5=4 b:4*2=8</think>\\boxed{8}'
  tokenizer = tiny.tokenizer()
  first = len(tokenizer.encode(' a:9-5=4'))
  close = revisable.sampler.think_close_ids
  ids = rollouts.response_ids[at].tolist()
  stop = next(t for t in range(ROOM) if tuple(ids[t:][: len(close)]) == close)
  revised = revisable.revise(PROBLEMS, rollouts, *_spans((at, first, stop)))
  length = revised.length[at]
  text = tokenizer.decode(revised.response_ids[at][:length])
  assert text == ' a:9-5=4</think>\\boxed{8}'
  assert revised.correct[at] == 1 and revised.answered[at]
  assert revised.think_closed[at] and revised.thinking_length[at] == first
  assert not revised.truncated[at]
  assert revised.removed[at] == stop - first
  assert not np.isnan(revised.sampler_logp[at][:first]).any()
  assert np.isnan(revised.sampler_logp[at][first:length]).all()
  assert (revised.sampler_logp[at][length:] == 0).all()


def test_nothing_to_revise(revisable):
  rollouts = _collect(revisable)
  assert revisable.revise(PROBLEMS, rollouts, *_spans()) is rollouts


# --- Targets and measures ---


def test_targets_are_stated_in_the_prompts(collector):
  stating = dataclasses.replace(
    collector, instruction='n={target} \\boxed{}', max_prompt_tokens=60
  )
  rollouts = stating.collect(
    'params',
    PROBLEMS,
    cap=_caps(),
    key=jax.random.key(7),
    temperature=1.0,
    target=np.array([7, 12]),
    step=3,
  )
  for b, number in enumerate((7, 12)):
    want = prompts.encode_prompt(
      tiny.tokenizer(), PROBLEMS[b].question, f'n={number} \\boxed{{}}'
    )
    count = rollouts.prompt_length[b]
    assert rollouts.prompt_ids[b, :count].tolist() == want
  assert rollouts.target.tolist() == [7, 12]
  assert rollouts.step.tolist() == [3, 3]


def test_measures_see_each_response(collector):
  seen = []

  def measure(response):
    seen.append(response)
    return len(response.ids) / 2

  rollouts = _collect(
    dataclasses.replace(collector, measures={'half_length': measure})
  )
  np.testing.assert_array_equal(
    rollouts.measures['half_length'], rollouts.length / 2
  )
  assert [r.gold for r in seen] == ['3', '3', '8', '8']
  assert [r.correct for r in seen] == [True, False, False, True]
  assert [r.text for r in seen] == [text for row in RESPONSES for text in row]
  assert seen[0].thinking == ' a:1+2=3'
  assert seen[2].thinking == RESPONSES[1][0]  # never closed


def test_guards_are_counted_and_the_named_ones_make_it_wrong(
  collector, monkeypatch
):
  thoughtless = [' </think>\\boxed{3}', ' a:1+2=3</think>\\boxed{3}']
  monkeypatch.setitem(globals(), 'RESPONSES', [thoughtless, RESPONSES[1]])
  counted = _collect(collector)
  assert counted.correct.tolist() == [[1, 1], [0, 1]]
  assert set(counted.guards) == set(guards.GUARDS)
  hits = {name: np.argwhere(x).tolist() for name, x in counted.guards.items()}
  assert hits.pop('empty_thinking') == [[0, 0]]
  assert not any(hits.values())
  rows = records.response_rows(tiny.tokenizer(), PROBLEMS, counted)
  assert [row['guards'] for row in rows] == [['empty_thinking'], [], [], []]
  seen = []
  strict = dataclasses.replace(
    collector,
    guards=('empty_thinking',),
    measures={'seen': lambda response: seen.append(response.correct) or 0},
  )
  graded = _collect(strict)
  assert graded.correct.tolist() == [[0, 1], [0, 1]]
  # It is known to be wrong: nothing is left out.
  assert graded.verified.all()
  assert seen == [False, True, False, True]


def test_a_problem_drawn_twice_shares_its_row():
  twice = [PROBLEMS[1], PROBLEMS[0], PROBLEMS[1]]
  assert rollout.first_rows(twice).tolist() == [0, 1, 0]
