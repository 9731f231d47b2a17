"""Responses the verifier was lost on: told apart from wrong ones, left out."""

import dataclasses
import json
import os
import re
import signal
import sys
import threading
import types

import jax
import numpy as np
import pytest

from lrm_jax import (
  flights,
  gathering,
  interrupts,
  records,
  rollout,
  structs,
  unverified,
)
from lrm_jax.errors import Stopped
from lrm_jax.evaluation import scores
from lrm_jax.flights import Flight
from lrm_jax.rewards import overlap
from lrm_jax.rewards.pool import Grader
from lrm_jax.structs import Memory, Rollouts
from lrm_jax.tokenization import base
from tests import rollout_test, tiny
from tests.objectives import reference

# All but 4 is right; 2 kills it and 3 makes it hang, until a file says that the
# machine is well again. The letters keep exact comparison from deciding.
_WORKER = """
import json, os, pathlib, sys, time
print(json.dumps({'ready': True}), flush=True)
for line in sys.stdin:
  answer = json.loads(line)['answer']
  if not pathlib.Path(sys.argv[1]).exists():
    if '2' in answer:
      os.kill(os.getpid(), 9)
    if '3' in answer:
      time.sleep(600)
  print(json.dumps({'correct': '4' not in answer}), flush=True)
"""
_RESPONSES = [
  [' a:1</think>\\boxed{b+1}', ' a:1</think>\\boxed{b+2}'],
  [' a:1</think>\\boxed{b+3}', ' a:1</think>\\boxed{b+4}'],
]


class _Answers(rollout_test.Answers):
  """All of its responses come to an end."""

  think_close_ids = base.think_close_ids(tiny.tokenizer())

  def respond(self, *args, **options):
    samples = super().respond(*args, **options)
    nobody = np.zeros((2, 2), bool)
    return dataclasses.replace(samples, truncated=nobody, think_closed=~nobody)


@pytest.fixture
def recovered(tmp_path):
  return tmp_path / 'recovered'


@pytest.fixture
def collector(tmp_path, recovered, monkeypatch):
  monkeypatch.setattr(rollout_test, 'RESPONSES', _RESPONSES)
  script = tmp_path / 'worker.py'
  script.write_text(_WORKER)
  command = (sys.executable, '-S', str(script), str(recovered))
  with Grader(1, 0.3, command=command) as grader:
    yield rollout.Collector(
      tiny.tokenizer(), _Answers(), grader, rollout_test.WIDTH
    )


def _problems():
  return [dataclasses.replace(p, answer='c+b') for p in rollout_test.PROBLEMS]


def _collect(collector):
  return collector.collect(
    'params',
    _problems(),
    cap=rollout_test.ROOM,
    key=jax.random.key(7),
    temperature=0.6,
  )


def test_a_killed_and_a_hanging_verifier_are_told_from_a_wrong_answer(
  collector, recovered
):
  rollouts = _collect(collector)
  assert rollouts.verified.tolist() == [[True, False], [False, True]]
  assert rollouts.verified.dtype == bool
  assert rollouts.correct.tolist() == [[1, 0], [0, 0]]
  assert rollouts.answered.all()
  assert scores.count_unverified(rollouts) == 2
  rows = records.response_rows(
    tiny.tokenizer(), rollout_test.PROBLEMS, rollouts
  )
  told = [row['verified'] for row in json.loads(json.dumps(rows))]
  assert told == [True, False, False, True]
  # The workers are there again, and the same responses get their verdicts.
  recovered.touch()
  again = _collect(collector)
  assert again.verified.all()
  assert again.correct.tolist() == [[1, 1], [1, 0]]
  assert [w.has_died for w in collector.grader._workers] == [False]


def test_a_run_that_is_told_to_stop_takes_no_step_with_lost_verdicts(
  collector, monkeypatch
):
  """Neither those lost meanwhile, nor those that came before the signal."""
  stop = lambda: os.kill(os.getpid(), signal.SIGTERM)
  with interrupts.Interrupts():
    timer = threading.Timer(0.5, stop)
    timer.start()
    with pytest.raises(Stopped):
      _collect(collector)
    timer.join()
  assert not collector.grader._workers
  wait = overlap.Grading.wait

  def wait_and_stop(*arguments):
    found = wait(*arguments)
    stop()
    return found

  monkeypatch.setattr(overlap.Grading, 'wait', wait_and_stop)
  with interrupts.Interrupts(), pytest.raises(Stopped):
    _collect(collector)


def test_nobody_asks_twice_of_a_response_that_goes_on_in_flight(
  collector, recovered
):
  """The flag survives a slice of tokens, and a checkpoint between two."""
  rollouts = _collect(collector)
  flight = Flight(_problems(), rollouts, 1, 0)
  arrays, host = flights.get_state([flight])
  (flight,) = flights.set_state(arrays, json.loads(json.dumps(host)))
  recovered.touch()
  with collector.open('params') as collection:
    number = collection.add(
      flight.problems,
      flight.rollouts,
      key=jax.random.key(7),
      temperature=0.6,
    )
    found = collection.take(number)
  assert found.verified.tolist() == [[True, False], [False, True]]
  assert found.correct.tolist() == rollouts.correct.tolist()


def test_a_revised_response_has_the_verdict_of_its_new_text(
  collector, recovered
):
  rollouts = _collect(collector)
  recovered.touch()
  start = np.zeros((2, 2), np.int32)
  stop = start.copy()
  stop[1, 0] = 1
  revised = collector.revise(_problems(), rollouts, start, stop)
  # Its group alone is graded again.
  assert revised.verified.tolist() == [[True, False], [True, True]]
  assert revised.correct.tolist() == [[1, 0], [1, 0]]


# --- What the recipe sees ---


def _groups():
  # Lost: none; one of four; three of four; all.
  verified = [[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]]
  return reference.rollouts(
    correct=[[1, 0, 1, 0], [1, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]],
    length=np.arange(1, 17).reshape(4, 4),
    verified=verified,
    # As many tokens in a prompt as samples in a group.
    prompt_ids=np.arange(16).reshape(4, 4),
    measures={'number': np.arange(16).reshape(4, 4)},
    guards={'trick': np.eye(4)},
  )


def test_a_verified_response_stands_in():
  groups = _groups()
  shown = unverified.stand_in(groups)
  # One of the second group, all of the third; nobody for the fourth.
  assert shown.length.tolist() == [
    [1, 2, 3, 4],
    [5, 5, 7, 8],
    [11, 11, 11, 11],
    [13, 14, 15, 16],
  ]
  assert shown.correct.tolist()[1:3] == [[1, 1, 1, 1], [1, 1, 1, 1]]
  assert shown.measures['number'][1].tolist() == [4, 4, 6, 7]
  assert shown.guards['trick'][1].tolist() == [False, False, False, False]
  np.testing.assert_array_equal(shown.prompt_ids, groups.prompt_ids)
  assert groups.length[1].tolist() == [5, 6, 7, 8]
  everything = dataclasses.replace(groups, verified=np.ones((4, 4), bool))
  assert unverified.stand_in(everything) is everything


def test_two_verified_responses_make_a_group():
  usable = unverified.usable(np.array([[1, 1], [1, 0], [0, 0]], bool))
  assert usable.tolist() == [[True, True], [False, False], [False, False]]
  # Groups of one sample are no groups; a verdict is enough.
  alone = unverified.usable(np.array([[1], [0]], bool))
  assert alone.tolist() == [[True], [False]]


class _Memories:
  """Remembers how often problems were right, by their names."""

  def __init__(self):
    self.right = {}

  def take(self, ids):
    return {'rate': Memory({}, {'right': np.zeros(len(ids))})}

  def put(self, ids, memory):
    self.right |= dict(zip(ids, memory.tolist(), strict=True))


def _experiment(keep_unverified):
  """The recipe rewards right answers and keeps groups that are mixed."""

  def shape(rollouts, memory):
    mixed = rollouts.correct.max(1) > rollouts.correct.min(1)
    keep = np.broadcast_to(mixed[:, None], rollouts.correct.shape)
    return rollouts.correct, keep, rollouts.correct.mean(1)

  class Experiment:
    """What `gathering.shape` reads."""

    class programs:  # noqa: N801 (as the attribute is called)
      """Its one function."""

    class config:  # noqa: N801
      """Its one key."""

      class train:  # noqa: N801
        """Likewise."""

  Experiment.memory, Experiment.sampler_mesh = _Memories(), None
  Experiment.programs.shape = staticmethod(shape)
  Experiment.config.train.keep_unverified = keep_unverified
  return Experiment


_FOUR = [
  dataclasses.replace(rollout_test.PROBLEMS[0], id=name) for name in 'abcd'
]


def test_what_is_not_verified_is_not_trained_on_and_is_nobodys_mistake():
  experiment = _experiment(False)
  reward, keep, judged = gathering.shape(experiment, _FOUR, _groups())
  # The second group is all right: there is nothing to learn from it.
  assert keep.any(1).tolist() == [True, False, False, False]
  np.testing.assert_array_equal(judged, _groups().verified)
  # Of the last problem nothing is known, and nothing is remembered.
  assert experiment.memory.right == {'a': 0.5, 'b': 1, 'c': 1}
  mixed = dataclasses.replace(
    _groups(), correct=np.array([[1, 0, 0, 1]] * 4, np.float32)
  )
  reward, keep, _ = gathering.shape(experiment, _FOUR, mixed)
  assert keep.tolist()[:2] == [[True] * 4, [True, False, True, True]]
  assert not keep[2:].any()
  assert reward[1].tolist() == [1, 1, 0, 1]


def test_or_it_is_a_wrong_answer_if_the_config_says_so():
  experiment = _experiment(True)
  reward, keep, judged = gathering.shape(experiment, _FOUR, _groups())
  assert keep.any(1).tolist() == [True, True, True, False]
  assert keep[:3].all() and judged.all()
  assert reward[1].tolist() == [1, 0, 1, 1]
  assert experiment.memory.right == {'a': 0.5, 'b': 0.75, 'c': 0.25, 'd': 0}


def test_another_group_stands_in_for_one_without_any_verdict():
  """As if its problem had been drawn twice; never one that is lost too."""
  verified = np.array([[0, 0], [1, 1], [0, 0], [1, 0], [0, 0]], bool)
  groups = reference.rollouts(
    correct=verified,
    length=np.arange(1, 11).reshape(5, 2),
    verified=verified,
    prompt_ids=np.arange(10).reshape(5, 2),
    cap=np.arange(5),
  )
  five = [dataclasses.replace(_FOUR[0], id=name) for name in 'abcde']
  problems, shown = unverified.shown(five, groups)
  assert [p.id for p in problems] == ['b', 'b', 'd', 'd', 'b']
  assert shown.problem_index.tolist() == [0, 0, 2, 2, 0]
  assert shown.cap.tolist() == [1, 1, 3, 3, 1]
  assert shown.prompt_ids[2].tolist() == [6, 7]
  assert shown.length.tolist() == [[3, 4], [3, 4], [7, 7], [7, 7], [3, 4]]
  assert shown.verified.all()
  assert groups.cap.tolist() == list(range(5)) and five[0].id == 'a'
  whole = dataclasses.replace(groups, verified=np.ones((5, 2), bool))
  assert unverified.shown(five, whole) == (five, whole)


@pytest.mark.parametrize('is_monitor', [False, True])
def test_a_batch_without_any_verdict_is_not_remembered(is_monitor, monkeypatch):
  monkeypatch.setattr(gathering.rounds_lib, 'how', lambda *_: {})
  lost = dataclasses.replace(_groups(), verified=np.zeros((4, 4), bool))
  experiment = _experiment(False)
  if is_monitor:
    _observe(experiment, lost)
  else:
    _, keep, judged = gathering.shape(experiment, _FOUR, lost)
    assert not keep.any() and not judged.any()
  assert experiment.memory.right == {}


def _observe(experiment, rollouts):
  """Shows the monitor these rollouts of four problems."""
  experiment.config.train.monitor_every = 1
  experiment.config.train.temperature = 1.0
  experiment.config.seed = 0
  experiment.recipe = types.SimpleNamespace(observes=True, budget=lambda _: 16)
  experiment.monitor_problems, experiment.params = _FOUR, None
  experiment.collector = types.SimpleNamespace(
    collect=lambda *_, **__: rollouts
  )
  experiment.programs.observe = staticmethod(
    lambda rollouts, memory: rollouts.correct.mean(1)
  )
  experiment.sampled_tokens = 0
  gathering.monitor(experiment, 1)
  # They were sampled, whatever became of them.
  assert experiment.sampled_tokens == rollouts.length.sum()


def test_the_monitor_takes_nothing_for_wrong_that_has_no_verdict(monkeypatch):
  monkeypatch.setattr(gathering.rounds_lib, 'how', lambda *_: {})
  experiment = _experiment(False)
  _observe(experiment, _groups())
  assert experiment.memory.right == {'a': 0.5, 'b': 1, 'c': 1}
  experiment = _experiment(True)
  _observe(experiment, _groups())
  assert experiment.memory.right == {'a': 0.5, 'b': 0.75, 'c': 0.25, 'd': 0}


def test_rows_and_means_leave_out_what_has_no_verdict():
  groups = _groups()
  batch = gathering.Batch(
    problems=_FOUR,
    rollouts=groups,
    reward=np.arange(16.0).reshape(4, 4),
    keep=groups.verified,
    judged=groups.verified,
    **{'stats': {}, 'sampled': None},
  )
  rows = records.step_rows(tiny.tokenizer(), batch, np.zeros((4, 4, 16)), 3)
  rewards = [row['reward'] for row in json.loads(json.dumps(rows))]
  none = [None] * 4
  assert rewards == [0, 1, 2, 3, 4, None, 6, 7, None, None, 10, None, *none]
  stats = gathering.sampling_stats(
    groups, batch.reward, batch.keep, batch.judged, cap=16
  )
  assert stats['reward'] == pytest.approx((6 + 17 + 10) / 8)
  assert stats['accuracy'] == pytest.approx((2 + 3 + 1) / 8)
  # Two wrong ones, of 2 and of 4 tokens.
  assert stats['response_tokens_wrong'] == 3
  nothing = np.zeros((4, 4), bool)
  stats = gathering.sampling_stats(
    groups, batch.reward, nothing, nothing, cap=16
  )
  assert np.isnan([stats['reward'], stats['accuracy']]).all()


def test_every_field_says_whether_it_has_an_axis_of_samples():
  """By its docstring, from which a new field cannot be missing."""
  stated = dict(re.findall(r'^    (\w+): `\[(.+?)\]`', Rollouts.__doc__, re.M))
  assert stated.keys() == {field.name for field in dataclasses.fields(Rollouts)}
  found = {n for n, axes in stated.items() if 'G' not in axes.split(', ')}
  assert found == set(structs.OF_PROBLEMS)


def test_the_metrics_say_how_many():
  everything = np.ones((4, 4), bool)
  stats = gathering.sampling_stats(
    _groups(), np.zeros((4, 4)), everything, everything, cap=16
  )
  assert stats['unverified'] == 8 / 16
  assert stats['guard_trick'] == 4 / 16
