"""How processes meet, in threads; real ones are in `lost_process_test`."""

import concurrent.futures
import socket
import threading
import time

import pytest

from lrm_jax import meeting
from lrm_jax.errors import UserError
from tests import mesh_run

TIMEOUT = 20.0


@pytest.fixture
def address():
  return mesh_run.free_address()


def meet_all(address, count, timeouts):
  """What each process in `timeouts` gets: connections, or an error."""

  def one(index):
    try:
      return meeting.meet(address, count, index, timeouts[index])
    except UserError as error:
      return error

  with concurrent.futures.ThreadPoolExecutor(len(timeouts)) as pool:
    return dict(zip(timeouts, pool.map(one, timeouts), strict=True))


def knock(address):
  """A connection, as soon as somebody listens."""
  deadline = time.monotonic() + TIMEOUT
  while True:
    try:
      return socket.create_connection(meeting.split(address))
    except OSError:
      assert time.monotonic() < deadline
      time.sleep(0.01)


@pytest.mark.parametrize(
  ('address', 'expected'),
  [
    ('localhost:1', ('localhost', 1)),
    ('10.0.0.1:65535', ('10.0.0.1', 65535)),
    ('[fe80::1]:8476', ('fe80::1', 8476)),
  ],
)
def test_addresses(address, expected):
  assert meeting.split(address) == expected


@pytest.mark.parametrize(
  'address', ['', 'host', 'host:', ':1', 'a:b', 'a:0', 'a:65536', '::1:80']
)
def test_what_is_no_address(address):
  with pytest.raises(UserError) as error:
    meeting.split(address)
  assert repr(address) in str(error.value)


def test_an_introduction_is_read_as_it_was_said():
  for index in range(1, 4):
    assert meeting.introduced(meeting.introduction(index, 4), 4) == index


@pytest.mark.parametrize(
  'text',
  [
    '',
    'GET / HTTP/1.1\r\n',
    meeting.introduction(1, 3),
    meeting.introduction(0, 4),
    meeting.introduction(4, 4),
    meeting.introduction(1, 4).strip(),
    'lrm process -1 of 4\n',
  ],
)
def test_strangers_and_other_runs_are_not_believed(text):
  assert meeting.introduced(text, 4) is None


def test_names():
  assert meeting.names([7]) == 'process 7'
  assert meeting.names({2, 1}) == 'processes 1 and 2'
  assert meeting.names([3, 10, 1]) == 'processes 1, 3 and 10'
  assert meeting.names(range(1000)).endswith(', 19 and 980 more')


def test_all_meet(address):
  found = meet_all(address, 3, {1: TIMEOUT, 2: TIMEOUT, 0: TIMEOUT})
  assert set(found[0]) == {1, 2}
  for index in (1, 2):
    assert set(found[index]) == {0}
    # The connections are those of one another.
    found[index][0].sendall(b'%d' % index)
    assert found[0][index].recv(9) == b'%d' % index
  # JAX's coordinator can listen there now.
  with socket.create_server(meeting.split(address)):
    pass
  assert meeting.meet('nowhere:1', 1, 0, 0.0) == {}


def test_who_does_not_come_is_named_to_all_that_did(address):
  found = meet_all(address, 4, {0: 1.0, 2: TIMEOUT})
  for index in (0, 2):
    assert str(found[index]).startswith(
      f'processes 1 and 3 of 4 did not come to {address} within 1 s; '
    )


def test_process_0_does_not_come(address):
  began = time.monotonic()
  found = meet_all(address, 2, {1: 0.5})
  assert str(found[1]).startswith('process 0 of 2 did not come to ')
  assert 'refused' in str(found[1])
  assert 0.5 <= time.monotonic() - began < 5


def test_nothing_behind_the_verdict_is_lost(address):
  for _ in range(20):
    with socket.create_server(meeting.split(address)) as door:
      with concurrent.futures.ThreadPoolExecutor(1) as pool:
        joined = pool.submit(meeting.meet, address, 2, 1, TIMEOUT)
        connection, _ = door.accept()
        connection.sendall(b'lrm: go\nended 0')
        assert joined.result()[0].recv(99) == b'ended 0'
        connection.close()


def test_strangers_do_not_count_and_a_second_start_does(address):
  def others():
    knock(address).close()
    knock(address).sendall(b'\x00\xff\n')
    silent = knock(address)
    first = knock(address)
    first.sendall(meeting.introduction(1, 3).encode())
    first.close()
    time.sleep(0.1)
    silent.close()

  # Three, so that the first start is not the last that is waited for.
  thread = threading.Thread(target=others)
  thread.start()
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    zero = pool.submit(meeting.meet, address, 3, 0, TIMEOUT)
    thread.join()
    # The other one first: the one that ended must not fill the last place.
    two = pool.submit(meeting.meet, address, 3, 2, TIMEOUT)
    time.sleep(3 * meeting.PAUSE)
    found = meet_all(address, 3, {1: TIMEOUT})
    connections = zero.result()
    two.result()
  assert set(connections) == {1, 2}
  found[1][0].sendall(b'me')
  assert connections[1].recv(9) == b'me'


def test_a_port_that_is_taken(address):
  with socket.create_server(meeting.split(address)):
    with pytest.raises(UserError, match=f'cannot listen at {address}: .* in'):
      meeting.meet(address, 2, 0, TIMEOUT)
    # Nobody answers there in the tongue of a meeting.
    error = meet_all(address, 2, {1: 0.2})[1]
  assert str(error).startswith('process 0 of 2 did not come')
  assert 'no run that starts' in str(error)
