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


def ids_of(stream, batches, size=4):
  return [p.id for _ in range(batches) for p in stream.take(size)]


def make(seed=1, source=SOURCE, **options):
  return pipeline.ProblemStream(source, seed=seed, **options)


def test_each_epoch_is_a_permutation_of_its_own():
  ids = ids_of(make(), 8, 5)
  epochs = [tuple(ids[i : i + 10]) for i in range(0, 40, 10)]
  assert [set(epoch) for epoch in epochs] == [{p.id for p in SOURCE}] * 4
  assert len(set(epochs)) == 4


def test_epochs_are_joined_across_batches():
  ids = ids_of(make(), 5)
  assert sorted(ids) == sorted([p.id for p in SOURCE] * 2)


def test_order_follows_the_seed():
  assert ids_of(make(seed=1), 5) == ids_of(make(seed=1), 5)
  assert ids_of(make(seed=1), 5) != ids_of(make(seed=2), 5)


def test_neighbouring_seeds_share_no_epoch():
  epochs = [
    tuple(ids_of(stream, 1, 10))
    for stream in (make(seed=seed) for seed in (1, 2, 3))
    for _ in range(3)
  ]
  assert len(set(epochs)) == 9
  assert len(ids_of(make(seed=2**40), 1)) == 4


def test_without_shuffle_the_order_is_the_source():
  stream = make(shuffle=False)
  expected = [SOURCE[i % 10].id for i in range(20)]
  assert ids_of(stream, 5) == expected


@pytest.mark.parametrize('shuffle', [True, False])
@pytest.mark.parametrize('cut', [0, 1, 4, 7])
def test_resume_at_any_cut(cut, shuffle):
  whole = ids_of(make(shuffle=shuffle), 12)
  first = make(shuffle=shuffle)
  head = ids_of(first, cut)
  state = json.loads(json.dumps(first.get_state()))
  second = make(shuffle=shuffle)
  second.take(2)  # whatever it did before must not matter
  second.set_state(state)
  assert head + ids_of(second, 12 - cut) == whole
  assert second.get_state() == {**state, 'position': 48}


@pytest.mark.parametrize(
  ('other', 'key'),
  [
    ({'seed': 2}, 'seed'),
    ({'source': SOURCE[:9]}, 'source_length'),
    ({'shuffle': False}, 'shuffle'),
    ({'curriculum': 'other'}, 'curriculum'),
  ],
)
def test_state_of_another_stream_is_refused(other, key):
  with pytest.raises(UserError, match=f'data {key} is .*; restore it'):
    make().set_state(make(**other).get_state())


def test_source_smaller_than_a_batch():
  ids = ids_of(make(source=SOURCE[:3]), 3, 7)
  assert len(ids) == 21
  assert {ids.count(p.id) for p in SOURCE[:3]} == {7}


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'source': []}, 'data set is empty'),
    ({'seed': -1}, 'data seed is -1'),
  ],
)
def test_unusable_settings(options, message):
  with pytest.raises(UserError, match=message):
    make(**options)


def test_how_many_are_taken_at_a_time_does_not_matter():
  assert ids_of(make(), 6, 2) == ids_of(make(), 1, 12)


@pytest.mark.slow
def test_chances_are_proportions():
  def chance(problem):
    return {'p0': 0.0, 'p1': 1.0}.get(problem.id, 0.25)

  ids = ids_of(make(chance=chance), 1, 1000)
  assert ids.count('p0') == 0
  # Per epoch p1 is taken once and the other eight 0.25 times each.
  assert 290 < ids.count('p1') < 380  # 1000 / 3
  assert 55 < ids.count('p5') < 115  # 1000 / 12
  assert ids[:100] == ids_of(make(chance=chance), 50, 2)
  stream = make(chance=chance)
  head = ids_of(stream, 3)
  resumed = make(chance=chance)
  resumed.set_state(stream.get_state())
  assert head + ids_of(resumed, 2) == ids[:20]


def test_nothing_to_take(monkeypatch):
  monkeypatch.setattr(pipeline, 'MAX_PASSED_OVER', 50)
  with pytest.raises(UserError, match='passed over 50 problems in a row'):
    make(chance=lambda problem: 0.0).take(1)


def test_a_failed_problem_does_not_move_the_position():
  class Broken(list):
    fails = True

    def __getitem__(self, index):
      if self.fails and index == 7:
        raise OSError('disk')
      return super().__getitem__(index)

  source = Broken(SOURCE)
  stream = make(source=source)
  with pytest.raises(OSError, match='disk'):
    stream.take(10)
  source.fails = False
  assert stream.take(4) == make().take(4)


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
