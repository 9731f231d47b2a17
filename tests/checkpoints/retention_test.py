"""Which checkpoints stay, by hand."""

import math

import pytest

from lrm_jax.checkpoints.retention import retained

SCORES = {10: 0.5, 20: 0.9, 30: 0.7, 40: 0.9, 50: None, 60: 0.1}


@pytest.mark.parametrize(
  ('newest', 'best', 'stay'),
  [
    (1, 0, {60}),
    (2, 0, {50, 60}),
    (9, 0, {10, 20, 30, 40, 50, 60}),
    # Of the two with 0.9 the newer one.
    (1, 1, {40, 60}),
    (1, 2, {20, 40, 60}),
    (1, 3, {20, 30, 40, 60}),
    # The newest may be among the best; 50 has no score, and is not.
    (1, 5, {10, 20, 30, 40, 60}),
    (2, 9, {10, 20, 30, 40, 50, 60}),
  ],
)
def test_the_newest_and_the_best_stay(newest, best, stay):
  assert retained(SCORES, SCORES, newest, best) == stay


def test_order_and_repetition_do_not_matter():
  assert retained([30, 10, 20, 20], {}, 2, 1) == {20, 30}


def test_what_is_no_number_is_never_the_best():
  assert retained([1, 2, 3], {1: math.nan, 2: 0.1}, 1, 1) == {2, 3}


def test_nothing_stays_of_nothing():
  assert retained([], {}, 2, 2) == set()
