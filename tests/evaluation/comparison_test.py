"""Evaluations beside each other: what is refused, and the numbers."""

import math

import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.evaluation import comparison, efficiency, intervals, stored
from tests.evaluation import stored_test

PROBLEMS, SAMPLES = 20, 4


def make(name, seed=0, *, shorter=1.0, chance=0.5, tokenizer='t', **settings):
  """An evaluation of verdicts by chance and lengths by problem."""
  rng = np.random.default_rng(seed)
  shape = PROBLEMS, SAMPLES
  correct = rng.random(shape) < chance
  length = (shorter * rng.integers(50, 100, (PROBLEMS, 1))).astype(int)
  length = length + rng.integers(0, 9, shape)
  given = {'problems': PROBLEMS, 'samples': SAMPLES} | settings
  return stored.Evaluation(
    name=name,
    settings=stored_test.SETTINGS | given,
    identity={'path': name, 'tokenizer': tokenizer},
    ids=tuple(str(i) for i in range(PROBLEMS)),
    correct=correct,
    verified=np.ones(shape, bool),
    length=length,
    thinking_length=length - 2,
    truncated=np.zeros(shape, bool),
    answer_class=np.where(correct, 0, 1),
    words=np.full(shape, -1),
    characters=np.full(shape, -1),
  )


def refusal(*evaluations):
  with pytest.raises(UserError) as caught:
    comparison.check(evaluations)
  return str(caught.value)


@pytest.mark.parametrize(
  ('key', 'value', 'said'),
  [
    ('data', 'd2', "data 'd1' and 'd2'"),
    ('problems', 9, 'problems 20 and 9'),
    ('samples', 8, 'samples 4 and 8'),
    ('max_tokens', 384, 'max_tokens 96 and 384'),
    ('temperature', 0.6, 'temperature 1.0 and 0.6'),
    ('truncation', {'top_p': 0.95}, 'truncation.top_p nothing and 0.95'),
    ('thinking_budget', 64, 'thinking_budget 0 and 64'),
    ('thinking_end', '</think>', "thinking_end '' and '</think>'"),
    ('stop', ['END'], "stop [] and ['END']"),
    ('instruction', 'Be brief.', "instruction '' and 'Be brief.'"),
    ('target', 80, 'target 0 and 80'),
  ],
)
def test_what_must_be_equal_is_named_with_both_values(key, value, said):
  # Every setting there is: a new one must come in here.
  assert key in stored_test.SETTINGS
  assert refusal(make('one'), make('two', **{key: value})) == (
    f"'one' and 'two' cannot be compared: {said}; evaluate both in the same way"
  )


def test_several_differences_and_long_ones():
  message = refusal(
    make('one'), make('two', max_tokens=1, instruction='long ' * 100)
  )
  assert "instruction '' and 'long long" in message
  assert 'max_tokens 96 and 1;' in message
  assert len(message) < 300


def test_the_third_is_checked_too():
  message = refusal(make('one'), make('two'), make('three', target=1))
  assert message.startswith("'one' and 'three' cannot be compared: target")


def test_rows_of_other_problems_than_the_summary_says():
  other = make('two')
  object.__setattr__(other, 'ids', ('x', *other.ids[1:]))
  assert 'their rows are of other problems than their summaries say' in refusal(
    make('one'), other
  )


def test_one_is_no_comparison():
  assert refusal(make('one')) == ('1 evaluation to compare; give two at least')
  with pytest.raises(ValueError, match="pairs='some'; give first or all"):
    comparison.compare([make('one'), make('two')], pairs='some')


def test_rows_are_those_of_the_functions():
  first, second = make('one'), make('two', 1, shorter=0.5, chance=0.7)
  (row,) = comparison.compare([first, second], draws=500, seed=3)
  assert (row.first, row.second, row.problems) == ('one', 'two', PROBLEMS)
  assert row.accuracy == (first.correct.mean(), second.correct.mean())
  assert row.tokens == (first.length.mean(), second.length.mean())
  how = {'draws': 500, 'seed': 3}
  assert row.difference == intervals.paired_difference(
    first.correct, second.correct, **how
  )
  assert row.ratio == intervals.paired_ratio(first.length, second.length, **how)
  assert row.ratio.high < 0.7
  # A family of one.
  assert row.difference_holm == row.difference.p
  assert row.ratio_holm == row.ratio.p
  assert row.aes == efficiency.all_aes(
    row.accuracy[1], row.tokens[1], row.accuracy[0], row.tokens[0]
  )
  assert row.same_tokenizer


def test_pairs_and_their_families():
  runs = [make(str(i), i, shorter=1 - i / 10) for i in range(3)]
  first = comparison.compare(runs, draws=400)
  every = comparison.compare(runs, pairs='all', draws=400)
  assert [(r.first, r.second) for r in first] == [('0', '1'), ('0', '2')]
  assert [(r.first, r.second) for r in every] == [
    ('0', '1'),
    ('0', '2'),
    ('1', '2'),
  ]
  for rows in (first, every):
    adjusted = intervals.holm([r.difference.p for r in rows])
    assert [r.difference_holm for r in rows] == adjusted
    adjusted = intervals.holm([r.ratio.p for r in rows])
    assert [r.ratio_holm for r in rows] == adjusted


def test_a_run_against_itself():
  (row,) = comparison.compare([make('one'), make('one')], draws=200)
  assert (row.difference.value, row.ratio.value) == (0, 1)
  assert (row.difference_holm, row.ratio_holm) == (1, 1)
  assert row.aes == {'1,3,5': 0.0, '1,3,10': 0.0}


def test_another_tokenizer_is_said():
  rows = comparison.compare(
    [make('one'), make('two', 1, tokenizer='u')], draws=100
  )
  assert not rows[0].same_tokenizer


def test_methods_over_seeds():
  groups = {
    'base': [make(f'base{i}', i) for i in range(3)],
    'short': [make(f'short{i}', 9 + i, shorter=0.5) for i in range(3)],
    'one': [make('one', 20, chance=0.9)],
  }
  short, one = comparison.compare_methods(groups, draws=800)
  assert (short.first, short.second, short.seeds) == ('base', 'short', (3, 3))
  means = lambda name, field: np.stack(
    [getattr(x, field).mean(1) for x in groups[name]]
  )
  assert short.tokens_difference == intervals.seeds_difference(
    means('base', 'length'), means('short', 'length'), draws=800
  )
  assert short.tokens_difference_t == intervals.welch_difference(
    means('base', 'length').mean(1), means('short', 'length').mean(1)
  )
  assert short.difference_t == intervals.welch_difference(
    means('base', 'correct').mean(1), means('short', 'correct').mean(1)
  )
  assert short.tokens_difference.high < 0
  assert short.accuracy == pytest.approx(
    (means('base', 'correct').mean(), means('short', 'correct').mean())
  )
  # A method of one seed has no t; its differences are in the family all the
  # same.
  assert one.seeds == (3, 1)
  assert math.isnan(one.difference_t.low)
  adjusted = intervals.holm([short.difference.p, one.difference.p])
  assert [short.difference_holm, one.difference_holm] == adjusted
  with pytest.raises(UserError, match='max_tokens'):
    comparison.compare_methods(groups | {'x': [make('x', max_tokens=1)]})


def test_from_the_disk(tmp_path):
  """The seam: find, read, compare."""
  for name in 'ab':
    stored_test.write(tmp_path / name)
  runs = [comparison.read(x) for x in comparison.find(str(tmp_path))]
  (row,) = comparison.compare(runs, draws=50)
  assert (row.first, row.second) == (str(tmp_path / 'a'), str(tmp_path / 'b'))
  assert row.difference.value == 0
