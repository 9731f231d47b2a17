"""Other data, or another tokenizer, has another digest; spaces do not."""

import dataclasses
import hashlib
import json

import pytest

from lrm_jax.data import fingerprints, sources
from lrm_jax.structs import Problem
from lrm_jax.tokenization import base
from tests.tokenization import tiny

ROWS = [
  {'question': f'What is 1 + {i} ?', 'answer': str(i + 1), 'level': i}
  for i in range(4)
]


def of_file(tmp_path, rows, **options):
  path = tmp_path / 'd.jsonl'
  path.write_text('\n'.join(json.dumps(row, **options) for row in rows))
  return fingerprints.of_problems(sources.load_problems(str(path)))


def test_every_field_and_the_order_count(tmp_path):
  known = of_file(tmp_path, ROWS)
  assert len(known) == 64
  changed = [
    ROWS[::-1],
    ROWS[:-1],
    *(
      [ROWS[0] | {name: value}, *ROWS[1:]]
      for name, value in {
        'id': 'another',
        'question': 'What is 2 + 0 ?',
        'answer': '2',
        'level': 3,
        'domain': 'algebra',
      }.items()
    ),
  ]
  assert {f.name for f in dataclasses.fields(Problem)} == {
    *('id', 'question', 'answer', 'level', 'domain', 'task')
  }
  found = {of_file(tmp_path, rows) for rows in changed}
  assert len(found - {known}) == len(changed)


def test_the_task_counts_and_its_absence_changes_nothing():
  """Checkpoints that are older than tasks are still of the same problems."""

  def digest(**fields):
    problem = Problem('a', 'q', '1', **fields)
    return fingerprints.of_problems(
      sources.ProblemSource('x', 1, lambda _: problem)
    )

  assert len({digest(), digest(task='{"a":1}'), digest(task='{"a":2}')}) == 3
  row = json.dumps(['a', 'q', '1', 0, ''])
  assert digest() == hashlib.sha256(f'1\n{row}\n'.encode()).hexdigest()


def test_what_nobody_reads_does_not_count(tmp_path):
  noted = [row | {'note': 'read it twice'} for row in ROWS]
  spaced = of_file(tmp_path, noted, separators=(' ,\t', ' : '))
  assert spaced == of_file(tmp_path, ROWS)


def test_generated_problems_are_told_by_their_first(monkeypatch):
  """A million of them would take half a minute at every start."""
  generated = sources.load_problems('chain_arithmetic:train:2-4')
  reads = []

  def read(index):
    reads.append(index)
    return generated.read(index)

  counted = dataclasses.replace(generated, read=read)
  found = fingerprints.of_problems(counted)
  assert len(reads) == fingerprints.GENERATED < len(generated)
  assert found == fingerprints.of_problems(generated)
  others = (
    sources.load_problems('chain_arithmetic:train:2-5'),
    sources.load_problems('chain_arithmetic:train:2-4', limit=1001),
    sources.load_problems('chain_arithmetic:heldout:2-4'),
  )
  assert found not in map(fingerprints.of_problems, others)


def test_a_file_is_read_whole(tmp_path, monkeypatch):
  monkeypatch.setattr(fingerprints, 'GENERATED', 2)
  other = [*ROWS[:-1], ROWS[-1] | {'answer': '9'}]
  assert of_file(tmp_path, other) != of_file(tmp_path, ROWS)


def test_demonstrations():
  rows = [{'question': 'a', 'response': 'b'}, {'question': 'c', 'response': ''}]
  found = fingerprints.of_demonstrations
  assert found(rows) == found([row | {'source': 'x'} for row in rows])
  others = [
    rows[::-1],
    rows[:1],
    [{'question': 'ab', 'response': ''}, rows[1]],
  ]
  assert found(rows) not in map(found, others)


@pytest.mark.parametrize('write', [tiny.write_hf, tiny.write_spm])
def test_a_tokenizer(tmp_path, write):
  """What makes its prompts and its ids; nothing else beside it."""
  write(tmp_path)
  path = tmp_path / 'tokenizer_config.json'
  stated = json.loads(path.read_text()) if path.exists() else {}

  def state(**changes):
    path.write_text(json.dumps(stated | changes))
    return base.load(tmp_path).fingerprint

  known = state()
  assert state(model_max_length=7) == known
  template = state(chat_template=tiny.R1_TEMPLATE)
  assert template not in (known, state(chat_template=tiny.QWEN_TEMPLATE))
  assert state() == known
  (tmp_path / 'generation_config.json').write_text('{"eos_token_id": 9}')
  ended = state()
  assert ended != known
  (tmp_path / 'generation_config.json').unlink()
  write(tmp_path, ['<think>', '</think>', '<other>'])
  assert state() not in (known, ended)
