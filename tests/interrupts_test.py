"""The first signal waits, the second does not."""

import signal

import pytest

from lrm_jax.interrupts import SIGNALS, Interrupts


@pytest.fixture
def received():
  """Puts a recording handler under every signal; restores what was there."""
  received = []
  old = {
    number: signal.signal(number, lambda number, _: received.append(number))
    for number in SIGNALS
  }
  yield received
  for number, handler in old.items():
    signal.signal(number, handler)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_acts(
  number, received, capsys
):
  with Interrupts() as interrupts:
    assert not interrupts.requested
    signal.raise_signal(number)
    assert interrupts.requested
    assert received == []
    assert 'once more to stop at once' in capsys.readouterr().err
    signal.raise_signal(number)
    assert received == [number]


def test_one_kind_of_signal_releases_the_other(received):
  with Interrupts() as interrupts:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
  assert interrupts.requested
  assert received == [signal.SIGINT]


def test_handlers_are_back_afterwards(received):
  with pytest.raises(KeyError), Interrupts() as interrupts:
    raise KeyError
  assert not interrupts.requested
  signal.raise_signal(signal.SIGTERM)
  assert received == [signal.SIGTERM]
  assert not interrupts.requested
