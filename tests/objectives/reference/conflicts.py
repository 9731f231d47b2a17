"""Conflicts of right and wrong responses, token by token."""

import itertools

import numpy as np

from tests.objectives.reference.credit import mean_of


def conflicts(rollouts, advantage, mask):
  """({(b, g, t)} of the first runs, the same of the last runs)."""
  value = mean_of(advantage, mask)
  ids, length = rollouts.response_ids, rollouts.length
  samples = range(np.shape(mask)[1])

  def place(b, g, i, is_last):
    t = int(length[b, g]) - 1 - i if is_last else i
    inside = 0 <= t < np.shape(mask)[2] and mask[b, g, t]
    return t if inside else None

  def signs(b, i, token, is_last):
    found = set()
    for g in samples:
      t = place(b, g, i, is_last)
      if t is not None and ids[b, g, t] == token and value[b, g]:
        found.add(value[b, g] > 0)
    return found

  runs = []
  for is_last in (False, True):
    run = set()
    for b, g in np.ndindex(*np.shape(mask)[:2]):
      if not value[b, g]:
        continue
      for i in itertools.count():
        t = place(b, g, i, is_last)
        if t is None or len(signs(b, i, ids[b, g, t], is_last)) < 2:
          break
        run.add((b, g, t))
    runs.append(run)
  return runs


def gtpo(rollouts, advantage, mask, entropy, entropy_limit, entropy_scale):
  first, last = conflicts(rollouts, advantage, mask)
  value, mean = mean_of(advantage, mask), mean_of(entropy, mask)
  out = np.zeros(np.shape(mask))
  for b, g, t in np.argwhere(mask):
    if mean[b, g] > entropy_limit:
      continue
    shaped = advantage[b, g, t] - entropy_scale * mean[b, g]
    for run in (first, last):
      if (b, g, t) in run:
        shaped *= 2 if value[b, g] > 0 else 0
    out[b, g, t] = shaped
  return (out,), mask


def gtpo_released(rollouts, advantage, mask, entropy, **keywords):
  (out,), mask = gtpo(rollouts, advantage, mask, entropy, **keywords)
  both = set.union(*conflicts(rollouts, advantage, mask))
  for b, g in np.ndindex(*np.shape(mask)[:2]):
    count = sum((b, g, t) in both for t in range(np.shape(mask)[2]))
    out[b, g] /= max(1, count)
  return (out,), mask
