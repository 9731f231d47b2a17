"""The evaluator's batches; the whole of it runs in the tests of `lrm eval`."""

import types

import jax
import numpy as np
import pytest

from lrm_jax.evaluation import evaluator
from lrm_jax.structs import Problem
from tests.objectives import reference

SAMPLES = 2


class FakeCollector:
  """Answers problem i with responses of i + 1 tokens; odd ones are correct."""

  def __init__(self, batch):
    self.sampler = types.SimpleNamespace(groups=batch)
    self.calls = []

  def begin(self, problems, *, cap, target):
    return cap, target

  def stream(self, params, batches, *, key, temperature):
    for problems, (cap, target) in batches:
      self.calls.append((params, len(problems), cap, key, temperature))
      yield self.answer(problems, cap, target)

  def answer(self, problems, cap, target):
    index = np.array([int(problem.id) for problem in problems], np.int32)
    count = len(problems)
    each = np.repeat(index[:, None], SAMPLES, axis=1)
    return reference.rollouts(
      each % 2,
      length=each + 1,
      thinking_length=each,
      prompt_ids=index[:, None],
      response_ids=each[..., None],
      sampler_logp=-each[..., None],
      truncated=each > 3,
      think_closed=each <= 3,
      cap=np.full(count, cap),
      target=np.full(count, target),
      tokens=1,
    )


def _evaluate(collector, count, seed=3):
  return evaluator.evaluate(
    collector,
    'params',
    [Problem(str(i), '?', '0') for i in range(count)],
    cap=9,
    seed=seed,
    temperature=0.5,
  )


@pytest.mark.parametrize('batch', [1, 3, 5, 8])
def test_every_problem_once_and_in_order(batch):
  rollouts = _evaluate(FakeCollector(batch), 5)
  want = np.repeat(np.arange(5)[:, None], SAMPLES, axis=1)
  np.testing.assert_array_equal(rollouts.length, want + 1)
  np.testing.assert_array_equal(rollouts.response_ids[..., 0], want)
  np.testing.assert_array_equal(rollouts.correct, want % 2)
  np.testing.assert_array_equal(rollouts.truncated, want > 3)
  assert rollouts.problem_index.tolist() == [0, 1, 2, 3, 4]
  assert rollouts.cap.tolist() == [9] * 5


def test_batches_share_one_stream():
  collector = FakeCollector(2)
  _evaluate(collector, 5)
  assert [call[1] for call in collector.calls] == [2, 2, 1]
  assert {(c[0], c[2], c[4]) for c in collector.calls} == {('params', 9, 0.5)}
  keys = {tuple(jax.random.key_data(c[3]).tolist()) for c in collector.calls}
  other = FakeCollector(8)
  _evaluate(other, 5, seed=4)
  assert len(keys) == 1
  assert tuple(jax.random.key_data(other.calls[0][3]).tolist()) not in keys


def test_shows_progress(capsys):
  _evaluate(FakeCollector(2), 5)
  last = capsys.readouterr().err.splitlines()[-1]
  assert last.startswith('eval 5/5')
