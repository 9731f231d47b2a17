"""What the worker has given up, tried in the very process that gave it up."""

import ast
import json
import os
import pathlib
import platform
import resource
import signal
import subprocess
import sys

import pytest

from lrm_jax import confinement
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
  'import os; os.utime("FOLDER/old")',
  'import os; os.setxattr("FOLDER/old", "user.a", b"b")',
  'import os; os.killpg(os.getppid(), 0)',
  'import resource; resource.prlimit(0, resource.RLIMIT_CPU)',
  'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))',
  'import gc; gc.get_objects()',
  # What the hook decides by is not what these names say.
  'import worker; worker._COMPILERS = {"attempt"}; eval("1 + 1")',
  'import worker; worker._REFUSED = (); import os; os.system("true")',
  'import worker; worker.make_hook = print; import os; os.system("true")',
]
# Not announced to an audit hook, or after the hook's module was changed.
_BY_THE_FILTER = [
  """import _posixsubprocess, os
r, w = os.pipe()
_posixsubprocess.fork_exec([b"/bin/sh", b"-c", b"touch FOLDER/new"],
  [b"/bin/sh"], True, (w,), None, None, -1, -1, -1, -1, -1, -1, r, w, False,
  False, -1, None, None, None, -1, None, True)""",
  'import worker; worker._REFUSED = (); import socket; socket.socket()',
  'import os; os.mkfifo("FOLDER/new")',
  'import os; os.mknod("FOLDER/new")',
  'import os; os.chroot("/")',
  'import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 0)',
  'import os; os.sched_setaffinity(os.getppid(), {0})',
  'import os; os.memfd_create("name")',
  'import os; open(f"/proc/{os.getppid()}/environ", "rb").read()',
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
    texts = [*_REFUSED, *_BY_THE_FILTER, *_ALLOWED, *_BY_THE_KERNEL]
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


@pytest.mark.skipif(
  sys.platform != 'linux' or platform.machine() not in confinement._MACHINES,
  reason='no filter of system calls for this machine',
)
@pytest.mark.parametrize('text', _BY_THE_FILTER)
def test_refused_by_the_filter(told, text):
  assert told[text] == 'PermissionError'


@pytest.mark.parametrize('text, error', _BY_THE_KERNEL.items())
def test_refused_by_the_kernel(told, text, error):
  assert told[text] == error


@pytest.mark.parametrize('text', _ALLOWED)
def test_what_comparisons_need(told, text):
  assert told[text] == 'done'


def test_the_kernels_limits_on_a_worker_of_the_pool(monkeypatch):
  monkeypatch.setenv('SECRET', 'token')
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
    assert worker._LIFE_SECONDS < max(limit(resource.RLIMIT_CPU)) < 700
    environment = pathlib.Path(f'/proc/{pid}/environ').read_bytes()
    assert b'SECRET' not in environment and b'PYTHONHASHSEED=0' in environment
    assert os.getpgid(pid) == os.getsid(pid) == pid
    status = pathlib.Path(f'/proc/{pid}/status').read_text()
    assert 'NoNewPrivs:\t1\n' in status
    if platform.machine() in confinement._MACHINES:
      assert 'Seccomp:\t2\n' in status


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


# Both are the worker, but for the seconds of its life.
_SHORT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import worker
worker._LIFE_SECONDS = 0
real = worker.is_equal
def compare(answer, gold):
  if answer == 'q':
    import signal
    signal.setitimer(signal.ITIMER_PROF, 0)
    while True:
      pass
  return real(answer, gold)
worker.is_equal = compare
sys.exit(worker.main())
"""


def test_who_turns_the_timer_off_is_ended_by_the_time_of_a_life():
  """Two seconds and the comparison's one, though no parent looks."""
  arguments = [str(_PATH.parent), '1', str(2 * 1024**3)]
  done = subprocess.run(
    [sys.executable, '-c', _SHORT, *arguments],
    input=json.dumps({'answer': 'q', 'gold': '1'}) + '\n',
    capture_output=True,
    text=True,
    timeout=100,
  )
  assert done.returncode == -signal.SIGKILL
  assert done.stdout == '{"ready": true}\n'


def test_a_worker_at_the_end_of_its_life_costs_no_verdict():
  command = (sys.executable, '-c', _SHORT, str(_PATH.parent))
  with pool.Grader(1, timeout=60.0, command=command) as grader:
    for n in (12, 20, 28):
      (verdict,) = grader.grade(
        [(rf'</think>\boxed{{\sqrt{{{n}}}}}', rf'2\sqrt{n // 4}')]
      )
      assert (verdict.correct, verdict.status) == (True, 'ok')
      assert not grader._workers
