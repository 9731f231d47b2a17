"""GVM's numbers of responses, one at a time."""

import math


def gvm(rate, gradient, room, samples, alpha, beta):
  weights = []
  for p, g in zip(rate, gradient, strict=True):
    if p == 0 or g == 0:
      weights.append(0.0)
    else:
      weights.append(g / math.sqrt(p + alpha / p ** (beta - 1)))
  if not any(weights):
    weights = [1.0] * len(weights)
  return divide(weights, samples * len(weights), room)


def divide(weights, total, room):
  """Caps one at a time, the largest weight first, then largest remainders."""
  count = [0] * len(weights)
  rest = sorted(
    (i for i, w in enumerate(weights) if w > 0), key=lambda i: (-weights[i], i)
  )
  while rest:
    portion = total * weights[rest[0]] / sum(weights[i] for i in rest)
    if portion < room:
      break
    count[rest.pop(0)] = room
    total -= room
  if not rest:
    return count
  whole = sum(weights[i] for i in rest)
  shares = {i: total * weights[i] / whole for i in sorted(rest)}
  for i, share in shares.items():
    count[i] = math.floor(share)
  missing = total - sum(count[i] for i in rest)
  by_fraction = sorted(
    shares, key=lambda i: (math.floor(shares[i]) - shares[i], i)
  )
  for i in by_fraction[:missing]:
    count[i] += 1
  return count
