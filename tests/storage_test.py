"""Files in a bucket: what is written there, and what is refused."""

import json
import pathlib

import jax
import numpy as np
import pytest
from ml_collections import config_dict

from lrm_jax import (
  assets,
  jsonl,
  main,
  metrics,
  storage,
  tracing,
  workdir,
)
from lrm_jax.checkpoints import huggingface, replacing
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.commands import output
from lrm_jax.data import sources
from lrm_jax.errors import UserError
from lrm_jax.reporting import plots
from tests import bucket, tiny


@pytest.fixture
def folder(store, request):
  """Its address, and the place of its objects."""
  name = f'{request.node.name}/'
  return f'gs://bucket/{name}', name


def rows_of(store, name):
  return [json.loads(line) for line in store.read(name).splitlines()]


def test_a_local_path_is_what_it_was():
  for text in ('runs/x', '/runs/x', 'gs:/x', pathlib.Path('a')):
    path = storage.as_path(text)
    assert type(path) is type(pathlib.Path()) and path == pathlib.Path(text)


@pytest.mark.parametrize('name', ['a.jsonl', 'a.jsonl.gz'])
def test_rows_come_back(name, store, folder, tmp_path):
  address, place = folder
  rows = [{'a': 1, 'b': 'ü'}, {'a': None}]
  jsonl.write_rows(f'{address}{name}', rows)
  assert jsonl.read_rows(f'{address}{name}') == rows
  jsonl.write_rows(tmp_path / name, rows)
  assert store.read(place + name) == (tmp_path / name).read_bytes()


def test_a_row_that_cannot_be_written_leaves_the_earlier_file(store, folder):
  address, place = folder
  jsonl.write_rows(f'{address}a.jsonl', [{'a': 1}])
  with pytest.raises(TypeError):
    jsonl.write_rows(f'{address}a.jsonl', [{'a': 2}, {'a': object()}])
  assert rows_of(store, f'{place}a.jsonl') == [{'a': 1}]


def test_no_such_file_is_said(folder):
  with pytest.raises(UserError, match='gs://bucket.*no such file'):
    jsonl.read_rows(f'{folder[0]}none.jsonl')


def test_the_guard_of_a_run(store, folder):
  address, place = folder
  config = config_dict.ConfigDict({'seed': 0})
  assert not workdir.open_run(address, config, 'train')
  assert workdir.open_run(address, config, 'train')
  assert store.names(place) == ['config.json']
  with pytest.raises(UserError, match='seed'):
    workdir.open_run(address, config_dict.ConfigDict({'seed': 1}), 'train')
  with pytest.raises(UserError, match='is a file'):
    workdir.open_run(f'{address}config.json', config, 'train')


def test_a_bucket_that_is_not_there(store):
  config = config_dict.ConfigDict({'seed': 0})
  address = 'gs://other/run'
  with pytest.raises(UserError, match='gs://other/run.*cannot be reached'):
    workdir.open_run(address, config, 'train')
  with pytest.raises(UserError, match='gs://other/run.*cannot be reached'):
    output.check_writable(f'--workdir={address}', storage.as_path(address))


def test_a_bucket_that_may_not_be_read(store):
  config = config_dict.ConfigDict({'seed': 0})
  with pytest.raises(UserError, match='cannot be reached .*Forbidden'):
    workdir.open_run(f'gs://{bucket.FORBIDDEN}/run', config, 'train')


def test_an_output_is_tried_before_the_work(store, folder):
  address, place = folder
  target = output.output_file(f'{address}rows.jsonl')
  assert str(target) == f'{address}rows.jsonl'
  assert store.names(place) == []


def test_metrics_are_copied_with_each_checkpoint_and_each_minute(
  store, folder, monkeypatch
):
  address, place = folder
  now = 0.0
  monkeypatch.setattr(metrics.time, 'monotonic', lambda: now)
  name = f'{place}metrics.jsonl'
  writer = metrics.MetricsWriter(address, resume_step=-1)
  writer.write(1, {'a': 1.0})
  assert name not in store.objects
  writer.flush()
  assert len(rows_of(store, name)) == 1
  writer.write(2, {'a': 1.0})
  assert len(rows_of(store, name)) == 1
  now = metrics.UPLOAD_INTERVAL
  writer.write(3, {'a': 1.0})
  assert len(rows_of(store, name)) == 3
  # Lost with its machine; another start goes on from step 2.
  with metrics.MetricsWriter(address, resume_step=2) as writer:
    writer.write(3, {'a': 2.0})
  assert [(row['step'], row['a']) for row in rows_of(store, name)] == [
    (1, 1.0),
    (2, 1.0),
    (3, 2.0),
  ]
  events = [n for n in store.names(place) if n.startswith('tensorboard/')]
  assert len(events) == 2


def test_a_run_that_fails_leaves_its_last_metrics(store, folder):
  address, place = folder
  with pytest.raises(FloatingPointError):
    with metrics.MetricsWriter(address, resume_step=-1) as writer:
      writer.write(1, {'loss': float('nan')})
      raise FloatingPointError
  assert rows_of(store, f'{place}metrics.jsonl') == [{'step': 1, 'loss': None}]


def test_only_what_changed_is_copied(store, folder):
  address, place = folder
  mirror = storage.Mirror(address)
  for name in ('a', 'b'):
    (mirror.folder / name).write_text('1')
  mirror.upload()
  (mirror.folder / 'b').write_text('22')
  mirror.upload()
  mirror.close()
  assert not mirror.folder.exists()
  written = [n for n in store.writes if n.startswith(place)]
  assert written == [f'{place}a', f'{place}b', f'{place}b']
  assert store.read(f'{place}b') == b'22'


def test_a_model_replaces_another(store, folder, tmp_path):
  address, place = folder
  config = tiny.config()
  arguments = (config, tiny.params(config), tiny.tokenizer())
  huggingface.save(f'{address}model', *arguments, shard_bytes=1 << 12)
  assert any('-of-' in name for name in store.names(place))
  huggingface.save(f'{address}model', *arguments)
  huggingface.save(tmp_path / 'model', *arguments)
  names = sorted(path.name for path in (tmp_path / 'model').iterdir())
  assert store.names(f'{place}model/') == names
  for name in names:
    content = (tmp_path / 'model' / name).read_bytes()
    assert store.read(f'{place}model/{name}') == content


def test_what_is_no_model_is_not_replaced(store, folder):
  address, place = folder
  jsonl.write_json(f'{address}model/notes.json', {})
  directory = storage.as_path(f'{address}model')
  with pytest.raises(UserError, match='notes.json'):
    with replacing.replacing(directory):
      raise NotImplementedError('what is there was not looked at')
  assert store.names(place) == ['model/notes.json']


def test_a_failed_export_writes_nothing(store, folder):
  address, place = folder
  with pytest.raises(ZeroDivisionError):
    with replacing.replacing(storage.as_path(f'{address}model')) as part:
      (part / 'config.json').write_text('{}')
      raise ZeroDivisionError
  assert store.names(place) == []


def test_a_picture_is_the_same(store, folder, tmp_path):
  address, place = folder
  rows = [{'step': 1, 'accuracy': 0.5}, {'step': 2, 'accuracy': 0.6}]
  plots.training_curves(rows, f'{address}curves.png')
  plots.training_curves(rows, tmp_path / 'curves.png')
  content = (tmp_path / 'curves.png').read_bytes()
  assert store.read(f'{place}curves.png') == content


def test_old_checkpoints_go(store, folder):
  address, place = folder
  checkpoints = RunCheckpoints(address, keep=2)
  for step in (1, 2, 3):
    checkpoints.save(step, {'x': step * tiny.params(tiny.config())['head']}, {})
  checkpoints.close()
  assert RunCheckpoints(address, keep=2).latest_step() == 3
  steps = {name.split('/')[1] for name in store.names(place)}
  assert steps == {'2', '3'}


def test_a_checkpoint_that_was_cut_short_does_not_count(store, folder):
  address, place = folder
  checkpoints = RunCheckpoints(address, keep=3)
  for step in (1, 2):
    checkpoints.save(
      step, {'x': tiny.params(tiny.config())['head']}, {'n': step}
    )
  checkpoints.close()
  del store.objects[f'{place}checkpoints/2/commit_success.txt']
  again = RunCheckpoints(address, keep=3)
  assert again.latest_step() == 1
  assert again.restore_host(1) == {'n': 1}


def test_a_model_is_read_from_a_bucket(store, folder):
  address, place = folder
  config = tiny.config()
  params = tiny.params(config)
  huggingface.save(f'{address}model', config, params, tiny.tokenizer())
  directory = assets.resolve(f'{address}model')
  assert isinstance(directory, pathlib.Path)
  _, found = huggingface.load(directory)
  jax.tree.map(np.testing.assert_array_equal, found, params)
  assert assets.resolve(f'{address}model/') == directory
  with pytest.raises(UserError, match='no config.json'):
    assets.resolve(f'{address}none')


def test_problems_are_read_from_a_bucket(store, folder):
  address, _ = folder
  jsonl.write_rows(f'{address}a.jsonl', [{'question': '1+1', 'answer': 2}])
  (problem,) = sources.load_problems(f'{address}a.jsonl')
  assert problem.answer == '2' and problem.id == 'a-000000'
  with pytest.raises(UserError, match='gs://bucket.*cannot be reached'):
    sources.load_problems(f'{address}none.jsonl')


def test_a_profile_is_copied(store, folder, monkeypatch):
  address, place = folder
  given = []
  monkeypatch.setattr(tracing.jax.profiler, 'start_trace', given.append)
  # XLA writes it at the end, into a folder of its own.
  monkeypatch.setattr(
    tracing.jax.profiler,
    'stop_trace',
    lambda: (given[0] / 'host.xplane.pb').write_bytes(b'events'),
  )
  with tracing.Tracer(storage.as_path(address), range(2, 3)) as tracer:
    for step in (1, 2, 3):
      with tracer.step(step):
        pass
  assert store.names(place) == ['profile/host.xplane.pb']
  assert store.read(f'{place}profile/host.xplane.pb') == b'events'
  assert not given[0].exists()


def test_convert_writes_folders(store, folder, capsys):
  address, place = folder
  words = ['--from=tiny_lrm', f'--to={address}model', '--format=hf']
  assert main.main(['lrm', 'convert', *words]) == 2
  assert 'is in a bucket' in capsys.readouterr().err
  assert store.names(place) == []
