"""Discriminative losses in float64 loops, one group at a time."""

import math

import numpy as np

from tests.objectives.reference import float64


def objective(score, advantage, temperature):
  """`J` of one group from the score and advantage of each of its samples."""
  pairs = list(zip(score, advantage, strict=True))
  positive = [(s, a) for s, a in pairs if a > 0]
  negative = [s for s, a in pairs if a < 0]
  if not positive or not negative:
    return 0.0
  pull = sum(a * s for s, a in positive)
  mean = sum(math.exp(s / temperature) for s in negative) / len(negative)
  return pull - temperature * math.log(mean)


def _loss(token_score, advantage, mask, temperature):
  loss = np.zeros(mask.shape)
  for b in range(len(mask)):
    counted = [g for g in range(mask.shape[1]) if mask[b, g].any()]
    kept = {g: mask[b, g] > 0 for g in counted}
    score = [token_score[b, g][kept[g]].mean() for g in counted]
    first = [advantage[b, g][kept[g]][0] for g in counted]
    for g in counted:
      loss[b, g][kept[g]] = -objective(score, first, temperature)
  return loss


def discriminative_likelihood(logp, old_logp, advantage, mask, temperature):
  logp, advantage, mask = float64(logp, advantage, mask)
  return _loss(logp, advantage, mask, temperature)


def discriminative_ratio(logp, old_logp, advantage, mask, temperature):
  logp, old_logp, advantage, mask = float64(logp, old_logp, advantage, mask)
  return _loss(np.exp(logp - old_logp), advantage, mask, temperature)
