"""`lrm score`: right numbers whatever the batch; mistakes are named."""

import json
import math

import numpy as np
import pytest
from absl import flags

from lrm_jax.checkpoints import huggingface
from lrm_jax.commands import score
from lrm_jax.errors import UserError
from lrm_jax.tokenization import base
from tests.models import tiny
from tests.tokenization import tiny as tiny_tokenizer

MAX_POSITIONS = 40


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  """(directory, config, params, tokenizer) of a random model."""
  source = tiny_tokenizer.write_spm(tmp_path_factory.mktemp('tokenizer'))
  tokenizer = base.load(source)
  config = tiny.make_config(
    vocab_size=tokenizer.vocab_size, max_positions=MAX_POSITIONS
  )
  params = tiny.make_params(config)
  directory = tmp_path_factory.mktemp('parent') / 'model'
  huggingface.save(directory, config, params, tokenizer)
  return directory, config, params, tokenizer


def run(model, tmp_path, rows, **changes):
  """The rows written and the summary."""
  source, target = tmp_path / 'in.jsonl', tmp_path / 'out' / 'scores.jsonl'
  source.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  values = flags.FlagValues()
  score.define_flags(values)
  paths = {'model': model[0], 'input': source, 'output': target} | changes
  values(['lrm', *(f'--{name}={value}' for name, value in paths.items())])
  score.run(values)
  written = [json.loads(line) for line in target.read_text().splitlines()]
  return written, json.loads((target.parent / 'summary.json').read_text())


def refusal(model, tmp_path, rows, changes=None):
  with pytest.raises(UserError) as error:
    run(model, tmp_path, rows, **({} if changes is None else changes))
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'out').exists()
  return str(error.value)


def expected_logp(model, ids):
  """From the logits of the sequence on its own, in float64."""
  _, config, params, _ = model
  width = MAX_POSITIONS + 1  # a shape that the command never uses
  logits = tiny.forced_logits(config, params, ids, width).astype(float)
  total = np.log(np.exp(logits).sum(-1))
  return [logits[t, ids[t + 1]] - total[t] for t in range(len(ids) - 1)]


def test_numbers_and_order(model, tmp_path, capsys):
  """Lengths in both buckets, more rows than a batch, one token, the window."""
  lengths = (MAX_POSITIONS, 3, 32, 1, 33)
  size = model[1].vocab_size
  ids = [x.tolist() for x in tiny.sequences(lengths, vocab_size=size)]
  rows = [{'id': str(i), 'ids': x} for i, x in enumerate(ids)]
  written, summary = run(model, tmp_path, rows, batch=2)
  assert [{k: row[k] for k in ('id', 'ids')} for row in written] == rows
  for row in written:
    assert len(row['logp']) == len(row['ids']) - 1
    expected = expected_logp(model, row['ids'])
    np.testing.assert_allclose(row['logp'], expected, atol=1e-5)
    assert row['logp'] == np.float32(row['logp']).astype(float).tolist()
  assert summary['verb'] == 'score'
  assert (summary['rows'], summary['tokens']) == (5, sum(lengths))
  assert summary['seconds'] > summary['compile_seconds'] > 0
  assert summary['tokens_per_second'] > 0
  printed = capsys.readouterr().out
  mean = np.mean(np.concatenate([row['logp'] for row in written]))
  assert f'mean logp {mean:.4f} nats' in printed
  assert 'scores.jsonl' in printed and 'summary.json' in printed


def test_text_is_encoded_in_two_parts(model, tmp_path):
  """`ch` + `eck` must not become the pieces of `check`; ids outrank text."""
  text = {'prompt': 'Let me ch', 'response': 'eck that again . wait</s>'}
  written, summary = run(
    model, tmp_path, [text, text | {'ids': [5, 6, 7]}], batch=2
  )
  tokenizer = model[3]
  ids = tokenizer.encode(text['prompt']) + tokenizer.encode(text['response'])
  assert ids != tokenizer.encode(text['prompt'] + text['response'])
  assert ids[-1] == tokenizer.eos_ids[0]
  np.testing.assert_allclose(
    written[0]['logp'], expected_logp(model, ids), atol=1e-5
  )
  np.testing.assert_allclose(
    written[1]['logp'], expected_logp(model, [5, 6, 7]), atol=1e-5
  )
  assert summary['tokens'] == len(ids) + 3


def test_no_rows(model, tmp_path):
  written, summary = run(model, tmp_path, [])
  assert (written, summary['rows'], summary['tokens']) == ([], 0, 0)
  assert summary['tokens_per_second'] is None


@pytest.mark.parametrize(
  ('row', 'words'),
  [
    ({'ids': []}, ['row 2', 'at least one']),
    ({'ids': 'abc'}, ['row 2', 'array']),
    ({'ids': [1, -1]}, ['row 2', '-1', '[0, ']),
    ({'ids': [1, 10_000]}, ['row 2', '10000', '[0, ']),
    ({'ids': [1, 2.5]}, ['row 2', '2.5', 'integers']),
    ({'ids': [1, True]}, ['row 2', 'True', 'integers']),
    (
      {'ids': [1] * (MAX_POSITIONS + 1)},
      ['row 2', f'{MAX_POSITIONS + 1} tokens', f'={MAX_POSITIONS}'],
    ),
    ({'prompt': 'What'}, ['row 2', 'response', 'ids']),
    ({'prompt': 3, 'response': 'x'}, ['row 2', 'prompt']),
    ({'prompt': '', 'response': ''}, ['row 2', 'at least one']),
  ],
  ids=lambda x: str(x)[:20],
)
def test_rows_that_are_refused(model, tmp_path, row, words):
  message = refusal(model, tmp_path, [{'ids': [1, 2]}, row])
  assert all(word in message for word in words), message


def test_files_that_are_refused(model, tmp_path):
  rows = [{'ids': [1, 2]}]
  message = refusal(model, tmp_path, rows, {'input': tmp_path / 'nothing'})
  assert 'nothing: no such file' in message
  message = refusal(model, tmp_path, rows, {'output': tmp_path})
  assert '--output' in message
  message = refusal(
    model, tmp_path, rows, {'output': tmp_path / 'summary.json'}
  )
  assert '--output' in message and 'summary.json' in message
  (tmp_path / 'file').write_text('')
  message = refusal(model, tmp_path, rows, {'output': tmp_path / 'file' / 'x'})
  assert '--output' in message
  assert 'nowhere' in refusal((tmp_path / 'nowhere',), tmp_path, rows)


def test_half_precision(model, tmp_path):
  """Close to float32, not equal."""
  ids = list(range(1, 30))
  (row,), _ = run(model, tmp_path, [{'ids': ids}], dtype='bfloat16')
  error = np.abs(np.subtract(row['logp'], expected_logp(model, ids))).max()
  assert 1e-5 < error < 0.2


def test_few_programs_are_compiled(model):
  """Lengths 1 to 40 share two widths: 32, and 40, the window."""
  _, config, params, _ = model
  scorer = score._Scorer(config, params, batch=8)
  widths = {}
  for indices, width in scorer._batches([[0] * n for n in range(1, 41)]):
    assert len(indices) <= 8
    widths |= {index + 1: width for index in indices}
  assert widths == {n: 32 if n <= 32 else MAX_POSITIONS for n in range(1, 41)}


def test_logarithms_are_natural(tmp_path):
  """Four equally likely tokens score -ln 4 each."""
  config = tiny.make_config(vocab_size=4, tie_embeddings=False)
  params = tiny.make_params(config)
  params = params | {'head': 0 * params['head']}
  huggingface.save(tmp_path / 'even', config, params)
  ids = [{'ids': [0, 1, 2, 3]}]
  written, _ = run((tmp_path / 'even',), tmp_path, ids, batch=1)
  np.testing.assert_allclose(written[0]['logp'], [-math.log(4)] * 3, rtol=1e-6)
