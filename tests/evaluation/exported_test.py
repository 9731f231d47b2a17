"""A whole run: its evaluations, and `lrm eval` of what it exports."""

import json

import numpy as np
import pytest

from lrm_jax import main
from lrm_jax.evaluation import comparison
from tests import train_test


@pytest.mark.slow
def test_an_exported_model_says_what_the_run_said(tmp_path):
  """The same samples, token by token: the difference of both is nothing."""
  run, folder = tmp_path / 'run', tmp_path / 'eval'
  train_test.start(run, train__steps=1, eval__responses=2)
  words = [
    *(f'--model={run / "model"}', f'--data={train_test.SMALL["data.eval"]}'),
    *('--limit=8', '--n=2', '--max_tokens=48', f'--workdir={folder}'),
  ]
  assert main.main(['lrm', 'eval', *words]) == 0
  before, after = (
    comparison.read(path, texts=True) for path in comparison.find(str(run))
  )
  exported = comparison.read(str(folder), texts=True)
  assert exported.settings == after.settings == before.settings
  assert exported.ids == after.ids
  for one, other in zip(after.rows, exported.rows, strict=True):
    for row, same in zip(one, other, strict=True):
      assert row['response_ids'] == same['response_ids']
      assert row['class'] == same['class']
      np.testing.assert_allclose(row['logp'], same['logp'], atol=1e-4)
  first, row = comparison.compare(
    [before, after, exported], draws=50, pairs='all'
  )[::2]
  assert first.first.endswith('before')
  assert (row.difference.value, row.ratio.value) == (0, 1)
  summary = json.loads((run / 'summary.json').read_text())
  assert summary['after']['accuracy'] == exported.correct.mean()
  assert summary['after']['response_tokens'] == exported.length.mean()
