"""A few of the crashes of `experiments/faults/crash.py`, which has seventy."""

import signal

import numpy as np
import pytest

from experiments.faults import comparison, crash


@pytest.mark.slow
def test_a_run_that_is_killed_and_stopped_ends_as_if_it_never_was(tmp_path):
  wanted = {signal.SIGKILL: 2, signal.SIGTERM: 1}
  rows = crash.matrix(tmp_path, wanted, seed=1, each=2)
  assert [row['signal'] for row in rows] == ['SIGKILL', 'SIGKILL', 'SIGTERM']
  assert all(row['place'] for row in rows)


def test_a_difference_is_named(tmp_path):
  one, other = tmp_path / 'one', tmp_path / 'other'
  for folder, text in ((one, b'a'), (other, b'b')):
    (folder / 'rollouts').mkdir(parents=True)
    (folder / 'rollouts' / 'step_000001.jsonl.gz').write_bytes(text)
  # The lock says who was last; of what a kill left there is no such word.
  (one / '.lock').write_bytes(b'1')
  (other / '.lock').write_bytes(b'2')
  (other / '.config.json.7.part').write_bytes(b'')
  (one / 'model').mkdir()
  (one / 'model' / 'config.json').write_bytes(b'')
  assert comparison.files(one, other) == [
    '.config.json.7.part: only in one of both',
    'model/config.json: only in one of both',
    'rollouts/step_000001.jsonl.gz: other bytes',
  ]


@pytest.mark.parametrize(
  ('one', 'other', 'found'),
  [
    ({'a': 1.0, 'seconds': 1}, {'a': 1.0, 'seconds': 2}, []),
    ({'a': 1.0}, {'a': 1.0 + 2**-52}, ['x/a']),
    ({'a': [1, 2]}, {'a': [1, 3]}, ['x/a/1']),
    ({'a': [1]}, {'a': [1, 1]}, ['x/a']),
    ({'a': None}, {}, []),
    ({'a': np.float32([0.0])}, {'a': np.float32([-0.0])}, ['x/a']),
    ({'a': np.float32([np.nan])}, {'a': np.float32([np.nan])}, []),
  ],
)
def test_values_are_compared_bit_for_bit(one, other, found):
  lines = comparison.unequal('x', *map(comparison.untimed, (one, other)))
  assert [line.split(': ')[0] for line in lines] == found
