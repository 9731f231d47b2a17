"""Demonstrations: functions of their index."""

import json

import pytest

from lrm_jax.data import demonstrations, prompts
from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.errors import UserError
from tests import tiny

LEVELS = (2, 3, 4)
STYLE = chain_arithmetic.Style(slip=0.1, recheck=0.4, again=0.4)


def _traces(seed=0, style=STYLE, levels=LEVELS, max_tokens=60):
  return demonstrations.chain_traces(
    tiny.tokenizer(), style, levels=levels, max_tokens=max_tokens, seed=seed
  )


def _write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def test_traces_end_by_themselves_within_their_room():
  tokenizer = tiny.tokenizer()
  source = _traces()
  lengths = []
  for index in range(60):
    prompt, response = source(index)
    problem = chain_arithmetic.make_problem(index, 'train', LEVELS)
    assert prompt == prompts.encode_prompt(tokenizer, problem.question)
    assert response[-1] == tokenizer.eos_ids[0]
    assert not set(tokenizer.eos_ids) & set(response[:-1])
    text = tokenizer.decode(response)
    assert text.startswith(' a:')
    assert text.endswith('}')
    lengths.append(len(response))
  assert max(lengths) <= 60
  # Without the limit some are longer, so that it did something.
  free = _traces(max_tokens=1000)
  assert max(len(free(index)[1]) for index in range(60)) > 60


def test_traces_depend_on_index_and_seed_alone():
  source = _traces()
  ahead = [source(index) for index in (5, 3, 3, 4)]
  fresh = _traces()
  assert ahead == [fresh(index) for index in (5, 3, 3, 4)]
  other = _traces(seed=1)
  prompts_of = lambda source: [source(index)[0] for index in range(20)]
  responses_of = lambda source: [source(index)[1] for index in range(20)]
  assert prompts_of(other) == prompts_of(source)
  assert responses_of(other) != responses_of(source)


def test_traces_that_never_fit_are_refused():
  shortest = demonstrations.shortest_tokens(tiny.tokenizer())(4)
  plain = chain_arithmetic.SHORTEST
  assert _traces(style=plain, levels=(4,), max_tokens=shortest)(0)
  source = _traces(style=plain, levels=(4,), max_tokens=shortest - 1)
  with pytest.raises(UserError) as info:
    source(0)
  assert str(info.value) == (
    'max_tokens=28: none of 1000 traces of level 4 in this style is so '
    'short; raise it'
  )


@pytest.mark.parametrize('level', range(2, 9))
def test_shortest_tokens(level):
  r"""6 a step (label, value, sign, operand, =, value), 5 behind them.

  These are `</think>`, `\boxed{`, the value, `}` and the end of sequence.
  """
  shortest = demonstrations.shortest_tokens(tiny.tokenizer())
  assert shortest(level) == 6 * level + 5


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(tmp_path):
  rows = [
    {'question': f'Start={i} a:+1', 'response': f' a:{i}+1={i + 1}'}
    for i in range(12)
  ]
  path = _write(tmp_path / 'rows.jsonl', rows)
  tokenizer = tiny.tokenizer()
  rows = demonstrations.read_jsonl(path)
  source = demonstrations.from_rows(tokenizer, rows, seed=0)
  expected = {
    (
      tuple(prompts.encode_prompt(tokenizer, row['question'])),
      (*tokenizer.encode(row['response']), tokenizer.eos_ids[0]),
    )
    for row in rows
  }
  epochs = [
    [tuple(map(tuple, source(12 * epoch + i))) for i in range(12)]
    for epoch in range(3)
  ]
  for epoch in epochs:
    assert set(epoch) == expected
  assert epochs[0] != epochs[1] != epochs[2]
  # Any index may be asked for first.
  again = demonstrations.from_rows(tokenizer, rows, seed=0)
  assert tuple(map(tuple, again(25))) == epochs[2][1]
  assert tuple(map(tuple, again(3))) == epochs[0][3]
  other = demonstrations.from_rows(tokenizer, rows, seed=1)
  assert [tuple(map(tuple, other(i))) for i in range(12)] != epochs[0]


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (
      '{"question": "q", "response": "r"}\n\n{"question": "q"}\n',
      ":3: no field 'response' among ['question']; every row needs question "
      'and response',
    ),
    (
      '{"question": "q", "response": 5}\n',
      ":1: field 'response' is a JSON number; it must be a string",
    ),
    ('\n', ': has no rows; give at least one'),
  ],
)
def test_mistakes_in_a_file(tmp_path, text, message):
  path = tmp_path / 'rows.jsonl'
  path.write_text(text)
  with pytest.raises(UserError) as info:
    demonstrations.read_jsonl(str(path))
  assert str(info.value) == f'{path}{message}'
