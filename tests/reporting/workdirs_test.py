"""Folders of runs: whole ones, those under way, and damaged ones."""

import math

import pytest

from lrm_jax import jsonl
from lrm_jax.errors import UserError
from lrm_jax.reporting import workdirs
from tests.reporting import folders


def read(path):
  (run,) = workdirs.read_all([str(path)])
  return run


def refusal(*paths):
  with pytest.raises(UserError) as error:
    workdirs.read_all([str(path) for path in paths])
  assert '\n' not in str(error.value)
  return str(error.value)


def test_a_finished_run(tmp_path):
  run = read(folders.write_run(tmp_path / 'dler', steps=3, rows=True))
  assert (run.name, run.verb, run.is_finished) == ('dler', 'train', True)
  assert [row['step'] for row in run.metrics] == [1, 2, 3]
  assert [step for step, _ in run.rollouts] == [1, 2, 3]
  assert [e.label for e in run.evaluations] == ['before', 'after']
  assert run.first.numbers['accuracy'] == 0.5
  assert run.last.step == 3 and run.last.rows.name == 'after.jsonl.gz'
  assert math.isnan(run.last.numbers['response_tokens_wrong'])


def test_evaluations_are_in_the_order_of_their_steps(tmp_path):
  folder = folders.write_run(tmp_path / 'run')
  for step in (10, 2):
    jsonl.write_json(
      folder / 'evaluation' / f'step_{step:06d}.json',
      folders.numbers(step, 0.6, 50.0),
    )
  jsonl.write_json(folder / 'evaluation' / 'another.json', {})
  run = read(folder)
  assert [e.step for e in run.evaluations] == [0, 2, 10, 3]
  assert run.last.label == 'after'
  (folder / 'evaluation' / 'after.json').unlink()
  assert read(folder).last.label == 'step_000010'


def test_a_run_that_has_only_begun(tmp_path):
  folder = folders.write_run(tmp_path / 'run', rollouts=False, evaluated=False)
  (folder / 'metrics.jsonl').unlink()
  run = read(folder)
  assert not run.is_finished and not run.metrics and run.last is None


def test_a_line_that_is_being_written(tmp_path):
  folder = folders.write_run(tmp_path / 'run')
  with (folder / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 4, "accu')
  assert [row['step'] for row in read(folder).metrics] == [1, 2, 3]
  with (folder / 'metrics.jsonl').open('a') as file:
    file.write('\n')
  assert 'metrics.jsonl:4: not JSON' in refusal(folder)


def test_an_evaluation(tmp_path):
  run = read(folders.write_eval(tmp_path / 'eval'))
  assert run.verb == 'eval' and run.first is None
  assert run.last.label == 'evaluation' and run.last.step is None
  assert run.last.rows.name == 'rollouts.jsonl.gz'


def test_an_evaluation_on_several_data_sets(tmp_path):
  for name in ('math500', 'gsm8k'):
    folders.write_eval(tmp_path / 'eval' / name)
  (tmp_path / 'eval' / 'other').mkdir()
  summary = {'verb': 'eval', 'sets': {}}
  jsonl.write_json(tmp_path / 'eval' / 'summary.json', summary)
  runs = workdirs.read_all([str(tmp_path / 'eval')])
  assert [run.name for run in runs] == ['gsm8k', 'math500']
  (tmp_path / 'none').mkdir()
  jsonl.write_json(tmp_path / 'none' / 'summary.json', summary)
  assert "'accuracy' is missing or no number" in refusal(tmp_path / 'none')


def test_names_tell_folders_apart(tmp_path):
  paths = [folders.write_eval(tmp_path / a / 'eval') for a in ('a', 'b')]
  paths.append(folders.write_eval(tmp_path / 'c'))
  runs = workdirs.read_all([f'{path}/' for path in paths])
  assert [run.name for run in runs][:2] == ['a/eval', 'b/eval']
  assert runs[2].name.endswith('/c')


def test_columns_leave_out_what_is_no_number():
  rows = [
    {'step': 1, 'x': 1.0},
    {'step': 2, 'x': None},
    {'step': 3},
    {'step': 4, 'x': True},
    {'step': 5, 'x': 10**400},
    {'step': 6, 'x': 2},
  ]
  assert workdirs.column(rows, 'x') == ([1.0, 6.0], [1.0, 2.0])


def test_folders_that_are_none(tmp_path):
  assert f"'{tmp_path / 'no'}': no such folder; give" in refusal(
    tmp_path / 'no'
  )
  assert 'holds neither a run (config.json of lrm train) nor' in refusal(
    tmp_path
  )
  # A model has a config.json too.
  jsonl.write_json(tmp_path / 'config.json', {'model_type': 'qwen2'})
  assert 'holds neither a run' in refusal(tmp_path)


def test_a_folder_twice(tmp_path):
  folder = folders.write_eval(tmp_path / 'eval')
  found = refusal(folder, f'{folder}/../eval')
  assert found == f"'{folder}/../eval' is given twice; give each DIR once"


@pytest.mark.parametrize('text', ['', '{', '\xff', '[' * 100_000])
def test_damaged_json(text, tmp_path):
  folder = folders.write_run(tmp_path / 'run')
  (folder / 'evaluation' / 'after.json').write_text(text, 'latin-1')
  found = refusal(folder)
  assert 'after.json: not JSON as lrm writes it (' in found
  assert found.endswith('; remove or mend it')


def test_json_that_is_no_object(tmp_path):
  folder = folders.write_run(tmp_path / 'run')
  (folder / 'config.json').write_text('[]')
  assert 'config.json: holds no JSON object; remove or mend it' in refusal(
    folder
  )


@pytest.mark.parametrize('step', [None, 1.5, -1, 10**400, 'x'])
def test_an_evaluation_without_a_step(step, tmp_path):
  folder = folders.write_run(tmp_path / 'run')
  numbers = folders.numbers(3, 0.5, 10.0) | {'step': step}
  jsonl.write_json(folder / 'evaluation' / 'after.json', numbers)
  assert 'not the summary of an evaluation; remove it, and' in refusal(folder)


@pytest.mark.parametrize('value', [None, 'x', True, float('nan'), 10**400])
def test_an_evaluation_without_its_numbers(value, tmp_path):
  folder = folders.write_eval(tmp_path / 'eval', accuracy=value)
  found = refusal(folder)
  assert "'accuracy' is missing or no number; remove the file, and" in found
