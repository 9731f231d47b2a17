"""What `experiments/faults` calls the same end of two runs, and what not."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments.faults import comparison, soak
from lrm_jax import phases, throughput


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
    ({'a': None}, {}, ['x/a']),
    ({}, {'a': None}, ['x/a']),
    # Names that only have a word of a clock in them.
    (
      {'kv_bytes_per_token': 1},
      {'kv_bytes_per_token': 2},
      ['x/kv_bytes_per_token'],
    ),
    ({'previous_id': 1}, {'previous_id': 2}, ['x/previous_id']),
    ({'seconds_update': 1}, {'seconds_update': 2}, []),
    ({'a': np.float32([0.0])}, {'a': np.float32([-0.0])}, ['x/a']),
    ({'a': np.float32([np.nan])}, {'a': np.float32([np.nan])}, []),
  ],
)
def test_values_are_compared_bit_for_bit(one, other, found):
  lines = comparison.unequal('x', *map(comparison.untimed, (one, other)))
  assert [line.split(': ')[0] for line in lines] == found


def write(folder):
  """The folder of an ended run, as far as it is compared."""
  for name in ('evaluation', 'rollouts', 'model'):
    (folder / name).mkdir(parents=True)
  summary = {'accuracy': 0.5, 'seconds': 1.0}
  (folder / 'evaluation' / 'after.json').write_text(json.dumps(summary))
  (folder / 'evaluation' / 'after.jsonl.gz').write_bytes(b'rows')
  (folder / 'metrics.jsonl').write_text('{"step": 1, "loss": 0.5}\n')
  step = folder / 'checkpoints' / '2'
  saver = ocp.StandardCheckpointer()
  saver.save((step / 'state').absolute(), {'x': np.float32([1, 2])})
  saver.wait_until_finished()
  (step / 'host').mkdir()
  (step / 'host' / 'metadata').write_text(
    '{"metrics": {"bytes": 1, "rows": 2}}'
  )


def state(value):
  def change(folder):
    shutil.rmtree(folder / 'checkpoints' / '2' / 'state')
    saver = ocp.StandardCheckpointer()
    saver.save(
      (folder / 'checkpoints' / '2' / 'state').absolute(),
      {'x': np.float32([1, value])},
    )
    saver.wait_until_finished()

  return change


def file(name, text=''):
  def change(folder):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)

  return change


# What happens to one of two runs -> what is said.
CHANGES = {
  'an evaluation more': (
    file('evaluation/step_000005.json', '{}'),
    'evaluation/step_000005.json: only in one of both',
  ),
  'half an evaluation': (
    file('evaluation/.after.json.part', '{'),
    'evaluation/.after.json.part: only in one of both',
  ),
  'another evaluation': (
    file('evaluation/after.json', '{"accuracy": 0.25}'),
    'evaluation/after.json/accuracy: 0.5 and 0.25',
  ),
  'other samples of an evaluation': (
    file('evaluation/after.jsonl.gz', 'ROWS'),
    'evaluation/after.jsonl.gz: other bytes',
  ),
  'a save that was cut off': (
    file('checkpoints/4.orbax-checkpoint-tmp/x'),
    'checkpoints/4.orbax-checkpoint-tmp: only in one of both',
  ),
  'a file beside a state': (
    file('checkpoints/2/.manifest.json.part'),
    'checkpoints/LAST/.manifest.json.part: only in one of both',
  ),
  'half a rollout': (
    file('rollouts/.step_000001.jsonl.gz.part'),
    'rollouts/.step_000001.jsonl.gz.part: only in one of both',
  ),
  'another number': (
    file('metrics.jsonl', '{"step": 1, "loss": 0.25}\n'),
    'metrics.jsonl/0/loss: 0.5 and 0.25',
  ),
  'a cursor elsewhere': (
    file('checkpoints/2/host/metadata', '{"metrics": {"bytes": 9, "rows": 3}}'),
    'checkpoint/host/metrics/rows: 2 and 3',
  ),
  'other parameters': (
    state(np.nextafter(np.float32(2), np.float32(3))),
    "checkpoint/arrays/['x']: [1. 2.] and [1.        2.0000002]",
  ),
}


@pytest.fixture(scope='module')
def ended(tmp_path_factory):
  folder = tmp_path_factory.mktemp('ended') / 'run'
  write(folder)
  return folder


@pytest.mark.parametrize('name', CHANGES)
def test_every_difference_is_seen_from_both_sides(ended, tmp_path, name):
  other = tmp_path / 'other'
  shutil.copytree(ended, other)
  # A checkpoint of an earlier step is no difference.
  (other / 'checkpoints' / '1').mkdir()
  assert comparison.differences(ended, other) == []
  change, line = CHANGES[name]
  change(other)
  assert comparison.differences(ended, other) == [line]
  found = comparison.differences(other, ended)
  assert [x.split(': ')[0] for x in found] == [line.split(': ')[0]]


def test_names_of_times_are_those_that_runs_have():
  assert {f'seconds_{name}' for name in phases.NAMES} <= set(comparison.TIMED)
  text = pathlib.Path(throughput.__file__).read_text()
  for name in ('sample_seconds', 'update_seconds', 'tokens_per_second_sample'):
    assert name in comparison.TIMED and f"'{name}'" in text
  assert 'sampled_tokens' not in comparison.TIMED


# A process with two below it, of which the last has many open files.
BELOW = """
import subprocess, sys
depth = int(sys.argv[1])
held = [open('/dev/null') for _ in range(50 if depth == 2 else 0)]
if depth < 2:
  code = sys.argv[2]
  subprocess.Popen([sys.executable, '-c', code, str(depth + 1), code])
else:
  print('ready', flush=True)
sys.stdin.read()
"""


def test_a_look_counts_what_children_hold():
  process = subprocess.Popen(
    [sys.executable, '-c', BELOW, '0', BELOW],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )
  process.stdout.readline()
  found = soak.look(process.pid)
  process.communicate()
  assert found['children'] == 2
  assert found['files'] < 50 < found['children_files']
  assert found['children_rss_kb'] > found['rss_kb'] > 1000
  # They have ended with it.
  assert soak.look(process.pid) == dict.fromkeys(soak.LOOKS, 0)
