"""Losses in float64 loops."""

import math

import numpy as np

from tests.objectives.reference import float64


def _each_token(mask):
  return [i for i in np.ndindex(np.shape(mask)) if mask[i]]


def ppo_clip(logp, old_logp, advantage, mask, low, high, dual):
  logp, old_logp, advantage, mask = float64(logp, old_logp, advantage, mask)
  loss = np.zeros(mask.shape)
  for i in _each_token(mask):
    a = advantage[i]
    rho = math.exp(min(max(logp[i] - old_logp[i], -20), 20))
    loss[i] = max(-a * rho, -a * min(max(rho, 1 - low), 1 + high))
    if a < 0:
      loss[i] = min(loss[i], -a * dual)
  return loss


def gspo(logp, old_logp, advantage, mask, low, high):
  logp, old_logp, advantage, mask = float64(logp, old_logp, advantage, mask)
  loss = np.zeros(mask.shape)
  for b, g in np.ndindex(mask.shape[:2]):
    tokens = [t for t in range(mask.shape[2]) if mask[b, g, t]]
    gap = sum(logp[b, g, t] - old_logp[b, g, t] for t in tokens)
    for t in tokens:
      a = advantage[b, g, t]
      s = math.exp(gap / len(tokens))
      loss[b, g, t] = max(-a * s, -a * min(max(s, 1 - low), 1 + high))
  return loss


def cispo(logp, old_logp, advantage, mask, lower, upper):
  logp, old_logp, advantage, mask = float64(logp, old_logp, advantage, mask)
  loss = np.zeros(mask.shape)
  for i in _each_token(mask):
    weight = min(max(math.exp(logp[i] - old_logp[i]), lower), upper)
    loss[i] = -weight * advantage[i] * logp[i]
  return loss


def policy_ratio(logp, old_logp, advantage, mask):
  logp, old_logp, advantage, mask = float64(logp, old_logp, advantage, mask)
  loss = np.zeros(mask.shape)
  for i in _each_token(mask):
    loss[i] = -advantage[i] * math.exp(logp[i] - old_logp[i])
  return loss


def likelihood(logp, old_logp, advantage, mask):
  logp, advantage, mask = float64(logp, advantage, mask)
  loss = np.zeros(mask.shape)
  for i in _each_token(mask):
    loss[i] = -advantage[i] * logp[i]
  return loss
