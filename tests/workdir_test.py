"""The config guard of a run's folder, and its summary."""

import json
import math

import numpy as np
import pytest
from ml_collections import config_dict

from lrm_jax import errors, workdir


def _config(**changes) -> config_dict.ConfigDict:
  values = {'seed': 0, 'steps': 5, 'clip': (0.2, 0.28), 'b': 1, 'c': 1, 'd': 1}
  values.update(changes)
  return config_dict.ConfigDict(values).lock()


def test_new_folder_records_verb_and_config(tmp_path):
  run = tmp_path / 'runs' / 'one'
  assert not workdir.open_run(run, _config(), 'train')
  record = json.loads((run / 'config.json').read_text())
  assert record['verb'] == 'train'
  assert record['config']['clip'] == [0.2, 0.28]


def test_same_config_resumes(tmp_path):
  workdir.open_run(tmp_path, _config(), 'train')
  assert workdir.open_run(tmp_path, _config(), 'train')


def test_mutable_key_may_change_and_is_recorded(tmp_path):
  workdir.open_run(tmp_path, _config(), 'sft')
  assert workdir.open_run(tmp_path, _config(steps=9), 'sft')
  record = json.loads((tmp_path / 'config.json').read_text())
  assert record['config']['steps'] == 9


def test_mutable_name_covers_a_group_but_no_longer_name(tmp_path):
  first = config_dict.ConfigDict({'log': {'every': 1}, 'logs': 1})
  other = config_dict.ConfigDict({'log': {'every': 2}, 'logs': 1})
  third = config_dict.ConfigDict({'log': {'every': 2}, 'logs': 2})
  workdir.open_run(tmp_path, first, 'train', mutable=('log',))
  assert workdir.open_run(tmp_path, other, 'train', mutable=('log',))
  with pytest.raises(errors.UserError, match='logs'):
    workdir.open_run(tmp_path, third, 'train', mutable=('log',))


def test_other_config_names_every_key_and_writes_nothing(tmp_path):
  workdir.open_run(tmp_path, _config(), 'train')
  before = (tmp_path / 'config.json').read_bytes()
  with pytest.raises(errors.UserError) as info:
    workdir.open_run(tmp_path, _config(seed=1, b=2, c=2, d=2), 'train')
  message = str(info.value)
  assert (
    'another config: b (was 1, now 2), c (was 1, now 2), d (was 1, now 2), '
    'seed (was 0, now 1); choose another --workdir'
  ) in message
  assert '\n' not in message
  assert (tmp_path / 'config.json').read_bytes() == before


@pytest.mark.parametrize('count', [20, 22])
def test_of_very_many_keys_the_rest_is_counted(count):
  old = {f'k{i:02d}': 0 for i in range(count)}
  new = {key: 1 for key in old}
  shown = workdir.describe_changes(old, new, ())
  assert shown.count('(was 0, now 1)') == 20
  assert shown.endswith(' and 2 more') == (count == 22)


def test_a_free_key_that_an_earlier_version_had_not_is_no_other_config(
  tmp_path,
):
  old = config_dict.ConfigDict({'rate': 1, 'every': 2})
  new = config_dict.ConfigDict({'rate': 1, 'every': 2, 'keep': 3})
  workdir.open_run(tmp_path, old, 'train', mutable=('keep',))
  assert workdir.open_run(tmp_path, new, 'train', mutable=('keep',))
  with pytest.raises(errors.UserError, match='rate .was 1, now absent'):
    del new['rate']
    workdir.open_run(tmp_path, new, 'train', mutable=('keep',))


def test_a_refusal_says_how_to_fork(tmp_path):
  for verb, is_said in (('train', True), ('sft', False)):
    workdir.open_run(tmp_path / verb, _config(), verb)
    with pytest.raises(errors.UserError) as info:
      workdir.open_run(tmp_path / verb, _config(b=2), verb)
    assert (f'--fork-from={tmp_path / verb}' in str(info.value)) == is_said


def test_a_fork_keeps_its_origin(tmp_path):
  origin = {'workdir': '/runs/a', 'step': 4, 'fingerprint': 'ab'}
  workdir.open_run(tmp_path, _config(), 'train', forked_from=origin)
  workdir.open_run(tmp_path, _config(steps=9), 'train')
  record = workdir.read_record(tmp_path / 'config.json')
  assert record['forked_from'] == origin
  assert record['config']['steps'] == 9


def test_other_verb_is_refused(tmp_path):
  workdir.open_run(tmp_path, _config(), 'sft')
  with pytest.raises(errors.UserError, match='holds a run of lrm sft'):
    workdir.open_run(tmp_path, _config(), 'train')


@pytest.mark.parametrize('text', ['{"model_type": "qwen2"}', '{', '[]'])
def test_foreign_config_is_refused_and_kept(tmp_path, text):
  path = tmp_path / 'config.json'
  path.write_text(text)
  with pytest.raises(errors.UserError, match='was not written by lrm'):
    workdir.open_run(tmp_path, _config(), 'train')
  assert path.read_text() == text


def test_file_is_refused_and_other_files_are_fine(tmp_path):
  (tmp_path / 'note.txt').write_text('mine')
  with pytest.raises(errors.UserError, match='is a file'):
    workdir.open_run(tmp_path / 'note.txt', _config(), 'train')
  with pytest.raises(errors.UserError, match='cannot be written'):
    workdir.open_run(tmp_path / 'note.txt' / 'run', _config(), 'train')
  assert not workdir.open_run(tmp_path, _config(), 'train')
  assert (tmp_path / 'note.txt').read_text() == 'mine'


def test_summary_is_strict_json_of_plain_numbers(tmp_path):
  summary = {
    'accuracy': np.float32(0.5),
    'steps': np.int64(3),
    'loss': math.nan,
    'nested': {'rates': [math.inf, 1.0], 'name': None},
  }
  path = workdir.write_summary(tmp_path, summary)
  assert path == tmp_path / 'summary.json'
  record = json.loads(path.read_text(), parse_constant=pytest.fail)
  assert record == {
    'accuracy': 0.5,
    'steps': 3,
    'loss': None,
    'nested': {'rates': [None, 1.0], 'name': None},
  }
  named = workdir.write_summary(tmp_path / 'other.json', {'n': 1})
  assert json.loads(named.read_text()) == {'n': 1}
