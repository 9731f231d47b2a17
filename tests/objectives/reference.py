"""The objectives again, in float64 NumPy loops written from the formulas.

Nothing here is shared with the package: no masked reductions, no clamps as
selections, one sample at a time.
"""

import math

import numpy as np

from lrm_jax.structs import Rollouts


def batch(seed, *, problems=3, samples=4, tokens=6):
  """Random `logp, old_logp, ref_logp, advantage, mask`, all `[B, G, T]`.

  Lengths run from 1 to all tokens; the first sample is dropped.
  """
  rng = np.random.default_rng(seed)
  shape = (problems, samples, tokens)
  length = rng.integers(1, tokens + 1, shape[:2])
  length[0, 0] = 0
  mask = (np.arange(tokens) < length[..., None]).astype(np.float32)
  old_logp = -rng.exponential(1.0, shape)
  logp = old_logp + rng.normal(0, 0.4, shape)
  ref_logp = old_logp + rng.normal(0, 0.4, shape)
  advantage = rng.normal(0, 1, shape)
  arrays = (logp, old_logp, ref_logp, advantage, mask)
  return tuple(np.asarray(a, np.float32) for a in arrays)


def rollouts(correct, *, length, cap, truncated, tokens=8):
  """Rollouts with everything the shaping functions read, lists allowed."""
  correct = np.asarray(correct, np.float32)
  problems, samples = correct.shape
  response = (problems, samples, tokens)
  length = np.asarray(length, np.int32)
  return Rollouts(
    prompt_ids=np.zeros((problems, 1), np.int32),
    prompt_length=np.ones(problems, np.int32),
    response_ids=np.zeros(response, np.int32),
    length=length,
    thinking_length=length,
    sampler_logp=np.zeros(response, np.float32),
    truncated=np.asarray(truncated, bool),
    think_closed=np.ones((problems, samples), bool),
    correct=correct,
    cap=np.asarray(cap, np.int32),
    problem_index=np.arange(problems, dtype=np.int32),
  )


def _float64(*arrays):
  return tuple(np.asarray(a, np.float64) for a in arrays)


def truncation(rollouts, stop_properly):
  reward = np.zeros(np.shape(rollouts.correct))
  for b, g in np.ndindex(reward.shape):
    if rollouts.correct[b, g] and rollouts.length[b, g] <= rollouts.cap[b]:
      reward[b, g] = stop_properly if rollouts.truncated[b, g] else 1.0
  return reward


def _centred_groups(reward, mask):
  """Yields `b, samples that count, reward - mean` for each group."""
  reward, mask = _float64(reward, mask)
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


def ppo_clip(logp, old_logp, advantage, mask, low, high, dual):
  logp, old_logp, advantage, mask = _float64(logp, old_logp, advantage, mask)
  loss = np.zeros(mask.shape)
  for i in np.ndindex(mask.shape):
    if mask[i]:
      a = advantage[i]
      rho = math.exp(min(max(logp[i] - old_logp[i], -20), 20))
      loss[i] = max(-a * rho, -a * min(max(rho, 1 - low), 1 + high))
      if a < 0:
        loss[i] = min(loss[i], -a * dual)
  return loss


def kl(name, logp, ref_logp, mask):
  logp, ref_logp, mask = _float64(logp, ref_logp, mask)
  values = np.zeros(mask.shape)
  for i in np.ndindex(mask.shape):
    if mask[i]:
      d = logp[i] - ref_logp[i]
      if name == 'kl_k1':
        values[i] = d
      elif name == 'kl_k2':
        values[i] = d * d / 2
      else:
        d = min(max(d, -20), 20)
        values[i] = min(math.exp(-d) + d - 1, 10)
  return values


def loss(name, values, mask, length=None):
  """The scalar loss, each aggregation in the words of its paper."""
  values, mask = _float64(values, mask)
  responses = [
    values[b, g][mask[b, g] > 0]
    for b, g in np.ndindex(mask.shape[:2])
    if mask[b, g].any()
  ]
  if name == 'token_mean':
    return np.concatenate(responses).mean()
  if name == 'sequence_mean':
    return np.mean([response.mean() for response in responses])
  if name == 'sequence_sum':
    return np.mean([response.sum() for response in responses])
  return np.mean([response.sum() / length for response in responses])
