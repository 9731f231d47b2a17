"""What a helper process gives up before it reads a stranger's text.

The two of them (`rewards/worker.py`, `data/template_worker.py`) are started as
bare scripts and load this file by its path; it needs the standard library
alone. `begin` comes first, `confine` when every library is loaded.

On Linux, x86_64 and aarch64, the kernel then takes a process's system calls
from `_CALLS` and refuses all others (seccomp): none starts a program or a
process, opens a socket, or changes a file, a limit or another process. Where
it has Landlock, files are closed for writing a second time, and other
processes cannot be looked into (`/proc/PID/environ`). Root gives up its rights
but that to read. What remains: the process may read whatever files its user
may read, answer what it likes, and use processor time and memory up to its
limits.

On other systems and machines there are no more than the limits of `confine`.
They keep a process from filling files, not from making them, and root may raise
them again. The table of aarch64 is from the kernel's headers and has not been
run.
"""

import ctypes
import errno
import os
import resource
import signal
import struct
import sys
from typing import TextIO

# Modules are loaded late, one file at a time.
_MAX_FILES = 32
_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS of prctl(2)
# AUDIT_ARCH_* of the architecture, and its number of seccomp(2).
_MACHINES = {'x86_64': (0xC000003E, 317), 'aarch64': (0xC00000B7, 277)}
# Name -> its number on x86_64 and on aarch64; None where it does not exist.
_CALLS = {
  'read': (0, 63),
  'write': (1, 64),
  'open': (2, None),
  'close': (3, 57),
  'stat': (4, None),
  'fstat': (5, 80),
  'lstat': (6, None),
  'poll': (7, None),
  'lseek': (8, 62),
  'mmap': (9, 222),
  'mprotect': (10, 226),
  'munmap': (11, 215),
  'brk': (12, 214),
  'rt_sigaction': (13, 134),
  'rt_sigprocmask': (14, 135),
  'rt_sigreturn': (15, 139),
  'ioctl': (16, 29),
  'pread64': (17, 67),
  'readv': (19, 65),
  'writev': (20, 66),
  'access': (21, None),
  'select': (23, None),
  'sched_yield': (24, 124),
  'mremap': (25, 216),
  'madvise': (28, 233),
  'dup': (32, 23),
  'dup2': (33, None),
  'dup3': (292, 24),
  'nanosleep': (35, 101),
  'getitimer': (36, 102),
  'setitimer': (38, 103),
  'getpid': (39, 172),
  'clone': (56, 220),
  'exit': (60, 93),
  'uname': (63, 160),
  'fcntl': (72, 25),
  'getdents': (78, None),
  'getcwd': (79, 17),
  'readlink': (89, None),
  'gettimeofday': (96, 169),
  'getrlimit': (97, 163),
  'getrusage': (98, 165),
  'sysinfo': (99, 179),
  'times': (100, 153),
  'getuid': (102, 174),
  'getgid': (104, 176),
  'geteuid': (107, 175),
  'getegid': (108, 177),
  'getppid': (110, 173),
  'sigaltstack': (131, 132),
  'arch_prctl': (158, None),
  'gettid': (186, 178),
  'time': (201, None),
  'futex': (202, 98),
  'sched_getaffinity': (204, 123),
  'getdents64': (217, 61),
  'set_tid_address': (218, 96),
  'restart_syscall': (219, 128),
  'clock_gettime': (228, 113),
  'clock_getres': (229, 114),
  'clock_nanosleep': (230, 115),
  'exit_group': (231, 94),
  'tgkill': (234, 131),
  'openat': (257, 56),
  'newfstatat': (262, 79),
  'readlinkat': (267, 78),
  'faccessat': (269, 48),
  'pselect6': (270, 72),
  'ppoll': (271, 73),
  'set_robust_list': (273, 99),
  'prlimit64': (302, 261),
  'getrandom': (318, 278),
  'membarrier': (324, 283),
  'statx': (332, 291),
  'rseq': (334, 293),
  'faccessat2': (439, 439),
}
# Libraries try newer calls first and fall back where they do not exist; 424 is
# the first with one number everywhere.
_NEWER = 424
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CLONE_THREAD = 0x10000
# Of Landlock: EXECUTE, WRITE_FILE, and the nine that remove and make files.
_CHANGES = 0b1_1111_1111_0011
# CAP_DAC_READ_SEARCH: libraries are read late, whoever owns their files.
_CAPABILITIES = 1 << 2
# Instructions of the kernel's packet filters, as <linux/bpf_common.h> has them.
_LOAD, _EQUAL, _FROM, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _ALLOW, _REFUSE = 0x80000000, 0x7FFF0000, 0x00050000


def begin(memory_bytes: int) -> TextIO:
  """Makes the process one that answers until its input closes.

  Signals to a whole group of processes (Ctrl-C, a job that is cancelled) are
  for the parent, who still has use for an answer. Standard output becomes
  standard error: a library that prints must not get between the replies.

  Args:
    memory_bytes: its address space, from now on; enforced on Linux.

  Returns:
    The file for replies.
  """
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
  # A process inherits what its parent ignores, and where libtpu is loaded that
  # is SIGPROF: nothing would ever end.
  signal.signal(signal.SIGPROF, signal.SIG_DFL)
  signal.pthread_sigmask(signal.SIG_SETMASK, [])
  replies = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  if sys.platform == 'linux':  # Elsewhere the kernel ignores or refuses it.
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or hard > memory_bytes:
      resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
  return replies


def confine(cpu_seconds: int) -> bool:
  """Gives up what the kernel would grant; see the module.

  Args:
    cpu_seconds: of processor time that the process may use in all, from its
      start; a backstop, at which the kernel kills it.

  Returns:
    Whether system calls are filtered now. False on systems and machines
    without such a filter: nothing keeps root from raising the limits again.

  Raises:
    OSError: the kernel refuses a limit.
  """
  sys.dont_write_bytecode = True
  limits = {
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_NOFILE: _MAX_FILES,
    resource.RLIMIT_CPU: cpu_seconds,
    # Of no effect on root.
    resource.RLIMIT_NPROC: 0,
  }
  for kind, most in limits.items():
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
      most = min(most, hard)
    resource.setrlimit(kind, (most, most))
  if sys.platform != 'linux':
    return False
  libc = ctypes.CDLL(None)
  libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
  _close_files(libc)
  _drop_capabilities(libc)
  machine = os.uname().machine
  if machine not in _MACHINES or ctypes.sizeof(ctypes.c_void_p) != 8:
    return False
  return _filter_calls(libc, _MACHINES[machine][1], make_filter(machine))


def make_filter(machine: str) -> bytes:
  """The program that the kernel runs at each system call.

  Args:
    machine: 'x86_64' or 'aarch64', where words are little-endian.

  Returns:
    Instructions of 8 bytes; at most 4096 of them.
  """
  audit, _ = _MACHINES[machine]
  column = list(_MACHINES).index(machine)
  # What it reads: the number, the architecture, 8 bytes of another matter, and
  # six arguments of two words each.
  program = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _KILL)]
  program.append((_LOAD, 0, 0, 0))
  for name, numbers in _CALLS.items():
    number = numbers[column]
    if number is None:
      continue
    block = [(_RETURN, 0, 0, _ALLOW)]
    if name in _CONDITIONS:
      block = [*_CONDITIONS[name](), *block]
    program += [(_EQUAL, 0, len(block), number), *block]
  program.append((_FROM, 0, 1, _NEWER))
  program.append((_RETURN, 0, 0, _REFUSE | errno.ENOSYS))
  program.append((_RETURN, 0, 0, _REFUSE | errno.EPERM))
  return b''.join(struct.pack('<HBBI', *line) for line in program)


def _one_of(argument: int, *values: int, high: bool = False) -> list:
  """Refuses unless one word of an argument is among the values."""
  count = len(values)
  return [
    (_LOAD, 0, 0, 16 + 8 * argument + 4 * high),
    *[(_EQUAL, count - i, 0, value) for i, value in enumerate(values)],
    (_RETURN, 0, 0, _REFUSE | errno.EPERM),
  ]


def _bits(argument: int, mask: int, *, wanted: bool) -> list:
  """Refuses unless an argument has, or has not, any bit of the mask."""
  return [
    (_LOAD, 0, 0, 16 + 8 * argument),
    (_ANY_BIT, int(wanted), int(not wanted), mask),
    (_RETURN, 0, 0, _REFUSE | errno.EPERM),
  ]


# Calls that may be made with some arguments only.
_CONDITIONS = {
  'open': lambda: _bits(1, _WRITES, wanted=False),
  'openat': lambda: _bits(2, _WRITES, wanted=False),
  'clone': lambda: _bits(0, _CLONE_THREAD, wanted=True),
  # A process may end itself, as abort() does.
  'tgkill': lambda: _one_of(0, os.getpid()),
  # Its own limits, and only to read them.
  'prlimit64': lambda: [
    *_one_of(0, 0),
    *_one_of(2, 0),
    *_one_of(2, 0, high=True),
  ],
  # Copies and flags of file descriptors; not who is sent their signals.
  'fcntl': lambda: _one_of(1, 0, 1, 2, 3, 1030),
  # Whether it is a terminal, how wide, and whether programs inherit it.
  'ioctl': lambda: _one_of(1, 0x5401, 0x5413, 0x5450, 0x5451),
}


def _filter_calls(libc: ctypes.CDLL, number: int, program: bytes) -> bool:
  class Program(ctypes.Structure):
    _fields_ = (('count', ctypes.c_ushort), ('lines', ctypes.c_void_p))

  lines = ctypes.create_string_buffer(program, len(program))
  argument = Program(len(program) // 8, ctypes.addressof(lines))
  # SECCOMP_SET_MODE_FILTER, for all threads.
  return not libc.syscall(number, 1, 1, ctypes.byref(argument))


def _close_files(libc: ctypes.CDLL) -> None:
  """Landlock without any exception; nothing where the kernel has none."""
  changes = ctypes.c_uint64(_CHANGES)
  rules = libc.syscall(444, ctypes.byref(changes), ctypes.c_size_t(8), 0)
  if rules >= 0:
    libc.syscall(446, rules, 0)
    os.close(rules)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
  """Root keeps the right to read; others have none to begin with."""
  version = (ctypes.c_uint32 * 2)(0x20080522, 0)  # And this process.
  # Two times: effective, permitted, inheritable.
  held = (ctypes.c_uint32 * 6)()
  libc.capget(version, held)
  kept = [held[0] & _CAPABILITIES, held[1] & _CAPABILITIES]
  libc.capset(version, (ctypes.c_uint32 * 6)(*kept))
