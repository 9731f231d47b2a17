"""The pool: nothing can hang or kill it, and what is lost is replaced.

Accidents use a stand-in for the worker that speaks the same protocol and
sleeps, dies or answers as the text tells it to.
"""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from lrm_jax.errors import UserError
from lrm_jax.rewards import batches, pool
from lrm_jax.rewards.math_answer import Verdict

# Far from what any pair of the tables needs, even on a loaded machine.
_PATIENCE = 60.0

_FAKE_WORKER = """
import json, os, sys, time
print(json.dumps({'ready': True}), flush=True)
for line in sys.stdin:
  answer = json.loads(line)['answer']
  if 'sleep' in answer:
    time.sleep(600)
  if 'die' in answer:
    os._exit(1)
  if 'say' in answer:
    os.write(1, eval(answer.partition('say')[2]))
    continue
  if 'once' in answer:
    # Of the machine's doing: not the second time.
    first, place = not os.path.exists(sys.argv[1]), sys.argv[1]
    open(place, 'a').write('x')
    if first:
      os.kill(os.getpid(), 9) if 'killed' in answer else time.sleep(600)
  reply = json.dumps({'correct': 'yes' in answer}).encode() + b'\\n'
  if 'slow' in answer:
    time.sleep(0.3)
  os.write(1, reply[:5])
  os.write(1, reply[5:])
"""


def _pairs(*answers, gold=r'\sqrt2'):
  return [(rf'</think>\boxed{{{answer}}}', gold) for answer in answers]


def _pids(grader):
  return [worker.process.pid for worker in grader._workers]


def _is_alive(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  state = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2]
  return state.split()[0] != 'Z'


@pytest.fixture
def fake(tmp_path):
  """Makes graders on the stand-in worker, two seconds of wall clock a pair."""
  script = tmp_path / 'fake_worker.py'
  script.write_text(_FAKE_WORKER)
  graders = []

  def make(num_workers=1, timeout=0.5):
    command = (sys.executable, '-S', str(script), str(tmp_path / 'once'))
    graders.append(pool.Grader(num_workers, timeout, command=command))
    return graders[-1]

  yield make
  for grader in graders:
    grader.close()


def test_endless_arithmetic_is_cut_off():
  """One operation on big integers: no signal handler would get a word in."""
  with pool.Grader(num_workers=1, timeout=1.0) as grader:
    begin = time.monotonic()
    verdicts = grader.grade(_pairs('10^{10^{10^{10}}}', gold='1'))
    assert 1.0 <= time.monotonic() - begin < _PATIENCE
  assert verdicts == [Verdict(False, '10^{10^{10^{10}}}', 'timeout')]


def test_nothing_starts_for_what_exact_comparison_decides(fake):
  grader = fake()
  verdicts = grader.grade(
    [
      (r'</think>\boxed{1}', '1'),
      (r'</think>\boxed{1}', '2'),
      ('thoughts', '2'),
      (rf'</think>\boxed{{{"x" * 2000}}}', '2'),
    ]
  )
  assert [(v.correct, v.status) for v in verdicts] == [
    (True, 'ok'),
    (False, 'ok'),
    (False, 'no_answer'),
    (False, 'too_long'),
  ]
  assert grader.grade([]) == []
  assert not _pids(grader)


def test_a_worker_that_hangs_is_replaced(fake):
  grader = fake(num_workers=2)
  grader.grade(_pairs('yes', 'no'))
  before = set(_pids(grader))
  begin = time.monotonic()
  verdicts = grader.grade(_pairs('yes', 'sleep', 'no', 'yes 2'))
  # Two seconds of wall clock, and once more when the rest is done.
  assert 4.0 <= time.monotonic() - begin < _PATIENCE
  assert [(v.correct, v.status) for v in verdicts] == [
    (True, 'ok'),
    (False, 'timeout'),
    (False, 'ok'),
    (True, 'ok'),
  ]
  assert [v.correct for v in grader.grade(_pairs('yes', 'no'))] == [True, False]
  gone = before - set(_pids(grader))
  assert gone
  assert not any(map(_is_alive, gone))


def test_a_worker_that_dies_is_replaced(fake):
  grader = fake()
  verdicts = grader.grade(_pairs('yes', 'die', 'yes 2', 'die 2', 'no'))
  assert [(v.correct, v.status) for v in verdicts] == [
    (True, 'ok'),
    (False, 'timeout'),
    (True, 'ok'),
    (False, 'timeout'),
    (False, 'ok'),
  ]


@pytest.mark.parametrize(
  'said',
  [
    "b'[1\\n'",
    "b'null\\n'",
    "b'{}\\n'",
    """b'{"correct": 1}\\n'""",
    """b'{"error": "no"}\\n'""",
    """b'{"correct": true}\\n{"correct": true}\\n'""",
    "b'\\xff\\n'",
    "b'[' * 9999 + b'\\n'",
    "b'x' * 20000",
  ],
)
def test_a_worker_that_talks_nonsense_is_replaced(fake, said):
  grader = fake(timeout=_PATIENCE)
  grader.grade(_pairs('yes'))
  (before,) = _pids(grader)
  verdicts = grader.grade(_pairs(f'say {said}', 'yes 2'))
  assert [(v.correct, v.status) for v in verdicts] == [
    (False, 'timeout'),
    (True, 'ok'),
  ]
  assert not _is_alive(before)


@pytest.mark.parametrize('what', ['late', 'killed'])
def test_what_was_lost_by_no_fault_of_its_own_is_tried_again(
  fake, what, tmp_path
):
  """By a machine that did not run it, or had no memory left."""
  grader = fake(num_workers=2)
  verdicts = grader.grade(_pairs(f'once {what} yes', 'no', 'slow yes'))
  assert [(v.correct, v.status) for v in verdicts] == [
    (True, 'ok'),
    (False, 'ok'),
    (True, 'ok'),
  ]
  assert (tmp_path / 'once').read_text() == 'xx'


def test_the_second_time_it_is_alone(fake, monkeypatch):
  sent = []
  send = pool._Worker.send

  def watch(worker, job, seconds):
    busy = [w.job for w in grader._workers if w.job is not None]
    sent.append((job[0], busy))
    send(worker, job, seconds)

  monkeypatch.setattr(pool._Worker, 'send', watch)
  grader = fake(num_workers=2)
  answers = ['once killed', *(f'slow {n}' for n in range(4))]
  grader.grade(_pairs(*answers))
  assert sent[-1] == ('once killed', [])
  assert len(sent) == 6


def test_its_own_limit_is_not_tried_again(monkeypatch):
  lost = []
  lose = batches.Batch.lose

  def watch(batch, job, is_to_blame):
    lost.append(is_to_blame)
    lose(batch, job, is_to_blame)

  monkeypatch.setattr(batches.Batch, 'lose', watch)
  with pool.Grader(1, timeout=0.3) as grader:
    grader.grade(_pairs('9^{9^{9^{9}}}', gold='1'))
  assert lost == [True]


def test_a_worker_that_dies_between_calls_costs_no_verdict(fake):
  grader = fake()
  grader.grade(_pairs('yes'))
  os.kill(_pids(grader)[0], signal.SIGKILL)
  grader._workers[0].process.wait()
  assert grader.grade(_pairs('yes 2')) == [Verdict(True, 'yes 2', 'ok')]


def test_order_is_kept_and_equal_pairs_are_compared_once(fake):
  grader = fake(num_workers=3)
  answers = ['slow yes', 'no', 'yes', 'slow no', 'yes', 'yes'] * 5
  verdicts = grader.grade(_pairs(*answers))
  assert [v.extracted for v in verdicts] == answers
  assert [v.correct for v in verdicts] == ['yes' in a for a in answers]
  assert sum(worker.num_pairs for worker in grader._workers) == 4


def test_workers_are_renewed(fake, monkeypatch):
  monkeypatch.setattr(pool, '_MAX_PAIRS_PER_WORKER', 2)
  grader = fake()
  grader.grade(_pairs('yes'))
  first = _pids(grader)
  grader.grade(_pairs('yes'))
  assert _pids(grader) == []
  assert not _is_alive(first[0])
  assert grader.grade(_pairs('yes'))[0].correct


def test_threads_may_share_a_grader(fake):
  grader = fake(num_workers=2)
  results = {}

  def work(name):
    results[name] = grader.grade(_pairs(f'yes {name}', f'no {name}'))

  threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(timeout=30)
  for name in range(4):
    assert results[name] == [
      Verdict(True, f'yes {name}', 'ok'),
      Verdict(False, f'no {name}', 'ok'),
    ]


def test_close_kills_and_a_later_call_starts_afresh(fake):
  grader = fake(num_workers=2)
  grader.grade(_pairs('yes', 'slow no'))
  pids = _pids(grader)
  assert pids and all(map(_is_alive, pids))
  grader.close()
  assert not any(map(_is_alive, pids))
  assert grader.grade(_pairs('yes'))[0].correct


def test_a_plain_script_needs_no_main_guard(tmp_path):
  """And leaves no process behind, although it never closes the grader."""
  script = tmp_path / 'script.py'
  script.write_text(
    textwrap.dedent(r"""
      from lrm_jax.rewards import batches, pool
      print('once')
      grader = pool.Grader(num_workers=1, timeout=60.0)
      print(grader.grade([(r'</think>\boxed{\sqrt{12}}', r'2\sqrt3')]))
      print(grader._workers[0].process.pid)
    """)
  )
  root = pathlib.Path(__file__).parents[2]
  done = subprocess.run(
    [sys.executable, str(script)],
    capture_output=True,
    text=True,
    check=True,
    env={**os.environ, 'PYTHONPATH': str(root)},
  )
  once, verdict, pid = done.stdout.splitlines()
  assert once == 'once'
  assert 'correct=True' in verdict
  assert not done.stderr
  assert not _is_alive(int(pid))


def test_a_worker_that_cannot_load_math_verify_says_so(tmp_path):
  script = tmp_path / 'broken_worker.py'
  script.write_text('print(\'{"error": "no module named math_verify"}\')')
  grader = pool.Grader(1, command=(sys.executable, str(script)))
  with pytest.raises(UserError, match='no module named math_verify.*pip'):
    grader.grade(_pairs('yes'))
  assert not _pids(grader)


def test_a_worker_that_never_starts_is_an_error():
  command = (sys.executable, '-c', 'raise SystemExit(3)')
  grader = pool.Grader(2, command=command)
  with pytest.raises(UserError, match='failed to start 3 times'):
    grader.grade(_pairs('yes', 'no'))
  assert not _pids(grader)


@pytest.mark.parametrize(
  'arguments, name',
  [({'num_workers': 0}, 'num_workers'), ({'timeout': 0.0}, 'timeout')],
)
def test_limits_must_be_positive(arguments, name):
  with pytest.raises(UserError, match=f'{name}: received 0'):
    pool.Grader(**arguments)
