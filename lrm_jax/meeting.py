"""Whether all processes of a run come: they meet before JAX connects them.

JAX waits too, but ends with SIGABRT and without a name where one is missing.
Process 0 listens where JAX's coordinator will listen a moment later; the others
say who they are, and are told to go on, or who is missing. The connections
stay, for `liveness`. Strangers may knock: what they say is not believed.
"""

import re
import socket
import time
from collections.abc import Collection

from lrm_jax.errors import UserError

# Seconds between two attempts to reach process 0.
PAUSE = 0.2
# Seconds for one of ours to say who it is.
INTRODUCTION = 2.0
# No message is longer (bytes).
LONGEST = 1000
# So many processes are named, at most.
MOST_NAMES = 20


def meet(
  address: str, count: int, index: int, timeout: float
) -> dict[int, socket.socket]:
  """Waits until all processes of a run are there.

  Args:
    address: host:port of process 0; nothing listens there yet.
    count: processes.
    index: this one, from 0.
    timeout: seconds from now.

  Returns:
    Connections by process: to all others in process 0, to process 0 in others.

  Raises:
    UserError: some did not come in time (it names them), or this one cannot
      listen at the port.
  """
  if count == 1:
    return {}
  if index == 0:
    return _receive(address, count, timeout)
  return {0: _join(address, count, index, timeout)}


def split(address: str) -> tuple[str, int]:
  """Host and port of `host:port` or `[IPv6]:port`.

  Raises:
    UserError: it is no such address.
  """
  found = re.fullmatch(r'\[([\da-fA-F:.]+)\]:(\d{1,5})', address)
  if found is None:
    found = re.fullmatch(r'([^\s:\[\]/]+):(\d{1,5})', address)
  if found is None or not 0 < int(found[2]) < 2**16:
    raise UserError(
      f'{address!r} is no address of process 0; give HOST:PORT, such as '
      'host-0:8476'
    )
  return found[1], int(found[2])


def introduction(index: int, count: int) -> str:
  """What process `index` of `count` says first."""
  return f'lrm process {index} of {count}\n'


def introduced(text: str, count: int) -> int | None:
  """Who says so; None where it is none of processes 1 .. count - 1."""
  found = re.fullmatch(r'lrm process (\d{1,9}) of (\d{1,9})\n', text)
  if found is None or int(found[2]) != count:
    return None
  return int(found[1]) if 0 < int(found[1]) < count else None


def names(processes: Collection[int]) -> str:
  """'process 1', 'processes 1 and 2', 'processes 1, 2 and 3'; not too many."""
  words = [str(index) for index in sorted(processes)]
  if len(words) > MOST_NAMES:
    words[MOST_NAMES:] = [f'{len(words) - MOST_NAMES} more']
  *most, last = words
  if not most:
    return f'process {last}'
  return f'processes {", ".join(most)} and {last}'


def missing(
  processes: Collection[int], address: str, count: int, timeout: float
) -> UserError:
  """What to say of those that did not come."""
  return UserError(
    f'{names(processes)} of {count} did not come to {address} within '
    f'{timeout:g} s; start all {count}, each with its own number, and let '
    'them reach that address'
  )


def _receive(
  address: str, count: int, timeout: float
) -> dict[int, socket.socket]:
  """Process 0: one connection of each other process."""
  deadline = time.monotonic() + timeout
  found = {}
  with _listen(address) as door:
    while True:
      # One that has ended since comes again, or is missing.
      found = {i: c for i, c in found.items() if _is_open(c)}
      if len(found) == count - 1:
        break
      left = deadline - time.monotonic()
      if left <= 0:
        break
      door.settimeout(left)
      try:
        connection, _ = door.accept()
      except TimeoutError:
        break
      index = introduced(_line(connection, INTRODUCTION), count)
      if index is None:
        connection.close()
      else:
        # A process that was started again takes the place of the first.
        if index in found:
          found[index].close()
        found[index] = connection
  absent = set(range(1, count)) - set(found)
  error = missing(absent, address, count, timeout) if absent else None
  verdict = 'go' if error is None else error
  for connection in found.values():
    try:
      connection.sendall(f'lrm: {verdict}\n'.encode())
    except OSError:
      pass  # It is gone again, as `liveness` is about to see.
  if error is not None:
    raise error
  return found


def _is_open(connection: socket.socket) -> bool:
  """Whether its other end is there still; closes it if not."""
  connection.setblocking(False)
  try:
    is_open = bool(connection.recv(1, socket.MSG_PEEK))
  except BlockingIOError:
    is_open = True
  except OSError:
    is_open = False
  if is_open:
    connection.setblocking(True)
  else:
    connection.close()
  return is_open


def _listen(address: str) -> socket.socket:
  """At every interface, as JAX's coordinator does.

  The address may be taken again at once (SO_REUSEADDR): by the coordinator,
  while the connections made here go on.
  """
  port = split(address)[1]
  is_dual = socket.has_dualstack_ipv6()
  family = socket.AF_INET6 if is_dual else socket.AF_INET
  try:
    return socket.create_server(
      ('', port), family=family, dualstack_ipv6=is_dual, backlog=1024
    )
  except OSError as error:
    raise UserError(
      f'process 0 cannot listen at {address}: {error.strerror}; end what uses '
      'the port, or give all processes another one'
    ) from None


def _join(
  address: str, count: int, index: int, timeout: float
) -> socket.socket:
  """Other processes: the connection to process 0."""
  host, port = split(address)
  deadline = time.monotonic() + timeout
  reason = 'no time to try'
  while (left := deadline - time.monotonic()) > 0:
    try:
      connection = socket.create_connection((host, port), timeout=left)
      connection.sendall(introduction(index, count).encode())
    except OSError as error:
      reason = str(error)
      time.sleep(PAUSE)
      continue
    # It may have begun to wait later, and says so at its own deadline.
    answer = _line(connection, timeout + INTRODUCTION)
    if answer == 'lrm: go\n':
      return connection
    connection.close()
    if answer.startswith('lrm: '):
      raise UserError(answer.removeprefix('lrm: ').strip())
    # Another program, or one that was just ended.
    reason = 'what listens there is no run that starts'
    time.sleep(PAUSE)
  raise UserError(f'{missing([0], address, count, timeout)} ({reason})')


def _line(connection: socket.socket, timeout: float) -> str:
  """One line and nothing behind it; what there is of it if no more comes."""
  deadline = time.monotonic() + timeout
  read = b''
  try:
    while len(read) < LONGEST and not read.endswith(b'\n'):
      connection.settimeout(max(deadline - time.monotonic(), 1e-3))
      more = connection.recv(1)
      if not more:
        break
      read += more
    connection.settimeout(None)
  except OSError:
    pass
  return read.decode('utf-8', 'replace')
