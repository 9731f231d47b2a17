"""Revisions in float64 loops."""

import math

import numpy as np


def unrevised(rollouts):
  start, stop = np.zeros((2, *rollouts.length.shape), int)
  return start, stop


def outlier_truncation(rollouts, deviations, margin):
  start, stop = np.zeros((2, *rollouts.length.shape), int)
  for b, lengths in enumerate(rollouts.length.tolist()):
    if not all(rollouts.correct[b]) or len(lengths) == 1:
      continue
    mean = sum(lengths) / len(lengths)
    squares = sum((length - mean) ** 2 for length in lengths)
    limit = mean + deviations * math.sqrt(squares / (len(lengths) - 1))
    for g, length in enumerate(lengths):
      if length - math.floor(limit) >= margin:
        start[b, g], stop[b, g] = math.floor(limit), length
  return start, stop


def compress_thinking(rollouts):
  start, stop = np.zeros((2, *rollouts.length.shape), int)
  for b, g in np.ndindex(*start.shape):
    prefix = int(rollouts.measures['answer_prefix'][b, g])
    thinking = rollouts.thinking_length[b, g]
    if rollouts.correct[b, g] and rollouts.think_closed[b, g]:
      if 0 <= prefix < thinking:
        start[b, g], stop[b, g] = prefix, thinking
  return start, stop
