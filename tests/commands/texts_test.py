"""What the commands say of flags and rows, word for word."""

import pathlib
import types

import pytest

from lrm_jax import main, mesh, sharding, storage
from lrm_jax.commands import convert, loading, sample
from lrm_jax.data import sources
from lrm_jax.planning import plan as planning
from lrm_jax.planning import report, topologies
from tests import tiny
from tests.checkpoints.hf_models import refusal

ROOT = pathlib.Path(__file__).parents[2]


def said(capsys, *arguments, code=2, prefix='lrm: error: '):
  """The line that a command ends with."""
  assert main.main(['lrm', *arguments]) == code
  error = capsys.readouterr().err
  assert error.startswith(prefix) and error.count('\n') == 1
  return error.removeprefix(prefix).strip()


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    (['trian'], "unknown verb 'trian'; nearest: train; see lrm --help"),
    (
      ['train'],
      '--config is missing; e.g. lrm train --config=configs/quickstart.py '
      '--workdir=runs/quick',
    ),
    (
      ['grade', '--inptu=x'],
      "unknown flag '--inptu'; nearest: --input; lrm grade --help explains the "
      'flags',
    ),
    (
      ['grade', '--input=x'],
      '--output is missing; lrm grade --help explains the flags',
    ),
    (
      ['grade', '--input=x', '--output=y', '--timeout=soon'],
      'bad flag (flag --timeout=soon: could not convert string to float: '
      "'soon'); lrm grade --help explains the flags",
    ),
    (
      ['grade', 'junk', '--input=x', '--output=y'],
      "unexpected argument 'junk'; lrm grade --help explains the flags",
    ),
    (
      [
        *('train', '--config=configs/tiny/grpo.py', '--workdir=x'),
        '--profile=5-3',
      ],
      "--profile='5-3': give a step, such as 3, or the first and the last of "
      'several, such as 3-5',
    ),
  ],
)
def test_the_command_line(capsys, monkeypatch, arguments, text):
  monkeypatch.chdir(ROOT)
  assert said(capsys, *arguments) == text


@pytest.mark.parametrize(
  ('call', 'text'),
  [
    (
      lambda: loading.parse_truncation(['top_p']),
      "--truncation: 'top_p' is not NAME=NUMBER, such as top_p=0.95",
    ),
    (
      lambda: loading.check_temperature(
        types.SimpleNamespace(temperature=float('nan'))
      ),
      '--temperature=nan: must be 0, for the most likely token, or a finite '
      'number, at least 0.001',
    ),
    (
      lambda: sample._check_prompt(
        'f: row 1', {'prompt': 'a', 'question': 'b'}
      ),
      'f: row 1: has question and prompt; a row needs one of question, prompt '
      'and prompt_ids',
    ),
    (
      lambda: sample._check_prompt('f: row 1', {'id': 1}),
      'f: row 1: has no prompt; a row needs one of question, prompt and '
      'prompt_ids',
    ),
    (
      lambda: sources.read_jsonl('none.jsonl'),
      'none.jsonl: No such file or directory; give the path of a JSONL file of '
      'problems',
    ),
    (
      lambda: sources._parse_row('f:3', '[1]', 'f-000003'),
      'f:3: holds a JSON list; expected an object with "question" and "answer"',
    ),
  ],
)
def test_arguments_and_rows(call, text):
  assert refusal(call) == text


def test_two_sides_of_a_parameter_along_one_axis(monkeypatch):
  monkeypatch.setitem(mesh.RULES, 'vocab', ('fsdp',))
  two = types.SimpleNamespace(shape={'fsdp': 2})
  assert refusal(sharding._spec, ('embedding',), (4, 4), two) == (
    'embedding: fsdp would divide vocab and model; give one of them another '
    'axis in mesh.RULES'
  )


def test_a_bucket_that_does_not_answer():
  class Bucket:
    """Neither here nor there."""

    __str__ = lambda self: 'gs://a/b'

  def ask():
    with storage.explained(Bucket()):
      raise ConnectionError('no\nroute')

  assert refusal(ask) == (
    "'gs://a/b' cannot be reached (ConnectionError: no route); check that the "
    'bucket is there and that you may write: gcloud auth application-default '
    'login'
  )


def test_a_topology_that_no_compiler_knows(monkeypatch):
  from jax.experimental import topologies as theirs

  def fail(**_):
    raise RuntimeError('no such grid\nand more')

  monkeypatch.setattr(theirs, 'get_topology_desc', fail)
  assert refusal(topologies.find, 'v5e:9x9') == (
    "--topology='v5e:9x9': no such grid; give a grid that there is, and "
    "install its compiler: pip install 'lrm_jax[plan]'"
  )


def test_a_conversion_into_a_bucket(capsys, monkeypatch):
  monkeypatch.setattr(storage.importlib.util, 'find_spec', lambda name: name)
  model = tiny.model_directory()
  line = said(capsys, 'convert', f'--from={model}', '--to=gs://a/b')
  assert line == (
    "--to='gs://a/b': is in a bucket, and convert looks again at what it "
    'wrote; give a folder, and copy it with gcloud storage cp --recursive'
  )


def test_a_plan_that_does_not_fit(capsys, monkeypatch):
  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(planning, 'plan', lambda *_: {'fits': False})
  monkeypatch.setattr(report, 'text', lambda *_: '')
  config = 'configs/dler_r1_7b.py'
  line = said(
    capsys,
    *('plan', f'--config={config}', '--topology=v5e:1x1'),
    code=1,
    prefix='lrm: check failed: ',
  )
  assert line == (
    f'{config} does not fit on v5e:1x1; more devices, fewer rows or slots, or '
    'remat help'
  )


def test_a_conversion_that_is_not_the_same_model(tmp_path, capsys, monkeypatch):
  real, wrong = convert.compare, {'is_same': False, 'reason': 'logits differ'}
  monkeypatch.setattr(convert, 'compare', lambda *a: real(*a) | wrong)
  target = tmp_path / 'to'
  line = said(
    capsys,
    *('convert', f'--from={tiny.model_directory()}', f'--to={target}'),
    '--check',
    code=1,
    prefix='lrm: check failed: ',
  )
  assert line == (
    f'{target} is not the model of --from: logits differ; do not use it, and '
    'report what was converted'
  )
