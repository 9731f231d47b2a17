"""A whole run of `lrm train` compiles few programs, all of them at its start.

In processes of their own: here, other tests may have compiled some of them.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from lrm_jax import compilation, configuration, jsonl, train

ROOT = pathlib.Path(__file__).parents[1]
SIZES = {
  'data.train': 'chain_arithmetic:train:2-3',
  'data.eval': 'chain_arithmetic:heldout:2-3',
  'train.steps': 3,
  'train.problems': 4,
  'train.samples': 4,
  'train.mini_batches': 2,
  'train.max_tokens': 32,
  'objective.budget.cap': 32,
  'train.rows': 8,
  'train.row_length': 80,
  'train.groups': 2,
  'train.checkpoint_every': 2,
  'sampler.slots': 16,
  'eval.problems': 4,
  'eval.samples': 2,
  'eval.max_tokens': 48,
  'eval.every': 2,
}
# Programs, and keys. Ten: an empty engine, turned weights, two prefills, a
# chunk; rewards, advantages, the update; the optimizer's start, and a layer for
# the export; the checksum of the reference.
CASES = {
  # Evaluation asks for fewer and longer samples than training.
  'quickstart': (10, {}),
  # For more and shorter ones; and what only one of the two is asked for.
  'budget': (
    10,
    {
      'train.thinking_budget': 8,
      'train.max_tokens': 48,
      'train.row_length': 96,
      'train.max_rounds': 3,
      'train.rounds_ahead': 1,
      'eval.samples': 6,
      'eval.max_tokens': 32,
    },
  ),
  # Replays: the trainer's graph without a gradient is a program of its own.
  'replay': (11, {'sentinels.every': 2}),
  # Responses that go on in the next step are longer prompts: a third prefill.
  'partial': (11, {'train.partial_tokens': 16, 'train.in_flight': 6}),
}


def count(case: str, workdir: str) -> None:
  """Trains; prints how many programs were compiled."""
  keys = SIZES | CASES[case][1]
  watch = compilation.CompileWatch()
  config = configuration.load(
    str(ROOT / 'configs' / 'quickstart.py'),
    [f'config.{key}={value}' for key, value in keys.items()],
  )
  train.run(config, pathlib.Path(workdir))
  print(json.dumps({'count': watch.count}))


@pytest.mark.slow
@pytest.mark.parametrize('case', CASES)
def test_few_programs_and_none_after_the_first_step(case, tmp_path):
  done = subprocess.run(
    [sys.executable, '-m', 'tests.one_run_test', case, str(tmp_path)],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  total = json.loads(done.stdout.splitlines()[-1])['count']
  rows = jsonl.read_rows(tmp_path / 'metrics.jsonl')
  first = rows[0]['compilations']
  assert [row['compilations'] for row in rows] == [first] * 3
  # Not even the export compiles anything: it looks at what is there.
  assert 0 < first == total <= CASES[case][0], (first, total)


if __name__ == '__main__':
  count(*sys.argv[1:])
