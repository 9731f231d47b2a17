"""`lrm sample` with a tiny random model."""

import json

import numpy as np
import pytest

from lrm_jax import main
from lrm_jax.commands import loading, sample
from lrm_jax.data import prompts
from lrm_jax.errors import UserError
from tests import tiny

QUESTION = 'Start=4 a:+5'
KEYS = [
  'id',
  'sample',
  'prompt_ids',
  'response',
  'response_ids',
  'logp',
  'length',
  'thinking_length',
  'truncated',
]


def _sample(capsys, *flags, model=None):
  """Exit code, stdout, stderr."""
  model = tiny.model_directory() if model is None else model
  code = main.main(
    ['lrm', 'sample', f'--model={model}', '--max_tokens=12', *map(str, flags)]
  )
  return code, *capsys.readouterr()


def _fails(capsys, *flags, model=None) -> str:
  """Runs a command that must end in one line; returns the line."""
  code, out, err = _sample(capsys, *flags, model=model)
  assert (code, out) == (2, '')
  assert err.startswith('lrm: error: ')
  assert err.count('\n') == 1
  return err


def _write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


def _read(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def _sample_file(capsys, tmp_path, rows, *flags):
  source = _write(tmp_path / 'in.jsonl', rows)
  target = tmp_path / 'out' / 'samples.jsonl'
  code, out, _ = _sample(
    capsys, f'--input={source}', f'--output={target}', '--n=2', *flags
  )
  assert code == 0
  return (
    _read(target),
    json.loads((target.parent / 'summary.json').read_text()),
    out,
  )


@pytest.mark.slow
def test_each_kind_of_prompt(capsys, tmp_path):
  tokenizer = tiny.tokenizer()
  inputs = [
    {'question': QUESTION, 'answer': '9', 'level': 1},
    {'id': 'raw', 'prompt': QUESTION},
    {'id': 17, 'prompt_ids': [9, 8, 7]},
  ]
  rows, summary, out = _sample_file(capsys, tmp_path, inputs, '--batch=1')
  assert [(row['id'], row['sample']) for row in rows] == [
    (name, g) for name in (0, 'raw', 17) for g in range(2)
  ]
  want = [
    prompts.encode_prompt(tokenizer, QUESTION),
    tokenizer.encode(QUESTION),
    [9, 8, 7],
  ]
  assert [row['prompt_ids'] for row in rows] == list(
    np.repeat(np.array(want, object), 2)
  )
  assert [set(row) for row in rows] == [
    set(KEYS) | extra
    for extra in ({'answer', 'level'}, set(), set())
    for _ in range(2)
  ]
  for row in rows:
    assert row['length'] == len(row['response_ids']) == len(row['logp'])
    assert 1 <= row['length'] <= 12
    assert 0 <= row['thinking_length'] <= row['length']
    assert row['response'] == tokenizer.decode(row['response_ids'])
    ended = row['response_ids'][-1] in tokenizer.eos_ids
    assert row['truncated'] == (not ended)
    assert max(row['logp']) < 0
  assert '6 responses' in out
  assert summary['verb'] == 'sample'
  assert summary['rows'] == 6
  for key, field in (
    ('response_tokens', 'length'),
    ('thinking_tokens', 'thinking_length'),
    ('truncated', 'truncated'),
  ):
    assert summary[key] == pytest.approx(np.mean([r[field] for r in rows]))
  assert summary['tokens_per_second'] > 0
  assert 0 <= summary['compile_seconds'] < summary['seconds']
  assert summary['device']


@pytest.mark.slow
def test_a_sample_does_not_depend_on_the_other_rows(capsys, tmp_path):
  rows = [{'id': name, 'question': QUESTION} for name in 'abc']
  alone, _, _ = _sample_file(capsys, tmp_path, rows[1:2])
  # A longer prompt pads all of them, and 'b' moves to the second batch.
  long = {'id': 'long', 'question': ' '.join([QUESTION] * 6)}
  both, _, _ = _sample_file(
    capsys, tmp_path, [rows[2], long, rows[0], rows[1]], '--batch=2'
  )
  width = [len(row['prompt_ids']) for row in both]
  assert max(width) > 2 * min(width)
  again = [row for row in both if row['id'] == 'b']
  assert len({tuple(row['response_ids']) for row in both}) > 4
  for old, new in zip(alone, again, strict=True):
    np.testing.assert_allclose(old.pop('logp'), new.pop('logp'), atol=1e-5)
    assert old == new
  # Another seed is another sample.
  other, _, _ = _sample_file(capsys, tmp_path, rows[1:2], '--seed=1')
  assert [r['response_ids'] for r in other] != [
    r['response_ids'] for r in alone
  ]


def test_greedy_samples_are_equal(capsys, tmp_path):
  rows, _, _ = _sample_file(
    capsys, tmp_path, [{'question': QUESTION}], '--temperature=0'
  )
  assert rows[0]['response_ids'] == rows[1]['response_ids']


def test_a_single_prompt_is_printed(capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  code, out, _ = _sample(capsys, f'--prompt={QUESTION}', '--n=2')
  assert code == 0
  assert list(tmp_path.iterdir()) == []
  target = tmp_path / 'samples.jsonl'
  code, _, _ = _sample(
    capsys, f'--prompt={QUESTION}', '--n=2', f'--output={target}'
  )
  assert code == 0
  expected = ''
  for row in _read(target):
    note = ', truncated' if row['truncated'] else ''
    expected += (
      f'{sample.printable(row["response"])}\nresponse: {row["length"]} tokens, '
      f'thinking {row["thinking_length"]}{note}\n'
    )
  assert out == expected


@pytest.fixture
def stopped(monkeypatch):
  """Ends every run where sampling would begin, with a word about it."""

  def stop(model, flag_values, *, samples, prompts, width):
    dtypes = {model.params['embedding'].dtype.name, model.config.compute_dtype}
    raise UserError(f'stopped with n={samples} in {"".join(dtypes)}.')

  monkeypatch.setattr(loading, 'make_sampler', stop)


def test_one_response_to_a_prompt_and_eight_to_a_row(capsys, tmp_path, stopped):
  assert 'with n=1' in _fails(capsys, f'--prompt={QUESTION}')
  source = _write(tmp_path / 'in.jsonl', [{'question': QUESTION}])
  flags = (f'--input={source}', f'--output={tmp_path / "out.jsonl"}')
  assert 'with n=8' in _fails(capsys, *flags)
  assert 'with n=3' in _fails(capsys, *flags, '--n=3')


def test_control_characters_are_not_printed():
  assert sample.printable('a\x1b[2J\tb\n\ud800é') == 'a\ufffd[2J\tb\n\ufffdé'


@pytest.mark.parametrize(
  'flags, message',
  [
    ([], 'no prompt; give --prompt=TEXT or --input=FILE'),
    (['--prompt=a', '--input=b'], 'both --prompt and --input'),
    (['--input=b.jsonl'], '--output is missing'),
    (['--prompt=a', '--output=.'], "--output='.': must be a file"),
    (['--prompt=a', '--output=x/summary.json'], 'not summary.json'),
    (['--prompt=a', '--output=a.file/x/out.jsonl'], 'is no folder'),
    (['--input=absent.jsonl', '--output=o.jsonl'], 'no such file'),
    (['--prompt=a', '--n=0'], '--n'),
    (['--prompt=a', '--temperature=-1'], '--temperature'),
    (['--prompt=a', '--temperature=1e-9'], '--temperature=1e-09'),
    (['--prompt=a', '--temperature=nan'], '--temperature=nan'),
    (['--prompt=a', '--max_tokens=0'], '--max_tokens'),
    (['--prompt=a', '--max_tokens=128'], "longer than the model's window"),
  ],
)
def test_mistakes_in_flags(capsys, tmp_path, monkeypatch, flags, message):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'a.file').write_text('')
  assert message in _fails(capsys, *flags)
  assert [path.name for path in tmp_path.iterdir()] == ['a.file']


@pytest.mark.parametrize(
  'rows, message',
  [
    ([], 'has no rows'),
    ([{'id': 'a'}], 'has no prompt'),
    ([{'question': 'q', 'prompt': 'p'}], 'has question and prompt'),
    ([{'question': 3}], 'question is 3; it must be a text'),
    ([{'prompt_ids': 'a'}], 'an array of token ids'),
    ([{'prompt_ids': []}], 'no tokens'),
    ([{'prompt': ''}], 'no tokens'),
    ([{'prompt_ids': [1, 10**6]}], '1000000 is no token id'),
    ([{'prompt_ids': [-1]}], '-1 is no token id'),
    ([{'prompt_ids': [True]}], 'True is no token id'),
    ([{'prompt_ids': [1.0]}], '1.0 is no token id'),
    ([{'prompt': '\ud800'}], 'half a surrogate pair'),
    ([{'id': None, 'prompt': 'a'}], 'id is None'),
    (
      [{'prompt': 'a', 'id': 1}, {'prompt': 'b', 'id': '1'}],
      "row 2: id is '1', as of row 1",
    ),
    (
      [{'prompt': 'a'}, {'id': 'x', 'prompt_ids': [9] * 117}],
      "id x: prompt longer than the model's window: 117 tokens",
    ),
  ],
)
def test_mistakes_in_rows(capsys, tmp_path, rows, message):
  source = _write(tmp_path / 'in.jsonl', rows)
  target = tmp_path / 'new' / 'out.jsonl'
  assert message in _fails(capsys, f'--input={source}', f'--output={target}')
  assert list(tmp_path.iterdir()) == [source]


def test_dtype_is_that_of_parameters_and_activations(capsys, stopped):
  flags = [f'--prompt={QUESTION}']
  assert 'in float32.' in _fails(capsys, *flags)
  assert 'in bfloat16.' in _fails(capsys, *flags, '--dtype=bfloat16')


def test_a_prompt_may_fill_the_window(capsys, tmp_path, stopped):
  source = _write(tmp_path / 'in.jsonl', [{'prompt_ids': [9] * 116}])
  flags = (f'--input={source}', f'--output={tmp_path / "out.jsonl"}')
  assert 'stopped with' in _fails(capsys, *flags)


def test_a_missing_model(capsys, tmp_path):
  absent = tmp_path / 'absent'
  assert 'no such directory' in _fails(capsys, '--prompt=a', model=absent)
