"""Evaluations written by hand, read back."""

import json

import numpy as np
import pytest

from lrm_jax import jsonl
from lrm_jax.errors import UserError
from lrm_jax.evaluation import stored

SETTINGS = {
  'data': 'd1',
  'problems': 2,
  'samples': 2,
  'max_tokens': 96,
  'temperature': 1.0,
  'truncation': {},
  'thinking_budget': 0,
  'thinking_end': '',
  'stop': [],
  'instruction': '',
  'target': 0,
}


def row(name, sample, **changes):
  fields = {
    'id': name,
    'sample': sample,
    'correct': sample == 0,
    'verified': True,
    'length': 10 + sample,
    'thinking_length': 7,
    'truncated': False,
    'extracted': '4' if sample == 0 else None,
    'class': 0 if sample == 0 else -1,
  }
  return fields | changes


def rows():
  return [row(name, sample) for name in 'ab' for sample in range(2)]


def write(folder, found=None, *, name=None, **settings):
  """An evaluation of `lrm eval`, or that called `name` of a run."""
  folder.mkdir(parents=True, exist_ok=True)
  summary = {
    'verb': 'eval',
    'settings': SETTINGS | settings,
    'identity': {'path': 'm', 'tokenizer': 't'},
  }
  numbers = 'summary.json' if name is None else f'{name}.json'
  samples = 'rollouts.jsonl.gz' if name is None else f'{name}.jsonl.gz'
  (folder / numbers).write_text(json.dumps(summary))
  jsonl.write_rows(folder / samples, rows() if found is None else found)
  return folder


def refusal(folder):
  with pytest.raises(UserError) as caught:
    stored.read(str(folder))
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_numbers_come_back(tmp_path):
  found = stored.read(str(write(tmp_path / 'a')))
  assert found.name == str(tmp_path / 'a')
  assert found.ids == ('a', 'b')
  assert found.settings == SETTINGS
  assert found.identity == {'path': 'm', 'tokenizer': 't'}
  assert found.correct.tolist() == [[True, False]] * 2
  assert found.length.tolist() == [[10, 11]] * 2
  assert found.thinking_length.tolist() == [[7, 7]] * 2
  assert found.answer_class.tolist() == [[0, -1]] * 2
  assert found.verified.all() and not found.truncated.any()
  assert found.there.all() and found.there.shape == (2, 2)
  # Without texts nobody knows.
  assert (found.words == -1).all() and (found.characters == -1).all()
  assert found.rows is None
  assert found.correct.dtype == bool and found.length.dtype == np.int64


def test_texts_are_kept_on_demand(tmp_path):
  more = {'response': 'One, two</think> it is \\boxed{4}. '}
  found = rows()
  found[0] |= more
  found[2] |= more
  read = stored.read(str(write(tmp_path / 'a', found)), texts=True)
  assert [
    [stored.is_numbers_only(x) for x in group] for group in read.rows
  ] == [[False, True]] * 2
  assert read.rows[1][0] == found[2]
  # One two think it is boxed 4; and `it is \boxed{4}.`
  assert read.words.tolist() == [[7, -1]] * 2
  assert read.characters.tolist() == [[16, -1]] * 2
  assert stored.numbers_only(found[0]) == row('a', 0)


def test_evaluations_of_a_run(tmp_path):
  folder = tmp_path / 'run' / 'evaluation'
  for name in ('step_000100', 'after', 'step_000020', 'before'):
    write(folder, name=name)
  after = [row(name, sample, length=3) for name in 'ab' for sample in range(2)]
  write(folder, after, name='after')
  (folder / 'other.jsonl.gz').write_bytes(b'')
  names = ['before', 'step_000020', 'step_000100', 'after']
  assert stored.find(str(tmp_path / 'run')) == [str(folder / n) for n in names]
  for path in (folder / 'before', folder / 'before.json'):
    assert stored.read(str(path)).length[0, 0] == 10
  for path in (folder / 'after.jsonl.gz', tmp_path / 'run'):
    assert stored.read(str(path)).length[0, 0] == 3


def test_names_of_folders_say_nothing(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  # Of `lrm eval --workdir=evaluation/base`, and of one called as a run's are.
  for name in ('evaluation/base', 'evaluation/after', 'evaluation'):
    write(tmp_path / name)
    assert stored.read(name).length[0, 0] == 10
  # Beside a folder called evaluation a folder has its own rows first.
  write(tmp_path, [row(n, s, length=3) for n in 'ab' for s in range(2)])
  assert stored.read('.').length[0, 0] == 3
  # Evaluations of a run whose folder was renamed.
  write(tmp_path / 'moved', name='before')
  assert stored.read('moved/before').length[0, 0] == 10
  assert stored.read('moved/before.json').length[0, 0] == 10


def test_what_is_not_there_is_named_as_it_was_meant(tmp_path):
  write(tmp_path / 'run' / 'evaluation', name='before')
  missing = refusal(tmp_path / 'run' / 'evaluation' / 'after')
  assert "/run/evaluation/after.json': no such file; give" in missing
  missing = refusal(tmp_path / 'run')
  assert "/run/evaluation/after.json': no such file; give" in missing


def test_what_there_is_in_a_folder(tmp_path):
  assert stored.find(str(tmp_path / 'absent')) == []
  assert stored.find(str(tmp_path)) == []
  for name in ('b', 'a'):
    write(tmp_path / 'all' / name)
  (tmp_path / 'all' / 'c').mkdir()
  folder = tmp_path / 'all'
  assert stored.find(str(folder)) == [str(folder / 'a'), str(folder / 'b')]
  assert stored.find(str(folder / 'a')) == [str(folder / 'a')]


def test_there_is_none(tmp_path):
  message = refusal(tmp_path / 'absent')
  assert message.endswith(
    "summary.json': no such file; give the --workdir of a finished lrm eval, "
    'or RUN/evaluation/NAME of a run'
  )


@pytest.mark.parametrize('text', ['', '{', '\xff', '[' * 100_000])
def test_a_summary_that_is_damaged(tmp_path, text):
  write(tmp_path)
  (tmp_path / 'summary.json').write_text(text, 'latin1')
  message = refusal(tmp_path)
  assert 'not the summary of an evaluation (' in message
  assert message.endswith('evaluate that model again')


@pytest.mark.parametrize(
  'text',
  [
    *('{}', '[]', '3', '{"settings": {"samples": 2}}'),
    '{"settings": 2, "identity": {}}',
    '{"settings": {"samples": 0}, "identity": {}}',
    '{"settings": {"samples": "2"}, "identity": {}}',
  ],
)
def test_an_earlier_version_kept_too_little(tmp_path, text):
  write(tmp_path)
  (tmp_path / 'summary.json').write_text(text)
  assert refusal(tmp_path) == (
    f"'{tmp_path}' was written by an earlier version, without what a "
    'comparison needs; evaluate that model again'
  )
  write(tmp_path)
  (tmp_path / 'rollouts.jsonl.gz').unlink()
  assert 'was written by an earlier version' in refusal(tmp_path)


@pytest.mark.parametrize(
  'change',
  [
    lambda found: found[:3],
    lambda found: [*found, row('c', 0)],
    lambda found: [*found[2:], *found[2:]],
    lambda found: [found[1], found[0], *found[2:]],
    lambda found: [*found[:3], row('c', 1)],
    lambda found: [],
  ],
)
def test_rows_that_are_not_all_samples(tmp_path, change):
  write(tmp_path, change(rows()))
  assert refusal(tmp_path) == (
    f"'{tmp_path}': its rows are not 2 samples of each problem; evaluate that "
    'model again'
  )


def test_rows_without_a_field(tmp_path):
  found = rows()
  del found[2]['class']
  write(tmp_path, found)
  assert "rollouts.jsonl.gz:3: no field 'class'" in refusal(tmp_path)


@pytest.mark.parametrize('field', ['length', 'thinking_length', 'class'])
def test_numbers_that_no_array_holds(tmp_path, field):
  write(tmp_path, [*rows()[:3], row('b', 1, **{field: -(10**30)})])
  assert refusal(tmp_path) == (
    f"'{tmp_path}': a row of 'b' has a number of more than 18 digits; evaluate "
    'that model again'
  )
