"""What the worker has given up, tried in the very process that gave it up."""

import ast
import json
import pathlib
import resource
import subprocess
import sys

import pytest

from lrm_jax.rewards import pool, worker

_PATH = pathlib.Path(worker.__file__)
# The worker as it is, but for a verdict: it runs what the answer says and
# tells what came of it.
_ATTEMPT = r"""
import json, runpy, sys
sys.path.insert(0, sys.argv.pop(1))
import worker

def attempt(answer, gold):
  try:
    # Compiled before, by the only one who may.
    exec(ATTEMPTS[answer], {'__name__': 'attempt'})
  except BaseException as error:
    return type(error).__name__
  return 'done'

ATTEMPTS = {text: compile(text, 'attempt', 'exec') for text in TEXTS}
real = worker.is_equal
worker.is_equal = lambda answer, gold: (
  attempt if answer in ATTEMPTS else real)(answer, gold)
sys.exit(worker.main())
"""
_REFUSED = [
  'import socket; socket.socket()',
  'import socket; socket.create_connection(("127.0.0.1", 9))',
  'import socket; socket.getaddrinfo("localhost", 80)',
  'import os; os.system("true")',
  'import os; os.popen("true")',
  'import os; os.fork()',
  'import os; os.execv("/bin/true", ["true"])',
  'import os; os.posix_spawn("/bin/true", ["true"], {})',
  'import os; os.kill(os.getppid(), 0)',
  'import subprocess; subprocess.run(["true"])',
  'import ctypes; ctypes.CDLL(None)',
  'import ctypes; ctypes.pythonapi.Py_IncRef',
  'import pickle; pickle.loads(b"cos\\nsystem\\n.")',
  'open("FOLDER/new", "w")',
  'open("FOLDER/old", "a")',
  'open("FOLDER/old", "r+")',
  'import os; os.open("FOLDER/new", os.O_CREAT | os.O_WRONLY)',
  'import os; os.remove("FOLDER/old")',
  'import os; os.rename("FOLDER/old", "FOLDER/new")',
  'import os; os.mkdir("FOLDER/new")',
  'import os; os.symlink("FOLDER/old", "FOLDER/new")',
  'import os; os.chmod("FOLDER/old", 0)',
  'import os; os.truncate("FOLDER/old", 0)',
  'import shutil; shutil.rmtree("FOLDER")',
  'eval("1 + 1")',
  'exec("x = 1")',
  'compile("1", "name", "eval")',
]
_BY_THE_KERNEL = {
  # Even through a file that was open already.
  'import os; os.write(WRITABLE, b"x")': 'OSError',
  'import os; [os.dup(0) for _ in range(100)]': 'OSError',
}
_ALLOWED = [
  'import re; re.compile("a+")',
  'import fractions; fractions.Fraction("1/2")',
  'open("FOLDER/old").read()',
  'import collections; collections.namedtuple("Point", "x y")',
  'import sympy; sympy.expand((sympy.Symbol("x") + 1) ** 2)',
]


@pytest.fixture(scope='module')
def told(tmp_path_factory):
  """Attempt -> what the process said of it."""
  folder = tmp_path_factory.mktemp('attempts')
  (folder / 'old').write_text('old')
  with (folder / 'open').open('w') as file:
    fill = lambda text: text.replace('FOLDER', str(folder)).replace(
      'WRITABLE', str(file.fileno())
    )
    texts = [*_REFUSED, *_ALLOWED, *_BY_THE_KERNEL]
    filled = [fill(text) for text in texts]
    # The last one: after all that it still tells right from wrong.
    requests = [*filled, r'\sqrt{8}']
    script = _ATTEMPT.replace('TEXTS', repr(filled))
    arguments = [str(_PATH.parent), '60', str(2 * 1024**3)]
    done = subprocess.run(
      [sys.executable, '-c', script, *arguments],
      input=''.join(
        json.dumps({'answer': text, 'gold': r'2\sqrt{2}'}) + '\n'
        for text in requests
      ),
      capture_output=True,
      text=True,
      timeout=100,
      pass_fds=[file.fileno()],
    )
  ready, *replies = [json.loads(line) for line in done.stdout.splitlines()]
  assert ready == {'ready': True}, done.stderr
  found = [reply['correct'] for reply in replies]
  assert found.pop() is True
  assert sorted(path.name for path in folder.iterdir()) == ['old', 'open']
  assert (folder / 'old').read_text() == 'old'
  return dict(zip(texts, found, strict=True))


@pytest.mark.parametrize('text', _REFUSED)
def test_refused(told, text):
  assert told[text] == 'PermissionError'


@pytest.mark.parametrize('text, error', _BY_THE_KERNEL.items())
def test_refused_by_the_kernel(told, text, error):
  assert told[text] == error


@pytest.mark.parametrize('text', _ALLOWED)
def test_what_comparisons_need(told, text):
  assert told[text] == 'done'


def test_the_kernels_limits_on_a_worker_of_the_pool():
  with pool.Grader(1, timeout=60.0) as grader:
    grader.grade([(r'</think>\boxed{\sqrt{12}}', r'2\sqrt3')])
    pid = grader._workers[0].process.pid
    if not hasattr(resource, 'prlimit'):
      pytest.skip('the limits of another process are read on Linux only')
    limit = lambda kind: resource.prlimit(pid, kind)
    assert limit(resource.RLIMIT_CORE) == (0, 0)
    assert limit(resource.RLIMIT_FSIZE) == (0, 0)
    assert limit(resource.RLIMIT_NPROC) == (0, 0)
    assert max(limit(resource.RLIMIT_NOFILE)) <= 64
    assert limit(resource.RLIMIT_AS) == (pool.WORKER_MEMORY_BYTES,) * 2
    status = pathlib.Path(f'/proc/{pid}/status').read_text()
    assert 'NoNewPrivs:\t1\n' in status


def test_nothing_but_text_crosses_the_border():
  """Lines of JSON: what a worker says is never more than data."""
  for module in (pool, worker):
    tree = ast.parse(pathlib.Path(module.__file__).read_text())
    names = {
      name
      for node in ast.walk(tree)
      if isinstance(node, ast.Import | ast.ImportFrom)
      for name in (
        [getattr(node, 'module', None)]
        if isinstance(node, ast.ImportFrom)
        else [alias.name for alias in node.names]
      )
    }
    unsafe = {'pickle', 'marshal', 'shelve', 'dill', 'multiprocessing'}
    assert not {name.partition('.')[0] for name in names} & unsafe
    assert 'json' in names


def test_a_worker_out_of_memory_gives_no_verdict():
  """It ends, the pool says that nobody knows, and the next one answers."""
  script = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import worker
real = worker._parse
def parse(text):
  return [bytearray(1 << 40)] if text == 'q' else real(text)
worker._parse = parse
sys.exit(worker.main())
"""
  command = (sys.executable, '-c', script, str(_PATH.parent))
  with pool.Grader(1, timeout=60.0, command=command) as grader:
    pairs = [
      (rf'</think>\boxed{{{answer}}}', r'2\sqrt3')
      for answer in ('q', r'\sqrt{12}', r'\sqrt{13}')
    ]
    verdicts = grader.grade(pairs)
    assert [(v.correct, v.status) for v in verdicts] == [
      (False, 'timeout'),
      (True, 'ok'),
      (False, 'ok'),
    ]
    assert len(grader._workers) == 1
