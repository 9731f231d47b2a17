"""Verdicts that are made while something else goes on."""

import threading
import time

import pytest

from lrm_jax.rewards import overlap, pool


class Slow:
  """Grades when it is let; remembers how many pairs came at a time."""

  def __init__(self):
    self.gate = threading.Event()
    self.calls = []

  def grade(self, pairs, check):
    while not self.gate.wait(0.01):
      check()
    self.calls.append(len(pairs))
    if ('bad', 'gold') in pairs:
      raise ValueError('no such answer')
    return [f'{response}/{gold}' for response, gold in pairs]


def test_every_pair_gets_its_verdict_and_waiting_ones_go_together():
  grader = Slow()
  with overlap.Grading(grader) as grading:
    for i in range(10):
      # The grader has not answered at all yet.
      grading.put(i, f'r{i}', f'g{i}')
    grader.gate.set()
    assert grading.wait([3, 1]) == ['r3/g3', 'r1/g1']
    assert grading.wait(range(10)) == [f'r{i}/g{i}' for i in range(10)]
  assert sum(grader.calls) == 10
  assert len(grader.calls) <= 3


def test_nothing_to_grade():
  with overlap.Grading(Slow()) as grading:
    assert grading.wait([]) == []


def test_an_error_of_the_grader_is_raised():
  grader = Slow()
  grader.gate.set()
  with overlap.Grading(grader) as grading:
    grading.put(0, 'bad', 'gold')
    with pytest.raises(ValueError, match='no such answer'):
      grading.wait([0])


def test_the_thread_ends_when_sampling_fails():
  grader = Slow()
  grader.gate.set()
  before = threading.active_count()
  with (
    pytest.raises(RuntimeError, match='sampling'),
    overlap.Grading(grader) as grading,
  ):
    grading.put(0, 'r', 'g')
    raise RuntimeError('sampling')
  assert threading.active_count() == before


def test_what_nobody_will_read_is_not_graded():
  """Neither the call that is under way, nor what waits behind it."""
  grader = Slow()
  with pytest.raises(RuntimeError), overlap.Grading(grader) as grading:
    for i in range(10):
      grading.put(i, 'r', 'g')
      time.sleep(0.01)
    raise RuntimeError('stopped')
  assert grader.calls == []


def test_a_call_of_the_real_grader_is_cut_off():
  with pool.Grader(1, timeout=60.0) as grader:
    grader.grade([(r'</think>\boxed{\sqrt{8}}', r'2\sqrt2')])
    with pytest.raises(RuntimeError), overlap.Grading(grader) as grading:
      for i in range(3):
        grading.put(i, rf'</think>\boxed{{9^{{9^{{9^{{{i}9}}}}}}}}', r'\sqrt2')
      time.sleep(0.5)
      began = time.monotonic()
      raise RuntimeError('stopped')
    assert time.monotonic() - began < 5
    assert not grader._workers
    # The next call gets its own verdicts.
    (verdict,) = grader.grade([(r'</think>\boxed{\sqrt{8}}', r'2\sqrt2')])
    assert verdict.correct


def test_waiting_may_be_given_up():
  def check():
    raise KeyError('told to stop')

  grader = Slow()
  with pytest.raises(KeyError), overlap.Grading(grader) as grading:
    grading.put(0, 'r', 'g')
    grading.wait([0], check)
  assert grader.calls == []
