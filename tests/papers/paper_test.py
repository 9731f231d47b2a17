"""Verdicts: on which side of its bound an interval is."""

import pytest

from lrm_jax.papers import paper
from lrm_jax.papers.estimates import Estimate

BELOW, ABOVE, ACROSS = (
  Estimate(-2.0, -3.0, -1.0, 3),
  Estimate(2.0, 1.0, 3.0, 3),
  Estimate(0.5, -1.0, 2.0, 3),
)


def condition(is_above=False, is_premise=False):
  return paper.Condition('x', None, 0.0, is_above, is_premise)


@pytest.mark.parametrize(
  ('estimate', 'below', 'above'),
  [
    (BELOW, 'holds', 'fails'),
    (ABOVE, 'fails', 'holds'),
    (ACROSS, 'open', 'open'),
    (Estimate(-1.0, -2.0, 0.0, 3), 'holds', 'fails'),  # the bound is allowed
  ],
)
def test_sides(estimate, below, above):
  assert paper.side(condition(), estimate) == below
  assert paper.side(condition(is_above=True), estimate) == above


@pytest.mark.parametrize(
  ('premise', 'first', 'second', 'verdict'),
  [
    (ABOVE, BELOW, BELOW, 'reproduced'),
    (ABOVE, BELOW, ACROSS, 'undecided'),
    (ABOVE, ABOVE, ACROSS, 'not reproduced'),
    (ACROSS, ABOVE, BELOW, 'not testable here'),
    (BELOW, BELOW, BELOW, 'not testable here'),
  ],
)
def test_verdicts(premise, first, second, verdict):
  conditions = (
    condition(is_above=True, is_premise=True),
    condition(),
    condition(),
  )
  claim = paper.Claim('c', 'p', conditions)
  assert paper.verdict(claim, (premise, first, second)) == verdict
  assert verdict in paper.VERDICTS
