"""What a table keeps of its runs."""

import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.papers import results
from tests.papers import made_up


def make(folder, name, seed=0, **more):
  workdir = folder / f'{name}_seed{seed}'
  made_up.write(workdir, seed=seed, **more)
  return results.record(workdir, name, 'tiny_lrm')


def test_a_record(tmp_path):
  found = make(tmp_path, 'dler')
  assert found['name'] == 'dler' and found['seed'] == 0
  assert found['problems'] == list(made_up.IDS)
  assert found['steps'] == 2 and found['sampled_tokens'] == 2000
  assert found['seconds'] == 61
  assert found['start'] == 'tiny_lrm'
  # Of the run, not of who collects it.
  assert found['commit'] == 'c0ffee000000'
  assert found['versions'] == {'jax': '1.2', 'flax': '3.4'}
  assert found['machine'] == 'an abacus'
  after = found['evaluations']['after']
  assert after['right'] == [0.5, 1.0] and after['tokens'] == [10.0, 30.0]
  assert after['step'] == 2 and after['accuracy'] == 0.75


def test_stacked_by_seed_and_read_again(tmp_path):
  records = [
    make(tmp_path, 'dler', 1, right=(1.0, 1.0), tokens=(20, 20)),
    make(tmp_path, 'dler', 0),
  ]
  results.save(tmp_path / 'results.json', records)
  found = results.Results.load(tmp_path / 'results.json')
  np.testing.assert_array_equal(found.right('dler'), [[0.5, 1.0], [1.0, 1.0]])
  np.testing.assert_array_equal(found.tokens('dler'), [[10, 30], [20, 20]])
  np.testing.assert_array_equal(found.right('dler', 'before'), np.zeros((2, 2)))
  np.testing.assert_array_equal(found.levels(), [2, 7])
  with pytest.raises(UserError, match="no run 'siri'; make it with --run"):
    found.right('siri')


def test_one_table_has_one_set_of_problems(tmp_path):
  records = [make(tmp_path, 'dler'), make(tmp_path, 'siri', ids=('a', 'b'))]
  with pytest.raises(UserError, match='siri, seed 0: evaluated on other'):
    results.save(tmp_path / 'results.json', records)


def test_a_table_without_results(tmp_path):
  with pytest.raises(UserError, match='is not there; make it with --run'):
    results.Results.load(tmp_path / 'results.json')


def test_the_hash_is_of_what_is_compared():
  config = {'seed': 0, 'model': {'path': 'a', 'remat': 'none'}, 'x': {'y': 1}}
  same = config | {'seed': 5, 'model': {'path': 'b', 'remat': 'none'}}
  assert results.config_hash(config) == results.config_hash(same)
  other = config | {'x': {'y': 2}}
  assert results.config_hash(config) != results.config_hash(other)


def test_one_run_has_one_set_of_problems(tmp_path):
  made_up.write(tmp_path / 'run')
  made_up.write(tmp_path / 'other', ids=('a', 'b'))
  for name in ('before.json', 'before.jsonl.gz'):
    path = tmp_path / 'run' / 'evaluation' / name
    path.write_bytes((tmp_path / 'other' / 'evaluation' / name).read_bytes())
  with pytest.raises(UserError, match='other problems than the evaluations be'):
    results.record(tmp_path / 'run', 'dler', 'tiny_lrm')
