r"""Answers that a task's own code scores, in the processes that do it."""

import importlib.util
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

import pytest

from lrm_jax import confinement
from lrm_jax.data import gym_entries, sources
from lrm_jax.errors import UserError
from lrm_jax.rewards import gym_worker, overlap, pool, tasks, worker
from lrm_jax.rewards.math_answer import Verdict
from lrm_jax.structs import Problem, Task

HERE = pathlib.Path(gym_worker.__file__)
needs_gym = pytest.mark.skipif(
  importlib.util.find_spec('reasoning_gym') is None,
  reason="reasoning-gym is not installed: pip install 'lrm_jax[gym]'",
)
_PATIENCE = 60.0


# --- What the answer is ---


@pytest.mark.parametrize(
  ('response', 'answer'),
  [
    ('thinking</think>42', '42'),
    ('t</think>\n\n so it is\n 1 2\n 3 4 \n', ' so it is\n 1 2\n 3 4'),
    (r't</think>It is $\boxed{42}$.', '42'),
    (
      r't</think>\boxed{1} no, \boxed{ \text{Zoey is a knave} }',
      'Zoey is a knave',
    ),
    ('t</think>so <answer>a</answer> or <answer> [1, 2]\n</answer>', '[1, 2]'),
    (r't</think>\boxed{1}<answer>2</answer>', '2'),
    ('t</think>\n 1 2\n 3 4\n', ' 1 2\n 3 4'),
    (r't</think>\boxed{}', r'\boxed{}'),
    ('t</think><answer>open', '<answer>open'),
    ('t</think>  \n ', None),
    ('no end of thinking: 42', None),
    ('', None),
  ],
)
def test_answers_as_they_stand(response, answer):
  assert tasks.extract(response) == answer


def test_a_response_without_thinking():
  read = lambda text: tasks.extract(text, require_closed_think=False)
  assert read('42') == '42'
  assert read('<think>42') is None
  assert read('a</think>7') == '7'


def test_gold_of_problems():
  assert Problem('x', 'q', '7').gold == '7'
  assert Problem('x', 'q', '7', task='{}').gold == Task('{}')


# --- The pool ---


@pytest.fixture(scope='module')
def grader():
  with pool.Grader(1, timeout=_PATIENCE) as found:
    yield found


def graded(grader, spec, *answers, index=0):
  gold = sources.load_problems(spec)[index].gold
  return grader.grade([(f'</think>{answer}', gold) for answer in answers])


def right(grader, spec, *answers, index=0):
  return [v.correct for v in graded(grader, spec, *answers, index=index)]


@needs_gym
def test_verdicts(grader):
  problem = sources.load_problems('gym:chain_sum')[0]
  assert graded(grader, 'gym:chain_sum', problem.answer, '10000') == [
    Verdict(True, problem.answer, 'ok'),
    Verdict(False, '10000', 'ok'),
  ]
  pairs = [
    ('thoughts', problem.gold),
    (f'</think>{"9" * (tasks.MAX_CHARS + 1)}', problem.gold),
    (r'</think>\boxed{7}', '7'),
    (f'</think>{problem.answer}', problem.gold),
    (r'</think>\boxed{\sqrt8}', r'2\sqrt2'),
  ]
  # Tasks and golds in one call, in order.
  assert [(v.correct, v.status) for v in grader.grade(pairs)] == [
    (False, 'no_answer'),
    (False, 'too_long'),
    (True, 'ok'),
    (True, 'ok'),
    (True, 'ok'),
  ]


@needs_gym
def test_less_than_the_whole_score_is_wrong(grader):
  """`chain_sum` pays a share for an answer within more text."""
  problem = sources.load_problems('gym:chain_sum')[0]
  made, entry = gym_entries.recall(problem.task)
  assert 0 < made.score_answer(f'it is {problem.answer}', entry) < 1
  answers = (f'it is {problem.answer}', problem.answer)
  assert right(grader, 'gym:chain_sum', *answers) == [False, True]


@needs_gym
def test_another_right_answer_than_the_known_one(grader):
  problem = sources.load_problems('gym:countdown:train')[0]
  other = f'(({problem.answer}))'
  assert right(grader, 'gym:countdown:train', problem.answer, other, '1+1') == [
    True,
    True,
    False,
  ]


@needs_gym
def test_grading_beside_sampling(grader):
  """By the thread that training uses."""
  problem = sources.load_problems('gym:gcd')[0]
  with overlap.Grading(grader) as grading:
    grading.put('a', f'</think>{problem.answer}', problem.gold)
    grading.put('b', '</think>0', problem.gold)
    assert [v.correct for v in grading.wait(['a', 'b'])] == [True, False]


@needs_gym
def test_every_task_takes_its_own_answer(grader):
  """In the process that may compile no text, write no file and so on."""
  pairs, names = [], []
  for name in gym_entries.names():
    problem = sources.load_problems(f'gym:{name}')[0]
    if problem.answer and name not in SLOW:
      pairs.append((f'</think>{problem.answer}', problem.gold))
      names.append(name)
  verdicts = grader.grade(pairs)
  wrong = [n for n, v in zip(names, verdicts, strict=True) if not v.correct]
  assert not wrong
  assert len(names) > 80


# A second and more, for one problem.
SLOW = frozenset(('sokoban', 'zebra_puzzles', 'arc_agi'))


# --- Text of a model is data ---

HOSTILE = (
  '__import__("os").system("touch FILE")',
  '[open("FILE", "w").write("x")]',
  'exec("import os; os.mkdir(\\"FILE\\")")',
  '(lambda: open("FILE", "w"))()',
  '9**9**9**9',
  '(' * 3000,
  '-' * 4000 + '1',
  '[' * 4000,
  '\x00\ud800',
  '1e999999999',
  '\u202e\u0000',
  '{}',
  'None',
)
READERS = (
  *('countdown', 'puzzle24', 'n_queens', 'spiral_matrix', 'binary_matrix'),
  *('string_insertion', 'number_sorting', 'bitwise_arithmetic', 'sudoku'),
  *('decimal_arithmetic', 'polynomial_equations', 'complex_arithmetic'),
  *('basic_arithmetic', 'dice', 'jugs', 'rush_hour', 'game_of_life'),
)


@needs_gym
@pytest.mark.parametrize('name', READERS)
def test_hostile_answers_are_wrong_and_nothing_more(grader, name, tmp_path):
  target = tmp_path / 'made'
  answers = [text.replace('FILE', str(target)) for text in HOSTILE]
  verdicts = graded(grader, f'gym:{name}', *answers)
  assert not any(verdict.correct for verdict in verdicts)
  assert {verdict.status for verdict in verdicts} <= {'ok', 'timeout'}
  assert not target.exists()


@needs_gym
@pytest.mark.parametrize('name', ['spiral_matrix', 'string_insertion'])
def test_a_wrong_answer_is_not_run_for_a_part_of_the_score(name):
  """In this process, where nothing else would keep it from running."""
  script = f"""
import json, runpy, sys
sys.path[:0] = [{str(HERE.parent)!r}]
import gym_worker, importlib
gym_worker.prepare()
entries = gym_worker._load(gym_worker.pathlib.Path({gym_entries.__file__!r}))
made = entries.dataset({name!r}, 0, ())
entry = made[0]
ran = []
import builtins
builtins.mark = lambda: ran.append(1)
print(made.score_answer('[mark()]', entry), ran,
      made.score_answer(repr(list(entry['answer'])), entry))
"""
  done = subprocess.run(
    [sys.executable, '-c', script], capture_output=True, text=True, check=True
  )
  # The list of the right letters would be a tenth of the score.
  assert done.stdout.split() == ['0.0', '[]', '0.0']


@needs_gym
def test_the_kernels_limits_are_those_of_the_other_workers(grader):
  right(grader, 'gym:gcd', '1')
  (process,) = [each.process for each in grader._of_tasks._workers]
  status = pathlib.Path(f'/proc/{process.pid}/status')
  if not status.exists():
    pytest.skip('what a process has given up is read on Linux only')
  assert 'NoNewPrivs:\t1\n' in status.read_text()
  if platform.machine() in confinement._MACHINES:
    assert 'Seccomp:\t2\n' in status.read_text()
  assert (
    b'PYTHONHASHSEED=0'
    in pathlib.Path(f'/proc/{process.pid}/environ').read_bytes()
  )


def test_who_may_compile_is_a_short_list():
  hook = worker.make_hook(compilers=worker.COMPILERS)
  with pytest.raises(PermissionError, match='may not compile text'):
    hook('compile', ('1', 'x'))
  assert len(gym_worker._OF_THEIR_OWN) == 6


@needs_gym
def test_a_task_that_hangs_is_cut_off(tmp_path):
  """By the kernel, as a comparison is."""
  script = tmp_path / 'hanging.py'
  script.write_text(f"""
import sys
sys.path.insert(0, {str(HERE.parent)!r})
import gym_worker
real = gym_worker.is_right
def hang(entries, answer, reference):
  while answer == 'hang':
    pass
  return real(entries, answer, reference)
gym_worker.is_right = hang
sys.exit(gym_worker.main())
""")
  command = (sys.executable, '-P', str(script))
  gold = sources.load_problems('gym:gcd')[0].gold
  with tasks.TaskGrader(1, timeout=1.0, command=command) as found:
    begin = time.monotonic()
    verdicts = found.grade([('</think>hang', gold), ('</think>0', gold)])
    assert time.monotonic() - begin < _PATIENCE
  assert [(v.correct, v.status) for v in verdicts] == [
    (False, 'timeout'),
    (False, 'ok'),
  ]


@needs_gym
def test_an_entry_that_comes_out_otherwise_gives_no_verdict(grader):
  told = json.loads(sources.load_problems('gym:gcd')[0].task)
  for changed in ({'question': '0' * 16}, {'task': 'gone'}):
    gold = Task(json.dumps(told | changed))
    (verdict,) = grader.grade([('</think>1', gold)])
    assert (verdict.correct, verdict.status) == (False, 'timeout')


def test_where_the_package_cannot_be_loaded(tmp_path):
  (tmp_path / 'reasoning_gym.py').write_text('raise ImportError("no such")')
  path = os.pathsep.join((str(tmp_path), os.environ.get('PYTHONPATH', '')))
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('PYTHONPATH', path)
    with (
      tasks.TaskGrader(1) as found,
      pytest.raises(UserError, match='reasoning-gym cannot be loaded') as error,
    ):
      found.grade([('</think>1', Task('{}'))])
  assert "install it with `pip install 'lrm_jax[gym]'`" in str(error.value)
  assert '\n' not in str(error.value)


# --- Formulas ---


@pytest.mark.parametrize(
  ('text', 'value'),
  [
    ('3*(4 + 5)/2', 13.5),
    ('-2 - -3', 1),
    ('8/4/2', 1),
    ('2 - 3 - 4', -5),
    (' ( 7 ) ', 7),
    ('1/3*3', 1),
  ],
)
def test_formulas(text, value):
  assert gym_worker.read_formula(text) == value


@pytest.mark.parametrize(
  'text',
  [
    *('', '()', '1 2', '3*', '(1', '1)', '2**3', '2^3', '1.5', 'abs(1)', '3x'),
    *('__import__("os")', '1,2', '(' * 40 + '1' + ')' * 40, '1+' * 300 + '1'),
    *('9' * 31, '\u0663', '=', '4=4'),
  ],
)
def test_what_is_no_formula(text):
  with pytest.raises(SyntaxError):
    gym_worker.read_formula(text)
