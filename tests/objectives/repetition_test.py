"""Repeated n-grams: by hand, and against sets of tuples."""

import functools

import jax
import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import repetition
from tests.objectives.reference import bonuses as expected_bonuses


@functools.partial(jax.jit, static_argnames='n')
def repeated(ids, mask, n):
  return repetition.repeated_tokens(ids, mask, n=n)


def one(text, n, length=None):
  """The marks of one response, a letter per token, as a text of x and dot."""
  ids = np.array([[[ord(letter) for letter in text]]])
  mask = np.arange(len(text)) < (len(text) if length is None else length)
  marks = repeated(ids, mask[None, None].astype(np.float32), n=n)
  assert marks.dtype == bool
  return ''.join('.x'[int(mark)] for mark in marks[0, 0])


@pytest.mark.parametrize(
  ('text', 'n', 'marks'),
  [
    ('abcabcd', 3, '...xxx.'),  # abc again at 3
    ('abcabca', 3, '...xxxx'),  # abc at 3, bca at 4
    ('abcdbca', 3, '.......'),
    ('aaa', 2, '.xx'),  # the 2-gram at 1 overlaps the first
    ('aaaa', 3, '.xxx'),
    ('abab', 2, '..xx'),
    ('aba', 1, '..x'),
    ('abcd', 1, '....'),
    ('abcxyzabcxyz', 5, '......xxxxxx'),
    ('abab', 4, '....'),  # only one 4-gram
    ('aaaa', 5, '....'),  # none at all
    ('a', 1, '.'),
  ],
)
def test_literals(text, n, marks):
  assert one(text, n) == marks


def test_nothing_crosses_the_end():
  assert one('abcabc', 3) == '...xxx'
  assert one('abcabc', 3, length=5) == '......'
  assert one('abcabc', 2, length=5) == '...xx.'
  assert one('aaaaaa', 1, length=2) == '.x....'
  assert one('aaaaaa', 1, length=0) == '......'


def test_padding_is_not_a_token():
  ids = np.zeros((1, 2, 6), int)
  mask = np.array([[[1, 0, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0]]])
  marks = repeated(ids, mask, n=2)
  assert not marks.any()  # 0 0 occurs once
  marks = repeated(ids, mask, n=1)
  np.testing.assert_array_equal(marks, [[[0, 0, 1, 0, 1, 1], [0] * 6]])


def test_samples_do_not_see_each_other():
  ids = np.array([[[1, 2, 3], [1, 2, 3]], [[1, 2, 3], [1, 2, 3]]])
  assert not repeated(ids, np.ones(ids.shape), n=2).any()


@pytest.mark.parametrize('n', range(1, 8))
def test_equals_the_sets(n):
  rng = np.random.default_rng(n)
  count = 0
  for letters in (1, 2, 3, 2, 3, 4):
    shape = (3, 4, 24)
    ids = rng.integers(0, letters, shape).astype(np.int32)
    mask = np.arange(24) < rng.integers(0, 25, shape[:2])[..., None]
    mask = mask & (rng.random(shape) < 0.97)  # holes too
    mask = mask.astype(np.float32)
    expected = expected_bonuses.repeated_tokens(ids, mask, n)
    np.testing.assert_array_equal(repeated(ids, mask, n=n), expected)
    count += expected.sum()
  assert 0 < count < 6 * mask.size


@pytest.mark.parametrize('copied', [39, 40, 55])
def test_forty_tokens_of_a_large_vocabulary(copied):
  rng = np.random.default_rng(copied)
  ids = rng.choice(150_000, (1, 1, 200), replace=False)
  ids[..., 120 : 120 + copied] = ids[..., 30 : 30 + copied]
  mask = np.ones(ids.shape)
  marks = repeated(ids, mask, n=40)
  np.testing.assert_array_equal(
    marks, expected_bonuses.repeated_tokens(ids, mask, 40)
  )
  assert marks.sum() == (copied if copied >= 40 else 0)


def test_a_long_loop():
  # A period of 50 from token 100 on: the second round is the first repeated.
  ids = np.arange(1000)
  ids[100:] = 2000 + (np.arange(900) % 50)
  marks = repeated(ids[None, None], np.ones((1, 1, 1000)), n=40)
  np.testing.assert_array_equal(marks[0, 0], np.arange(1000) >= 150)


def test_jit_equals_eager():
  rng = np.random.default_rng(0)
  ids, mask = rng.integers(0, 2, (2, 2, 16)), np.ones((2, 2, 16))
  np.testing.assert_array_equal(
    repeated(ids, mask, n=3), repetition.repeated_tokens(ids, mask, n=3)
  )


def test_an_n_of_nothing_is_refused():
  with pytest.raises(UserError) as error:
    repetition.repeated_tokens(np.ones((1, 1, 2)), np.ones((1, 1, 2)), n=0)
  assert str(error.value) == (
    'repetition: n = 0; give the tokens of an n-gram, >= 1'
  )
