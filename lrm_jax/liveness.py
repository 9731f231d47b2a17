"""Ends this process with a clear line when another one of its run is gone.

A collective waits for a lost process for ever on some devices, and JAX, which
notices after `distributed.SILENCE`, aborts without a word that helps. So every
process keeps the connection it made in `meeting`: the kernel closes it when its
process ends, however it ends, and the last words on it say why:

  ended 2    process 2 has done its work
  failed 2   it ends with an error or an interrupt
  lost 2     process 0 has seen that process 2 is gone
  (none)     the process at the other end was killed
"""

import atexit
import ctypes
import faulthandler
import os
import re
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping

# The exit code of the others: EX_TEMPFAIL of sysexits.h, "try again".
LOST = 75
# Seconds in which all may end by the same error, each with its own words.
GRACE = 20.0
# Seconds in which a lost process is noticed once something else failed by it.
NOTICE = 1.0
# Seconds until a silent host is probed, between probes, and how many: 25 in
# all, before JAX aborts. They also keep the connection in firewalls' memories.
PROBES = {'TCP_KEEPIDLE': 10, 'TCP_KEEPINTVL': 5, 'TCP_KEEPCNT': 3}

_watch = None


def start(
  connections: Mapping[int, socket.socket], count: int, index: int
) -> None:
  """Watches over the other processes from now on.

  Args:
    connections: of `meeting.meet`; without any, nothing is done.
    count: processes.
    index: this one.
  """
  global _watch
  if not connections:
    return
  for connection in connections.values():
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PROBES.items():
      if hasattr(socket, name):
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
  _watch = Watch(connections, count, index)
  _delay_aborts()
  threading.Thread(target=_watch.run, name='liveness', daemon=True).start()
  # For programs that do not say how they end.
  atexit.register(leave, 0)


def leave(code: int) -> None:
  """Tells the others that this process is about to end; the first call counts.

  Args:
    code: its exit code; where it is not 0, the others do not go on either.
  """
  if _watch is not None:
    _watch.leave(code)


def last_words(text: str, peer: int) -> tuple[str, int]:
  """What `peer` said at its end: 'ended', 'failed' or 'lost', and of whom."""
  found = re.fullmatch(r'(ended|failed|lost) (\d{1,9})', text)
  return (found[1], int(found[2])) if found else ('lost', peer)


def report(state: str, process: int, count: int) -> str:
  """The line for users about a process that failed or is lost."""
  again = (
    'start all processes again with the same command, and the run continues '
    'from its last checkpoint'
  )
  if state == 'failed':
    return (
      f'process {process} of {count} ended early, its own output says why; '
      f'cure that, then {again}'
    )
  return (
    f'process {process} of {count} is gone: it was killed, was out of memory, '
    f'or its host is lost; {again}'
  )


class Watch:
  """The connections to other processes; `run` is its thread's."""

  def __init__(
    self, connections: Mapping[int, socket.socket], count: int, index: int
  ):
    self._connections = connections
    self._count = count
    self._index = index
    self._code = None

  def leave(self, code: int) -> None:
    """See the function."""
    if self._code is not None:
      return
    if code:
      # A lost process may be the reason; `run` then says so, and ends this one.
      time.sleep(NOTICE)
    self._code = code
    self._tell('failed' if code else 'ended', self._index)

  def run(self) -> None:
    """Reads until every other process has ended, or one is gone."""
    read = dict.fromkeys(self._connections, b'')
    with selectors.DefaultSelector() as selector:
      for peer, connection in self._connections.items():
        selector.register(connection, selectors.EVENT_READ, peer)
      while selector.get_map():
        for key, _ in selector.select():
          try:
            more = key.fileobj.recv(64)
          except OSError:
            more = b''  # Reset, or a host that answers no probe.
          read[key.data] += more
          # No words are longer; a stranger in the middle is no process.
          if not more or len(read[key.data]) > 64:
            selector.unregister(key.fileobj)
            words = read[key.data].decode('utf-8', 'replace')
            state, process = last_words(words, key.data)
            if state != 'ended':
              self._end(state, process)

  def _tell(self, state: str, process: int) -> None:
    """Says the last words of this process."""
    for connection in self._connections.values():
      try:
        connection.sendall(f'{state} {process}'.encode())
        connection.shutdown(socket.SHUT_WR)
      except OSError:
        pass  # It has ended too, or has been told.

  def _end(self, state: str, process: int) -> None:
    """Ends this process, whatever its main thread waits for."""
    self._tell(state, process)
    if state == 'failed':
      time.sleep(GRACE)
    elif self._code:
      time.sleep(NOTICE)  # Its own error may still be on its way out.
    code = self._code
    try:
      sys.stdout.flush()
      sys.stderr.flush()
      if not code:
        code = LOST if state == 'lost' else 1
        # A progress line may be there.
        begin = '\n' if sys.stderr.isatty() else ''
        line = f'{begin}lrm: error: {report(state, process, self._count)}\n'
        os.write(sys.stderr.fileno(), line.encode())
    finally:
      os._exit(code)


def _delay_aborts() -> None:
  """Makes a thread that aborts sleep first, so that `Watch` is faster.

  JAX's client aborts in the very moment in which process 0, its coordinator, is
  lost. The handler is `sleep`, and what it is called with, the signal's number,
  is 6: seconds. Then the abort goes on.
  """
  if faulthandler.is_enabled():
    return  # Its handler says where each thread is; that is worth more.
  library = ctypes.CDLL(None)
  library.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
  library.signal.restype = ctypes.c_void_p
  library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))
