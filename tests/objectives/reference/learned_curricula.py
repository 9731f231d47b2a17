"""DUMP from all that was recorded, and the logistic head of PCL, in loops."""

import math


def dump(history, window, temperature):
  """`history` has, by distribution, every advantage that was recorded."""
  total = sum(len(values) for values in history)
  bounds = []
  for values in history:
    recent = [abs(value) for value in values[-window:]]
    mean = sum(recent) / len(recent) if recent else 0.0
    bonus = math.sqrt(2 * math.log(total + 1) / (len(values) + 1))
    bounds.append(mean + bonus)
  parts = [
    sum(math.exp((other - bound) / temperature) for other in bounds)
    for bound in bounds
  ]
  return [1 / part for part in parts]


def pcl(value, count):
  ranked = sorted(range(len(value)), key=lambda i: (abs(value[i] - 0.5), i))
  return sorted(ranked[:count])


def pcl_value(head, features):
  *weights, bias = head
  values = []
  for row in features:
    logit = sum(w * x for w, x in zip(weights, row, strict=True)) + bias
    values.append(1 / (1 + math.exp(-logit)))
  return values


def pcl_learn(head, batches, learning_rate):
  """Adam from the start, over batches of (features, rates)."""
  head = list(head)
  first, second = [0.0] * len(head), [0.0] * len(head)
  for t, (features, rates) in enumerate(batches, 1):
    gradient = [0.0] * len(head)
    values = pcl_value(head, features)
    for row, value, rate in zip(features, values, rates, strict=True):
      slope = 2 * (value - rate) * value * (1 - value)
      for k, x in enumerate([*row, 1.0]):
        gradient[k] += slope * x
    for k, g in enumerate(gradient):
      first[k] = 0.9 * first[k] + 0.1 * g
      second[k] = 0.999 * second[k] + 0.001 * g * g
      mean, square = first[k] / (1 - 0.9**t), second[k] / (1 - 0.999**t)
      head[k] -= learning_rate * mean / (math.sqrt(square) + 1e-8)
  return head
