"""Advantages in float64 loops."""

import math

import numpy as np

from tests.objectives.reference import float64


def _centred_groups(reward, mask):
  """Yields `b, samples that count, reward - mean` for each group."""
  reward, mask = float64(reward, mask)
  for b in range(len(reward)):
    counted = [g for g in range(reward.shape[1]) if mask[b, g].sum() > 0]
    if counted:
      yield b, counted, reward[b, counted] - reward[b, counted].mean()


def group(reward, mask, ddof, eps):
  advantage = np.zeros(np.shape(reward))
  for b, counted, centred in _centred_groups(reward, mask):
    if len(counted) > 1:
      deviation = math.sqrt((centred**2).sum() / (len(counted) - ddof))
      advantage[b, counted] = centred / (deviation + eps)
  return advantage


def group_mean(reward, mask):
  advantage = np.zeros(np.shape(reward))
  for b, counted, centred in _centred_groups(reward, mask):
    advantage[b, counted] = centred
  return advantage


def batch_token_whiten(reward, mask, eps):
  tokens = []
  for b, counted, centred in _centred_groups(reward, mask):
    for g, a in zip(counted, centred, strict=True):
      for t in np.flatnonzero(mask[b, g]):
        tokens.append((b, g, t, a))
  values = np.array([token[-1] for token in tokens])
  scale = math.sqrt(values.var(ddof=1) + eps)
  advantage = np.zeros(np.shape(mask))
  for b, g, t, a in tokens:
    advantage[b, g, t] = (a - values.mean()) / scale
  return advantage
