"""The command line: help, exit codes, and one line for each mistake."""

import errno
import os
import signal
import subprocess
import sys
import time
import types

import pytest
from absl import flags

import lrm_jax
from lrm_jax import configuration, errors, main, storage

_CONFIG = """
from ml_collections import config_dict

def get_config():
  return config_dict.ConfigDict({'train': {'steps': 3, 'rate': 0.5}})
"""


@pytest.fixture
def config_file(tmp_path):
  path = tmp_path / 'tiny.py'
  path.write_text(_CONFIG)
  return path


@pytest.fixture
def calls(monkeypatch):
  """Puts a fake recipe verb and a fake plain verb in; records their runs."""
  calls = []

  def define_flags(values):
    flags.DEFINE_string('model', None, 'Folder of the model.', values)
    flags.DEFINE_integer('n', 8, 'Samples a problem.', flag_values=values)
    flags.DEFINE_enum('kind', 'a', ['a', 'b'], 'Kind of it.', values)
    flags.mark_flag_as_required('model', flag_values=values)

  recipe = types.SimpleNamespace(run=lambda *args: calls.append(args))
  plain = types.SimpleNamespace(
    define_flags=define_flags,
    run=lambda values: calls.append((values.model, values.n)),
  )
  monkeypatch.setitem(sys.modules, 'fake_recipe', recipe)
  monkeypatch.setitem(sys.modules, 'fake_plain', plain)
  monkeypatch.setitem(
    main.VERBS, 'train', main.Verb('fake_recipe', 'a recipe', True)
  )
  monkeypatch.setitem(main.VERBS, 'eval', main.Verb('fake_plain', 'plain'))
  return calls


def _fails(capsys, *args) -> str:
  """Runs a command that must end in one line and exit code 2."""
  assert main.main(['lrm', *map(str, args)]) == 2
  captured = capsys.readouterr()
  assert captured.out == ''
  assert captured.err.startswith('lrm: error: ')
  assert captured.err.count('\n') == 1
  return captured.err


def test_help_is_fast_and_imports_no_jax():
  code = (
    'import sys; from lrm_jax import main\n'
    "code = main.main(['lrm', '--help'])\n"
    "sys.exit(code or 3 * ('jax' in sys.modules))"
  )
  begin = time.monotonic()
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  assert time.monotonic() - begin < 2
  assert done.returncode == 0, done.stderr
  for verb in main.VERBS:
    assert f'  {verb} ' in done.stdout


def test_a_fork_is_handed_on_and_is_not_for_sft(config_file, calls, capsys):
  words = [f'--config={config_file}', '--workdir=new', '--fork-from=old/run']
  assert main.main(['lrm', 'train', *words]) == 0
  (args,) = calls
  assert args[1:] == (storage.as_path('new'), range(0), 'old/run')
  error = _fails(capsys, 'sft', *words)
  assert '--fork-from is for lrm train' in error and 'model.path' in error


@pytest.mark.parametrize('args', [[], ['--help'], ['-h']])
def test_overview(args, capsys):
  assert main.main(['lrm', *args]) == 0
  assert 'usage: lrm VERB' in capsys.readouterr().out


def test_version(capsys):
  assert main.main(['lrm', '--version']) == 0
  assert capsys.readouterr().out == f'lrm {lrm_jax.__version__}\n'


def test_verb_help_lists_its_flags_and_runs_nothing(calls, capsys):
  assert main.main(['lrm', 'eval', '--model=x', '--help']) == 0
  out = capsys.readouterr().out
  assert '--model=STRING          Folder of the model. (required)' in out
  assert '--n=INT                 Samples a problem. (default: 8)' in out
  assert '--kind=ENUM             <a|b>: Kind of it. (default: a)' in out
  assert main.main(['lrm', 'train', '--help']) == 0
  out = capsys.readouterr().out
  assert all(f'--{f}' in out for f in ('config', 'workdir', 'print_config'))
  assert max(map(len, out.splitlines())) < 80
  text = ' '.join(out.split())
  assert 'It is Python, and is run: give only files that you wrote' in text
  assert calls == []


def test_recipe_gets_its_locked_config_and_workdir(
  calls, config_file, tmp_path
):
  args = ['--config.train.steps=9', f'--config={config_file}']
  workdir = tmp_path / 'run'
  assert main.main(['lrm', 'train', *args, f'--workdir={workdir}']) == 0
  [(config, given, profiled)] = calls
  assert profiled == range(0)
  assert config.to_dict() == {'train': {'steps': 9, 'rate': 0.5}}
  assert config.is_locked
  assert given == workdir
  assert not workdir.exists()  # the verb's own business


def test_workdir_in_a_bucket(calls, config_file, monkeypatch):
  # There, as far as one can see.
  monkeypatch.setattr(storage.importlib.util, 'find_spec', lambda name: name)
  args = [f'--config={config_file}', '--workdir=gs://bucket/run/']
  assert main.main(['lrm', 'train', *args]) == 0
  [(_, given, _)] = calls
  assert str(given / 'x') == 'gs://bucket/run/x'


@pytest.mark.parametrize('address', ['s3://bucket/run', 'gs://', 'http://a/b'])
def test_other_addresses_are_no_workdir(address, calls, config_file, capsys):
  message = _fails(
    capsys, 'train', f'--config={config_file}', f'--workdir={address}'
  )
  assert f"'{address}'" in message and 'gs://BUCKET/FOLDER' in message
  assert calls == []


def test_a_bucket_needs_its_library(calls, config_file, capsys, monkeypatch):
  monkeypatch.setattr(storage.importlib.util, 'find_spec', lambda name: None)
  message = _fails(
    capsys, 'train', f'--config={config_file}', '--workdir=gs://bucket/run'
  )
  assert "pip install 'lrm_jax[gcs]'" in message
  assert calls == []


def test_plain_verb_gets_its_flags_afresh_each_time(calls):
  assert main.main(['lrm', 'eval', '--model', 'a', '--n=2']) == 0
  assert main.main(['lrm', 'eval', '--model=b']) == 0
  assert calls == [('a', 2), ('b', 8)]


def test_print_config_needs_no_workdir_and_runs_nothing(
  calls, config_file, capsys
):
  args = [f'--config={config_file}', '--print_config']
  assert main.main(['lrm', 'train', '--config.train.rate=1', *args]) == 0
  assert '"rate": 1.0' in capsys.readouterr().out
  assert calls == []


def test_unknown_names_get_their_nearest(calls, config_file, capsys):
  assert "'trian'; nearest: train" in _fails(capsys, 'trian')
  assert "'--modle'; nearest: --model" in _fails(capsys, 'eval', '--modle=x')
  message = _fails(capsys, 'train', '--conifg.train.steps=3')
  assert 'nearest: --config' in message
  message = _fails(
    capsys, 'train', f'--config={config_file}', '--config.train.stepz=3'
  )
  assert "'train.stepz'; nearest: train.steps" in message
  assert calls == []


def test_missing_and_stray_arguments(calls, config_file, capsys):
  config = f'--config={config_file}'
  assert '--config is missing' in _fails(capsys, 'train', '--workdir=x')
  assert '--workdir is missing' in _fails(capsys, 'train', config)
  assert '--model is missing' in _fails(capsys, 'eval', '--n=3')
  assert "argument 'junk'" in _fails(capsys, 'eval', 'junk', '--model=x')
  assert "argument 'junk'" in _fails(capsys, 'train', config, 'junk')
  assert '--n=x' in _fails(capsys, 'eval', '--model=x', '--n=x')
  assert 'a|b' in _fails(capsys, 'eval', '--model=x', '--kind=c')
  assert calls == []


def _raising(monkeypatch, error):
  def run(*_):
    raise error

  module = types.SimpleNamespace(define_flags=lambda values: None, run=run)
  monkeypatch.setitem(sys.modules, 'raising', module)
  monkeypatch.setitem(main.VERBS, 'eval', main.Verb('raising', 'raises'))


def test_user_error_is_one_line(monkeypatch, capsys):
  _raising(monkeypatch, errors.UserError('two\n  lines'))
  assert _fails(capsys, 'eval') == 'lrm: error: two lines\n'


@pytest.mark.parametrize('code', ['ENOSPC', 'EDQUOT', 'EROFS'])
def test_no_room_is_one_line_and_2(code, monkeypatch, capsys):
  number = getattr(errno, code)
  why = os.strerror(number)
  _raising(monkeypatch, OSError(number, why, 'runs/a/metrics.jsonl'))
  cure = 'make room'
  if code == 'EROFS':
    cure = 'mount that file system for writing again'
  assert _fails(capsys, 'eval') == (
    f"lrm: error: 'runs/a/metrics.jsonl' cannot be written ({why}); {cure}, "
    'and give the same command again: a run goes on from its last checkpoint\n'
  )
  _raising(monkeypatch, OSError(number, why))
  assert 'a file cannot be written (' in _fails(capsys, 'eval')


def test_another_error_of_the_system_keeps_its_traceback(monkeypatch):
  _raising(monkeypatch, OSError(errno.EIO, 'Input/output error', 'x'))
  with pytest.raises(OSError, match='Input/output error'):
    main.main(['lrm', 'eval'])


def test_failed_check_is_one_line_and_1(monkeypatch, capsys):
  _raising(monkeypatch, errors.CheckFailed('two\n  lines'))
  assert main.main(['lrm', 'eval']) == 1
  assert capsys.readouterr().err == 'lrm: check failed: two lines\n'


def test_interrupt_is_one_line_and_130(monkeypatch, capsys):
  _raising(monkeypatch, KeyboardInterrupt())
  assert main.main(['lrm', 'eval']) == 130
  assert capsys.readouterr().err == 'lrm: interrupted\n'


def test_a_stopped_run_is_one_line_and_0(monkeypatch, capsys):
  _raising(monkeypatch, errors.Stopped('stopped; resumable at step 3'))
  assert main.main(['lrm', 'eval']) == 0
  assert capsys.readouterr().err == 'lrm: stopped; resumable at step 3\n'
  monkeypatch.setenv('LRM_STOP_CODE', '75')
  assert main.main(['lrm', 'eval']) == 75


@pytest.mark.parametrize('text', ['abc', '', '256', '-1', '1.5', '٣'])
def test_a_stop_code_that_is_none_is_refused_at_the_start(
  text, calls, config_file, monkeypatch, capsys
):
  monkeypatch.setenv('LRM_STOP_CODE', text)
  words = [f'--config={config_file}', '--workdir=new']
  error = _fails(capsys, 'train', *words)
  assert f'LRM_STOP_CODE={text!r} is no exit code; give a number from' in error
  assert calls == []
  monkeypatch.setenv('LRM_STOP_CODE', '255')
  assert main.main(['lrm', 'train', *words]) == 0


def test_signals_are_noted_before_the_recipe_is_imported(
  calls, config_file, monkeypatch
):
  noted = []
  load = configuration.load

  def loading(*args):
    noted.append(signal.getsignal(signal.SIGTERM))
    return load(*args)

  before = signal.getsignal(signal.SIGTERM)
  monkeypatch.setattr(configuration, 'load', loading)
  words = [f'--config={config_file}', '--workdir=new']
  assert main.main(['lrm', 'train', *words]) == 0
  assert noted != [before] and len(calls) == 1
  assert signal.getsignal(signal.SIGTERM) == before


def test_bug_keeps_its_traceback(monkeypatch):
  _raising(monkeypatch, ValueError('a bug'))
  with pytest.raises(ValueError, match='a bug'):
    main.main(['lrm', 'eval'])


def test_console_script_exits_with_the_code(monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['lrm', 'nonsense'])
  with pytest.raises(SystemExit) as info:
    main.cli()
  assert info.value.code == 2


def test_a_verb_that_needs_words(capsys):
  assert main.main(['lrm', 'table']) == 2
  said = capsys.readouterr().err
  assert 'NAME is missing: lrm table NAME ...; lrm table --help' in said


def test_flags_may_follow_words(capsys):
  assert main.main(['lrm', 'table', 'bert', '--run']) == 2
  assert "no table 'bert'" in capsys.readouterr().err
