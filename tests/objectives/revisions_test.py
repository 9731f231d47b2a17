"""Revisions: what is taken out, by hand and in loops."""

import functools

import jax
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import revisions
from tests.objectives import reference
from tests.objectives.reference import revisions as expected_revisions

KEYWORDS = {
  'unrevised': {},
  'outlier_truncation': {'deviations': 1.0, 'margin': 3},
  'compress_thinking': {},
}
EAGER = {
  name: functools.partial(getattr(revisions, name), **keywords)
  for name, keywords in KEYWORDS.items()
}
EVERY = {name: jax.jit(function) for name, function in EAGER.items()}


def solved(*lengths, **fields):
  """One group, all right; T is kept small, nothing reads the tokens."""
  values = {'correct': np.ones((1, len(lengths))), 'tokens': 1} | fields
  return reference.rollouts(length=[lengths], **values)


def thought(prefix, thinking, **fields):
  """One response whose thinking reaches the answer after `prefix` tokens."""
  return reference.rollouts(
    **{'correct': [[1]], 'length': [[12]]} | fields,
    thinking_length=[[thinking]],
    measures={'answer_prefix': [[prefix]]},
  )


def random(seed):
  rng = np.random.default_rng(seed)
  shape = (6, 5)
  correct = rng.integers(0, 5, shape) > 0
  correct[:4] = True
  length = rng.integers(1, 100, shape)
  return reference.rollouts(
    correct=correct,
    length=length,
    tokens=1,
    thinking_length=rng.integers(0, length),
    think_closed=rng.integers(0, 5, shape) > 0,
    measures={'answer_prefix': rng.integers(-1, 40, shape)},
  )


def assert_untouched(spans):
  for numbers in spans:
    assert numbers.dtype == np.int32
    assert not np.asarray(numbers).any()


def test_unrevised():
  spans = revisions.unrevised(solved(3, 4))
  assert_untouched(spans)
  assert spans[0].shape == (1, 2)


# Eleven of 100 tokens and one of 1300. The mean is 2400/12 = 200, the squares
# 11 * 100^2 + 1100^2 = 1.32e6, over 11 they are 120000, whose root is 346.41.
# T = floor(200 + 3 * 346.41) = floor(1239.23),
# 61 tokens below 1300. With 2 deviations it is floor(892.82).
@pytest.mark.parametrize(
  ('keywords', 'span'),
  [
    ({}, (1239, 1300)),
    ({'margin': 61}, (1239, 1300)),
    ({'margin': 62}, (0, 0)),
    ({'deviations': 2.0}, (892, 1300)),
  ],
)
def test_outlier_truncation_literal(keywords, span):
  rollouts = solved(*[100] * 11, 1300)
  revision = functools.partial(revisions.outlier_truncation, **keywords)
  start, stop = jax.jit(revision)(rollouts)
  np.testing.assert_array_equal(start, [[0] * 11 + [span[0]]])
  np.testing.assert_array_equal(stop, [[0] * 11 + [span[1]]])


def test_outlier_truncation_leaves_groups_with_a_wrong_answer():
  correct = np.ones((2, 12))
  correct[1, 3] = 0
  rollouts = reference.rollouts(
    correct=correct, length=[[100] * 11 + [1300]] * 2, tokens=1
  )
  start, stop = revisions.outlier_truncation(rollouts)
  assert start[0].any() and stop[0].any()
  assert_untouched((start[1], stop[1]))


@pytest.mark.parametrize('samples', [1, 2, 3, 10, 11])
def test_a_small_group_has_no_outlier_at_3_deviations(samples):
  # With G - 1 of one token and one of 16384 the excess over the mean is the
  # largest there is, (G - 1) / sqrt(G) deviations: 2.85 for 10, 3.02 for 11.
  rollouts = solved(*[1] * (samples - 1), 16384)
  revision = jax.jit(functools.partial(revisions.outlier_truncation, margin=1))
  start, stop = revision(rollouts)
  if samples <= 10:
    assert_untouched((start, stop))
  else:  # T = floor(16394/11 + 3 * 16383/sqrt(11)) = floor(16309.37)
    assert (start[0, -1], stop[0, -1]) == (16309, 16384)


@pytest.mark.parametrize('rollouts', [solved(*[7] * 12), solved(500)])
@pytest.mark.parametrize('margin', [1, 32])
def test_equal_lengths_and_one_sample_are_no_outliers(rollouts, margin):
  for deviations in (0.0, 3.0):
    assert_untouched(
      revisions.outlier_truncation(
        rollouts, deviations=deviations, margin=margin
      )
    )


def test_equal_lengths_without_a_margin_lose_nothing():
  start, stop = revisions.outlier_truncation(solved(7, 7, 7), margin=0)
  np.testing.assert_array_equal(start, stop)


@pytest.mark.parametrize(('deviations', 'margin'), [(-1.0, 32), (3.0, -1)])
def test_outlier_truncation_refuses_negative_numbers(deviations, margin):
  with pytest.raises(UserError) as error:
    revisions.outlier_truncation(
      solved(1, 2), deviations=deviations, margin=margin
    )
  assert str(error.value) == (
    f'outlier_truncation: deviations = {deviations}, margin = {margin}; give '
    'numbers of at least 0'
  )


@pytest.mark.parametrize(
  ('prefix', 'thinking', 'fields', 'expected'),
  [
    (4, 9, {}, (4, 9)),
    (8, 9, {}, (8, 9)),
    (9, 9, {}, (0, 0)),  # the answer came last
    (-1, 9, {}, (0, 0)),  # or never
    (-1, 0, {}, (0, 0)),
    (4, 9, {'correct': [[0]]}, (0, 0)),
    (4, 12, {'think_closed': [[0]]}, (0, 0)),
    (4, 9, {'truncated': [[1]]}, (4, 9)),
  ],
)
def test_compress_thinking_literals(prefix, thinking, fields, expected):
  spans = revisions.compress_thinking(thought(prefix, thinking, **fields))
  assert tuple(int(numbers[0, 0]) for numbers in spans) == expected


def test_compress_thinking_needs_its_measure():
  with pytest.raises(UserError) as error:
    revisions.compress_thinking(solved(3))
  assert str(error.value) == (
    'config.objective.revision.compress_thinking: reads the measure '
    "'answer_prefix', and those taken are none; "
    'add it to config.objective.measures'
  )


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('seed', range(4))
def test_equals_the_loops(name, seed):
  rollouts = random(seed)
  function = getattr(expected_revisions, name)
  expected = function(rollouts, **KEYWORDS[name])
  assert expected[1].any() == (name != 'unrevised')
  np.testing.assert_array_equal(EVERY[name](rollouts), expected)


@pytest.mark.parametrize('name', EVERY)
def test_spans_lie_within_the_response(name):
  rollouts = random(9)
  start, stop = map(np.asarray, EVERY[name](rollouts))
  assert start.dtype == stop.dtype == np.int32
  assert (start >= 0).all() and (start <= stop).all()
  assert (stop <= rollouts.length).all()
  # At least one token is left.
  assert (stop - start < rollouts.length).all()


@pytest.mark.parametrize('name', EVERY)
def test_jit_equals_eager(name):
  rollouts = random(0)
  np.testing.assert_array_equal(EVERY[name](rollouts), EAGER[name](rollouts))


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('correct', [0, 1])
def test_degenerate_groups_are_left_alone(name, correct):
  rollouts = reference.rollouts(
    correct=np.full((2, 3), correct),
    length=np.ones((2, 3)),
    truncated=np.ones((2, 3)),
    think_closed=np.zeros((2, 3)),
    thinking_length=np.ones((2, 3)),
    measures={'answer_prefix': np.full((2, 3), -1)},
  )
  assert_untouched(EVERY[name](rollouts))
