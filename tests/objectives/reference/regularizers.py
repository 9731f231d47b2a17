"""Regularizers in float64 loops."""

import math

import numpy as np

from tests.objectives.reference import float64


def _by_token(function, logp, other_logp, mask):
  """`function(logp - other_logp)` of each trained token."""
  logp, other_logp, mask = float64(logp, other_logp, mask)
  values = np.zeros(mask.shape)
  for i in np.ndindex(mask.shape):
    if mask[i]:
      values[i] = function(logp[i] - other_logp[i])
  return values


def kl_k1(tokens):
  k1 = lambda d: d
  return _by_token(k1, tokens.logp, tokens.ref_logp, tokens.mask)


def kl_k2(tokens):
  k2 = lambda d: d * d / 2
  return _by_token(k2, tokens.logp, tokens.ref_logp, tokens.mask)


def kl_k3(tokens):
  def k3(d):
    d = min(max(d, -20), 20)
    return min(math.exp(-d) + d - 1, 10)

  return _by_token(k3, tokens.logp, tokens.ref_logp, tokens.mask)


def entropy(tokens):
  tokens_entropy, mask = float64(tokens.entropy, tokens.mask)
  values = np.zeros(mask.shape)
  for i in np.ndindex(mask.shape):
    if mask[i]:
      values[i] = -tokens_entropy[i]
  return values


def kl_cov(tokens):
  change = _by_token(abs, tokens.logp, tokens.old_logp, tokens.mask)
  return change * tokens.focus


def kl_cov_focus(logp, old_logp, advantage, mask, fraction):
  logp, advantage, mask = float64(logp, advantage, mask)
  kept = [i for i in np.ndindex(mask.shape) if mask[i]]
  mean_logp = sum(logp[i] for i in kept) / len(kept)
  mean_advantage = sum(advantage[i] for i in kept) / len(kept)

  def covariance(i):
    return (advantage[i] - mean_advantage) * (logp[i] - mean_logp)

  number = max(1, math.floor(len(kept) * fraction))
  focus = np.zeros(mask.shape)
  for i in sorted(kept, key=covariance, reverse=True)[:number]:
    focus[i] = 1
  return focus


def kl_hinge(tokens):
  minus = lambda d: -d
  change = _by_token(minus, tokens.logp, tokens.old_logp, tokens.mask)
  return change * tokens.focus


def kl_hinge_focus(logp, old_logp, advantage, mask, beta, delta):
  logp, old_logp, mask = float64(logp, old_logp, mask)
  kept = [i for i in np.ndindex(mask.shape) if mask[i]]
  kl = sum(old_logp[i] - logp[i] for i in kept) / len(kept)
  return beta * max(0.0, kl - delta) * mask


def llds(tokens, tolerance=0.0):
  logp, old_logp, advantage, mask = float64(
    tokens.logp, tokens.old_logp, tokens.advantage, tokens.mask
  )
  values = np.zeros(mask.shape)
  for b, g in np.ndindex(mask.shape[:2]):
    lost = {}
    for t in np.flatnonzero(mask[b, g]):
      d = old_logp[b, g, t] - logp[b, g, t]
      lost[t] = d if abs(d) > tolerance else 0.0
    is_good = sum(advantage[b, g, t] for t in lost) >= 0
    if is_good and sum(lost.values()) > 0:
      for t, d in lost.items():
        values[b, g, t] = max(0.0, d)
  return values


def llds_ma(tokens, answer_weight=0.2, tolerance=0.0):
  values = llds(tokens, tolerance)
  for at in np.ndindex(values.shape):
    if tokens.answer[at]:
      values[at] *= answer_weight
  return values


def adaptive_entropy(tokens):
  return entropy(tokens) * tokens.focus


def adaptive_entropy_focus(logp, old_logp, advantage, mask, scale, most):
  logp, advantage, mask = float64(logp, advantage, mask)
  kept = [i for i in np.ndindex(mask.shape) if mask[i]]
  mean_logp = sum(logp[i] for i in kept) / len(kept)
  mean_advantage = sum(advantage[i] for i in kept) / len(kept)
  focus = np.zeros(mask.shape)
  for b, g in np.ndindex(mask.shape[:2]):
    power = {}
    for t in np.flatnonzero(mask[b, g]):
      i = b, g, t
      power[i] = math.exp(
        (advantage[i] - mean_advantage) * (logp[i] - mean_logp)
      )
    for i, value in power.items():
      focus[i] = min(scale * value / sum(power.values()), most)
  return focus
