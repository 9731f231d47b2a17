"""What the kernel refuses a helper process, without an audit hook's help."""

import errno
import json
import os
import pathlib
import platform
import signal
import struct
import subprocess
import sys
import time

import pytest

from lrm_jax import confinement, subprocesses

_IS_FILTERED = (
  sys.platform == 'linux' and platform.machine() in confinement._MACHINES
)
_filtered = pytest.mark.skipif(
  not _IS_FILTERED, reason='no filter of system calls for this machine'
)
_SCRIPT = r"""
import ctypes, json, os, resource, signal, sys, threading
sys.path.insert(0, sys.argv[1])
import confinement
libc = ctypes.CDLL(None, use_errno=True)
import _posixsubprocess, socket, subprocess
FOLDER, PARENT = sys.argv[2], os.getppid()
replies = confinement.begin(2 << 30)
is_confined = confinement.confine(100)

def call(number, *arguments):
  found = libc.syscall(number, *arguments)
  if found < 0:
    raise OSError(ctypes.get_errno(), 'refused')
  return found

def run_shell():
  ready, told = os.pipe()
  return subprocess.run(['/bin/sh', '-c', 'true'])

def thread():
  done = []
  thread = threading.Thread(target=done.append, args=(1,))
  thread.start()
  thread.join()
  return done

found = []
for text in json.load(sys.stdin):
  try:
    found.append([0, repr(eval(text))])
  except OSError as error:
    found.append([error.errno, ''])
  except Exception as error:
    found.append([-1, repr(error)])
print(json.dumps([is_confined, found]), file=replies, flush=True)
"""
_REFUSED = [
  'run_shell()',
  'os.fork()',
  'os.execv("/bin/true", ["true"])',
  'os.posix_spawn("/bin/true", ["true"], {})',
  'socket.socket()',
  'socket.socketpair()',
  'os.kill(PARENT, 0)',
  'os.killpg(PARENT, 0)',
  'call(234, PARENT, PARENT, 0)',  # tgkill
  'os.setpriority(os.PRIO_PROCESS, PARENT, 19)',
  'os.sched_setaffinity(PARENT, {0})',
  'os.nice(0)',
  'resource.prlimit(PARENT, resource.RLIMIT_CORE)',
  'resource.prlimit(0, resource.RLIMIT_CORE, (0, 0))',
  'open(FOLDER + "/old", "w")',
  'open(FOLDER + "/old", "r+")',
  'open("/proc/self/mem", "r+b", 0)',
  'os.open(FOLDER, os.O_TMPFILE | os.O_RDWR)',
  'os.memfd_create("name")',
  'os.mkfifo(FOLDER + "/new")',
  'os.mknod(FOLDER + "/new")',
  'os.mkdir(FOLDER + "/new")',
  'os.link(FOLDER + "/old", FOLDER + "/new")',
  'os.symlink(FOLDER + "/old", FOLDER + "/new")',
  'os.rename(FOLDER + "/old", FOLDER + "/new")',
  'os.remove(FOLDER + "/old")',
  'os.utime(FOLDER + "/old")',
  'os.chmod(FOLDER + "/old", 0)',
  'os.chown(FOLDER + "/old", 0, 0)',
  'os.truncate(FOLDER + "/old", 0)',
  'os.setxattr(FOLDER + "/old", "user.a", b"b")',
  'os.chroot("/")',
  'os.chdir("/")',
  'os.setsid()',
  'os.setuid(0)',
  'call(72, 0, 8, PARENT)',  # F_SETOWN
  'call(101, 16, PARENT, 0, 0)',  # ptrace
  'call(310, PARENT, 0, 0, 0, 0, 0)',  # process_vm_readv
  'call(165, 0, 0, 0, 0, 0)',  # mount
  'call(272, 0)',  # unshare
  'call(308, 0, 0)',  # setns
  'call(321, 0, 0, 0)',  # bpf
  'call(317, 1, 0, 0)',  # seccomp
  'call(157, 4, 1, 0, 0, 0)',  # prctl, PR_SET_DUMPABLE
]
_UNKNOWN = [
  'os.pidfd_open(PARENT)',
  'call(425, 1, 0)',  # io_uring_setup
  'call(435, 0, 0)',  # clone3
  'call(437, 0, 0, 0, 0)',  # openat2
  'call(0x40000000 + 41, 2, 1, 0)',  # socket, as x32 has it
]
_ALLOWED = {
  'open(FOLDER + "/old").read()': "'old'",
  'thread()': '[1]',
  'resource.getrlimit(resource.RLIMIT_FSIZE)': '(0, 0)',
  'resource.getrlimit(resource.RLIMIT_CPU)': '(100, 100)',
  'signal.getsignal(signal.SIGTERM)': '<Handlers.SIG_IGN: 1>',
  'signal.pthread_sigmask(signal.SIG_BLOCK, [])': 'set()',
}
# By Landlock, and because root gives its rights up.
_PARENT = 'open(f"/proc/{PARENT}/environ", "rb").read()'


@pytest.fixture(scope='module')
def told(tmp_path_factory):
  """Attempt -> number of the error, and what came of it."""
  folder = tmp_path_factory.mktemp('attempts')
  (folder / 'old').write_text('old')
  texts = [*_REFUSED, *_UNKNOWN, *_ALLOWED, _PARENT]
  package = pathlib.Path(confinement.__file__).parent
  done = subprocess.run(
    [sys.executable, '-c', _SCRIPT, str(package), str(folder)],
    input=json.dumps(texts),
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert done.returncode == 0, done.stderr
  is_confined, found = json.loads(done.stdout)
  assert is_confined == _IS_FILTERED
  assert [path.name for path in folder.iterdir()] == ['old']
  assert (folder / 'old').read_text() == 'old'
  return dict(zip(texts, found, strict=True))


@_filtered
@pytest.mark.parametrize('text', _REFUSED)
def test_refused(told, text):
  if 'call(' in text and platform.machine() != 'x86_64':
    pytest.skip('its number is that of another machine')
  if text.startswith('resource.prlimit(0'):
    assert told[text] == [errno.EPERM, ''] or 'not allowed' in told[text][1]
  else:
    assert told[text] in ([errno.EPERM, ''], [errno.EACCES, ''])


@_filtered
@pytest.mark.parametrize('text', _UNKNOWN)
def test_newer_calls_do_not_exist(told, text):
  assert told[text] == [errno.ENOSYS, '']


@pytest.mark.parametrize('text', _ALLOWED)
def test_what_remains(told, text):
  assert told[text] == [0, _ALLOWED[text]]


@_filtered
def test_other_processes_cannot_be_looked_into(told):
  status = pathlib.Path('/proc/sys/kernel/osrelease').read_text()
  if tuple(map(int, status.split('.')[:2])) < (5, 13):
    pytest.skip('a kernel without Landlock')
  assert told[_PARENT] == [errno.EACCES, '']


# --- The filter itself, as the kernel would run it ---

_RETURNS = {0x7FFF0000: 'allow', 0x80000000: 'kill'}
_REFUSALS = {0x50000 | errno.EPERM: 'EPERM', 0x50000 | errno.ENOSYS: 'ENOSYS'}


def _decide(machine, number, *arguments, audit=None):
  """Interprets the five instructions that the filter is made of."""
  data = struct.pack(
    '<IIQ6Q',
    number,
    confinement._MACHINES[machine][0] if audit is None else audit,
    0,
    *arguments,
    *[0] * (6 - len(arguments)),
  )
  program = confinement.make_filter(machine)
  lines = list(struct.iter_unpack('<HBBI', program))
  at, word = 0, 0
  while True:
    code, if_true, if_false, value = lines[at]
    at += 1
    if code == 0x20:
      (word,) = struct.unpack_from('<I', data, value)
    elif code == 0x06:
      return (_RETURNS | _REFUSALS)[value]
    else:
      holds = {0x15: word == value, 0x35: word >= value, 0x45: word & value}
      at += if_true if holds[code] else if_false


@pytest.mark.parametrize(
  'machine, calls',
  [
    ('x86_64', {'openat': 257, 'clone': 56, 'limits': 302, 'kill': 62}),
    ('aarch64', {'openat': 56, 'clone': 220, 'limits': 261, 'kill': 129}),
  ],
)
def test_the_filter(machine, calls):
  decide = lambda *arguments: _decide(machine, *arguments)
  for name, numbers in confinement._CALLS.items():
    number = numbers[list(confinement._MACHINES).index(machine)]
    if number is not None and name not in confinement._CONDITIONS:
      assert decide(number) == 'allow', name
  for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC):
    assert decide(calls['openat'], 0, 0, flags) == 'EPERM'
  assert decide(calls['openat'], 0, 0, os.O_CLOEXEC) == 'allow'
  assert decide(calls['clone'], 0x3D0F00) == 'allow'
  assert decide(calls['clone'], signal.SIGCHLD) == 'EPERM'
  assert decide(calls['limits'], 0, 7, 0, 0) == 'allow'
  assert decide(calls['limits'], 0, 7, 1 << 40, 0) == 'EPERM'
  assert decide(calls['limits'], 0, 7, 1, 0) == 'EPERM'
  assert decide(calls['limits'], 9, 7, 0, 0) == 'EPERM'
  assert decide(calls['kill'], 1, 9) == 'EPERM'
  assert decide(425) == decide(435) == decide(10**6) == 'ENOSYS'
  assert _decide(machine, 0, audit=0x40000003) == 'kill'  # i386


# --- How they are started, and how they end ---


def _sleeper(code, *arguments):
  return subprocesses.start((sys.executable, '-S', '-c', code, *arguments))


def test_a_helper_gets_no_secrets(monkeypatch):
  monkeypatch.setenv('HF_TOKEN', 'secret')
  monkeypatch.setenv('LANG', 'C.UTF-8')
  process = subprocesses.start(
    (sys.executable, '-c', 'import os; print(*os.environ.items(), sep="\\n")'),
    PYTHONHASHSEED='0',
  )
  told = process.stdout.read().decode()
  assert subprocesses.end(process, 10.0) == 0
  assert "('LANG', 'C.UTF-8')" in told and "('PYTHONHASHSEED', '0')" in told
  assert 'secret' not in told and "'HOME'" not in told and "'PATH'" not in told


def test_its_group_ends_with_it():
  code = 'import os, time; print(os.fork(), flush=True); time.sleep(60)'
  process = _sleeper(code)
  child = int(process.stdout.readline())
  assert subprocesses.end(process) == -signal.SIGKILL
  deadline = time.monotonic() + 10
  while _is_running(child) and time.monotonic() < deadline:
    time.sleep(0.01)
  assert not _is_running(child)
  assert process.stdin.closed and process.stdout.closed


def _is_running(pid):
  try:
    os.kill(pid, 0)
    status = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except (ProcessLookupError, FileNotFoundError):
    return False
  return status.rpartition(')')[2].split()[0] != 'Z'


def test_signals_of_the_group_wait_from_the_first_instruction_on():
  mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
  process = _sleeper(
    'import signal; print(*sorted(map(int, signal.pthread_sigmask(0, []))))'
  )
  told = process.stdout.read().decode()
  subprocesses.end(process)
  assert told.split() == ['1', '2', '15']
  assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
