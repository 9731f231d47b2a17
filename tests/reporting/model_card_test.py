"""The model card: the numbers of the run, in Markdown."""

import pytest

from lrm_jax.reporting import model_card


def _summary(with_shortest=True):
  rows = [
    {
      'level': 2,
      'n': 128,
      'accuracy': 0.9375,
      'response_tokens': 61.25,
      'truncated': 0.0,
      'shortest_tokens': 17,
    },
    {
      'level': 8,
      'n': 120,
      'accuracy': 0.5,
      'response_tokens': 212.0,
      'truncated': 0.0625,
      'shortest_tokens': 53,
    },
  ]
  if not with_shortest:
    rows = [
      {k: v for k, v in row.items() if k != 'shortest_tokens'} for row in rows
    ]
  return {
    'parameters': 1234567,
    'accuracy': 0.7188,
    'response_tokens': 136.58,
    'truncated': 0.0313,
    'by_level': rows,
    'seconds': 93.0,
    'device': 'cpu',
    'config': {
      'eval': {
        'problems': 31,
        'samples': 8,
        'max_tokens': 384,
        'temperature': 1.0,
      },
      'data': {'train': 'my_traces.jsonl', 'eval': 'chain_arithmetic'},
    },
  }


def test_headline(tmp_path):
  headline = model_card.write(_summary(), tmp_path / 'README.md')
  assert headline == (
    'accuracy 0.719, 136.6 response tokens, 3.1 % truncated at 384'
  )


def test_the_card_holds_every_number(tmp_path):
  path = tmp_path / 'README.md'
  headline = model_card.write(_summary(), path)
  text = path.read_text('utf-8')
  assert text.startswith('# Model card\n\n')
  # Paragraphs are wrapped by hand; what they say is on any lines.
  flowing = ' '.join(text.split())
  for part in (
    '1,234,567 parameters',
    'Measured on 31 held-out problems with 8 samples each at temperature 1.0: '
    f'{headline}.',
    'Trained on `my_traces.jsonl`, evaluated on `chain_arithmetic`',
    '1.6 minutes on cpu.',
    'answers in `\\boxed{}`.',
  ):
    assert part in flowing


def _table(text):
  return [line for line in text.splitlines() if line.startswith('|')]


def test_one_row_a_level(tmp_path):
  path = tmp_path / 'README.md'
  model_card.write(_summary(), path)
  assert _table(path.read_text('utf-8')) == [
    '| level | samples | accuracy | response tokens | truncated '
    '| shortest correct trace |',
    '| :--- | ---: | ---: | ---: | ---: | ---: |',
    '| 2 | 128 | 0.938 | 61.2 | 0.000 | 17 |',
    '| 8 | 120 | 0.500 | 212.0 | 0.062 | 53 |',
  ]


def test_other_data_has_no_shortest_trace(tmp_path):
  path = tmp_path / 'README.md'
  model_card.write(_summary(with_shortest=False), path)
  assert _table(path.read_text('utf-8')) == [
    '| level | samples | accuracy | response tokens | truncated |',
    '| :--- | ---: | ---: | ---: | ---: |',
    '| 2 | 128 | 0.938 | 61.2 | 0.000 |',
    '| 8 | 120 | 0.500 | 212.0 | 0.062 |',
  ]


def test_a_summary_without_evaluation_is_refused(tmp_path):
  summary = _summary()
  del summary['by_level']
  with pytest.raises(KeyError, match='by_level'):
    model_card.write(summary, tmp_path / 'README.md')
  assert not (tmp_path / 'README.md').exists()
