"""The scalar loss in float64 loops, each in the words of its paper."""

import numpy as np

from tests.objectives.reference import float64


def _responses(values, mask):
  """The trained tokens of each response that has any, in lists by group."""
  values, mask = float64(values, mask)
  groups = [
    [v[m > 0] for v, m in zip(values[b], mask[b], strict=True) if m.any()]
    for b in range(len(values))
  ]
  return [group for group in groups if group]


def _all(values, mask):
  return [r for group in _responses(values, mask) for r in group]


def token_mean(values, mask):
  return np.concatenate(_all(values, mask)).mean()


def sequence_mean(values, mask):
  return np.mean([response.mean() for response in _all(values, mask)])


def sequence_sum(values, mask):
  return np.mean([response.sum() for response in _all(values, mask)])


def fixed_length(values, mask, length):
  return np.mean([response.sum() / length for response in _all(values, mask)])


def question_sum(values, mask):
  groups = _responses(values, mask)
  return np.mean([np.mean([r.sum() for r in group]) for group in groups])


def question_mean(values, mask):
  groups = _responses(values, mask)
  return np.mean([np.concatenate(group).mean() for group in groups])
