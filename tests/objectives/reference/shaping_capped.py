"""Rewards within a cap, one sample at a time."""

import math

import numpy as np


def outcome(rollouts, right, wrong):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, g in np.ndindex(reward.shape):
    reward[b, g] = right if rollouts.correct[b, g] == 1 else wrong
  return reward


def truncation(rollouts, stop_properly):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, g in np.ndindex(reward.shape):
    if rollouts.correct[b, g] and rollouts.length[b, g] <= rollouts.cap[b]:
      reward[b, g] = stop_properly if rollouts.truncated[b, g] else 1.0
  return reward


def valid_format(rollouts):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, g in np.ndindex(reward.shape):
    if rollouts.think_closed[b, g] and rollouts.answered[b, g]:
      reward[b, g] = 1
  return reward


def difficulty_truncation(rollouts, easy_cap, threshold, stop_properly):
  reward = np.zeros(np.shape(rollouts.correct))
  problems, samples = reward.shape
  for b in range(problems):
    cap, solved = rollouts.cap[b], 0
    for g in range(samples):
      finished = not rollouts.truncated[b, g]
      if rollouts.correct[b, g] and rollouts.length[b, g] <= cap and finished:
        solved += 1
    if solved / samples > threshold:
      cap = easy_cap
    for g in range(samples):
      if rollouts.correct[b, g] and rollouts.length[b, g] <= cap:
        reward[b, g] = stop_properly if rollouts.truncated[b, g] else 1.0
  return reward


def overlong(rollouts, buffer, factor):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, g in np.ndindex(reward.shape):
    start = int(rollouts.cap[b]) - buffer
    if rollouts.length[b, g] > start:
      over = (int(rollouts.length[b, g]) - start) / buffer
      reward[b, g] = max(-over * factor, -factor)
  return reward


def cosine(
  rollouts,
  right_short,
  right_long,
  wrong_short,
  wrong_long,
  exceeded,
  margin,
):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, g in np.ndindex(reward.shape):
    length, cap = int(rollouts.length[b, g]), int(rollouts.cap[b])
    if rollouts.correct[b, g]:
      start, end = right_short, right_long
    else:
      start, end = wrong_short, wrong_long
    angle = math.pi * length / cap
    reward[b, g] = end + 0.5 * (start - end) * (1 + math.cos(angle))
    if length + margin >= cap:
      reward[b, g] = exceeded
  return reward


def format_length(rollouts, turning_point):
  reward = np.zeros(np.shape(rollouts.correct))
  p = turning_point
  for b, g in np.ndindex(reward.shape):
    x = int(rollouts.length[b, g]) / int(rollouts.cap[b])
    if x <= p:
      y = 1 - (1 - x / p) ** 2
    else:
      y = 1 - 2 * ((x - p) / (1 - p)) ** 2
    if rollouts.answered[b, g]:
      reward[b, g] = 0.5 * (int(rollouts.think_closed[b, g]) + 1) + y
    else:
      reward[b, g] = min(0, y)
  return reward


def l1_exact(rollouts, alpha):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, g in np.ndindex(reward.shape):
    miss = abs(int(rollouts.target[b]) - int(rollouts.length[b, g]))
    reward[b, g] = -alpha * miss
  return reward


def l1_max(rollouts, alpha, offset):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, g in np.ndindex(reward.shape):
    if rollouts.correct[b, g]:
      left = int(rollouts.target[b]) - int(rollouts.length[b, g])
      reward[b, g] = min(max(alpha * left + offset, 0), 1)
  return reward


def tldr(rollouts, short, medium, long):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, g in np.ndindex(reward.shape):
    if rollouts.correct[b, g]:
      beta = {0: short, 1: medium, 2: long}[int(rollouts.target[b])]
      used = int(rollouts.length[b, g]) / int(rollouts.cap[b])
      reward[b, g] = 1 - beta * used
  return reward


def triangular(rollouts, peak):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, g in np.ndindex(reward.shape):
    n, length = int(rollouts.target[b]), int(rollouts.thinking_length[b, g])
    if length < n:
      reward[b, g] = peak * length / n
    elif 0 < n and length <= 2 * n:
      reward[b, g] = peak * (2 * n - length) / n
  return reward
