"""Over-sampling from a list of the pass rates recorded so far."""


def no_oversampling(rates):
  return 1


def predictive(rates, window, first, low, high):
  rates = rates[-window:]
  if not rates:
    return first
  mean = sum(rates) / len(rates)
  if mean == 0:
    return high
  std = (sum((rate - mean) ** 2 for rate in rates) / len(rates)) ** 0.5
  return min(max((1 / mean) * (1 + std), low), high)
