"""The examples of `lrm_jax/evaluation/README.md` run as they stand there."""

import pathlib
import re

import pytest

from lrm_jax import evaluation
from tests.evaluation import stored_test

PAGE = pathlib.Path(evaluation.__file__).parent / 'README.md'
EXAMPLES = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)


@pytest.fixture
def runs(tmp_path, monkeypatch):
  """What the examples read, in a folder of its own."""
  monkeypatch.chdir(tmp_path)
  folder = pathlib.Path('runs')
  for name in ('base', 'a'):
    stored_test.write(folder / name)
  stored_test.write(folder / 'b' / 'evaluation', name='after')
  for seed in range(3):
    stored_test.write(folder / f'grpo_seed{seed}')
    # Of half as many tokens, and 2, 3 and 4 of 4 right.
    rows = [
      row | {'length': row['length'] // 2, 'correct': place < 2 + seed}
      for place, row in enumerate(stored_test.rows())
    ]
    stored_test.write(folder / f'dler_seed{seed}', rows)


def test_two_evaluations(runs, capsys):
  exec(EXAMPLES[0], {})
  printed = capsys.readouterr().out.splitlines()
  assert [line.split()[0] for line in printed] == [
    'runs/a',
    'runs/b/evaluation/after',
  ]
  assert all("{'1,3,5': 0.0, '1,3,10': 0.0}" in line for line in printed)


def test_several_training_seeds(runs, capsys):
  exec(EXAMPLES[1], {})
  grpo, dler, row = capsys.readouterr().out.splitlines()
  assert grpo.startswith('grpo Estimate(value=0.5, low=0.5, high=0.5')
  assert dler.startswith('dler Estimate(value=0.75, ')
  assert row.startswith('dler Estimate(value=0.25, ')
  # Means of 10 and 11, and of both halved: 5 tokens of 10.5.
  assert 'Estimate(value=0.476' in row
