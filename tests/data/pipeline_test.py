"""The stream resumes anywhere; prompts are encoded whole or refused."""

import json

import numpy as np
import pytest

from lrm_jax.data import pipeline, prompts
from lrm_jax.errors import UserError
from lrm_jax.structs import Problem
from lrm_jax.tokenization import base
from tests.tokenization import tiny

SOURCE = [Problem(f'p{i}', f'What is 1 + {i} ?', str(i)) for i in range(10)]


def ids_of(stream, batches):
  return [p.id for _ in range(batches) for p in stream.next()]


def make(seed=1, batch_size=4, source=SOURCE, **options):
  return pipeline.ProblemStream(
    source, batch_size=batch_size, seed=seed, **options
  )


def test_each_epoch_is_a_permutation_of_its_own():
  ids = ids_of(make(batch_size=5), 8)
  epochs = [tuple(ids[i : i + 10]) for i in range(0, 40, 10)]
  assert [set(epoch) for epoch in epochs] == [{p.id for p in SOURCE}] * 4
  assert len(set(epochs)) == 4


def test_epochs_are_joined_across_batches():
  ids = ids_of(make(batch_size=4), 5)
  assert sorted(ids) == sorted([p.id for p in SOURCE] * 2)


def test_order_follows_the_seed():
  assert ids_of(make(seed=1), 5) == ids_of(make(seed=1), 5)
  assert ids_of(make(seed=1), 5) != ids_of(make(seed=2), 5)


def test_neighbouring_seeds_share_no_epoch():
  epochs = [
    tuple(ids_of(stream, 1))
    for stream in (make(seed=seed, batch_size=10) for seed in (1, 2, 3))
    for _ in range(3)
  ]
  assert len(set(epochs)) == 9
  assert len(ids_of(make(seed=2**40), 1)) == 4


def test_without_shuffle_the_order_is_the_source():
  stream = make(batch_size=4, shuffle=False)
  expected = [SOURCE[i % 10].id for i in range(20)]
  assert ids_of(stream, 5) == expected


@pytest.mark.parametrize('shuffle', [True, False])
@pytest.mark.parametrize('cut', [0, 1, 4, 7])
def test_resume_at_any_cut(cut, shuffle):
  whole = ids_of(make(batch_size=3, shuffle=shuffle), 12)
  first = make(batch_size=3, shuffle=shuffle)
  head = ids_of(first, cut)
  state = json.loads(json.dumps(first.get_state()))
  second = make(batch_size=3, shuffle=shuffle)
  second.next()  # whatever it did before must not matter
  second.set_state(state)
  assert head + ids_of(second, 12 - cut) == whole
  assert second.get_state() == {**state, 'next_batch': 12}


@pytest.mark.parametrize(
  ('other', 'key'),
  [
    ({'seed': 2}, 'seed'),
    ({'batch_size': 5}, 'batch_size'),
    ({'source': SOURCE[:9]}, 'source_length'),
    ({'shuffle': False}, 'shuffle'),
  ],
)
def test_state_of_another_stream_is_refused(other, key):
  with pytest.raises(UserError, match=f'data {key} is .*; restore it'):
    make().set_state(make(**other).get_state())


def test_source_smaller_than_a_batch():
  ids = ids_of(make(source=SOURCE[:3], batch_size=7), 3)
  assert len(ids) == 21
  assert {ids.count(p.id) for p in SOURCE[:3]} == {7}


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'source': []}, 'data set is empty'),
    ({'batch_size': 0}, 'batch size is 0'),
    ({'seed': -1}, 'data seed is -1'),
  ],
)
def test_unusable_settings(options, message):
  with pytest.raises(UserError, match=message):
    make(**options)


def test_encode_makes_the_batch():
  stream = make(encode=lambda problems: [p.id for p in problems])
  plain = make()
  for _ in range(4):
    assert stream.next() == [p.id for p in plain.next()]


def test_failed_encode_does_not_move_the_position():
  broken = True

  def encode(problems):
    if broken:
      raise UserError('too long')
    return problems

  stream = make(encode=encode)
  with pytest.raises(UserError, match='too long'):
    stream.next()
  broken = False
  assert stream.next() == make().next()


@pytest.fixture
def tokenizer(tmp_path):
  return base.load(tiny.write_hf(tmp_path))


def test_encode_problems(tokenizer):
  problems = [Problem('a', 'wait', '1'), Problem('b', 'What is 1 + 2 ?', '3')]
  ids, length = pipeline.encode_problems(tokenizer, problems, 40)
  assert ids.shape == (2, 40)
  assert ids.dtype == length.dtype == np.int32
  for row, count, problem in zip(ids, length, problems, strict=True):
    expected = prompts.encode_prompt(tokenizer, problem.question)
    assert row[:count].tolist() == expected
    assert (row[count:] == tokenizer.pad_id).all()
  _, longer = pipeline.encode_problems(tokenizer, problems, 40, instruction='1')
  assert (longer > length).all()


def test_too_long_prompts_are_refused(tokenizer):
  problem = Problem('gsm8k-1', 'What is 1 + 2 ?', '3')
  count = len(prompts.encode_prompt(tokenizer, problem.question))
  ids, length = pipeline.encode_problems(tokenizer, [problem], count)
  assert ids.shape == (1, count) and length.tolist() == [count]
  expected = (
    f'problem gsm8k-1: prompt has {count} tokens, data.max_prompt_tokens '
    f'allows {count - 1}; raise it or filter'
  )
  with pytest.raises(UserError, match=expected):
    pipeline.encode_problems(tokenizer, [problem], count - 1)
