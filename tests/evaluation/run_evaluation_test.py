"""Evaluations of a run, with responses made by hand."""

import json
import types

import numpy as np
import pytest

from configs import default
from lrm_jax import jsonl
from lrm_jax.evaluation import (
  comparison,
  evaluator,
  run_evaluation,
  settings,
  stored,
)
from lrm_jax.rewards.pool import Grader
from lrm_jax.structs import Problem
from tests import tiny
from tests.objectives import reference

PROBLEMS = [
  Problem('a', 'Start=1', '2', level=1),
  Problem('b', 'Start=2', '3', level=2),
]
# Of each problem; 07 and 7 are one answer.
TEXTS = [
  ['=</think>\\boxed{2}', '=</think>\\boxed{07}', '=</think>\\boxed{7}'],
  ['=', '==</think>\\boxed{7}', '</think>\\boxed{3}'],
]
CORRECT = [[1, 0, 0], [0, 0, 1]]


def rollouts():
  tokenizer = tiny.tokenizer()
  ids = [[tokenizer.encode(text) for text in row] for row in TEXTS]
  length = np.array([[len(x) for x in row] for row in ids])
  padded = np.zeros((*length.shape, length.max()), np.int32)
  for at in np.ndindex(length.shape):
    padded[at][: length[at]] = ids[at[0]][at[1]]
  return reference.rollouts(
    CORRECT,
    length=length,
    response_ids=padded,
    sampler_logp=np.full(padded.shape, -0.5),
    truncated=[[False] * 3, [True, False, False]],
  )


@pytest.fixture(scope='module')
def grader():
  with Grader(1) as found:
    yield found


def make(grader, **changes):
  config = default.get_config()
  for key, value in changes.items():
    config.eval[key] = value
  return types.SimpleNamespace(
    config=config,
    tokenizer=tiny.tokenizer(),
    eval_collector=types.SimpleNamespace(grader=grader),
    eval_problems=PROBLEMS,
    sampler_mesh=None,
    params='params',
  )


@pytest.fixture
def calls(monkeypatch):
  """How often responses were sampled."""
  found = []

  def evaluate(*arguments, **keywords):
    found.append(keywords['description'])
    return rollouts()

  monkeypatch.setattr(evaluator, 'evaluate', evaluate)
  return found


def rows_of(tmp_path, name='after'):
  return jsonl.read_rows(tmp_path / 'evaluation' / f'{name}.jsonl.gz')


def test_every_sample_leaves_its_numbers(grader, calls, tmp_path):
  experiment = make(grader, samples=3)
  summary = run_evaluation.evaluate(experiment, tmp_path, 'after', 7)
  rows = rows_of(tmp_path)
  assert [(row['id'], row['sample']) for row in rows] == [
    (name, sample) for name in 'ab' for sample in range(3)
  ]
  found = [(row['extracted'], row['class'], row['correct']) for row in rows]
  assert found == [
    ('2', 0, True),
    ('07', 1, False),
    ('7', 1, False),
    (None, -1, False),
    ('7', 1, False),
    ('3', 0, True),
  ]
  expected = rollouts()
  for key in ('length', 'thinking_length', 'truncated'):
    values = getattr(expected, key).ravel().tolist()
    assert [row[key] for row in rows] == values
  assert summary['settings'] == settings.of_run(experiment.config, PROBLEMS)
  assert summary['identity'] == {
    'path': experiment.config.model.path,
    'step': 7,
    'seed': experiment.config.seed,
    'tokenizer': tiny.tokenizer().fingerprint,
  }
  assert summary['accuracy_se'] == 0


@pytest.mark.parametrize('responses', [0, 1, 2, 9])
def test_the_first_of_each_problem_keep_their_texts(
  grader, calls, tmp_path, responses
):
  experiment = make(grader, samples=3, responses=responses)
  run_evaluation.evaluate(experiment, tmp_path, 'after', 1)
  for row in rows_of(tmp_path):
    if row['sample'] >= responses:
      assert list(row) == list(stored.FIELDS)
      continue
    at = 'ab'.index(row['id']), row['sample']
    assert row['response'] == TEXTS[at[0]][at[1]]
    assert len(row['response_ids']) == len(row['logp']) == row['length']
    assert set(row['logp']) == {-0.5}
    assert row['question'] == PROBLEMS[at[0]].question
    assert row['answer'] == PROBLEMS[at[0]].answer
    assert row['prompt_ids']


def test_the_seam_reads_it(grader, calls, tmp_path):
  experiment = make(grader, samples=3)
  for name, step in (('before', 0), ('after', 7)):
    run_evaluation.evaluate(experiment, tmp_path, name, step)
  found = [comparison.read(x) for x in comparison.find(str(tmp_path))]
  assert [x.identity['step'] for x in found] == [0, 7]
  (row,) = comparison.compare(found, draws=50)
  assert row.difference.value == 0
  assert found[0].answer_class.tolist() == [[0, 1, 1], [-1, 1, 0]]
  # Words of the first response alone: boxed and 2.
  assert found[0].words[:, 1:].tolist() == [[-1, -1]] * 2
  assert found[0].words[0, 0] == 3


def test_rows_are_there_before_the_numbers(
  grader, calls, tmp_path, monkeypatch
):
  """A kill in between: the next start does it again."""
  experiment = make(grader, samples=3)

  def stop(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(run_evaluation.run_folder, 'write_summary', stop)
    with pytest.raises(KeyboardInterrupt):
      run_evaluation.evaluate(experiment, tmp_path, 'after', 7)
  folder = tmp_path / 'evaluation'
  assert [x.name for x in folder.iterdir()] == ['after.jsonl.gz']
  content = (folder / 'after.jsonl.gz').read_bytes()
  run_evaluation.evaluate(experiment, tmp_path, 'after', 7)
  assert (folder / 'after.jsonl.gz').read_bytes() == content
  # And once they are there, nothing is sampled or written.
  before = {x: x.stat().st_mtime_ns for x in folder.iterdir()}
  again = run_evaluation.evaluate(experiment, tmp_path, 'after', 7)
  assert again == json.loads((folder / 'after.json').read_text())
  assert len(calls) == 2
  assert {x: x.stat().st_mtime_ns for x in folder.iterdir()} == before


def test_only_the_first_process_writes(grader, calls, tmp_path, monkeypatch):
  """Of several, the others read what it has told them."""
  experiment = make(grader, samples=3)
  told = [None, {'step': 7}]
  monkeypatch.setattr(
    run_evaluation.distributed, 'from_main', lambda function: told.pop(0)
  )
  found = run_evaluation.evaluate(experiment, tmp_path, 'after', 7)
  assert found == {'step': 7}
  assert not (tmp_path / 'evaluation').exists()
