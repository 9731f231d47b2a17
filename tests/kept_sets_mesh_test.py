"""Kept sets on several devices, and in several processes: the same steps."""

import pytest

from tests import mesh_run
from tests.mesh_run_test import assert_same, folder, found, job  # noqa: F401

# Hot, since the tiny LRM is sure of most tokens.
CHANGES = {
  'train.temperature': 1.5,
  'train.truncation.top_p': 0.8,
  'train.truncation.most': 24,
}


@pytest.fixture(scope='module')
def alone(folder):  # noqa: F811
  """On one device."""
  one = job(folder, 'grpo', 'alone', changes=CHANGES)
  mesh_run.run([one], folder, devices=1)
  expected = found(folder / 'grpo' / 'alone')
  for row in expected[1]:
    assert row['logp_gap_max'] < 1e-4
    assert row['entropy'] > 0.1
  return expected


@pytest.mark.slow
def test_rows_places_and_vocabulary_are_divided(folder, alone):  # noqa: F811
  mesh = {'data': 1, 'fsdp': 2, 'tensor': 2, 'context': 2}
  one = job(folder, 'grpo', 'divided', mesh=mesh, changes=CHANGES)
  mesh_run.run([one], folder, devices=8)
  assert_same(folder / 'grpo' / 'divided', alone)


@pytest.mark.long
def test_processes_tell_each_other_their_sets(folder, alone):  # noqa: F811
  two = job(folder, 'grpo', 'two', mesh={'data': 2}, changes=CHANGES)
  mesh_run.run([two], folder, devices=2, processes=2)
  assert_same(folder / 'grpo' / 'two', alone)
