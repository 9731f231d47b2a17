"""The length experiment: its chains, its verdicts and its table."""

import importlib.util
import pathlib
import random
import sys

import pytest

from lrm_jax import configuration, sft
from lrm_jax.data.synthetic import chain_arithmetic

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / 'experiments' / 'extrapolation'


def load(name):
  """A script of the folder, which is no package."""
  spec = importlib.util.spec_from_file_location(
    f'extrapolation_{name}', FOLDER / f'{name}.py'
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


data, table = load('data'), load('table')


@pytest.fixture
def run(monkeypatch):
  """The script, which imports its neighbours."""
  monkeypatch.setitem(sys.modules, 'data', data)
  monkeypatch.setitem(sys.modules, 'table', table)
  return load('run')


def test_labels_change_and_nothing_else():
  question, response = 'Start=3 a:+5 b:*2', ' a:3+5=8 b:8*2=16'
  assert data.relabel(question, 'cl') == 'Start=3 c:+5 l:*2'
  assert data.relabel(response, 'cl') == ' c:3+5=8 l:8*2=16'
  # A label that is itself replaced is replaced once.
  assert data.relabel('a:+1 b:+2', 'bc') == 'b:+1 c:+2'


@pytest.mark.parametrize('level', [1, 4, 8])
def test_rows_are_right_and_alike_at_every_length(level):
  rows = data.rows('heldout', level, 80)
  assert len({row['id'] for row in rows}) == 80
  are_shuffled = False
  for row in rows:
    question, response = row['question'], row['response']
    assert data.first_mistake(question, response) == ''
    assert response.endswith(f'</think>\\boxed{{{row["answer"]}}}')
    start, *steps = question.split()
    assert len({step.split(':')[0] for step in steps}) == level
    # Worked off in the order of the alphabet, whatever that of the question.
    ordered = ' '.join([start, *sorted(steps)])
    are_shuffled |= ordered != question
    first, steps = chain_arithmetic.parse(ordered)
    values = [first]
    for sign, operand in steps:
      values.append(chain_arithmetic.OPERATIONS[sign](values[-1], operand))
    assert set(values) <= set(data.VALUES)
    assert values[-1] == int(row['answer'])
  assert are_shuffled == (level > 1)
  # Every label occurs, whatever the length.
  text = ' '.join(row['question'] for row in rows)
  assert all(f'{label}:' in text for label in chain_arithmetic.LABELS)


@pytest.mark.parametrize(
  ('thoughts', 'mistake'),
  [
    (' c:3+5=8 l:8*2=16</think>\\boxed{16}', ''),
    (' l:3*2=6 c:6+5=11</think>\\boxed{11}', 'label'),
    (' c:3+5=8 l:3*2=6</think>\\boxed{6}', 'value'),
    (' c:3+5=8 l:8+5=13</think>\\boxed{13}', 'operation'),
    (' c:3+5=9 l:9*2=18</think>\\boxed{18}', 'result'),
    (' c:3+5=8</think>\\boxed{8}', 'stop'),
    (' c:3+5=8 l:8*2=16 l:16*2=32</think>\\boxed{32}', 'more'),
    (' c:3+5=8 l:8*2=16</think>\\boxed{8}', 'answer'),
    (' c:3+5=8 l:8*2=16', 'answer'),
    (' c:3+5*=8', 'form'),
    ('', 'stop'),
  ],
)
def test_the_first_mistake(thoughts, mistake):
  for question in ('Start=3 c:+5 l:*2', 'Start=3 l:*2 c:+5'):
    assert data.first_mistake(question, thoughts) == mistake


def test_a_draw_is_increasing_and_may_be_any():
  drawn = {data.draw(2, random.Random(seed)) for seed in range(2000)}
  assert len(drawn) == 66  # 12 choose 2
  assert all(first < second for first, second in drawn)


def test_every_scheme_is_a_config_that_can_start(run, tmp_path):
  data.write(tmp_path / 'train.jsonl', 'train', (1, 4), 2)
  for flags in run.SCHEMES.values():
    config = configuration.load(FOLDER / 'config.py')
    for flag in flags:
      key, value = flag.removeprefix('--config.').split('=')
      with config.unlocked():
        config.update_from_flattened_dict({key: configuration_value(value)})
    config.data.train = str(tmp_path / 'train.jsonl')
    sft.check(config)


def configuration_value(text):
  """What a flag says."""
  return int(text) if text.isdigit() else text


def test_the_table_is_the_mean_of_the_seeds():
  def result(scheme, seed, accuracy):
    rows = [
      {'level': level, 'n': 100, 'accuracy': p, 'response_tokens': 20.0 + seed}
      for level, p in ((4, 1.0), (8, accuracy))
    ]
    return {'scheme': scheme, 'seed': seed, 'by_level': rows}

  text = table.render(
    [result('rope', 0, 0.4), result('rope', 1, 0.6), result('alibi', 0, 0.0)]
  )
  header, _, rope, alibi = text.split('\n')
  assert '4 steps' in header and 'response tokens at 8' in header
  # sqrt(0.5 * 0.5 / 100) = 0.05
  assert rope == '| rope | 2 | 100.0 ± 0.0 | 50.0 ± 5.0 | 20.5 |'
  assert alibi == '| alibi | 1 | 100.0 ± 0.0 | 0.0 ± 0.0 | 20.0 |'
