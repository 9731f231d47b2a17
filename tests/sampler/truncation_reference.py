"""Truncation rules in float64, one token at a time, from their formulas.

Each rule takes a law as a dict of id to probability and returns the ids it
keeps. Likelier ids come first, and of equal ones the lower.
"""

import math


def by_rank(law):
  return sorted(law, key=lambda i: (-law[i], i))


def normalized(law, ids):
  total = sum(law[i] for i in ids)
  return {i: law[i] / total for i in ids}


def entropy(law):
  return -sum(p * math.log(p) for p in law.values() if p > 0)


def top_h(law, alpha):
  """Adds the next id as long as the entropy of what is kept allows it."""
  kept = []
  for i in by_rank(law):
    q = normalized(law, [*kept, i])
    if kept and (law[i] == 0 or entropy(q) > alpha * entropy(law)):
      break
    kept.append(i)
  return kept


def top_h_cumulative(law, alpha):
  kept, total = [], 0.0
  for i in by_rank(law):
    total -= law[i] * math.log(law[i]) if law[i] > 0 else 0.0
    if kept and (law[i] == 0 or total > alpha * entropy(law)):
      break
    kept.append(i)
  return kept


def min_p(law, least):
  return [i for i in law if law[i] >= least * max(law.values())]


def top_k(law, k):
  last = law[by_rank(law)[min(k, len(law)) - 1]]
  return [i for i in law if law[i] >= last]


def top_p(law, mass):
  kept, total = [], 0.0
  for i in by_rank(law):
    kept.append(i)
    total += law[i]
    if total >= mass:
      break
  return kept


def typical(law, mass):
  away = {
    i: abs(-math.log(p) - entropy(law)) if p > 0 else math.inf
    for i, p in law.items()
  }
  total = 0.0
  for i in sorted(law, key=lambda i: away[i]):
    total += law[i]
    last = away[i]
    if total >= mass:
      break
  return [i for i in law if away[i] <= last]


def epsilon(law, least):
  best = max(law.values())
  return [i for i in law if law[i] >= least or law[i] == best]


def eta(law, value):
  return epsilon(law, min(value, math.sqrt(value) * math.exp(-entropy(law))))


def top_n_sigma(logits, n):
  """On raw logits; those of ids that exist."""
  mean = sum(logits.values()) / len(logits)
  square = sum((z - mean) ** 2 for z in logits.values())
  sigma = math.sqrt(square / (len(logits) - 1))
  least = max(logits.values()) - n * sigma
  return [i for i in logits if logits[i] >= least]


# A rule is skipped at this number.
NEUTRAL = {
  'top_n_sigma': math.inf,
  'top_h': 1,
  'top_h_cumulative': 1,
  'min_p': 0,
  'top_k': 0,
  'top_p': 1,
  'typical': 1,
  'epsilon': 0,
  'eta': 0,
}


def truncate(scores, temperature, settings, most):
  """One row: the kept ids with their log-probabilities, and their mass.

  Args:
    scores: V logits; -1e20 where there is no such id.
    temperature: above 0.
    settings: numbers by rule; applied in the order of `NEUTRAL`.
    most: ids at most, or None.
  """
  logits = {i: float(z) for i, z in enumerate(scores) if z > -1e19}
  top = max(logits.values())
  weights = {i: math.exp((z - top) / temperature) for i, z in logits.items()}
  kept = sorted(logits, key=lambda i: (-logits[i], i))[:most]
  whole = normalized(weights, logits)
  law = normalized(weights, kept)
  for name, neutral in NEUTRAL.items():
    if name not in settings or settings[name] == neutral:
      continue
    if name == 'top_n_sigma':
      allowed = set(top_n_sigma(logits, settings[name]))
      kept = [i for i in law if i in allowed]
    else:
      kept = globals()[name](law, settings[name])
    law = normalized(law, kept)
  logp = {i: math.log(p) if p > 0 else -math.inf for i, p in law.items()}
  return logp, sum(whole[i] for i in law)
