"""What later steps left is taken back, exactly; anything else is an error."""

import json

import pytest

from lrm_jax import metrics, rewinding
from lrm_jax.errors import UserError


def record(folder, steps, resume_step=0):
  """{step: position after it} of metrics that a writer writes."""
  writer = metrics.MetricsWriter(folder, resume_step)
  found = {}
  for step in steps:
    writer.write(step, {'loss': 1 / step, 'accuracy': float('nan')})
    found[step] = writer.position()
  writer.close()
  return found


def content(folder):
  return (folder / 'metrics.jsonl').read_bytes()


def test_a_position_is_rows_and_bytes(tmp_path):
  writer = metrics.MetricsWriter(tmp_path, resume_step=0)
  assert writer.position() == metrics.START and writer.last == {}
  writer.write(1, {'a': 0.5, 'b': float('nan')})
  writer.write(2, {'a': 2})
  assert writer.last == {'a': 2.0}
  line = '{"step": 1, "a": 0.5, "b": null}\n{"step": 2, "a": 2.0}\n'
  assert writer.position() == {'rows': 2, 'bytes': len(line)}
  assert content(tmp_path) == line.encode()
  writer.close()
  # A later start counts the rows that are there.
  writer = metrics.MetricsWriter(tmp_path, resume_step=2)
  writer.write(3, {})
  assert writer.position()['rows'] == 3
  writer.close()


def test_the_file_is_cut_at_the_position(tmp_path):
  after = record(tmp_path, [1, 2, 3])
  whole = content(tmp_path)
  record(tmp_path, [4, 5], resume_step=3)
  with (tmp_path / 'metrics.jsonl').open('ab') as file:
    file.write(b'{"step": 6, "los')  # Cut short by a kill.
  rewinding.rewind(tmp_path, 3, after[3])
  assert content(tmp_path) == whole
  rewinding.rewind(tmp_path, 0, metrics.START)
  assert content(tmp_path) == b''


def test_an_earlier_version_said_no_position(tmp_path):
  record(tmp_path, [1, 2, 3])
  whole = content(tmp_path)
  record(tmp_path, [4], resume_step=3)
  rewinding.rewind(tmp_path, 3, None)
  assert content(tmp_path) == whole


def test_a_fork_has_rows_from_its_first_step_on(tmp_path):
  after = record(tmp_path, [41, 42, 43], resume_step=40)
  rewinding.rewind(tmp_path, 42, after[42])
  rows = [json.loads(line)['step'] for line in content(tmp_path).splitlines()]
  assert rows == [41, 42]


def without_last_row(data):
  return b''.join(data.splitlines(keepends=True)[:-1])


def without_second_row(data):
  lines = data.splitlines(keepends=True)
  return b''.join([lines[0], *lines[2:]])


def with_a_row_twice(data):
  lines = data.splitlines(keepends=True)
  return b''.join([lines[0], *lines])


@pytest.mark.parametrize(
  ('damage', 'what'),
  [
    (without_last_row, 'the row of step 3 is missing'),
    (without_second_row, 'the row of step 2 is another one'),
    (with_a_row_twice, 'the row of step 2 is another one'),
    (lambda data: b'', 'the row of step 1 is missing'),
    (lambda data: data[:-5], 'the row of step 3 is another one'),
    (lambda data: data.replace(b'0.5', b'0.25'), 'the row of step 3'),
    (lambda data: data.replace(b'0.5', b'5'), 'the row of step 3 has changed'),
    (
      lambda data: data.replace(b'"step": 2', b'"stop": 2'),
      'step 2 is another',
    ),
    (lambda data: data.replace(b'{"step": 2', b'["step", 2'), 'step 2 is'),
  ],
)
def test_a_file_that_lost_something_is_an_error(tmp_path, damage, what):
  after = record(tmp_path, [1, 2, 3])
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(damage(content(tmp_path)))
  before = content(tmp_path)
  with pytest.raises(UserError) as info:
    rewinding.rewind(tmp_path, 3, after[3])
  message = str(info.value)
  assert what in message and str(path) in message
  assert 'checkpoint of step 3' in message and '--workdir' in message
  assert content(tmp_path) == before


def test_no_file_is_an_error_too(tmp_path):
  with pytest.raises(UserError, match='the row of step 1 is missing'):
    rewinding.rewind(tmp_path, 2, {'rows': 2, 'bytes': 40})
  rewinding.rewind(tmp_path, 0, metrics.START)


def test_rollouts_of_later_steps_go(tmp_path):
  after = record(tmp_path, [1, 2])
  folder = tmp_path / 'rollouts'
  folder.mkdir()
  for name in ('000002.jsonl.gz', '000003.jsonl.gz', '1000000.jsonl.gz'):
    (folder / f'step_{name}').write_bytes(b'')
  (folder / 'step_notes.txt').write_bytes(b'')
  rewinding.rewind(tmp_path, 2, after[2])
  assert sorted(path.name for path in folder.iterdir()) == [
    'step_000002.jsonl.gz',
    'step_notes.txt',
  ]


def test_it_is_so_in_a_bucket(store, tmp_path):
  address = metrics.storage.as_path('gs://bucket/rewinding')
  after = record(address, [1, 2])
  whole = store.read('rewinding/metrics.jsonl')
  record(address, [3, 4], resume_step=2)
  (address / 'rollouts' / 'step_000003.jsonl.gz').write_bytes(b'')
  rewinding.rewind(address, 2, after[2])
  assert store.names('rewinding/rollouts/') == []
  assert store.read('rewinding/metrics.jsonl') == whole
  store.put('rewinding/metrics.jsonl', without_last_row(whole))
  with pytest.raises(UserError, match='the row of step 2 is missing'):
    rewinding.rewind(address, 2, after[2])


def test_files_that_were_being_written_are_removed(tmp_path):
  """`jsonl` gives a file its name when it is whole."""
  (tmp_path / 'rollouts').mkdir()
  left = [
    tmp_path / '.summary.json.7.part',
    tmp_path / 'rollouts' / '.step_000001.jsonl.gz.7.part',
  ]
  others = [tmp_path / '.notes', tmp_path / 'rollouts' / 'mine.part']
  for path in left + others:
    path.write_bytes(b'x')
  rewinding.rewind(tmp_path, 0, metrics.START)
  assert not any(path.exists() for path in left)
  assert all(path.exists() for path in others)


@pytest.mark.parametrize('killed', ['writing', 'between', 'removing'])
def test_a_model_that_was_being_replaced(killed, tmp_path):
  """Killed before, between and behind the two moves of `replacing`."""

  def make(name, text):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'config.json').write_text(text)

  make('.mine.part', 'mine')
  if killed == 'between':
    make('.model.7.old', 'old')
    make('.model.7.part', 'new')
  else:
    make('model', 'old' if killed == 'writing' else 'new')
    make('.model.7.part' if killed == 'writing' else '.model.7.old', '?')
  rewinding.rewind(tmp_path, 0, metrics.START)
  assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
    '.mine.part',
    'model',
  ]
  text = (tmp_path / 'model' / 'config.json').read_text()
  assert text == ('new' if killed == 'removing' else 'old')
