"""`lrm eval` on several data sets, and what it refuses before any work."""

import json
import types

import pytest

from lrm_jax import jsonl
from lrm_jax.commands import evaluation_jobs, loading
from lrm_jax.errors import UserError
from lrm_jax.evaluation import stored
from tests import tiny
from tests.commands import evaluate_resuming_test, evaluate_test
from tests.commands.evaluate_resuming_test import results, start

fake = evaluate_resuming_test.fake


@pytest.fixture
def sets(tmp_path):
  """Paths of two files: starts 0 to 2, and 10 to 13."""
  paths = []
  for name, first, count in (('small', 0, 3), ('large', 10, 4)):
    rows = [
      {'id': f'p{i}', 'question': f'Start={i} a:+1', 'answer': i + 1}
      for i in range(first, first + count)
    ]
    jsonl.write_rows(tmp_path / f'{name}.jsonl', rows)
    paths.append(str(tmp_path / f'{name}.jsonl'))
  return paths


def test_each_has_a_folder_that_is_its_own_evaluation(
  capsys, tmp_path, sets, fake
):
  assert start(','.join(sets), tmp_path / 'all') == 0
  out = capsys.readouterr().out
  for path in sets:
    name = path.rpartition('/')[2].removesuffix('.jsonl')
    assert start(path, tmp_path / name) == 0
    assert results(tmp_path / 'all' / name) == results(tmp_path / name)
  summary = json.loads((tmp_path / 'all' / 'summary.json').read_text())
  assert list(summary['sets']) == ['small', 'large']
  assert summary['verb'] == 'eval'
  assert summary['data'] == sets
  assert (summary['problems'], summary['samples']) == (7, 2)
  # Right: sample 0 of an even start. 2 of 6 and 2 of 8.
  assert summary['accuracy'] == pytest.approx((1 / 3 + 1 / 4) / 2)
  small = json.loads((tmp_path / 'all' / 'small' / 'summary.json').read_text())
  assert summary['sets']['small'] == small
  lines = [' '.join(line.split()) for line in out.splitlines()]
  assert lines[0].startswith('problems accuracy')
  assert [line.split()[:3] for line in lines[2:5]] == [
    ['small', '3', '33.3%'],
    ['large', '4', '25.0%'],
    ['mean', '7', '29.2%'],
  ]
  assert lines[5].startswith(f'{tmp_path / "all"}: summary.json, and small')
  folders = [str(tmp_path / 'all' / name) for name in ('large', 'small')]
  assert stored.find(str(tmp_path / 'all')) == folders


def test_the_second_goes_on_where_it_was_stopped(
  monkeypatch, tmp_path, sets, fake
):
  data = ','.join(sets)
  assert start(data, tmp_path / 'whole') == 0
  assert fake == [2, 1, 2, 2]
  with monkeypatch.context() as patch:
    evaluate_resuming_test.killing(
      patch, evaluate_resuming_test.chunks, 'write', 3
    )
    with pytest.raises(evaluate_resuming_test.Killed):
      start(data, tmp_path / 'cut')
  assert not (tmp_path / 'cut' / 'summary.json').exists()
  fake.clear()
  assert start(data, tmp_path / 'cut') == 0
  assert fake == [2]
  for name in ('small', 'large'):
    assert results(tmp_path / 'cut' / name) == results(
      tmp_path / 'whole' / name
    )
  # And ended, nothing is left.
  fake.clear()
  monkeypatch.setattr(loading, 'load', None)
  assert start(data, tmp_path / 'cut') == 0
  assert fake == []


def fails(capsys, *arguments):
  assert start(*arguments) == 2
  last = capsys.readouterr().err.splitlines()[-1]
  return last.removeprefix('lrm: error: ')


def test_other_flags_of_one_of_several(capsys, tmp_path, sets, fake):
  data = ','.join(sets)
  assert start(data, tmp_path / 'all') == 0
  message = fails(capsys, data, tmp_path / 'all', '--temperature=0.5')
  assert 'settings.temperature (was 1.0, now 0.5)' in message
  message = fails(capsys, ','.join(sets[::-1]), tmp_path / 'all')
  assert 'holds an evaluation with other flags: data (was [' in message
  # One instead of several.
  message = fails(capsys, sets[0], tmp_path / 'all')
  assert 'holds summary.json of an earlier version or of something' in message


def test_several_instead_of_one(capsys, tmp_path, sets, fake):
  assert start(sets[0], tmp_path / 'one') == 0
  assert fails(capsys, ','.join(sets), tmp_path / 'one') == (
    f"--workdir='{tmp_path / 'one'}' holds an evaluation of one data set, and "
    '--data names 2; choose another --workdir'
  )


def test_data_sets_without_a_name_of_their_own(capsys, tmp_path, sets, fake):
  (tmp_path / 'x').mkdir()
  other = tmp_path / 'x' / 'small.jsonl'
  other.write_bytes((tmp_path / 'small.jsonl').read_bytes())
  data = f'{sets[0]},{other}'
  assert fails(capsys, data, tmp_path / 'run') == (
    f"--data={data!r}: two data sets would be in the folder 'small'; evaluate "
    'them with a --workdir each'
  )
  assert fails(capsys, ',', tmp_path / 'run') == (
    "--data=',': names no data set; give one at least"
  )
  assert not (tmp_path / 'run').exists()


def test_nothing_is_made_where_the_second_cannot_be_read(
  capsys, tmp_path, sets, fake
):
  message = fails(capsys, f'{sets[0]},absent.jsonl', tmp_path / 'run')
  assert 'absent.jsonl: No such file' in message
  assert not (tmp_path / 'run').exists()


def test_names_of_generated_sets(tmp_path, fake):
  data = 'chain_arithmetic:test:2-3,chain_arithmetic:train:1'
  assert start(data, tmp_path / 'run', '--limit=2') == 0
  summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
  assert list(summary['sets']) == [
    'chain_arithmetic_test_2-3',
    'chain_arithmetic_train_1',
  ]


@pytest.mark.parametrize(
  ('instruction', 'target', 'is_fine'),
  [
    ('', 0, True),
    ('', 8, False),
    ('Use {target} tokens.', 8, True),
    ('Use {target} tokens.', 0, False),
    ('Think {level}.', 0, True),
    ('Think {level}.', 2, True),
    ('Think {level}.', 3, False),
  ],
)
def test_targets_and_their_places(instruction, target, is_fine):
  values = types.SimpleNamespace(instruction=instruction, target=target)
  if is_fine:
    return evaluation_jobs.check_target(values)
  with pytest.raises(UserError) as caught:
    evaluation_jobs.check_target(values)
  assert str(caught.value) == (
    f'--target={target} and --instruction={instruction!r}: prompts ask for a '
    'target of 1 or more where the instruction has {target}, for a level of 0 '
    'to 2 where it has {level}, else for none; change one of them'
  )


def test_the_target_is_in_the_prompt_and_in_the_numbers(tmp_path, sets, fake):
  flags = ['--instruction=12 {target}', '--target=34']
  assert start(sets[0], tmp_path / 'run', *flags) == 0
  rows, summary = evaluate_test._read(tmp_path / 'run')
  prompt = tiny.tokenizer().decode(rows[0]['prompt_ids'])
  assert '\n12 34' in prompt.replace(' ⁇ ', '\n')
  assert summary['settings']['target'] == 34
  # Of 5 to 8 tokens none is near 34.
  assert summary['target_match']['tokens'] == {'pm': 0.0, 'fm': 0.0}


def test_a_checksum_is_of_what_decides_on_the_law(tmp_path):
  for path in tiny.model_directory().iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  first = evaluation_jobs.checksum(tmp_path)
  assert first == evaluation_jobs.checksum(tiny.model_directory())
  (tmp_path / 'README.md').write_text('words')
  assert evaluation_jobs.checksum(tmp_path) == first
  path = tmp_path / 'model.safetensors'
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  assert evaluation_jobs.checksum(tmp_path) != first


@pytest.mark.parametrize(
  ('text', 'specs'),
  [
    ('gsm8k', ['gsm8k']),
    ('a.jsonl,,gsm8k:train', ['a.jsonl', 'gsm8k:train']),
    ('gym:gcd?a=1,b=2,aime24', ['gym:gcd?a=1,b=2', 'aime24']),
    ('gym:gcd?a=[1,2],b=3', ['gym:gcd?a=[1,2],b=3']),
  ],
)
def test_commas_of_keys_separate_no_data_sets(text, specs):
  assert evaluation_jobs.split(text) == specs
